"""What a hostile reader tried: dead workers, edited journals, other functions, strange devices and folders."""

import functools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from extraction_samples import FirstPixels, expected, images, spec
from PIL import Image

import causalfm as cfm
from causalfm.errors import DataError
from causalfm.extraction import ENCODERS, encode, load_encoder, open_images
from causalfm.extraction.weights import weights_file

pytest.importorskip("torch")
N = 10


def test_a_worker_that_is_killed_while_this_process_computes_is_no_internal_error(tmp_path):
    def kill_one():
        if network.seen == 20:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(0.5)  # the signal comes here, far from the loader

    network = FirstPixels(before=kill_one)
    arguments = {"out": tmp_path / "out", "shard_rows": 10, "batch_size": 2}
    with pytest.raises(DataError, match="a worker process ended"):
        cfm.extract(images(600), spec(network), workers=2, **arguments)
    done = cfm.extract(images(600), spec(FirstPixels()), **arguments)
    np.testing.assert_array_equal(done.X, expected(images(600)))


def channel(batch, which):
    return batch[:, which].flatten(1)[:, :6]


def test_another_function_is_told_apart_by_what_it_gives(tmp_path):
    cfm.extract(images(N), spec(functools.partial(channel, which=0)), out=tmp_path)
    again = cfm.extract(images(N), spec(functools.partial(channel, which=0)), out=tmp_path)
    np.testing.assert_array_equal(again.X, expected(images(N)))
    with pytest.raises(DataError, match="differs: answer of the encoder"):
        cfm.extract(images(N), spec(functools.partial(channel, which=1)), out=tmp_path)


class Numbers:
    """A data set of the user's; ``random`` augments."""

    def __init__(self, seed, random=False):
        self.pixels, self.random = images(N, seed), np.random.default_rng(seed) if random else None

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.pixels[i] if self.random is None else self.random.permutation(self.pixels[i])


def test_another_data_set_of_the_same_class_and_length_is_refused(tmp_path):
    cfm.extract(Numbers(0), spec(FirstPixels()), out=tmp_path)
    cfm.extract(Numbers(0), spec(FirstPixels()), out=tmp_path)
    with pytest.raises(DataError, match="differs: the images"):
        cfm.extract(Numbers(1), spec(FirstPixels()), out=tmp_path)
    assert open_images(Numbers(0, random=True)).fingerprint() == open_images(Numbers(1, random=True)).fingerprint()


def test_an_item_that_is_no_image_is_recorded_with_out_too(tmp_path):
    cohort = cfm.extract([images(1)[0], 5], spec(FirstPixels()), out=tmp_path, on_error="record")
    assert cohort.info["images_unreadable"] == 1
    np.testing.assert_array_equal(cohort.X, expected(images(1)))


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (0, {"format": "weird"}),
        (0, {"identity": {}}),
        (0, {"batch_size": None}),
        (0, {"dimension": 5}),
        (0, {"rows": 9}),
        (2, {"rows": 10**15}),
        (2, {"rows": -1}),
        (2, {"rows": 2}),
        (2, {"shard": 99}),
        (2, {"shard": "a"}),
        (2, {"errors": "abc"}),
        (2, {"rows": 2, "errors": [[9, "cause"]]}),
        (2, {"batch_size": 0}),
    ],
)
def test_an_edited_journal_is_refused(line, change, tmp_path):
    arguments = {"images": images(N), "encoder": spec(FirstPixels()), "out": tmp_path, "shard_rows": 3}
    cfm.extract(**arguments)
    journal = tmp_path / "extraction.jsonl"
    lines = journal.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **change})
    journal.write_text("\n".join(lines) + "\n")
    says = "differs: dimension" if "dimension" in change else r"'extraction\.jsonl' cannot be read"
    with pytest.raises(DataError, match=says):
        cfm.extract(**arguments)


@pytest.mark.parametrize("device", ["mps", "meta", "xla", "vulkan"])
def test_devices_that_are_not_here_are_refused(device):
    import torch

    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is here")
    with pytest.raises(DataError, match="cannot be used by torch here"):
        load_encoder(spec(FirstPixels()), device=device)


@pytest.mark.parametrize("out", ["a\0b", "y" * 300])
def test_impossible_names_of_folders_are_refused(out, tmp_path):
    with pytest.raises(DataError, match="cannot be made"):
        cfm.extract(images(N), spec(FirstPixels()), out=f"{tmp_path}/{out}")


def tiles(folder):
    folder.mkdir()
    for i, pixels in enumerate(images(3)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_embeddings_among_the_images_are_refused(tmp_path):
    folder = tiles(tmp_path / "tiles")
    with pytest.raises(DataError, match="among the images"):
        cfm.extract(folder, spec(FirstPixels()), out=folder / "embeddings")
    assert sorted(p.name for p in folder.iterdir()) == ["0.png", "1.png", "2.png"]
    cfm.extract(folder, spec(FirstPixels()), out=tmp_path / "tiles-embeddings")


def _junk(path):
    path.write_bytes(b"junk" * 100)


def _leaving(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../x.png", b"")


def _no_patches(path):
    import h5py

    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((2, 4))


@pytest.mark.parametrize(
    ("ending", "make"), [(".zip", _junk), (".zip", _leaving), (".h5", _junk), (".h5", _no_patches), (".tar", _junk)]
)
def test_parts_are_named_by_position_because_their_names_are_patients(ending, make, tmp_path):
    first = tmp_path / f"A{ending}"
    make(first)
    shutil.copy(first, tmp_path / f"PATIENT-77{ending}")
    for parts in (tmp_path, [tmp_path / f"PATIENT-77{ending}", first]):
        with pytest.raises(DataError, match="part 0 of 2") as caught:
            open_images(parts)
        assert "PATIENT" not in str(caught.value)


def test_empty_or_wrong_weights_are_no_default():
    with pytest.raises(DataError, match="weights= is empty"):
        load_encoder("efficientnet-lite0", weights="")
    pytest.importorskip("efficientnet_lite_pytorch")
    with pytest.raises(DataError, match="there is no file"):
        load_encoder("efficientnet-lite0", weights="nowhere.pth")


def test_a_cache_with_the_second_name_alone_is_enough_without_a_network(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    here = tmp_path / "pytorch_model.bin"
    here.write_bytes(b"")

    def download(repository, name):
        if name == here.name:
            return str(here)
        raise hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert weights_file(ENCODERS["h-optimus-0"], None) == here


def test_ids_and_groups_are_in_no_message_and_no_file_but_the_table(tmp_path):
    folder = tiles(tmp_path / "tiles")
    (folder / "PATIENT-77.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    names = ["0.png", "1.png", "2.png", "PATIENT-77.png"]
    table = pd.DataFrame({"patient": [f"PATIENT-{i}" for i in range(4)], "file": names}, index=names)
    with pytest.raises(DataError) as caught:
        cfm.extract(folder, spec(FirstPixels()), obs=table, out=tmp_path / "out")
    assert "PATIENT" not in str(caught.value)
    cfm.extract(folder, spec(FirstPixels()), obs=table, out=tmp_path / "other", on_error="record")
    for name in ("errors.csv", "extraction.jsonl"):
        assert "PATIENT" not in (tmp_path / "other" / name).read_text()


def test_encode_reads_modes_as_extract_does():
    clear = Image.fromarray(np.dstack([images(1)[0], np.zeros((4, 4), dtype=np.uint8)]))
    white = np.full((1, 4, 4, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(encode([clear], spec(FirstPixels())), expected(white))
    np.testing.assert_array_equal(cfm.extract([clear], spec(FirstPixels())).X, expected(white))
    deep = Image.fromarray(np.full((4, 4), 30000, dtype=np.uint16))
    with pytest.raises(DataError, match=r"images\[1\] cannot be used: it has 16 bits"):
        encode([clear, deep], spec(FirstPixels()))


KILLED = """
import multiprocessing, time
import numpy as np
import causalfm as cfm
from causalfm.extraction import own_encoder

def network(batch):
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(60)

if __name__ == "__main__":
    pixels = np.zeros((64, 8, 8, 3), dtype=np.uint8)  # 16 are 2 MB when they are resized: more than a pipe holds
    cfm.extract(pixels, own_encoder(network, dimension=6), workers=2, batch_size=16)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(1)  # until they wait for the full pipe
        parent.kill()
    assert len(workers) == 2
    for _ in range(300):
        left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        if not left:
            return
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    pytest.fail(f"{len(left)} workers outlive their parent")


def test_images_that_change_while_they_are_embedded_are_no_finished_extraction(tmp_path):
    folder = tiles(tmp_path / "tiles")

    def exchange():
        Image.fromarray(images(1, seed=9)[0]).save(folder / "2.png")

    with pytest.raises(DataError, match="changed while they were embedded"):
        cfm.extract(folder, spec(FirstPixels(before=exchange)), out=tmp_path / "out", batch_size=1)
    with pytest.raises(DataError, match="not finished"):
        cfm.read(tmp_path / "out")
