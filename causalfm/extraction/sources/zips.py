"""A zip of images: the directory is read once, members at their offsets."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.archives import ArchiveSource, Member, Stamp, member_positions, refuse_members
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.file_names import chosen
from causalfm.tables import existing, reading

UTF8_FLAG, ENCRYPTED = 0x800, 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_zip(path: Path, rules: Decoding) -> ArchiveSource:
    """Open the images of a zip, sorted by name.

    Parameters
    ----------
    path
        Members are stored or deflated; nothing is unpacked to disk.
    rules
        How pixels are read, and how far a member may unpack.

    Raises
    ------
    DataError
        A damaged or encrypted zip; links, absolute paths, ``..``, repeated names; other compression; names that are
        neither ASCII nor marked as UTF-8; no images.
    """
    where = repr(path.name)
    stamp = Stamp.of(existing(path))
    with reading(path), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for what, found in _faults(entries).items():
        if found:
            raise DataError(f"{where} holds {len(found)} {what % member_positions(found)}.")
    odd = [i for i, entry in enumerate(entries) if stat.S_IFMT(entry.external_attr >> 16) not in _PLAIN]
    refuse_members([entry.orig_filename for entry in entries], odd, where)
    files = [entry for entry in entries if not entry.is_dir()]
    images, info = chosen([entry.filename for entry in files], where)
    names = [files[i].filename for i in images]
    members = [
        Member(e.header_offset, e.compress_size, e.compress_type == zipfile.ZIP_DEFLATED, e.CRC)
        for e in (files[i] for i in images)
    ]
    obs = pd.DataFrame({"image": pd.Series(names, dtype=object)})
    return ArchiveSource(path.absolute(), "zip", names, members, rules, obs, info, stamp)


_PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)


def _faults(entries: list[zipfile.ZipInfo]) -> dict[str, list[int]]:
    def where(fault: Callable[[zipfile.ZipInfo], object]) -> list[int]:
        return [i for i, entry in enumerate(entries) if fault(entry)]

    return {
        "encrypted members (%s): unpack it with its password and pass the folder": where(
            lambda e: e.flag_bits & ENCRYPTED
        ),
        "members of a compression that is not read (%s): pack it again with deflate or without compression": where(
            lambda e: e.compress_type not in METHODS
        ),
        "names that are neither ASCII nor marked as UTF-8 (%s), so that their letters are not known: unpack it and "
        "pass the folder, or pack it again with a tool that marks them": where(
            lambda e: not e.filename.isascii() and not e.flag_bits & UTF8_FLAG
        ),
    }
