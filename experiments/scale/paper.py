"""10^8 and 10^9 tiles on paper: bytes, hours and machines, from rates that were measured and counts of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

D, ITEM = 1536, 4  # dimensions; bytes of a number
TILES_OF_A_PATIENT = 10_000
HOURS = 8.0  # within which the cluster below is done
PASSES = {  # of an audit with two technical factors and a model: those that run on workers, and those in one process
    "workers": {"check for finite values": 1, "sums by patient": 2, "1,024 queries among all rows": 1, "read": 3},
    "one process": {"fingerprint": 1},
}
FIT = {"model of the embedding": 1}


@dataclass(frozen=True)
class Estimate:
    """A cohort on paper.

    Attributes
    ----------
    tiles
        Rows.
    pass_bytes, read_bytes
        Of one pass; of all passes of an audit.
    sums_bytes
        Of the sums by patient and class, for two classes, in float64.
    table_bytes
        Of the table and what questions make of it.
    shared_hours, alone_hours
        Of one processor, for what workers share; for what one process does whatever their number.
    machines
        Of 16 processors, to be done with what is shared within the hours named.
    """

    tiles: int
    pass_bytes: float
    read_bytes: float
    sums_bytes: float
    table_bytes: float
    shared_hours: float
    alone_hours: float
    machines: int


def seconds_per_gib(streaming: dict[str, Any]) -> dict[str, float]:
    """Return the time of each part per GiB, from the largest cohort that was measured, in one process."""
    last = streaming["runs"][-1]
    return {name: part["seconds"] / last["gib"] for name, part in last["parts"].items()}


def on_paper(tiles: int, rates: dict[str, float], bytes_per_row: float) -> Estimate:
    """Lay out an audit of so many tiles.

    Parameters
    ----------
    tiles
        Rows.
    rates
        Seconds per GiB of each part.
    bytes_per_row
        Of the table, at most.
    """
    size = tiles * D * ITEM
    gib = size / 2**30
    shared = sum(times * rates[name] for name, times in PASSES["workers"].items()) * gib / 3600
    alone = sum(times * rates[name] for name, times in PASSES["one process"].items()) * gib / 3600
    passes = sum(times for parts in PASSES.values() for times in parts.values())
    patients = max(1, tiles // TILES_OF_A_PATIENT)
    sums = patients * D * 8 * 3
    machines = max(1, -(-int(shared * 1000) // int(HOURS * 16 * 1000)))
    return Estimate(tiles, size, size * passes, sums, tiles * bytes_per_row, shared, alone, machines)


def predicted(gib: float, rates: dict[str, float], part: str) -> float:
    """Return the seconds that a part of another size should take."""
    return rates[part] * gib
