"""A ledger of the audits of a folder: each leaves a line before its report is written, and no line can go unnoticed.

``audits.jsonl`` holds one JSON object a line. Each has the SHA-256 of the line before, so that a line that was edited,
removed or put in between shows; each report has the SHA-256 of its own line, so that a ledger cut off at its end, or
made anew, shows beside a report that was filed. Nothing is known of audits that were written to other folders.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalfm.auditing.findings import Audit
from causalfm.auditing.policy_table import changes
from causalfm.errors import DataError
from causalfm.formats.durable import settle_name
from causalfm.results import plain

LEDGER = "audits.jsonl"
SCHEMA = 1
NEEDED = ("created", "data", "graph", "policy", "seed", "verdict", "previous")
_guard = threading.Lock()  # the system's lock knows processes, not threads


@dataclass(frozen=True)
class Line:
    """One line: its number from 1, what it says, the SHA-256 of its text, and whether it follows the line before."""

    number: int
    body: Mapping[str, Any]
    sha256: str
    follows: bool


def record(audit: Audit, folder: str | Path, report: str = "report.json") -> Audit:
    """Enter an audit in the ledger of a folder, and return it with what was run before on the same embeddings.

    Parameters
    ----------
    audit
        The audit. One that the ledger has already is returned as it is.
    folder
        Folder of the report; made if it is not there.
    report
        Name of the JSON report in the folder: an earlier one must have its line in the ledger.

    Returns
    -------
    Audit
        ``earlier`` holds the earlier audits of the same embeddings, ``provenance["ledger"]`` number and SHA-256 of the
        line. When this returns, the line is on the disk.

    Raises
    ------
    DataError
        A line of the ledger cannot be read; nothing was written.
    """
    path = Path(folder) / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path) as file:
        lines = _read(file, path)
        own = audit.provenance.get("ledger", {}).get("sha256")
        if any(line.sha256 == own for line in lines):
            return audit
        text = _line(audit, lines[-1].sha256 if lines else "")
        _append(file, text)
        if not lines:
            settle_name(path)
    entry = {"line": len(lines) + 1, "sha256": _sha256(text)}
    return dataclasses.replace(
        audit,
        earlier=tuple(_earlier(audit, lines, _reported(path.with_name(report)))),
        provenance={**audit.provenance, "ledger": entry},
    )


def read_ledger(folder: str | Path) -> list[Line]:
    """Read the ledger of a folder; no lines if there is none.

    Raises
    ------
    DataError
        A line that cannot be read; the message names it and the way out.
    """
    path = Path(folder) / LEDGER
    if not path.exists():
        return []
    with _held(path) as file:
        return _read(file, path)


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """Open the ledger and wait until nobody else has it; the system lets go of it with the process, however it ends.

    The lock is that of the file itself, and POSIX drops it when any descriptor of the file is closed: nothing else in
    here may open it.
    """
    if path.is_dir():
        raise DataError(f"{path.name!r} is a folder where the ledger of audits goes: move it away.")
    with _guard:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                raise DataError(f"{path.name!r} cannot be locked: {error.strerror}. Choose another disk.") from None
            yield descriptor
        finally:
            os.close(descriptor)


def _read(descriptor: int, path: Path) -> list[Line]:
    content = b"".join(iter(lambda: os.read(descriptor, 2**20), b""))
    lines: list[Line] = []
    *texts, rest = content.split(b"\n")
    for number, text in enumerate(texts, 1):
        body = _body(text)
        if body is None:
            raise _unreadable(path, number, "cannot be read")
        previous = lines[-1].sha256 if lines else ""
        lines.append(Line(number, body, _sha256(text), body["previous"] == previous))
    if rest:
        raise _unreadable(path, len(texts) + 1, "is cut short")
    return lines


def _body(text: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(body, dict) and all(key in body for key in NEEDED) and isinstance(body["policy"], dict)
    return body if sound else None


def _unreadable(path: Path, number: int, what: str) -> DataError:
    return DataError(
        f"{path.name!r}, line {number} {what}: the ledger of audits was changed or the disk was full. Nothing was "
        f"written. Move {path.name!r} to a safe place, do not delete it, and run again: a new ledger begins, and the "
        "old one shows what was run before."
    )


def _line(audit: Audit, previous: str) -> bytes:
    body = {
        "ledger_schema": SCHEMA,
        "created": audit.provenance.get("created", ""),
        "title": audit.title,
        "data": _data(audit),
        "graph": str(audit.graph),
        "policy": audit.policy,
        "seed": audit.provenance.get("seed"),
        "verdict": audit.verdict,
        "causalfm": audit.provenance.get("versions", {}).get("causalfm", ""),
        "previous": previous,
    }
    return json.dumps(plain(body), ensure_ascii=True, sort_keys=True).encode("ascii")


def _append(descriptor: int, text: bytes) -> None:
    """Write one line in one piece, and take back what a full disk left of it."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, text + b"\n") != len(text) + 1:
            raise OSError(28, os.strerror(28), LEDGER)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _data(audit: Audit) -> str:
    """Fingerprint of the embeddings that the verdict is about: the deployment's, or the cohort's."""
    found = audit.data.get("deployment_fingerprint_of_embeddings") or audit.data.get("fingerprint_of_embeddings")
    return str(found or audit.data.get("fingerprint", ""))


def _reported(path: Path) -> str | None:
    """Return the SHA-256 of the line that an earlier report stands for, or None."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return str(body["provenance"]["ledger"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no report, or one of before there were ledgers
        return None


def _earlier(audit: Audit, lines: list[Line], reported: str | None) -> Iterator[dict[str, Any]]:
    """Describe what was run before: first whether the ledger is whole, then each audit of the same embeddings."""
    if broken := [line.number for line in lines if not line.follows]:
        listed = ", ".join(map(str, broken))
        yield {
            "broken": f"The ledger of this folder was changed: line {listed} does not follow the line before. Lines "
            "were edited, removed or put in between."
        }
    if reported is not None and all(line.sha256 != reported for line in lines):
        yield {
            "broken": "The ledger of this folder lacks the line of the report that was here before: it was cut off, "
            "removed or made anew."
        }
    for line in lines:
        body = line.body
        if body["data"] != _data(audit):
            continue
        changed = changes(body["policy"], plain(audit.policy))
        if (before := body["graph"]) != (after := str(audit.graph)):
            changed.append({"key": "graph", "before": before, "after": after, "direction": "other"})
        yield {
            "line": line.number,
            "created": body["created"],
            "policy_name": body["policy"].get("name", ""),
            "policy_sha256": body["policy"].get("sha256", ""),
            "seed": body["seed"],
            "verdict": body["verdict"],
            "changed": changed,
        }
