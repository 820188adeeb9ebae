"""Archives unpacked to disk: plain files under plain names, no more bytes than announced, all of it or nothing."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

from causalfm.datasets.checksum_lock import read_lock, write_lock
from causalfm.datasets.disk_room import in_words, refuse_full_disk
from causalfm.errors import DataError
from causalfm.formats.durable import settle_name
from causalfm.formats.member_names import leaves
from causalfm.tables import existing, reading

CHUNK = 2**20
RATIO, RATIO_FROM = 200, 2**24  # images are packed already: what unpacks further is made to fill disks
ENCRYPTED = 0x1


class _Member(NamedTuple):
    name: str
    plain: bool  # a file, neither link nor device
    folder: bool
    content: Any  # callable that opens it


def unpack_new(archives: Sequence[Path], folder: Path, *, limit: int) -> list[Path]:
    """Unpack the archives of a folder that were not unpacked yet; the lock remembers which, by their SHA-256.

    Parameters
    ----------
    archives
        That :func:`causalfm.datasets.collecting.collect` brought into ``folder``.
    folder, limit
        As in :func:`unpack`, for each archive.

    Returns
    -------
    list of Path
        The uppermost entries that appeared now.
    """
    found: list[Path] = []
    for archive in archives:
        lock = read_lock(folder)
        content = lock["files"][archive.relative_to(folder).as_posix()]["sha256"]
        if content in lock.get("unpacked", []):
            continue
        found += unpack(archive, folder, limit=limit)
        write_lock(folder, {**lock, "unpacked": [*lock.get("unpacked", []), content]})
    return found


def unpack(archive: Path, folder: Path, *, limit: int) -> list[Path]:
    """Unpack a ``.zip``, ``.tar`` or ``.tar.gz`` next to what is in a folder.

    Everything goes to a temporary folder on the same disk first and is moved when it is complete.

    Parameters
    ----------
    archive
        Its checksum has been compared before.
    folder
        Where the uppermost entries of the archive appear.
    limit
        Bytes that may come out, counted while they do.

    Returns
    -------
    list of Path
        The uppermost entries.

    Raises
    ------
    DataError
        A damaged or encrypted archive; links, devices, names that leave the folder or repeat; more bytes than
        ``limit``, or 200 times the archive; an entry that is in the folder already; a full disk.
    """
    archive = existing(archive)
    allowed = min(limit, max(RATIO_FROM, RATIO * archive.stat().st_size))
    refuse_full_disk(folder, archive.stat().st_size, f"unpacking {archive.name}")
    work = folder / f".unpacking-{uuid4().hex}"
    try:
        work.mkdir()
        with reading(archive):
            _spread(archive, work, allowed)
        tops = sorted(work.iterdir())
        if there := [top.name for top in tops if (folder / top.name).exists()]:
            raise DataError(f"{there[0]!r} of {archive.name!r} is in the folder already: move it away to unpack again.")
        for top in tops:
            top.replace(folder / top.name)
            settle_name(folder / top.name)
        return [folder / top.name for top in tops]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _spread(archive: Path, work: Path, allowed: int) -> None:
    seen: set[str] = set()
    room = allowed
    for i, member in enumerate(_members(archive)):
        if not member.plain and not member.folder:
            raise DataError(f"member {i} of {archive.name!r} is a link, a device or encrypted: it is not unpacked.")
        if not member.name.strip("/") or leaves(member.name):
            raise DataError(
                f"member {i} of {archive.name!r} has a name that leads out of the folder: nothing is unpacked."
            )
        target = work / member.name
        if member.folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        if (key := target.as_posix()) in seen or target.is_dir():
            raise DataError(f"member {i} of {archive.name!r} has the name of another one: nothing is unpacked.")
        seen.add(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.content() as source, target.open("wb") as file:
            room -= _copy(source, file, room, archive.name, allowed)


def _copy(source: IO[bytes], file: IO[bytes], room: int, name: str, allowed: int) -> int:
    """Copy at most ``room`` bytes, whatever the headers claim."""
    done = 0
    while content := source.read(CHUNK):
        done += len(content)
        if done > room:
            raise DataError(
                f"{name!r} unpacks to more than {in_words(allowed)}: that is not the archive it should be, and "
                "nothing of "
                "it is kept."
            )
        file.write(content)
    return done


def _members(archive: Path) -> Iterator[_Member]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG) and not entry.flag_bits & ENCRYPTED
                yield _Member(
                    entry.orig_filename, plain and not entry.is_dir(), entry.is_dir(), lambda e=entry: packed.open(e)
                )
        return
    with tarfile.open(archive, "r|*") as stream:  # one pass: a tar of half a million patches is not listed first
        for item in stream:
            yield _Member(item.name, item.isreg(), item.isdir(), lambda t=item: stream.extractfile(t))
