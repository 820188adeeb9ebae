"""Patches in HDF5 and Zarr, and tiles of whole slides, on files that the tests write."""

import json
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from image_samples import first_and_last, in_worker, pixels
from PIL import Image

from causalfm.errors import DataError, ImageError, MissingDependencyError
from causalfm.extraction.sources import Tiles, open_images

STACK = np.stack([pixels((8, 6), seed) for seed in range(21)])
COORDS = np.arange(42).reshape(21, 2)


def hdf5(path, chunks=(4, 6, 8, 3), **more):
    with h5py.File(path, "w") as file:
        file.create_dataset("imgs", data=STACK, chunks=chunks, compression="gzip" if chunks else None)
        for name, values in more.items():
            file[name] = values
    return path


def store(path, **more):
    group = zarr.open_group(path, mode="w")
    group.create_array("imgs", data=STACK, chunks=(4, 6, 8, 3))
    for name, values in more.items():
        group.create_array(name, data=values)
    return path


def patches(tmp_path, kind, **more):
    return hdf5(tmp_path / "PAT-7.h5", **more) if kind == "hdf5" else store(tmp_path / "PAT-7.zarr", **more)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_rows_in_any_order_and_process(tmp_path, kind):
    source = open_images(patches(tmp_path, kind, coords=COORDS))
    for i in (20, 0, 3, 4, 19, 1):
        np.testing.assert_array_equal(np.asarray(source.read(i)), STACK[i])
    assert source.obs["slide"].unique().tolist() == ["PAT-7"]
    np.testing.assert_array_equal(source.obs[["x", "y"]], COORDS)
    expected = first_and_last(source)
    assert first_and_last(pickle.loads(pickle.dumps(source))) == expected
    assert in_worker(source, "fork") == expected
    source.close()
    assert first_and_last(source) == expected
    assert source.fingerprint() == open_images(source.path).fingerprint()


def test_a_chunk_is_unpacked_once_for_all_its_rows(tmp_path, monkeypatch):
    source = open_images(hdf5(tmp_path / "a.h5"))
    reads = []
    original = h5py.Dataset.__getitem__

    def counted(self, key, *args):
        reads.append(key)
        return original(self, key, *args)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    for i in range(21):
        source.read(i)
    assert len(reads) == 6


def test_contiguous_and_bare_arrays(tmp_path):
    np.testing.assert_array_equal(np.asarray(open_images(hdf5(tmp_path / "a.h5", chunks=None)).read(9)), STACK[9])
    zarr.create_array(tmp_path / "a.zarr", data=STACK, zarr_format=2)
    np.testing.assert_array_equal(np.asarray(open_images(tmp_path / "a.zarr").read(9)), STACK[9])


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_the_array_is_found_or_named(tmp_path, kind):
    path = patches(tmp_path, kind, other=STACK[::-1])
    with pytest.raises(DataError, match=r"2 data sets of shape \(n, h, w, 3\) uint8: name one with key="):
        open_images(path)
    np.testing.assert_array_equal(np.asarray(open_images(path, key="other").read(0)), STACK[20])
    with pytest.raises(DataError, match="no data set 'third'"):
        open_images(path, key="third")


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
@pytest.mark.parametrize("coords", [COORDS[:5], COORDS.T, COORDS > 3])
def test_coordinates_of_other_patches_are_refused(tmp_path, kind, coords):
    with pytest.raises(DataError, match=r"'coords' of shape"):
        open_images(patches(tmp_path, kind, coords=coords))


def test_links_and_holes_of_hdf5_are_refused(tmp_path):
    hdf5(tmp_path / "other.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["imgs"] = h5py.ExternalLink(tmp_path / "other.h5", "imgs")
    with pytest.raises(DataError, match="no data sets of shape"):
        open_images(tmp_path / "link.h5")
    layout = h5py.VirtualLayout(STACK.shape, np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "imgs", STACK.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("imgs", layout)
    with pytest.raises(DataError, match="lie in other files, which are not followed"):
        open_images(tmp_path / "virtual.h5")
    (tmp_path / "raw").write_bytes(STACK.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("imgs", STACK.shape, np.uint8, external=[(tmp_path / "raw", 0, STACK.nbytes)])
    with pytest.raises(DataError, match="lie in other files, which are not followed"):
        open_images(tmp_path / "external.h5")
    with h5py.File(tmp_path / "holes.h5", "w") as file:
        file.create_dataset("imgs", STACK.shape, np.uint8, chunks=(4, 6, 8, 3))[:4] = STACK[:4]
    with pytest.raises(DataError, match="cannot be read"):
        open_images(tmp_path / "holes.h5")


def test_one_patch_per_slide_takes_a_slide_table(tmp_path):
    for name in "AB":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["imgs"] = STACK[:1]
    source = open_images(tmp_path, obs=pd.DataFrame({"slide": ["B", "A"], "site": ["x", "y"]}))
    assert source.obs["site"].tolist() == ["y", "x"]


def test_missing_chunks_and_codecs_that_run_code_are_refused(tmp_path):
    path = store(tmp_path / "a.zarr")
    next((path / "imgs" / "c").glob("2/*/*/*")).unlink()
    with pytest.raises(DataError, match="1 chunk files of the patches are not there"):
        open_images(path)
    zarr.create_array(tmp_path / "b.zarr", data=STACK, zarr_format=2, compressors=None)
    meta = json.loads((tmp_path / "b.zarr" / ".zarray").read_text())
    (tmp_path / "b.zarr" / ".zarray").write_text(json.dumps({**meta, "filters": [{"id": "pickle", "protocol": 4}]}))
    with pytest.raises(DataError, match="cannot be read"):
        open_images(tmp_path / "b.zarr")


def test_chunks_that_unpack_to_gigabytes_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("imgs", (4, 2**13, 2**13, 3), np.uint8, chunks=(4, 2**13, 2**12, 3), compression="gzip")
    with pytest.raises(DataError, match="chunks of 402653184 bytes"):
        open_images(tmp_path / "a.h5")
    with pytest.raises(DataError, match="more than max_bytes=100"):
        open_images(hdf5(tmp_path / "b.h5"), max_bytes=100)


def test_a_folder_of_patch_files_is_one_source_under_a_slide_table(tmp_path):
    for name in "BA":
        hdf5(tmp_path / f"{name}.h5", coords=COORDS)
    table = pd.DataFrame({"slide": ["B.svs", "A.svs"], "site": ["x", "y"]})
    source = open_images(tmp_path, obs=table)
    assert len(source) == 42
    assert source.names[0] == "A.h5/0"
    assert source.obs["site"].tolist() == ["y"] * 21 + ["x"] * 21
    assert source.obs["tile"].tolist() == [*range(21)] * 2
    np.testing.assert_array_equal(np.asarray(source.read(22)), STACK[1])
    with pytest.raises(DataError, match="have no row"):
        open_images(tmp_path, obs=table[:1])


# --- whole slides ---------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 1100, 900
TISSUE = (slice(256, 640), slice(512, 1024))


def picture():
    """A smooth picture, so that its levels are the same picture: grey glass, coloured tissue."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), 240, dtype=np.uint8)
    image[TISSUE] = np.dstack([120 + x % 97, 60 + y % 53, 150 + (x + y) % 61]).astype(np.uint8)[TISSUE]
    return image


def write_slide(path, image, mpp=0.25, levels=(4,)):
    unit = {"photometric": "rgb", "resolutionunit": "CENTIMETER"}
    resolution = (1e4 / mpp, 1e4 / mpp) if mpp else None
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, tile=(256, 256), subifds=len(levels), resolution=resolution, **unit)
        for factor in levels:
            small = Image.fromarray(image).resize((WIDTH // factor, HEIGHT // factor), Image.Resampling.BOX)
            writer.write(np.asarray(small), tile=(64, 64), subfiletype=1, **unit)
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "PAT-9.tiff", picture())


@pytest.mark.parametrize("resolution", [{"mpp": 0.25}, {"downsample": 1}])
def test_tiles_at_full_resolution_are_the_pixels(slide, resolution):
    source = open_images(slide, tiles=Tiles(128, tissue=None, **resolution))
    assert len(source) == (WIDTH // 128) * (HEIGHT // 128)
    image = picture()
    for i in (0, 20, len(source) - 1):
        x, y = source.obs[["x", "y"]].iloc[i]
        np.testing.assert_array_equal(np.asarray(source.read(i)), image[y : y + 128, x : x + 128])
    assert source.names[1] == "PAT-9/128_0"
    assert source.obs["slide"].unique().tolist() == ["PAT-9"]


@pytest.mark.parametrize(("mpp", "level"), [(0.5, 0), (0.75, 0), (1.0, 1), (2.0, 1)])
def test_tiles_at_other_resolutions_come_from_the_next_finer_level(slide, mpp, level):
    source = open_images(slide, tiles=Tiles(48, mpp=mpp, tissue=None))
    assert source.geometries[0].level == level
    span = round(48 * mpp / 0.25)
    image = Image.fromarray(picture())
    step = 48 * mpp / 0.25
    np.testing.assert_array_equal(np.unique(source.obs["x"]), np.floor(np.arange((WIDTH - step) // step + 1) * step))
    for i in (0, len(source) // 2, len(source) - 1):
        x, y = map(int, source.obs[["x", "y"]].iloc[i])
        expected = image.crop((x, y, x + span, y + span)).resize((48, 48), Image.Resampling.BOX)
        tile = source.read(i)
        assert tile.size == (48, 48)
        difference = np.abs(np.asarray(tile, dtype=int) - np.asarray(expected)).mean()
        assert difference < 8


def test_overlap_makes_the_steps_smaller(slide):
    source = open_images(slide, tiles=Tiles(100, downsample=2, overlap=50, tissue=None))
    assert np.unique(source.obs["x"]).tolist() == [*range(0, WIDTH - 200 + 1, 100)]


def test_tiles_without_tissue_are_left_out_and_counted(slide):
    everything = open_images(slide, tiles=Tiles(64, downsample=2, tissue=None))
    share = np.zeros((HEIGHT, WIDTH))
    share[TISSUE] = 1
    for least in (0.1, 0.9):
        source = open_images(slide, tiles=Tiles(64, downsample=2, tissue=least))
        truth = [share[y : y + 128, x : x + 128].mean() for x, y in everything.obs[["x", "y"]].to_numpy()]
        kept = {n for n, s in zip(everything.names, truth, strict=True) if s >= least}
        assert set(source.names) == kept
        assert source.info["tiles_without_tissue"] == len(everything) - len(kept)


def test_no_tissue_at_all_is_an_error(tmp_path):
    path = write_slide(tmp_path / "a.tiff", np.full((HEIGHT, WIDTH, 3), 240, np.uint8))
    with pytest.raises(DataError, match="holds tissue"):
        open_images(path, tiles=Tiles(64, mpp=0.5))


def test_given_coordinates_take_the_place_of_the_grid(slide, tmp_path):
    places = pd.DataFrame({"x": [10, 300], "y": [20, 400]})
    places.to_csv(tmp_path / "c.csv", index=False)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["coords"] = places.to_numpy()
        file["coords"].attrs["patch_size_level0"] = 128
    image = picture()
    for coords in (places, tmp_path / "c.csv", tmp_path / "c.h5", places.assign(slide="PAT-9.svs")):
        source = open_images(slide, tiles=Tiles(128, downsample=1, coords=coords))
        np.testing.assert_array_equal(np.asarray(source.read(1)), image[400:528, 300:428])
        assert source.obs[["x", "y"]].to_numpy().tolist() == [[10, 20], [300, 400]]
    with pytest.raises(DataError, match="tiles of 128 level-0 px and 256 are asked for"):
        open_images(slide, tiles=Tiles(128, downsample=2, coords=tmp_path / "c.h5"))
    for bad, match in (
        (places.assign(x=[0, WIDTH]), r"reach over the edge of their slide \(row 1\)"),
        (places.assign(x=[-1, 3]), r"\(row 0\)"),
        (places.assign(x=[0.5, 3]), "no whole numbers"),
        (places.assign(x=[None, 3]), "missing values"),
        (places.assign(x=10, y=20), "the place of another"),
        (places[["x"]], "no column y"),
        (places.assign(slide="other"), r"name a slide that is not there \(rows 0, 1\)"),
    ):
        with pytest.raises(DataError, match=match):
            open_images(slide, tiles=Tiles(128, downsample=1, coords=bad))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_folder_of_slides_under_a_slide_table(slide, tmp_path):
    for name in ("B", "A"):
        (tmp_path / f"{name}.tiff").symlink_to(slide)
    table = pd.DataFrame({"slide": ["B", "A"], "site": ["x", "y"]})
    source = open_images(tmp_path, tiles=Tiles(64, mpp=1.0), obs=table)
    assert source.info["slides"] == 2
    assert source.obs["slide"].tolist() == ["A"] * (len(source) // 2) + ["B"] * (len(source) // 2)
    assert set(zip(source.obs["slide"], source.obs["site"], strict=True)) == {("A", "y"), ("B", "x")}
    expected = first_and_last(source)
    assert first_and_last(pickle.loads(pickle.dumps(source))) == expected
    assert in_worker(source, "fork") == expected


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mpp": 0.1}, "2.50 times coarser than the resolution that is asked for"),
        ({"magnification": 20}, "does not say the power of its objective"),
    ],
)
def test_resolutions_that_a_slide_does_not_have(slide, options, match):
    with pytest.raises(DataError, match=match):
        open_images(slide, tiles=Tiles(64, **options))


def test_a_slide_that_does_not_say_its_resolution(tmp_path):
    path = write_slide(tmp_path / "a.tiff", picture(), mpp=None)
    with pytest.raises(DataError, match="does not say its micrometres"):
        open_images(path, tiles=Tiles(64, mpp=0.5))
    assert len(open_images(path, tiles=Tiles(64, downsample=4))) > 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "exactly one positive resolution"),
        ({"mpp": 1, "downsample": 2}, "exactly one"),
        ({"mpp": 0}, "exactly one positive"),
        ({"mpp": float("nan")}, "exactly one positive"),
        ({"mpp": 1, "overlap": 64}, "overlap=64"),
        ({"mpp": 1, "tissue": 2}, "tissue=2"),
    ],
)
def test_impossible_tiles_are_refused(options, match):
    with pytest.raises(DataError, match=match):
        Tiles(64, **options)


def read_all(path):
    source = open_images(path, tiles=Tiles(256, downsample=1, tissue=None))
    return [source.read(i) for i in range(len(source))]


def test_damaged_slides(slide, tmp_path):
    content = slide.read_bytes()
    (tmp_path / "a.tiff").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError):
        read_all(tmp_path / "a.tiff")
    (tmp_path / "b.svs").write_bytes(b"no slide")
    with pytest.raises(DataError, match="slide 0 of 1 cannot be opened"):
        read_all(tmp_path / "b.svs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no slides"):
        read_all(tmp_path / "empty")
    tifffile.imwrite(tmp_path / "deep.tiff", np.zeros((300, 300, 3), np.uint16), photometric="rgb", tile=(128, 128))
    with pytest.raises(DataError, match="RGB of 8 bits is read"):
        read_all(tmp_path / "deep.tiff")


def test_parts_that_the_file_does_not_hold_are_not_read_as_black(slide, tmp_path):
    with tifffile.TiffFile(slide) as file:
        tag = file.pages[0].tags["TileByteCounts"]
        at = tag.valueoffset + 4 * 6  # second row, second column of five
    content = bytearray(slide.read_bytes())
    content[at : at + 4] = bytes(4)
    (tmp_path / "a.tiff").write_bytes(content)
    source = open_images(tmp_path / "a.tiff", tiles=Tiles(128, downsample=1, tissue=None))
    lost = []
    for i in range(len(source)):
        try:
            source.read(i)
        except ImageError as error:
            lost.append((*source.obs[["x", "y"]].iloc[i], error.cause.partition(":")[0]))
    where = [(256, 256), (384, 256), (256, 384), (384, 384)]
    assert lost == [(x, y, "the slide does not hold all of the tile") for x, y in where]


def test_without_tiffslide_the_way_out_is_named(slide, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tiffslide", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'causalfm\[slides\]'"):
        open_images(slide, tiles=Tiles(64, mpp=0.5))
