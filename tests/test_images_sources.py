"""Folders, arrays and data sets as sources of images: what is found, in which order, and what is refused."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from image_samples import first_and_last, folder_of, in_worker, pixels, png, saved, tarred, zipped
from PIL import Image
from source_samples import FILES, SENTINEL, make, refused, table

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources import ImageSource, open_images


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_the_same_files_give_the_same_rows(tmp_path, kind):
    source = open_images(make(tmp_path, kind))
    assert isinstance(source, ImageSource)
    assert list(source.names) == sorted(FILES) == source.obs["image"].tolist()
    for i, name in enumerate(source.names):
        np.testing.assert_array_equal(np.asarray(source.read(i)), pixels(seed=list(FILES).index(name)))
    with pytest.raises(IndexError):
        source.read(len(source))
    with pytest.raises(IndexError):
        source.read(-1)
    assert not any(name in repr(source) for name in FILES)  # names can be patients


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(("kind", "method"), [("folder", "fork"), ("zip", "fork"), ("tar", "fork"), ("zip", "spawn")])
def test_sources_read_the_same_in_workers(tmp_path, kind, method):
    source = open_images(make(tmp_path, kind))
    expected = first_and_last(source)  # opens the file here first
    assert first_and_last(pickle.loads(pickle.dumps(source))) == expected
    assert in_worker(source, method) == expected
    assert first_and_last(source) == expected
    source.close()
    assert first_and_last(source) == expected


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_the_fingerprint_changes_with_the_images_and_the_rules_only(tmp_path, kind):
    path = make(tmp_path, kind)
    first = open_images(path).fingerprint()
    assert open_images(path).fingerprint() == first
    assert open_images(path, sixteen_bit="high byte").fingerprint() != first
    changed = make(tmp_path, kind, {**FILES, "a/0.png": png(99)})
    assert open_images(changed).fingerprint() != first


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_what_is_passed_over_is_counted(tmp_path, kind):
    extra = {"a/.hidden.png": b"", "__MACOSX/a/._0.png": b"x", "Thumbs.db": b"x", "a/notes.csv": b"x"}
    source = open_images(make(tmp_path, kind, {**FILES, **extra}))
    assert list(source.names) == sorted(FILES)
    assert source.info == {"kind": kind, "hidden_files": 3, "files_not_images": 1}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({f"{SENTINEL}.gif": b"x"}, r"1 files in image formats that are not read \(\.gif; file"),
        ({f"{SENTINEL}.svs": b"x"}, r"whole slides.*tiles="),
        ({f"{SENTINEL}.zip": b"x", f"{SENTINEL}.tar.gz": b"x"}, "2 archives"),
    ],
)
def test_images_that_would_be_lost_are_refused(tmp_path, kind, extra, match):
    refused(make(tmp_path, kind, {**FILES, **extra}), match)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_nothing_to_read_is_refused(tmp_path, kind):
    path = make(tmp_path, kind, {})
    path.mkdir(exist_ok=True) if kind == "folder" else None
    refused(path, "holds no images")
    refused(tmp_path / "missing", "check the path")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "empty.zip", "is empty")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_damaged_image_names_its_row_and_cause(tmp_path, kind):
    source = open_images(make(tmp_path, kind, {**FILES, f"a/{SENTINEL}.png": png()[:60]}))
    row = list(source.names).index(f"a/{SENTINEL}.png")
    with pytest.raises(ImageError, match=rf"row {row} cannot be used: it is truncated") as caught:
        source.read(row)
    assert caught.value.row == row
    assert SENTINEL not in str(caught.value) + caught.value.cause
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.row, again.cause) == (row, caught.value.cause)
    assert ImageError("as text").row is None


def test_a_wrong_ending_is_read_by_content(tmp_path):
    source = open_images(folder_of(tmp_path, {"a.jpg": png(), "b.png": saved(Image.new("RGB", (4, 4)), "JPEG")}))
    np.testing.assert_array_equal(np.asarray(source.read(0)), pixels())
    assert source.read(1).size == (4, 4)


def test_links_in_a_folder(tmp_path):
    folder = folder_of(tmp_path / "images", FILES)
    (tmp_path / "elsewhere.png").write_bytes(png(50))
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    assert "linked.png" in open_images(folder).names
    (folder / f"{SENTINEL}.png").symlink_to(tmp_path / "nowhere")
    refused(folder, r"1 links that lead nowhere, or devices \(file 0 ")
    (folder / f"{SENTINEL}.png").unlink()
    os.mkfifo(folder / f"{SENTINEL}.png")
    refused(folder, "links that lead nowhere, or devices")
    (folder / f"{SENTINEL}.png").unlink()
    (folder / "a" / "loop").symlink_to(folder)
    refused(folder, "1 links to folders, which are not followed")


def test_names_that_are_no_text(tmp_path):
    folder = folder_of(tmp_path / "images", FILES)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(png())
    refused(folder, r"1 names that are no UTF-8 text or have control characters \(file 6\)")
    refused(tarred(tmp_path / "a.tar", {b"\xff.png".decode("utf-8", "surrogateescape"): png()}), "no UTF-8 text")
    refused(tarred(tmp_path / "b.tar", {"a\n.png": png()}), "control characters")
    path = zipped(tmp_path / "c.zip", {"aaé.png": png()})
    assert open_images(path).names == ["aaé.png"]
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):  # the mark "this is UTF-8" out
        content[content.index(mark) + at] &= ~0x08
    path.write_bytes(content)
    refused(path, r"neither ASCII nor marked as UTF-8 \(member 0\)")


def test_a_folder_of_images_and_archives_is_ambiguous(tmp_path):
    folder = folder_of(tmp_path / "images", FILES)
    zipped(folder / "more.zip", FILES)
    refused(folder, "1 archives")


def test_arrays_and_data_sets(tmp_path):
    import torch

    stack = np.stack([pixels(seed=i) for i in range(3)])
    pictures = [Image.fromarray(image) for image in stack]
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in stack]
    labelled = list(zip(pictures, "abc", strict=True))
    np.save(tmp_path / "a.npy", stack)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for images in (stack, mapped, pictures, tensors, labelled, list(stack)):
        source = open_images(images, obs=table(v=[1, 2, 3]))
        assert [source.read(i).tobytes() for i in range(3)] == [image.tobytes() for image in stack]
        assert source.obs["v"].tolist() == [1, 2, 3]
        assert list(source.names) == ["0", "1", "2"]
    assert open_images(stack).fingerprint() != open_images(stack[::-1]).fingerprint()
    assert open_images(pictures).fingerprint() != open_images(pictures[::-1]).fingerprint()
    assert open_images(source) is source


class Broken:
    def __len__(self):
        return 2

    def __getitem__(self, i):
        raise KeyError(SENTINEL)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (Broken(), "the data set raised KeyError"),
        ([np.zeros((3, 3))], r"ndarray \(3, 3\) float64"),
        ([np.zeros((3, 3, 3), np.float32)], "before normalisation"),
        (["text"], "check the path"),
        ([7], "the item is a int"),
    ],
)
def test_items_that_are_no_images_name_their_row(images, match):
    with pytest.raises(DataError, match=match) as caught:
        open_images(images).read(0)
    assert SENTINEL not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (7, "images is a int"),
        ({}, "images is a dict"),
        ([], "there are no images"),
        (np.zeros((0, 4, 4, 3), np.uint8), "there are no images"),
        (np.zeros((2, 3, 4, 4), np.uint8), "move channels last"),
        (np.zeros((2, 4, 4, 3)), "float64"),
    ],
)
def test_what_cannot_be_images_is_refused(images, match):
    refused(images, match)


def test_options_that_mean_nothing_are_refused(tmp_path):
    path = make(tmp_path, "zip")
    refused(path, "key= names", key="a")
    refused(path, "root= says", root=tmp_path)
    (tmp_path / "a.svs").write_bytes(b"x")
    refused(tmp_path / "a.svs", "say with tiles=")
    (tmp_path / "a.rar").write_bytes(b"x")
    refused(tmp_path / "a.rar", "images come as")


def test_opening_images_imports_no_heavy_package():
    import subprocess

    heavy = ("torch", "h5py", "zarr", "tiffslide", "PIL")
    code = f"import sys, causalfm.extraction.sources; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
