"""Archives made to do harm are refused whole; sound ones come out as they are."""

import io
import stat
import tarfile
import zipfile

import pytest

from causalfm.datasets.unpacking import unpack
from causalfm.errors import DataError


def zipped(path, members, links=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if name in links else stat.S_IFREG) << 16
            archive.writestr(info, content)
    return path


def tarred(path, members, links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name in links:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(content))
    return path


PACKED = pytest.mark.parametrize(("pack", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])


@PACKED
def test_what_was_packed_comes_out(tmp_path, pack, name):
    archive = pack(tmp_path / name, [("top/b/1.txt", b"one"), ("top/2.txt", b""), ("table.csv", b"x\n")])
    assert unpack(archive, tmp_path, limit=100) == [tmp_path / "table.csv", tmp_path / "top"]
    assert (tmp_path / "top" / "b" / "1.txt").read_bytes() == b"one"
    assert {p.name for p in tmp_path.iterdir()} == {name, "top", "table.csv"}
    with pytest.raises(DataError, match=r"'table.csv' of .* is in the folder already"):
        unpack(archive, tmp_path, limit=100)


@PACKED
@pytest.mark.parametrize(
    ("members", "links", "words"),
    [
        ([("a.txt", b"fine"), ("../evil.txt", b"x")], (), "member 1 of .* leads out of the folder"),
        ([("/tmp/evil.txt", b"x")], (), "member 0 of .* leads out of the folder"),
        ([("a/../../evil.txt", b"x")], (), "leads out of the folder"),
        ([("way", b"/etc"), ("way/evil.txt", b"x")], ("way",), "member 0 of .* is a link"),
        ([("a.txt", b"x"), ("a.txt", b"y")], (), "member 1 of .* the name of another"),
        ([("a.txt", b"x" * 60), ("b.txt", b"y" * 60)], (), "unpacks to more than 100 bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_harmful_archives_leave_nothing(tmp_path, pack, name, members, links, words):
    folder = tmp_path / "in"
    folder.mkdir()
    archive = pack(folder / name, members, links)
    with pytest.raises(DataError, match=words):
        unpack(archive, folder, limit=100)
    assert [p.name for p in folder.iterdir()] == [name]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@PACKED
def test_bombs_are_stopped_by_their_ratio(tmp_path, pack, name):
    archive = pack(tmp_path / name, [("zeros", bytes(2**25))])
    assert archive.stat().st_size < 2**16
    with pytest.raises(DataError, match=r"unpacks to more than 16.8 MB"):
        unpack(archive, tmp_path, limit=2**40)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_header_that_lies_about_the_size_is_noticed(tmp_path):
    archive = zipped(tmp_path / "a.zip", [("a.txt", b"x" * 5000)])
    content = archive.read_bytes().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a.zip"):
        unpack(archive, tmp_path, limit=10**6)


@PACKED
def test_damaged_archives_are_named(tmp_path, pack, name):
    archive = pack(tmp_path / name, [("a.txt", bytes(range(256)) * 400)])
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"'a.*' cannot be read"):
        unpack(archive, tmp_path, limit=10**6)
    assert [p.name for p in tmp_path.iterdir()] == [name]
