"""10^8 and 10^9 tiles on paper: bytes, hours and machines, from rates that were measured and the passes of the plan.

An audit with two technical factors and a model; what workers do not share takes as long on any number of machines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from causalfm.auditing.audit_plan import passes_of

D, ITEM = 1536, 4  # dimensions; bytes of a number
TILES_OF_A_PATIENT = 10_000
HOURS = 8.0  # within which the cluster below is done
PARTS = {  # what a pass of the plan takes, as a share of a part that was timed
    "check for finite values": ("check for finite values", 1.0),
    "fingerprint of the rows": ("fingerprint", 1.0),
    "rows drawn by unit": ("read", 1.0),
    "sums by unit, for all tests and effects": ("sums by patient", 1.0),
    "the queries themselves": ("read", 1.0),
    "queries among all rows": ("1,024 queries among all rows", 1.0),
    "balanced tables of the reference index": ("read", 1.0),
    "scores of the model": ("read", 1.0),
    "model of the embedding": ("model of the embedding", 0.25),  # the part is all four of its passes
}


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
    passes = passes_of([0, 0], 0, model=True, once=True)

    def hours(*, shared: bool) -> float:
        parts = ((p.times, *PARTS[p.purpose]) for p in passes if p.shared is shared)
        return sum(times * share * rates[name] for times, name, share in parts) * gib / 3600

    sums = max(1, tiles // TILES_OF_A_PATIENT) * D * 8 * 3
    machines = max(1, math.ceil(hours(shared=True) / (HOURS * 16)))
    read = size * sum(p.times for p in passes)
    return Estimate(tiles, size, read, sums, tiles * bytes_per_row, hours(shared=True), hours(shared=False), machines)


def predicted(gib: float, rates: dict[str, float], part: str) -> float:
    """Return the seconds that a part of another size should take."""
    return rates[part] * gib
