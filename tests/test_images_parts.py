"""A part of a source: the images of some rows under their own numbers, small enough to travel."""

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from image_samples import RULES, folder_of, pixels, png, tarred, zipped
from PIL import Image

from causalfm.errors import ImageError
from causalfm.extraction import open_images
from causalfm.extraction.sources import Tiles
from causalfm.extraction.sources.protocol import Described, Source, part_of
from causalfm.extraction.sources.several import SeveralSources

N = 7
IMAGES = np.stack([pixels(seed=i) for i in range(N)])
FILES = {f"patient {i}.png": png(i) for i in range(N)}


class Made:
    """A data set of the user's own."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return IMAGES[i]


class Foreign:
    """A source of the user's own, which cannot be cut."""

    names = tuple(map(str, range(N)))
    obs = None

    def __len__(self):
        return N

    def read(self, i):
        return Image.fromarray(IMAGES[i])

    def fingerprint(self):
        return "of the user"

    def close(self):
        pass


def patches(folder, kind):
    if kind == "zarr":
        zarr.create_array(folder / "patches.zarr", data=IMAGES, chunks=(3, *IMAGES.shape[1:]))
        return folder / "patches.zarr"
    with h5py.File(folder / "patches.h5", "w") as file:
        file.create_dataset("imgs", data=IMAGES, chunks=(3, *IMAGES.shape[1:]))
    return folder / "patches.h5"


def slides(folder):
    tile = np.concatenate([np.asarray(Image.fromarray(image).resize((16, 16))) for image in IMAGES], axis=1)
    with tifffile.TiffWriter(folder / "s.tif") as writer:
        writer.write(tile, photometric="rgb", tile=(16, 16), metadata=None)
    return open_images(folder / "s.tif", tiles=Tiles(16, downsample=1, tissue=None))


def several(folder):
    few = dict(list(FILES.items())[:3]), dict(list(FILES.items())[3:4]), dict(list(FILES.items())[4:])
    parts = [open_images(folder_of(folder / f"part {i}", files)) for i, files in enumerate(few)]
    return SeveralSources(parts, ["a", "b", "c"], RULES)


SOURCES = {
    "folder": lambda folder: open_images(folder_of(folder / "in", FILES)),
    "zip": lambda folder: open_images(zipped(folder / "in.zip", FILES)),
    "tar": lambda folder: open_images(tarred(folder / "in.tar", FILES)),
    "hdf5": lambda folder: open_images(patches(folder, "hdf5")),
    "zarr": lambda folder: open_images(patches(folder, "zarr")),
    "slides": slides,
    "array": lambda folder: open_images(IMAGES),
    "list": lambda folder: open_images([Image.fromarray(image) for image in IMAGES]),
    "data set": lambda folder: open_images(Made()),
    "several": several,
    "described": lambda folder: Described(Foreign(), pd.DataFrame({"site": list("aabbccd")})),
    "foreign": lambda folder: Foreign(),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("rows", [range(0, 2), range(2, 5), range(3, 4), range(6, 7), range(0, N)])
def test_a_part_reads_its_rows_under_their_numbers(kind, rows, tmp_path):
    source = SOURCES[kind](tmp_path)
    part = pickle.loads(pickle.dumps(part_of(source, rows)))
    for row in rows:
        assert part.read(row).tobytes() == source.read(row).tobytes()
    if not isinstance(part, Source):
        return
    assert len(part) == len(part.names) == len(rows)
    assert list(part.names) == list(source.names)[rows.start : rows.stop]
    for outside in (rows.start - 1, rows.stop) if kind != "described" else ():
        with pytest.raises(IndexError):
            part.read(outside)
    inner = part.part(range(rows.stop - 1, rows.stop))  # of a part
    assert inner.read(rows.stop - 1).tobytes() == source.read(rows.stop - 1).tobytes()
    assert len(source) == N  # the whole is as it was
    part.close(), inner.close(), source.close()


@pytest.mark.parametrize("kind", ["folder", "several"])
def test_the_fingerprint_of_a_part_is_that_of_its_images(kind, tmp_path):
    source = SOURCES[kind](tmp_path)
    assert source.piecewise
    others, own = source.part(range(0, 4)).fingerprint(), source.part(range(4, 7)).fingerprint()
    target = next(tmp_path.rglob("patient 5.png"))
    target.write_bytes(b"no image")
    again = SeveralSources(source.parts, "abc", RULES) if kind == "several" else open_images(tmp_path / "in")
    assert again.part(range(0, 4)).fingerprint() == others
    assert again.part(range(4, 7)).fingerprint() != own
    with pytest.raises(ImageError, match="the image of row 5 ") as said:
        again.part(range(4, 7)).read(5)
    assert said.value.row == 5


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "slides", "several"])
def test_a_part_of_many_images_is_small(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "FILES", {f"a rather long name {i:04d}.png": png(i % 3) for i in range(300)})
    monkeypatch.setitem(globals(), "IMAGES", np.stack([pixels(seed=i % 3) for i in range(300)]))
    source = SOURCES[kind](tmp_path)
    sizes = [len(pickle.dumps(each)) for each in (source, part_of(source, range(150, 153)))]
    assert sizes[1] < 3_000 < sizes[0], sizes
