"""What in a record needs an explanation."""

from __future__ import annotations

from typing import Any

from experiments.benchmarks.claim import LEAST_SECONDS, MOST_TIMES_LIMIT, Claim, Entry, Growth
from experiments.benchmarks.records import DONE


def shortfalls(entry: Entry, record: dict[str, Any]) -> list[str]:
    """Say where an entry falls short: slower than its peer, above twice its limit, growth other than wanted, not run.

    Parameters
    ----------
    entry, record
        Of one name.

    Returns
    -------
    list of str
        A phrase each; empty where all is well.
    """
    if record["status"] != DONE:
        return [f"{record['status']}: {record.get('reason', 'no reason recorded')}"]
    out = []
    if isinstance(entry, Claim):
        if (times := record["over_limit"]["wall"][1]) > MOST_TIMES_LIMIT:
            out.append(f"{times:.3g} times its limit")
        if "peer_over_ours" in record and (faster := record["peer_over_ours"]["wall"][1]) < 1.0:
            out.append(f"{1.0 / faster:.3g} times the time of {entry.peer}")
    if isinstance(entry, Growth) and entry.wanted is not None:
        least, most = entry.wanted
        if not least <= record["exponent"] <= most:
            out.append(f"exponent {record['exponent']:.2f}, wanted {least:g} to {most:g}")
    return out


def unexplained(entry: Entry, record: dict[str, Any]) -> list[str]:
    """Return the shortfalls of an entry for which the book has no reason; what was left out says why by itself."""
    explained = record["status"] == "not run" or (record["status"] == DONE and bool(getattr(entry, "why", "")))
    return [] if explained else shortfalls(entry, record)


def short(record: dict[str, Any]) -> bool:
    """Say whether the smallest size of a growth took too little time to leave fixed costs out of account."""
    return bool(record["wall"][0][1] < LEAST_SECONDS)
