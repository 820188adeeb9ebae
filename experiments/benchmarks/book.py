"""The book: every claim of speed, every growth, every rate of the machine, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable

from experiments.benchmarks import (
    correctors,
    effects,
    extraction,
    families,
    growth,
    histology,
    image_sources,
    invariance,
    limits,
    neighbours,
    readers,
    scm,
    shift,
    stain,
)
from experiments.benchmarks.claim import Claim, Entry

FAMILIES = {
    "Neighbours and the metrics that rest on them": (*neighbours.CLAIMS, *families.CLAIMS),
    "Tests of invariance": invariance.CLAIMS,
    "Effects": effects.CLAIMS,
    "Causal model of embeddings": scm.CLAIMS,
    "Correctors": correctors.CLAIMS,
    "Images, stain and extraction": (
        *extraction.CLAIMS,
        *stain.CLAIMS,
        *image_sources.CLAIMS,
        *readers.CLAIMS,
        *histology.CLAIMS,
    ),
    "Audits": shift.CLAIMS,
}
CLAIMS: tuple[Claim, ...] = tuple(claim for claims in FAMILIES.values() for claim in claims)
ENTRIES: tuple[Entry, ...] = (*limits.GAUGES, *CLAIMS, *growth.GROWTHS)


def chosen(parts: list[str]) -> tuple[Entry, ...]:
    """Return the entries whose name is, or begins with, one of ``parts``; all without any.

    Raises
    ------
    ValueError
        A part that names nothing.
    """
    begins: Callable[[str, str], bool] = lambda name, part: name == part or name.startswith(f"{part}.")  # noqa: E731
    for part in parts:
        if not any(begins(entry.name, part) for entry in ENTRIES):
            raise ValueError(f"{part!r} names nothing in the book: see --list")
    return tuple(entry for entry in ENTRIES if not parts or any(begins(entry.name, part) for part in parts))
