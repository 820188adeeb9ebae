"""A tar of images, WebDataset style or plain: indexed in one pass, then read at offsets."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.archives import ArchiveSource, Member, Stamp, refuse_members, unpacked
from causalfm.extraction.sources.decoding import Decoding, UnreadableError
from causalfm.extraction.sources.file_names import chosen, ending
from causalfm.extraction.sources.sidecars import SIDECAR_BYTES, SIDECARS, sidecar_table
from causalfm.tables import existing, reading

BLOCK = 512
MAX_PADDING = 2**24


def open_tar(path: Path, rules: Decoding) -> ArchiveSource:
    """Open the images of an uncompressed tar, sorted by name.

    Parameters
    ----------
    path
        Members ``<key>.json``, ``<key>.cls`` and ``<key>.txt`` beside ``<key>.jpg`` become columns of ``obs``; the key
        is the path up to the first dot of its last part, as WebDataset has it.
    rules
        How pixels are read.

    Raises
    ------
    DataError
        A damaged, truncated or compressed tar; links, devices, absolute paths, ``..``, repeated names; no images;
        metadata that belongs to no image or to several.
    """
    where = repr(path.name)
    stamp = Stamp.of(existing(path))
    with path.open("rb") as file:
        if not _looks_like_tar(file.read(BLOCK)):
            raise DataError(
                f"{where} is no uncompressed tar: a compressed one cannot be read out of order. Unpack it first "
                "(gunzip, unzstd)."
            )
    with reading(path):
        entries = list(_entries(path))
        _refuse_ends(path, entries)
    files = [(i, entry) for i, entry in enumerate(entries) if not entry.isdir()]
    odd = [i for i, entry in files if not entry.isreg() or entry.issparse()]
    refuse_members([entry.name.removeprefix("./") for entry in entries], odd, where)
    names = [entry.name.removeprefix("./") for _, entry in files]
    images, info = chosen(names, where, SIDECARS)
    members = [Member(entry.offset_data, entry.size) for _, entry in files]
    found = {names[i]: members[i] for i in range(len(files)) if ending(names[i]) in SIDECARS}
    kept = [names[i] for i in images]
    with path.open("rb", buffering=0) as file:
        described = sidecar_table(kept, _contents(file.fileno(), found, where), where)
    obs = pd.concat([pd.DataFrame({"image": pd.Series(kept, dtype=object)}), described], axis=1)
    return ArchiveSource(path.absolute(), "tar", kept, [members[i] for i in images], rules, obs, info, stamp)


def _looks_like_tar(header: bytes) -> bool:
    if header == bytes(BLOCK):  # an empty archive
        return True
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _entries(path: Path) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            yield entry
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all


def _refuse_ends(path: Path, entries: list[tarfile.TarInfo]) -> None:
    """Raise a ValueError unless the archive ends as it must: tarfile takes a cut, or a second archive, for the end."""
    last = entries[-1] if entries else None
    data = 0 if last is None or not last.isreg() else -(-last.size // BLOCK) * BLOCK
    end = 0 if last is None else last.offset_data + data
    size = path.stat().st_size
    if size < end + BLOCK:
        raise ValueError("no end of archive")
    if size - end > MAX_PADDING:
        raise ValueError("data after the end of the archive")
    with path.open("rb") as file:
        file.seek(end)
        if file.read().strip(b"\0"):
            raise ValueError("data after the end of the archive")


def _contents(descriptor: int, members: dict[str, Member], where: str) -> Iterator[tuple[str, bytes]]:
    for name, member in members.items():
        try:
            yield name, unpacked(descriptor, member, SIDECAR_BYTES)
        except UnreadableError as error:
            raise DataError(f"{where}: metadata of an image cannot be read: {error}.") from None
