"""A folder that an extraction writes: resumed, refused, damaged, full."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from extraction_samples import FirstPixels, expected, images, spec

import causalfm as cfm
from causalfm.errors import DataError
from causalfm.extraction import open_images

pytest.importorskip("torch")
N = 20
FORMATS = ("npy", "parquet", "h5ad", "zarr")
TABLE = pd.DataFrame({"site": [f"site {i % 3}" for i in range(N)]})
OPTIONS = {"shard_rows": 6, "batch_size": 3, "obs": TABLE}


def stopped(folder, after=9, **options):
    with pytest.raises(KeyboardInterrupt):
        cfm.extract(images(N), spec(FirstPixels(stop_after=after)), out=folder, **OPTIONS | options)
    return folder


@pytest.mark.parametrize("kind", FORMATS)
def test_finished_shards_are_kept_and_the_rest_is_done(kind, tmp_path):
    stopped(tmp_path, format=kind)
    with pytest.raises(DataError, match=r"not finished \(6 of 20 images\)"):
        cfm.read(tmp_path)
    network = FirstPixels()
    cohort = cfm.extract(images(N), spec(network), out=tmp_path, obs=TABLE)  # format, batches, shards: from the folder
    assert network.seen == 14
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    network.seen = 0
    again = cfm.extract(images(N), spec(network), out=tmp_path, obs=TABLE)
    np.testing.assert_array_equal(again.X, cohort.X)
    assert network.seen == 0


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_shard_is_made_again(kind, finished, tmp_path):
    network = FirstPixels()
    if finished:
        cfm.extract(images(N), spec(network), out=tmp_path, format=kind, **OPTIONS)
    else:
        stopped(tmp_path, after=15, format=kind)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.name[:4] not in ("extr", ".loc"))
    target = next(p for p in files if ("part-000001" in str(p) and p.stat().st_size > 100) or ".npy" in p.name)
    content = bytearray(target.read_bytes())
    content[128 + 4 * 6 * 8 if kind == "npy" else len(content) // 2] ^= 1  # in the second shard
    target.write_bytes(content)
    network.seen = 0
    cohort = cfm.extract(images(N), spec(network), out=tmp_path, obs=TABLE)
    assert network.seen == (6 if finished else 6 + 8)
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    np.testing.assert_array_equal(cfm.read(tmp_path).X, expected(images(N)))


def test_a_lost_matrix_is_made_again_and_a_changed_one_is_refused(tmp_path):
    cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, **OPTIONS)
    np.save(tmp_path / "embeddings.npy", np.zeros((N + 1, 6), dtype=np.float32))
    with pytest.raises(DataError, match="are not those that its journal lists: copy it again"):
        cfm.read(tmp_path)
    (tmp_path / "embeddings.npy.obs.parquet").unlink()
    (tmp_path / "embeddings.npy").unlink()
    with pytest.raises(DataError, match=r"no file .*'embeddings\.npy'"):
        cfm.read(tmp_path)
    cohort = cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, obs=TABLE)
    np.testing.assert_array_equal(cohort.X, expected(images(N)))


def test_a_torn_line_of_the_journal_is_no_line(tmp_path):
    journal = stopped(tmp_path, after=15) / "extraction.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    network = FirstPixels()
    cohort = cfm.extract(images(N), spec(network), out=tmp_path, obs=TABLE)
    assert network.seen == 14
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    journal.write_bytes(b"{nonsense\n" + whole)
    with pytest.raises(DataError, match=r"extraction\.jsonl"):
        cfm.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": images(N, seed=1)}, "the images"),
        ({"obs": TABLE.assign(site="A")}, "the table"),
        ({"shard_rows": 7}, "shard_rows"),
        ({"format": "parquet"}, "format"),
        ({"precision": "bf16"}, "precision of the encoder"),
        ({"encoder": spec(FirstPixels(), interpolation="BICUBIC")}, "transform of the encoder"),
        ({"encoder": spec(FirstPixels(), name="another")}, "encoder of the encoder"),
    ],
)
def test_another_extraction_is_refused(change, message, tmp_path):
    stopped(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    arguments = {"images": images(N), "encoder": spec(FirstPixels()), "out": tmp_path, **OPTIONS, **change}
    with pytest.raises(DataError, match=f"differs: {message}.*another out="):
        cfm.extract(**arguments)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_other_weights_of_an_own_network_are_refused(tmp_path):
    import torch

    def network(seed):
        torch.manual_seed(seed)
        return spec(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6)))

    cfm.extract(images(N), network(0), out=tmp_path)
    cfm.extract(images(N), network(0), out=tmp_path)
    with pytest.raises(DataError, match="of the encoder"):
        cfm.extract(images(N), network(1), out=tmp_path)


def test_folders_with_other_things_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for resume in (True, False):
        with pytest.raises(DataError, match="empty folder"):
            cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, resume=resume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]
    with pytest.raises(DataError, match="is a file"):
        cfm.extract(images(N), spec(FirstPixels()), out=tmp_path / "thesis.tex")
    stopped(tmp_path / "run")
    with pytest.raises(DataError, match=r"resume=False.*Nothing is ever deleted"):
        cfm.extract(images(N), spec(FirstPixels()), out=tmp_path / "run", resume=False, **OPTIONS)


def test_two_threads_cannot_share_a_folder(tmp_path):
    inner = []

    def network(batch):
        with pytest.raises(DataError, match="another extraction is writing"):
            cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, **OPTIONS)
        inner.append(len(batch))
        return batch[:, 0].flatten(1)[:, :6]

    cfm.extract(images(N), spec(network), out=tmp_path, **OPTIONS)
    assert sum(inner) == N + 1  # and the image of noise that tells functions apart


def test_a_table_that_cannot_be_stored_is_refused_before_the_first_image(tmp_path):
    network = FirstPixels()
    with pytest.raises(DataError, match="mixed types: site"):
        cfm.extract(images(N), spec(network), obs=TABLE.assign(site=["A", 1] * 10), out=tmp_path)
    with pytest.raises(DataError, match="embedding"):
        cfm.extract(images(N), spec(network), obs=TABLE.assign(embedding=1), out=tmp_path, format="parquet")
    assert network.seen == 0
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("point", range(12))
def test_a_disk_that_fills_up_at_any_write_keeps_what_is_there(point, tmp_path, monkeypatch):
    """The disk takes half of one write and then no more; deleting and truncating still work, as on a real one."""
    cfm.extract(images(N), spec(FirstPixels()), out=tmp_path / "whole", **OPTIONS)
    left, real = iter(range(point)), os.pwrite

    def full(descriptor, content, at):
        if next(left, None) is None:
            if getattr(full, "spent", False):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            full.spent = True
            return real(descriptor, bytes(content)[: max(1, len(content) // 2)], at)
        return real(descriptor, content, at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        try:
            cfm.extract(images(N), spec(FirstPixels()), out=tmp_path / "full", **OPTIONS)
            assert point >= 11  # run, four shards of two writes, header, end
        except DataError as error:
            assert "No space left on device" in str(error)  # noqa: PT017
            assert "the same call goes on from there" in str(error)  # noqa: PT017
    cohort = cfm.extract(images(N), spec(FirstPixels()), out=tmp_path / "full", obs=TABLE)
    np.testing.assert_array_equal(cohort.X, expected(images(N)))
    files = ("embeddings.npy", "embeddings.npy.obs.parquet")
    assert all((tmp_path / "full" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files)


def test_a_file_system_that_takes_little_at_once_gets_all_of_it(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: real(descriptor, bytes(content)[:20], at))
    cohort = cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, **OPTIONS)
    np.testing.assert_array_equal(cohort.X, expected(images(N)))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting is not permitted here: the disk that fills up is tested with a simulated one only")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tmpfs is Linux's")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_real_full_disk_keeps_what_is_there(kind, small_disk):
    import torch

    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((48, 3072), dtype=np.float32))

    def network(batch):
        return batch.flatten(1) @ weights  # 12 kB per image

    pixels = images(60)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_600_000)
    wide = {"out": small_disk / "out", "format": kind, "shard_rows": 8, "batch_size": 8}
    with pytest.raises(DataError, match=r"No space left.*images are stored and sound") as caught:
        cfm.extract(pixels, spec(network, dimension=3072), **wide)
    done = int(str(caught.value).split(" of 60")[0].rsplit(" ", 1)[1])
    assert 0 < done < 60
    with pytest.raises(DataError, match="not finished"):
        cfm.read(small_disk / "out")
    ballast.unlink()
    cohort = cfm.extract(pixels, spec(network, dimension=3072), **wide)
    np.testing.assert_array_equal(cohort.X, cfm.extract(pixels, spec(network, dimension=3072), batch_size=8).X)
    lines = [json.loads(line) for line in (small_disk / "out" / "extraction.jsonl").read_text().splitlines()]
    assert sum(line["rows"] for line in lines[1:] if "shard" in line) == 60
    assert [line["shard"] for line in lines if "shard" in line] == list(range(8))


def test_the_folder_tells_how_it_was_made(tmp_path):
    cfm.extract(images(N), spec(FirstPixels()), out=tmp_path, **OPTIONS)
    header, run, *shards, end = map(json.loads, (tmp_path / "extraction.jsonl").read_text().splitlines())
    assert (header["rows"], header["dimension"], header["format"]) == (N, 6, "npy")
    assert header["identity"]["encoder"]["transform"]["interpolation"] == "NEAREST"
    assert header["identity"]["images"] == open_images(images(N)).fingerprint()
    assert {"causalfm", "versions", "devices"} <= set(run["run"])
    assert {"torch", "numpy", "pillow"} <= set(run["run"]["versions"])
    assert [len(s["sha256"]) for s in shards] == [64] * 4
    assert end == {"finished": True}


def test_images_exchanged_on_disk_are_noticed(tmp_path):
    from PIL import Image

    (tmp_path / "tiles").mkdir()
    for i, image in enumerate(images(8)):
        Image.fromarray(image).save(tmp_path / "tiles" / f"{i}.png")
    with pytest.raises(KeyboardInterrupt):
        cfm.extract(
            tmp_path / "tiles", spec(FirstPixels(stop_after=4)), out=tmp_path / "out", shard_rows=2, batch_size=2
        )
    Image.fromarray(images(9)[8]).resize((30, 30)).save(tmp_path / "tiles" / "3.png")
    with pytest.raises(DataError, match="the images"):
        cfm.extract(tmp_path / "tiles", spec(FirstPixels()), out=tmp_path / "out")


def test_the_record_of_the_encoder_is_part_of_the_cohort(tmp_path):
    facts = {"licence": "CC-BY-4.0"}
    cohort = cfm.extract(images(N), dataclasses.replace(spec(FirstPixels()), **facts), out=tmp_path)
    assert cfm.read(tmp_path).info["licence"] == cohort.info["licence"] == "CC-BY-4.0"
