"""One file over https: resumed where it stopped, from hosts that were named, with room for it on the disk."""

from __future__ import annotations

import errno
import fcntl
import http.client
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalfm.datasets.disk_room import refuse_full_disk
from causalfm.datasets.web_answers import CutError, NothingLeftError, opened
from causalfm.errors import DataError
from causalfm.formats.member_names import leaves

Progress = Callable[[str, int, int], None]

CHUNK = 2**20
ATTEMPTS, PAUSE = 5, 2.0  # seconds, doubled after each attempt


@dataclass(frozen=True)
class RemoteFile:
    """A file that a source offers.

    Attributes
    ----------
    name
        Where it goes below the folder, with ``/``.
    url
        https; plain http to this machine only.
    size
        Bytes, or None where the source does not say.
    checksum
        ``"md5:..."`` or ``"sha256:..."`` as published, or None.
    hosts
        Hosts beside that of the address which may take over by redirection; ``".example.org"`` means all below it.
    label
        What to call the file where its name is a participant: a position, such as ``"series 3 of 40"``.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None
    hosts: tuple[str, ...] = ()
    label: str = ""

    @property
    def said(self) -> str:
        """What messages call the file."""
        return self.label or self.name


def fetch(remote: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch a file to a name beside its place, which :func:`causalfm.datasets.collecting.collect` checks and moves.

    What arrived before a cut is kept as ``.NAME.part`` and continued, if the server confirms that the file is the same.

    Parameters
    ----------
    remote
        What to fetch.
    folder
        Where ``remote.name`` is placed.
    progress
        Called with (name, bytes there, bytes in all or 0).

    Returns
    -------
    Path
        The ``.part`` file, complete.

    Raises
    ------
    DataError
        A name that leads out of the folder; an address that is not https, or a redirection to a host that was not
        named; access refused; another size than published; a full disk; a connection that fails five times.
    """
    part = part_of(folder, remote.name)
    part.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _receive(remote, part, progress)
            return part
        except CutError as error:
            reason = str(error)
    raise DataError(
        f"{remote.said}: {reason}, after {ATTEMPTS} attempts. What has arrived is kept: the same call goes on."
    )


def part_of(folder: Path, name: str) -> Path:
    """Return where a file is while it arrives; names that lead out of the folder are refused."""
    if not name or leaves(name):
        raise DataError("the source lists a file whose name leads out of the folder: nothing is fetched from it.")
    path = folder / name
    return path.with_name(f".{path.name}.part")


def mark_of(part: Path) -> Path:
    """Return where it is written of which version a ``.part`` file is the beginning."""
    return part.with_suffix(".mark")


def _receive(remote: RemoteFile, part: Path, progress: Progress | None) -> None:
    mark = mark_of(part)
    done = part.stat().st_size if part.is_file() else 0
    seen = mark.read_text("utf-8") if done and mark.is_file() else ""
    asked = {"Range": f"bytes={done}-", "If-Range": seen} if done and seen else {}
    try:
        with opened(remote.url, remote.hosts, asked) as answer:
            if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                done = 0  # another file than the one that was begun, or a server that sends files as a whole only
            total = _total(answer, done, remote)
            refuse_full_disk(part.parent, max(0, (total or remote.size or 0) - done), remote.said)
            done = _write(answer, part, done, total, lambda n: progress and progress(remote.said, n, total or 0))
    except NothingLeftError as error:
        if str(error) == f"bytes */{done}":
            return  # it was complete, and the process ended before it was checked
        part.unlink()
        raise CutError("the file that was begun is another one now") from None
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise CutError(f"the connection broke ({type(error).__name__})") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{remote.said}: the disk is full. What has arrived is kept: make room, and the same call goes on."
            ) from None
        raise
    if total is not None and done < total:
        raise CutError(f"the connection ended after {done} of {total} bytes")


def _write(answer: Any, part: Path, done: int, total: int | None, told: Callable[[int], Any]) -> int:
    with part.open("r+b" if part.exists() else "wb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                "another download is writing the same file: wait for it, or choose another folder."
            ) from None
        file.seek(done)
        file.truncate()
        mark_of(part).write_text(_validator(answer), "utf-8")  # never beside bytes of another version
        while content := answer.read(CHUNK):
            done += len(content)
            if total is not None and done > total:
                raise DataError("the server sends more bytes than it announced: nothing of this is used.")
            file.write(content)
            told(done)
    return done


def _total(answer: Any, done: int, remote: RemoteFile) -> int | None:
    length = answer.headers.get("Content-Length")
    total = None if length is None else done + int(length)
    if total is not None and remote.size is not None and total != remote.size:
        raise DataError(
            f"{remote.said}: the server offers {total} bytes, and {remote.size} were published: the file was "
            "exchanged, or the answer is an error page."
        )
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "")  # ends with a mark of its own
    if total is None and remote.size is None and remote.checksum is None and not chunked:
        raise DataError(f"{remote.said}: the server does not say how long it is, so that a cut would not be noticed.")
    return remote.size if total is None else total


def _validator(answer: Any) -> str:
    """Return what tells this file from a later one of the same address: a strong ETag, else the time of change."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))
