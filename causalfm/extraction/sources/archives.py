"""Members of an archive, read in memory at their offsets: nothing is unpacked to disk, no link is followed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.decoding import Decoding, UnreadableError, decode
from causalfm.extraction.sources.protocol import Source
from causalfm.formats.member_names import leaves
from causalfm.formats.slide_tables import file_positions

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T", bound="Closable")
RATIO, RATIO_FROM = 200, 2**24  # deflate packs zeros 1,000 to 1; images that are worth embedding never come near
LOCAL_HEADER, LOCAL_SIZE = b"PK\3\4", 30


class Closable(Protocol):
    """What :class:`PerProcess` holds."""

    def close(self) -> None:
        """Give it back."""


class PerProcess(Generic[T]):
    """A handle that is opened on first use in each process: one that crossed a fork or a pickle is not used."""

    def __init__(self, opener: Callable[[], T]) -> None:
        self._opener = opener
        self._open: tuple[int, T] | None = None

    def __call__(self) -> T:
        """Return the handle of this process."""
        held = self._open
        if held is None or held[0] != os.getpid():
            self._open = held = (os.getpid(), self._opener())
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener, "_open": None}

    def close(self) -> None:
        """Close the handle of this process, if there is one."""
        held, self._open = self._open, None
        if held is not None and held[0] == os.getpid():
            held[1].close()


class Member(NamedTuple):
    """Where a member lies: ``offset`` of its bytes (zip: of its local header), ``size`` as stored."""

    offset: int
    size: int
    packed: bool = False
    crc: int | None = None


@dataclass(frozen=True)
class Stamp:
    """Tells whether a file is still the one that was indexed."""

    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Look at a file."""
        facts = path.stat()
        return cls(facts.st_size, facts.st_mtime_ns)


class UnchangedFile:
    """A descriptor of the file that was indexed; closed with the source that holds it."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self.descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        facts = os.fstat(self.descriptor)
        if Stamp(facts.st_size, facts.st_mtime_ns) != stamp:
            raise DataError("the archive has changed since it was opened: open it again.")

    def fileno(self) -> int:
        """Return the descriptor."""
        assert self.descriptor is not None
        return self.descriptor

    def close(self) -> None:
        """Close it; again does nothing."""
        held, self.descriptor = self.descriptor, None
        if held is not None:
            os.close(held)

    def __del__(self) -> None:
        self.close()


class ArchiveSource(Source):
    """Images at known offsets of one file; reads are seeks, from any number of processes and threads."""

    def __init__(
        self,
        path: Path,
        kind: str,
        names: Sequence[str],
        members: Sequence[Member],
        rules: Decoding,
        obs: pd.DataFrame,
        info: dict[str, Any],
        stamp: Stamp,
    ) -> None:
        self.kind = kind
        super().__init__(names, rules, obs, info)
        self.members = members
        self.path = path
        self.stamp = stamp
        self._file = PerProcess(partial(UnchangedFile, path, stamp))

    def _cut(self, kept: slice) -> None:
        self.members = self.members[kept]

    def _read(self, i: int) -> Image.Image:
        return decode(unpacked(self._file().fileno(), self.members[i], self.rules.max_bytes), self.rules)

    def _identity(self) -> Iterator[str]:
        yield f"{self.stamp.size}"
        checked = all(member.crc is not None for member in self.members)
        if not checked:  # a tar holds no checksums of its members
            yield f"{self.stamp.modified}"
        for member in self.members:
            yield f"{member.offset} {member.size} {member.crc}"

    def close(self) -> None:
        """Close the archive in this process."""
        self._file.close()


def unpacked(descriptor: int, member: Member, max_bytes: int) -> bytes:
    """Return the bytes of a member; limits hold for what comes out, whatever the headers claim.

    Raises
    ------
    UnreadableError
        More than ``max_bytes``, or 200 times what is stored; a damaged member.
    """
    if member.size > max_bytes:
        raise UnreadableError(f"the member has {member.size} bytes, more than max_bytes={max_bytes}: raise it")
    offset = member.offset
    if member.crc is not None:
        header = os.pread(descriptor, LOCAL_SIZE, offset)
        if len(header) < LOCAL_SIZE or not header.startswith(LOCAL_HEADER):
            raise UnreadableError("the zip is damaged (no header where the directory points)")
        offset += LOCAL_SIZE + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    content = os.pread(descriptor, member.size, offset)
    while len(content) < member.size:  # Linux reads at most 2 GiB at once
        more = os.pread(descriptor, member.size - len(content), offset + len(content))
        if not more:
            raise UnreadableError("the archive is truncated")
        content += more
    if member.packed:
        content = _inflated(content, min(max_bytes, max(RATIO_FROM, RATIO * member.size)))
    if member.crc is not None and zlib.crc32(content) != member.crc:
        raise UnreadableError("its bytes do not have the checksum that the archive holds: it is damaged")
    return content


def _inflated(content: bytes, limit: int) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = engine.decompress(content, limit + 1)
    except zlib.error:
        raise UnreadableError("its compressed bytes are damaged") from None
    if len(out) > limit:
        raise UnreadableError(f"it unpacks to more than {limit} bytes from {len(content)}: this is no image")
    if not engine.eof:
        raise UnreadableError("its compressed bytes are truncated")
    return out


def refuse_members(names: Sequence[str], links: Sequence[int], where: str) -> None:
    """Refuse archives that hold more than plain files under plain names.

    Parameters
    ----------
    names
        Of all members, in the order of the archive.
    links
        Positions of links, devices and other members that are no files.
    where
        What to call the archive.

    Raises
    ------
    DataError
        With the positions of the members.
    """
    if links:
        raise DataError(
            f"{where} holds {len(links)} links, devices or sparse files ({member_positions(links)}), which are never "
            "followed: pack the files themselves."
        )
    leaving = [i for i, name in enumerate(names) if leaves(name)]
    if leaving:
        raise DataError(
            f"{where} holds {len(leaving)} members with absolute paths or '..' ({member_positions(leaving)}): "
            "nothing is unpacked to disk, but an archive like this is made to do harm, or by mistake: pack it again."
        )
    twice = np.flatnonzero(pd.Index(names).duplicated(keep=False)).tolist()
    if twice:
        raise DataError(
            f"{where} holds {len(twice)} members with the name of another ({member_positions(twice)}): rename them."
        )


def member_positions(where: Sequence[int]) -> str:
    """Format positions of members for a message."""
    return file_positions(list(where)).replace("file", "member", 1)
