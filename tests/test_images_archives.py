"""Zips, tars and their shards as sources of images: nothing is unpacked, nothing lost, nothing believed."""

import json
import stat
import tarfile
import zipfile

import pytest
from image_samples import folder_of, pixels, png, special, tarred, zipped
from PIL import Image
from source_samples import FILES, SENTINEL, make, refused

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources import open_images


def test_an_archive_that_changes_while_it_is_read_stops_the_run(tmp_path):
    source = open_images(make(tmp_path, "zip"))
    make(tmp_path, "zip", {**FILES, "a/0.png": png(99)})
    with pytest.raises(DataError, match="has changed since it was opened") as caught:
        source.read(0)
    assert not isinstance(caught.value, ImageError)


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
