"""Folders, manifests, archives, arrays: what is found, in which order, and what is refused before anything is lost."""

import json
import os
import pickle
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_samples import first_and_last, folder_of, in_worker, pixels, png, saved, special, tarred, zipped
from PIL import Image

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources import ImageSource, open_images

FILES = {f"{kind}/{i}.png": png(seed) for seed, (kind, i) in enumerate((k, i) for k in "ba" for i in range(3))}
SENTINEL = "PAT-4711"


def make(tmp_path, kind, files=FILES):
    if kind == "folder":
        return folder_of(tmp_path / "images", files)
    return (zipped if kind == "zip" else tarred)(tmp_path / f"images.{kind}", files)


def refused(images, match, error=DataError, **options):
    with pytest.raises(error, match=match) as caught:
        open_images(images, **options)
    assert SENTINEL not in str(caught.value)
    return str(caught.value)


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
    assert SENTINEL not in repr(source)


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


def test_an_archive_that_changes_while_it_is_read_stops_the_run(tmp_path):
    source = open_images(make(tmp_path, "zip"))
    make(tmp_path, "zip", {**FILES, "a/0.png": png(99)})
    with pytest.raises(DataError, match="has changed since it was opened") as caught:
        source.read(0)
    assert not isinstance(caught.value, ImageError)


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


def test_names_that_differ_in_case_only_are_different(tmp_path):
    assert open_images(zipped(tmp_path / "a.zip", {"A.png": png(1), "a.png": png(2)})).names == ["A.png", "a.png"]


def test_a_tar_that_names_its_own_folder(tmp_path):
    path = tarred(tmp_path / "a.tar", {"./b.png": png(1), "./a/c.png": png(2)})
    assert open_images(path).names == ["a/c.png", "b.png"]
    refused(tarred(path, {"./b.png": png(1), "b.png": png(2)}), "2 members with the name of another")


BAD_NAMES = ["../up.png", "a/../../up.png", "/etc/up.png", "C:/up.png", "..\\up.png", "\\\\host\\up.png"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_members_that_would_leave_are_refused_by_position(tmp_path, pack, name):
    kind = "zip" if pack is zipped else "tar"
    path = pack(tmp_path / f"a.{kind}", {"ok.png": png(), name.replace("up", SENTINEL): png()})
    refused(path, r"1 members with absolute paths or '\.\.' \(member 1\)")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{kind}"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    entry = special(f"{SENTINEL}.png", kind, "/etc/passwd")
    path = tarred(tmp_path / "a.tar", [("ok.png", png()), ("x", entry)])
    refused(path, r"1 links, devices or sparse files \(member 1\)")


def test_links_in_a_zip_are_refused(tmp_path):
    entry = zipfile.ZipInfo(f"{SENTINEL}.png")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    refused(zipped(tmp_path / "a.zip", [("ok.png", png()), (entry, "/etc/passwd")]), r"1 links.*\(member 1\)")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_repeated_names_are_refused(tmp_path, pack):
    path = pack(
        tmp_path / f"a.{'zip' if pack is zipped else 'tar'}", [("a.png", png(1)), ("b.png", png()), ("a.png", png())]
    )
    refused(path, r"2 members with the name of another \(members 0, 2\)")


def test_encrypted_members_and_other_compressions(tmp_path):
    path = zipped(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(content)
    refused(tmp_path / "b.zip", r"1 encrypted members \(member 0\): unpack it with its password")
    refused(zipped(tmp_path / "c.zip", FILES, zipfile.ZIP_LZMA), "6 members of a compression that is not read")


def test_a_zip_bomb_is_stopped_by_what_comes_out_not_by_what_it_claims(tmp_path):
    path = zipped(tmp_path / "a.zip", {"bomb.png": bytes(2**25)})
    with pytest.raises(ImageError, match=r"unpacks to more than \d+ bytes"):
        open_images(path).read(0)
    content = bytearray(path.read_bytes())  # the directory claims 100 bytes
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ImageError, match="unpacks to more than"):
        open_images(path).read(0)
    with pytest.raises(ImageError, match="more than max_bytes=50"):
        open_images(zipped(tmp_path / "b.zip", FILES), max_bytes=50).read(0)
    with pytest.raises(ImageError, match="more than max_bytes=50"):
        open_images(folder_of(tmp_path / "f", FILES), max_bytes=50).read(0)


def test_a_tar_must_be_whole_and_uncompressed(tmp_path):
    path = make(tmp_path, "tar")
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    for length in (300, 700, end // 2, -(-end // 512) * 512):
        (tmp_path / "cut.tar").write_bytes(content[:length])
        refused(tmp_path / "cut.tar", "damaged, truncated|no uncompressed tar")
    (tmp_path / "two.tar").write_bytes(content + content)
    refused(tmp_path / "two.tar", "damaged, truncated")
    for mode in ("gz", "xz"):
        with tarfile.open(tmp_path / f"a.{mode}.tar", f"w:{mode}") as archive:
            archive.add(tmp_path / "cut.tar", "a.png")
        refused(tmp_path / f"a.{mode}.tar", "Unpack it first")


def test_webdataset_members_of_a_key_are_one_row(tmp_path):
    members = {}
    for i in range(3):
        members |= {f"s/{i}.png": png(i), f"s/{i}.json": json.dumps({"site": "AB"[i % 2], "boxes": [i]}).encode()}
        members |= {f"s/{i}.cls": str(i).encode(), f"s/{i}.txt": b"a mitosis \n", f"s/{i}.npy": b"x"}
    del members["s/1.txt"], members["s/0.npy"], members["s/1.npy"], members["s/2.npy"]
    source = open_images(tarred(tmp_path / "a.tar", members))
    assert source.obs["site"].tolist() == ["A", "B", "A"]
    assert source.obs["boxes"].tolist() == ["[0]", "[1]", "[2]"]
    assert source.obs["cls"].tolist() == [0, 1, 2]
    assert source.obs["txt"].isna().tolist() == [False, True, False]
    assert source.read(2).tobytes() == Image.fromarray(pixels(seed=2)).tobytes()
    for extra, match in (
        ({f"{SENTINEL}.json": b"{}"}, "belong to no image"),
        ({"s/0.b.png": png()}, "belong to several images"),
        ({"s/1.txt": b"\xff"}, "no UTF-8 text, or no JSON object"),
        ({"s/0.json": b"[" * 10**5}, "no UTF-8 text, or no JSON object"),
        ({"s/0.json": b" " * 2**21}, "more than max_bytes"),
    ):
        refused(tarred(tmp_path / "b.tar", {**members, **extra}), match)


def test_shards_are_read_one_after_the_other(tmp_path):
    for i in range(3):
        tarred(tmp_path / f"train-{i:04d}.tar", {"0.png": png(2 * i), "1.png": png(2 * i + 1), "1.cls": b"7"})
    pattern = str(tmp_path / "train-{0000..0002}.tar")
    everything = [
        open_images(p) for p in (pattern, str(tmp_path / "train-*.tar"), tmp_path, sorted(tmp_path.iterdir()))
    ]
    for source in everything:
        assert source.names[:3] == ["train-0000.tar/0.png", "train-0000.tar/1.png", "train-0001.tar/0.png"]
        assert [source.read(i).tobytes() for i in range(6)] == [pixels(seed=i).tobytes() for i in range(6)]
        assert len({source.fingerprint(), everything[0].fingerprint()}) == 1
    assert everything[0].obs["image"].tolist() == list(everything[0].names)
    refused(str(tmp_path / "train-{0000..0003}.tar"), "nothing at 1 of them, the first at position 3 of 4")
    refused(str(tmp_path / "val-*.tar"), "no file fits the pattern")
    refused([tmp_path / "train-0000.tar"] * 2, "is one given twice")
    tarred(tmp_path / "train-0001.tar", {"0.png": b"no image"})
    with pytest.raises(ImageError, match="row 2") as caught:
        open_images(tmp_path).read(2)
    assert caught.value.row == 2


def test_a_folder_of_images_and_archives_is_ambiguous(tmp_path):
    folder = folder_of(tmp_path / "images", FILES)
    zipped(folder / "more.zip", FILES)
    refused(folder, "1 archives")


def table(**columns):
    return pd.DataFrame(columns)


def test_a_manifest_keeps_its_order_and_its_columns(tmp_path):
    folder_of(tmp_path / "images", FILES)
    outside = folder_of(tmp_path / "other", {"x.png": png(9)}) / "x.png"
    frame = table(path=["images/b/1.png", str(outside), "images/a/0.png"], site=["A", "B", "A"])
    (tmp_path / "m.csv").write_text(frame.to_csv(index=False))
    frame.to_parquet(tmp_path / "m.parquet")
    for manifest, options in (
        (tmp_path / "m.csv", {}),
        (tmp_path / "m.parquet", {}),
        (frame.set_axis([5, 6, 7]), {"root": tmp_path}),
        (frame.rename(columns={"path": "p"}), {"root": tmp_path, "key": "p"}),
    ):
        source = open_images(manifest, **options)
        assert [source.read(i).tobytes() for i in range(3)] == [pixels(seed=s).tobytes() for s in (1, 9, 3)]
        assert source.obs["site"].tolist() == ["A", "B", "A"]
        assert "paths_outside" not in source.info
    up = open_images(table(path=["../other/x.png"]), root=tmp_path / "images")
    assert up.info["paths_outside"] == 1
    assert up.read(0).tobytes() == pixels(seed=9).tobytes()


def test_a_manifest_names_all_faulty_rows_at_once(tmp_path):
    folder_of(tmp_path, FILES)
    good = "a/0.png"
    for column, match in (
        ([good, f"{SENTINEL}.png", "a/1.png", f"{SENTINEL}2.png"], r"2 of 4 paths lead to no file \(rows 1, 3\)"),
        ([good, None], r"1 missing values of 2 \(row 1\)"),
        ([good, np.nan, ""], r"1 missing values"),
        ([good, "a/1.png", "./a/0.png"], r"2 files that another row names too \(rows 0, 2\)"),
        (["s3://bucket/a.png"], r"are not fetched"),
        (["a"], "lead to no file"),
    ):
        refused(table(path=column), match, root=tmp_path)
    refused(table(path=[good]), "say with root=")
    refused(table(path=[good], file=[good]), "2 columns that could hold paths", root=tmp_path)
    refused(table(site=[good]), "no columns that could hold paths", root=tmp_path)
    refused(table(site=[good]), "no column 'x'", root=tmp_path, key="x")
    refused(table(path=[]), "no rows", root=tmp_path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("named", [str, lambda n: n.rpartition(".")[0]])
def test_a_table_is_joined_by_name_in_the_order_of_the_images(tmp_path, kind, named):
    frame = table(tile=[named(n) for n in FILES], site=list("AABBCC")).sample(frac=1, random_state=0)
    source = open_images(make(tmp_path, kind), obs=frame)
    by_name = dict(zip(FILES, "AABBCC", strict=True))
    assert source.obs["site"].tolist() == [by_name[n] for n in source.names]
    assert source.obs["image"].tolist() == list(source.names)
    indexed = open_images(make(tmp_path, kind), obs=frame.set_index("tile"))
    assert indexed.obs["site"].tolist() == source.obs["site"].tolist()
    assert indexed.obs.index.tolist() == [named(n) for n in source.names]


def test_a_table_may_name_the_last_part_of_the_path_where_that_is_unique(tmp_path):
    files = {f"{'ab'[i % 2]}/{i}.png": png(i) for i in range(4)}
    path = zipped(tmp_path / "a.zip", files)
    source = open_images(path, obs=table(file=[f"{i}.png" for i in range(4)], v=range(4)))
    assert source.obs["v"].tolist() == [0, 2, 1, 3]
    refused(make(tmp_path, "zip"), "have no|no column", obs=table(file=[f"{i}.png" for i in range(6)]))


def test_tables_that_do_not_fit_are_refused(tmp_path):
    path = make(tmp_path, "zip")
    names = list(FILES)
    refused(path, r"1 of 6 rows have no image \(row 5\); 1 of 6 images", obs=table(n=[*names[:5], SENTINEL]))
    refused(path, "2 rows name the image of another row", obs=table(n=[*names, names[0]]))
    refused(path, "no column of the table", obs=table(n=range(6)))
    refused(path, "in different ways", obs=table(n=names, m=names[::-1]))
    refused(path, "other values: image", obs=table(n=names, image=[*names[:5], "z"]))
    refused(np.zeros((2, 4, 4, 3), np.uint8), "2 images, which have no names", obs=table(a=[1]))


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


def test_real_tiles_of_three_scanners_find_their_rows(data_dir):
    metadata = pd.read_csv(data_dir / "amibr_midog21_patches.csv")
    source = open_images(
        sorted(data_dir.glob("amibr_midog21_patches_*.zip")), obs=metadata.sample(frac=1, random_state=1)
    )
    assert len(source) == 360
    assert [n.rpartition("/")[2] for n in source.names] == source.obs["file"].tolist()
    assert [n.partition("/")[0] for n in source.names] == source.obs["label"].tolist()  # the folders say it again
    scanners = source.obs["scanner"].iloc[[0, 120, 240]].tolist()
    assert scanners == ["Aperio CS2", "Hamamatsu S360", "Hamamatsu XR"]
    assert source.read(359).size == (128, 128)
    assert source.info["parts"] == 3


def test_opening_images_imports_no_heavy_package():
    import subprocess

    heavy = ("torch", "h5py", "zarr", "tiffslide", "PIL")
    code = f"import sys, causalfm.extraction.sources; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
