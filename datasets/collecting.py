"""The files of a data set: fetched, compared with what is published or locked, put in place one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from causalfm.datasets.checksum_lock import LOCK, digests, is_as_locked, read_lock, write_lock
from causalfm.datasets.disk_room import refuse_full_disk
from causalfm.datasets.fetching import Progress, RemoteFile, fetch, mark_of, part_of
from causalfm.errors import DataError
from causalfm.formats.durable import settle, settle_name

Get = Callable[[RemoteFile, Path, Progress | None], Path]


def collect(
    files: Sequence[RemoteFile],
    folder: str | Path,
    *,
    about: dict[str, Any],
    get: Get = fetch,
    progress: Progress | None = None,
) -> list[Path]:
    """Bring files into a folder; what is there and as it was recorded is not fetched again.

    A checksum that the source publishes is compared on arrival. Where it publishes none, the SHA-256 of the first
    download goes into ``causalfm-lock.json``, and every later download and
    :func:`causalfm.datasets.checksum_lock.changed` compare with it.

    Parameters
    ----------
    files
        What the source offers.
    folder
        Made if it is not there.
    about
        Source, revision and licence, for the lock.
    get
        How one file is fetched; it returns a complete file on the same disk.
    progress
        Called with (name, bytes there, bytes in all or 0).

    Returns
    -------
    list of Path
        In the order of ``files``.

    Raises
    ------
    DataError
        Two files of one name, a full disk, a checksum that differs; see also :func:`causalfm.datasets.fetching.fetch`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if len({part_of(folder, remote.name) for remote in files} | {part_of(folder, LOCK)}) <= len(files):
        raise DataError(f"the source lists two files of one name, or a {LOCK}: nothing is fetched.")
    lock = {**read_lock(folder), **about}
    missing = []
    for remote in files:
        path, facts = folder / remote.name, lock["files"].get(remote.name)
        if facts is None and path.exists():
            facts = lock["files"][remote.name] = _adopted(remote, path)
        if facts is None or not is_as_locked(path, facts):
            missing.append(remote)
    refuse_full_disk(folder, sum(remote.size or 0 for remote in missing), "the download")
    for remote in missing:
        arrived = get(remote, folder, progress)
        path, mark = folder / remote.name, mark_of(part_of(folder, remote.name))
        try:
            facts = _checked(remote, arrived, lock["files"].get(remote.name))
        except DataError:
            mark.unlink(missing_ok=True)
            raise
        settle(arrived)
        arrived.replace(path)
        mark.unlink(missing_ok=True)
        settle_name(path)
        lock["files"][remote.name] = facts
        write_lock(folder, lock)  # after each: a kill between two files loses nothing
    write_lock(folder, lock)
    return [folder / remote.name for remote in files]


def _adopted(remote: RemoteFile, path: Path) -> dict[str, Any]:
    """Return the record of a file that was brought here by other means, if it has the published checksum."""
    kind, _, published = (remote.checksum or "").partition(":")
    found = digests(path, {"sha256", kind}) if kind else {}
    if not kind or found[kind] != published:
        what = f"with another {kind} than the source publishes" if kind else "without a record of where it came from"
        raise DataError(f"{remote.said} is in the folder already, {what}: move it away, or choose another folder.")
    return _facts(remote, path, found["sha256"])


def _checked(remote: RemoteFile, path: Path, locked: dict[str, Any] | None) -> dict[str, Any]:
    """Compare an arrived file with what is known of it; one that differs is removed."""
    kind, _, published = (remote.checksum or "").partition(":")
    found = digests(path, {"sha256", *([kind] if kind else [])})
    known = [(kind, published, "the source publishes")] if kind else []
    known += [("sha256", locked["sha256"], "was recorded at the first download")] if locked else []
    for algorithm, expected, who in known:
        if found[algorithm] != expected:
            path.unlink()
            raise DataError(
                f"{remote.said}: the {algorithm} of what arrived is {found[algorithm]}, and {expected} {who}. It was "
                "damaged on the way, or the source was exchanged: it is not kept. Try again; if it stays so, ask the "
                "source."
            )
    return _facts(remote, path, found["sha256"])


def _facts(remote: RemoteFile, path: Path, sha256: str) -> dict[str, Any]:
    kind = (remote.checksum or "").partition(":")[0]
    basis = f"{kind} published by the source" if kind else "nothing: recorded at the first download"
    return {"size": path.stat().st_size, "sha256": sha256, "checked_against": basis, "url": remote.url}
