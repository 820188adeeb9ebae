"""Files over http from a server that behaves badly on purpose: what arrives is whole and right, or nothing is kept."""

import hashlib
import json
import shutil
from collections import namedtuple

import pytest
from file_server import serving

from causalfm.datasets import disk_room, fetching
from causalfm.datasets.checksum_lock import LOCK, changed, read_lock
from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import RemoteFile, fetch
from causalfm.datasets.hugging_face import hub_files, hub_get, newest_commit
from causalfm.datasets.zenodo import record_files
from causalfm.errors import DataError

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
SHA = hashlib.sha256(CONTENT).hexdigest()
ABOUT = {"source": "here", "licence": "CC0"}


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    with serving() as site:
        yield site


def bring(site, folder, **facts):
    return collect([RemoteFile("a/x.bin", site.add("/x.bin", CONTENT), **facts)], folder, about=ABOUT)


def test_a_cut_download_goes_on_where_it_stopped(site, tmp_path):
    site.cuts = [3000, 4000]
    seen = []
    remote = RemoteFile("x.bin", site.add("/x.bin", CONTENT), size=len(CONTENT))
    (path,) = collect([remote], tmp_path, about=ABOUT, progress=lambda *p: seen.append(p))
    assert path.read_bytes() == CONTENT
    assert [r for _, _, r in site.asked] == [None, "bytes=3000-", "bytes=7000-"]
    assert seen[-1] == ("x.bin", len(CONTENT), len(CONTENT))
    assert {p.name for p in tmp_path.iterdir()} == {"x.bin", LOCK}


def test_what_arrived_before_giving_up_is_kept_and_the_next_call_goes_on(site, tmp_path):
    site.cuts = [2000] * fetching.ATTEMPTS
    remote = RemoteFile("x.bin", site.add("/x.bin", CONTENT * 3))
    with pytest.raises(DataError, match=r"x.bin: the connection ended after 10000 of 30720 bytes, after 5 attempts"):
        fetch(remote, tmp_path)
    collect([remote], tmp_path, about=ABOUT)
    assert site.asked[-1] == ("GET", "/x.bin", "bytes=10000-")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT * 3


def test_a_complete_file_that_was_not_checked_yet_is_not_fetched_again(site, tmp_path):
    remote = RemoteFile("x.bin", site.add("/x.bin", CONTENT))
    fetch(remote, tmp_path)  # killed here
    collect([remote], tmp_path, about=ABOUT)
    assert [r for _, _, r in site.asked] == [None, f"bytes={len(CONTENT)}-"]
    assert {p.name for p in tmp_path.iterdir()} == {"x.bin", LOCK}


@pytest.mark.parametrize("how", ["another file", "no ranges"])
def test_a_beginning_that_does_not_fit_is_thrown_away(site, tmp_path, how):
    site.cuts = [3000]
    monkey = iter([CONTENT[::-1]])
    remote = RemoteFile("x.bin", site.add("/x.bin", CONTENT), size=len(CONTENT))

    def exchange(name, done, total):
        site.ranges = how != "no ranges"
        if how == "another file":
            site.files["/x.bin"] = next(monkey, CONTENT[::-1])

    collect([remote], tmp_path, about=ABOUT, progress=exchange)
    assert (tmp_path / "x.bin").read_bytes() == site.files["/x.bin"]


def test_busy_servers_are_asked_again_and_refusals_are_not(site, tmp_path):
    site.codes = [503, 500]
    assert bring(site, tmp_path)[0].read_bytes() == CONTENT
    for code, words in ((403, "refuses access"), (404, "no such file any more")):
        site.codes, before = [code], len(site.asked)
        with pytest.raises(DataError, match=words):
            fetch(RemoteFile("y", f"{site.url}/y"), tmp_path)
        assert len(site.asked) == before + 1


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_leaves_nothing(site, tmp_path, kind):
    wrong = "0" * len(hashlib.new(kind).hexdigest())
    with pytest.raises(DataError, match=rf"a/x.bin: the {kind} of what arrived is \w+, and 0+ the source publishes"):
        bring(site, tmp_path, checksum=f"{kind}:{wrong}")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    right = bring(site, tmp_path, checksum=f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}")
    assert read_lock(tmp_path)["files"]["a/x.bin"]["checked_against"] == f"{kind} published by the source"
    assert right[0].read_bytes() == CONTENT


def test_without_a_published_checksum_the_first_download_is_the_measure(site, tmp_path):
    bring(site, tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["licence"] == "CC0"
    assert read_lock(tmp_path)["files"]["a/x.bin"]["sha256"] == SHA
    asked = len(site.asked)
    bring(site, tmp_path)
    assert len(site.asked) == asked, "an unchanged file is not fetched again"
    (tmp_path / "a" / "x.bin").write_bytes(CONTENT[:-1] + b"?")
    assert changed(tmp_path) == ["a/x.bin"]
    bring(site, tmp_path)
    assert changed(tmp_path) == []
    site.files["/x.bin"] = CONTENT[::-1]
    (tmp_path / "a" / "x.bin").unlink()
    with pytest.raises(DataError, match="was recorded at the first download"):
        collect([RemoteFile("a/x.bin", f"{site.url}/x.bin")], tmp_path, about=ABOUT)


def test_a_file_of_unknown_origin_is_neither_used_nor_lost(site, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.bin").write_bytes(CONTENT)
    for facts in ({}, {"checksum": "md5:" + "0" * 32}):
        with pytest.raises(DataError, match="is in the folder already"):
            bring(site, tmp_path, **facts)
    assert (tmp_path / "a" / "x.bin").read_bytes() == CONTENT
    bring(site, tmp_path, checksum=f"sha256:{SHA}")  # brought by hand, and right
    assert site.asked == []


def test_a_full_disk_is_noticed_before_and_during(site, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage(1, 1, disk_room.RESERVE + 9000))
        with pytest.raises(DataError, match=r"needs 10.2 kB and the disk has"):
            bring(site, tmp_path, size=len(CONTENT))
    assert site.asked == []

    def full(*_):
        raise OSError(28, "No space left on device")

    site.cuts = [3000]
    remote = RemoteFile("x.bin", site.add("/x.bin", CONTENT))
    with pytest.raises(DataError, match=r"the disk is full. What has arrived is kept"):
        fetch(remote, tmp_path, full)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_redirections_go_to_named_hosts_only(site, tmp_path):
    with serving() as other:
        target = other.add("/x.bin", CONTENT)
        site.redirects["/moved"] = target
        host = target.split("/")[2]
        remote = RemoteFile("x.bin", f"{site.url}/moved")
        with pytest.raises(DataError, match="a host that was not named"):
            fetch(remote, tmp_path)
        assert other.asked == []
        assert fetch(RemoteFile("x.bin", remote.url, hosts=(host,)), tmp_path).read_bytes() == CONTENT
        site.redirects["/moved"] = "ftp://127.0.0.1/x"
        with pytest.raises(DataError, match="over https only"):
            fetch(remote, tmp_path / "b")
    with pytest.raises(DataError, match="over https only"):
        fetch(RemoteFile("x", "http://example.org/x"), tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:\\x", "", "a\0"])
def test_names_that_leave_the_folder_are_refused(site, tmp_path, name):
    with pytest.raises(DataError, match="leads out of the folder"):
        fetch(RemoteFile(name, site.add("/x.bin", CONTENT)), tmp_path)
    assert site.asked == []


def test_listings_that_name_a_file_twice_or_the_lock_are_refused(site, tmp_path):
    twice = [RemoteFile(name, site.add("/x.bin", CONTENT)) for name in ("a", "a")]
    for files in (twice, [RemoteFile(LOCK, twice[0].url)]):
        with pytest.raises(DataError, match=r"two files of one name, or a causalfm-lock.json"):
            collect(files, tmp_path, about=ABOUT)


def test_another_size_than_published_is_refused_at_once(site, tmp_path):
    with pytest.raises(DataError, match="offers 10240 bytes, and 10000 were published"):
        bring(site, tmp_path, size=10000)


def test_a_file_of_unknown_length_needs_a_checksum(site, tmp_path):
    site.lengths = False
    with pytest.raises(DataError, match=r"a/x.bin: the server does not say how long it is"):
        bring(site, tmp_path)
    assert bring(site, tmp_path, checksum=f"sha256:{SHA}")[0].read_bytes() == CONTENT


def test_zenodo_lists_files_with_md5(site, tmp_path):
    site.zenodo(7, **{"b.zip": b"b", "a.zip": CONTENT})
    files = record_files(7, api=site.url)
    assert [f.name for f in files] == ["a.zip", "b.zip"]
    paths = collect(files, tmp_path, about=ABOUT)
    assert [p.read_bytes() for p in paths] == [CONTENT, b"b"]
    with pytest.raises(DataError, match=r"has no file c.zip. Files: a.zip, b.zip"):
        record_files(7, ["c.zip"], api=site.url)
    site.add("/records/8", b'{"files": [{"key": "x"}]}')
    with pytest.raises(DataError, match="in a form that is not known"):
        record_files(8, api=site.url)
    site.add("/records/9", b'{"files": [{"key": "x", "size": 1, "checksum": "", "links": {"self": "u"}}]}')
    with pytest.raises(DataError, match="no MD5 for x"):
        record_files(9, api=site.url)


def test_the_hub_is_asked_at_one_commit(site, tmp_path):
    commit = "ab" * 20
    site.hub("o/set", commit, data__x=CONTENT, README=b"words")
    assert newest_commit("o/set", endpoint=site.url) == commit
    files = hub_files("o/set", commit, lambda path: path.startswith("data/"), endpoint=site.url)
    assert [(f.name, f.size, f.checksum) for f in files] == [("data/x", len(CONTENT), f"sha256:{SHA}")]
    get = hub_get("o/set", commit, endpoint=site.url)
    assert collect(files, tmp_path, about=ABOUT, get=get)[0].read_bytes() == CONTENT
    with pytest.raises(DataError, match="is no commit"):
        hub_files("o/set", "main", lambda _: True, endpoint=site.url)
    with pytest.raises(DataError, match=r"o/other on the Hugging Face hub"):
        hub_files("o/other", commit, lambda _: True, endpoint=site.url)


def test_sizes_are_written_as_people_read_them():
    assert [disk_room.in_words(n) for n in (0, 999, 1000, 10_658_709_504)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "10.7 GB",
    ]
