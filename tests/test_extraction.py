"""Images in, cohort out: order, batches, workers, devices, memory, numbers that are none, images that are none."""

import io
import multiprocessing
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from extraction_samples import FirstPixels, expected, images, spec
from PIL import Image

import causalfm as cfm
from causalfm.errors import DataError
from causalfm.extraction import load_encoder
from causalfm.extraction.loading import start_method
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.memory import ArraySource

pytest.importorskip("torch")
N = 23
TABLE = pd.DataFrame({"site": [f"site {i % 3}" for i in range(N)], "age": np.arange(N) + 0.5})


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zipped(path, pixels, damaged=()):
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(pixels):
            content = png(image)
            archive.writestr(f"PATIENT-{i:03d}.png", content[:40] if i in damaged else content)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 1},
        {"batch_size": 5, "workers": 2},
        {"batch_size": 4, "device": ["cpu", "cpu"]},
        {"batch_size": 7, "shard_rows": 5},
        {"batch_size": 100, "shard_rows": 23},
    ],
)
def test_rows_are_in_the_order_of_the_images(options, tmp_path):
    import torch

    pixels = images(N)
    network = torch.nn.Sequential(torch.nn.Flatten(2), Reds())
    cohort = cfm.extract(pixels, spec(network), obs=TABLE, **options)
    np.testing.assert_array_equal(cohort.X, expected(pixels))
    assert cohort.X.dtype == np.float32
    pd.testing.assert_frame_equal(cohort.obs, TABLE)
    assert cohort.info["images"] == N
    assert cohort.info["encoder"] == "first pixels"
    on_disk = cfm.extract(pixels, spec(network), obs=TABLE, out=tmp_path / "out", **options)
    np.testing.assert_array_equal(on_disk.X, cohort.X)


def Reds():
    import torch

    class Network(torch.nn.Module):
        def forward(self, batch):
            return batch[:, 0, :6]

    return Network()


@pytest.mark.parametrize("kind", ["npy", "parquet", "h5ad", "zarr"])
def test_every_format_reads_back_equal(kind, tmp_path):
    pixels = images(N)
    table = TABLE.assign(kind=pd.Categorical(["a", "b", None] * 7 + ["a", "b"]))
    cohort = cfm.extract(pixels, spec(FirstPixels()), obs=table, out=tmp_path, format=kind, shard_rows=6)
    np.testing.assert_array_equal(cohort.X, expected(pixels))
    again = cfm.read(tmp_path)
    np.testing.assert_array_equal(again.X, cohort.X)
    pd.testing.assert_frame_equal(again.obs.reset_index(drop=True), table)
    assert again.info == cohort.info
    assert isinstance(again.X, np.memmap) == (kind == "npy")
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("part-")]) == (0 if kind == "npy" else 4)


def test_a_zip_gives_its_names_and_several_extractions_are_read_as_one(tmp_path):
    pixels = images(N)
    for name, part in (("a", pixels[:9]), ("b", pixels[9:])):
        zipped(tmp_path / f"{name}.zip", part)
        cfm.extract(tmp_path / f"{name}.zip", spec(FirstPixels()), out=tmp_path / name)
    both = cfm.read([tmp_path / "a", tmp_path / "b"])
    np.testing.assert_array_equal(both.X, expected(pixels))
    assert both.info["images"] == N
    assert "PATIENT-003.png" in both.obs["image"].tolist()


def test_workers_can_be_spawned(tmp_path, monkeypatch):
    zipped(tmp_path / "x.zip", images(12))
    monkeypatch.setattr("causalfm.extraction.loading.start_method", lambda: "spawn")
    cohort = cfm.extract(tmp_path / "x.zip", spec(FirstPixels()), workers=1, batch_size=3)
    np.testing.assert_array_equal(cohort.X, expected(images(12)))


def test_a_script_without_a_guard_is_told_so(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)  # as in a spawned worker
    with pytest.raises(DataError, match="if __name__ == '__main__':"):
        cfm.extract(images(12), spec(FirstPixels()), workers=1, batch_size=3)


def test_a_gpu_in_use_is_never_forked(monkeypatch):
    import torch

    assert start_method() == "fork"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert start_method() == "spawn"


def test_batches_are_halved_until_they_fit_and_stay_so(tmp_path):
    pixels, network = images(100), FirstPixels(most=10)
    cohort = cfm.extract(pixels, spec(network), out=tmp_path / "a", shard_rows=50)
    np.testing.assert_array_equal(cohort.X, expected(pixels))
    assert max(network.sizes) <= 10
    assert len(network.sizes) <= 2 + 100 // 6
    lines = (tmp_path / "a" / "extraction.jsonl").read_text().splitlines()
    assert '"batch_size": 6' in lines[2]  # 50, 25, 12, 6
    with pytest.raises(DataError, match=r"batch_size=20 does not fit .* 'auto'"):
        cfm.extract(pixels, spec(network), batch_size=20)
    with pytest.raises(DataError, match="not even one image"):
        cfm.extract(pixels, spec(FirstPixels(most=0)))


def test_numbers_that_are_none_are_refused_with_their_rows():
    pixels = images(20)
    pixels[7, 0, 0, 0] = pixels[13, 0, 0, 0] = 255
    pixels[:, 0, 0, 0][[i for i in range(20) if i not in (7, 13)]] = 1

    def network(batch):
        red = batch[:, 0].flatten(1)[:, :6]
        return red / (1.0 - red[:, :1])

    with pytest.raises(DataError, match=r"rows 7, 13: with precision='fp16'"):
        cfm.extract(pixels, spec(network), batch_size=20)


def test_damaged_images_stop_with_their_rows_and_never_with_their_names(tmp_path):
    archive = zipped(tmp_path / "x.zip", images(N), damaged=(4, 11))
    with pytest.raises(DataError, match=r"1 images cannot be used \(row 4\).*on_error='record'") as caught:
        cfm.extract(archive, spec(FirstPixels()), batch_size=4)
    assert "PATIENT" not in str(caught.value)


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_damaged_images_are_recorded_and_left_out(kind, tmp_path):
    pixels = images(N)
    archive = zipped(tmp_path / "x.zip", pixels, damaged=(4, 11))
    stopped = FirstPixels(stop_after=10)
    options = {"out": tmp_path / "out", "on_error": "record", "shard_rows": 6, "batch_size": 3, "format": kind}
    with pytest.raises(KeyboardInterrupt):
        cfm.extract(archive, spec(stopped), **options)
    with pytest.raises(DataError, match="rows 4, 11"):  # found by the first run, which the second one goes on from
        cfm.extract(archive, spec(stopped), **options | {"on_error": "raise"})
    cohort = cfm.extract(archive, spec(FirstPixels()), **options)
    kept = [i for i in range(N) if i not in (4, 11)]
    np.testing.assert_array_equal(cohort.X, expected(pixels)[kept])
    assert cohort.obs["image"].tolist() == [f"PATIENT-{i:03d}.png" for i in kept]
    assert (cohort.info["images"], cohort.info["images_unreadable"]) == (N, 2)
    errors = pd.read_csv(tmp_path / "out" / "errors.csv")
    assert errors["row"].tolist() == [4, 11]
    assert errors["cause"].str.contains("truncated|damaged").all()
    assert "PATIENT" not in (tmp_path / "out" / "errors.csv").read_text()
    in_memory = cfm.extract(archive, spec(FirstPixels()), on_error="record")
    np.testing.assert_array_equal(in_memory.X, cohort.X)


def test_many_images_that_fail_together_are_no_damaged_images(tmp_path):
    archive = zipped(tmp_path / "x.zip", images(70), damaged=range(70))
    with pytest.raises(DataError, match=r"rows 0 to 69 .* still there"):
        cfm.extract(archive, spec(FirstPixels()), on_error="record")
    few = zipped(tmp_path / "few.zip", images(3), damaged=range(3))
    with pytest.raises(DataError, match="none of the 3 images"):
        cfm.extract(few, spec(FirstPixels()), on_error="record")


def test_progress_tells_rate_and_time_left():
    seen = []
    cfm.extract(images(10), spec(FirstPixels()), batch_size=2, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 2, 4, 6, 8, 10]
    assert {steps for *_, steps in seen} == {10}
    assert all("/s, " in what and what.endswith("left") for what, *_ in seen[2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "all"}, "batch_size='all'"),
        ({"workers": -1}, "workers=-1"),
        ({"on_error": "skip"}, "'record'"),
        ({"format": "csv"}, "'parquet'"),
        ({"shard_rows": 0}, "shard_rows=0"),
        ({"device": []}, "names no device"),
        ({"device": ["cpu", "cpu"]}, "is a function"),
        ({"obs": TABLE.head(3)}, "3 rows"),
    ],
)
def test_impossible_arguments_say_so(options, message):
    with pytest.raises(DataError, match=message):
        cfm.extract(images(5), spec(FirstPixels()), **options)


def test_a_loaded_encoder_is_used_as_it_is():
    loaded = load_encoder(spec(FirstPixels()), device="cpu")
    np.testing.assert_array_equal(cfm.extract(images(5), loaded).X, expected(images(5)))
    with pytest.raises(DataError, match="loaded already"):
        cfm.extract(images(5), loaded, precision="bf16")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_is_lost_stops_the_run_and_no_image_is_blamed(workers, tmp_path):
    class Lost(ArraySource):
        def read(self, i):
            if i >= 12:
                raise DataError("the archive has changed since it was opened: open it again.")
            return super().read(i)

    with pytest.raises(DataError, match=r"^the archive has changed since it was opened: open it again\.$"):
        cfm.extract(Lost(images(N), Decoding()), spec(FirstPixels()), on_error="record", workers=workers, batch_size=4)


def test_images_that_workers_cannot_have_say_so(monkeypatch):
    class Local:
        def __len__(self):
            return 12

        def __getitem__(self, i):
            return images(12)[i]

    monkeypatch.setattr("causalfm.extraction.loading.start_method", lambda: "spawn")
    with pytest.raises(DataError, match="sent to worker processes"):
        cfm.extract(Local(), spec(FirstPixels()), workers=1, batch_size=3)


def test_a_table_with_repeated_ids_is_refused_before_the_first_image():
    network = FirstPixels()
    with pytest.raises(DataError, match=r"index of obs is not unique \(rows 0, 1, 2, 3, 4 and 18 more\)"):
        cfm.extract(images(N), spec(network), obs=TABLE.set_axis(["a"] * N))
    assert network.seen == 0


def test_warning_filters_are_as_they_were_while_workers_read():
    before = list(warnings.filters)
    cfm.extract(images(N), spec(lambda batch: check(before, batch)), workers=2, batch_size=4)


def check(before, batch):
    assert list(warnings.filters) == before
    return batch[:, 0].flatten(1)[:, :6]
