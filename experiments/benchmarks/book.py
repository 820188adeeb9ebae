"""The book: every rate of the machine, every claim of speed, every growth, in the order of the page."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from experiments.benchmarks.claim import Entry

MODULES = {  # by the first part of a name; imported when asked for, so that a child loads what it measures only
    "machine": "limits",
    "neighbours": "neighbours",
    "families": "families",
    "invariance": "invariance",
    "effects": "effects",
    "scm": "scm",
    "correctors": "correctors",
    "extraction": "extraction",
    "stain": "stain",
    "images": "image_sources",
    "readers": "readers",
    "histology": "histology",
    "shift": "shift",
    "growth": "growth",
}
FAMILIES = {
    "Neighbours and the metrics that rest on them": ("neighbours", "families"),
    "Tests of invariance": ("invariance",),
    "Effects": ("effects",),
    "Causal model of embeddings": ("scm",),
    "Correctors": ("correctors",),
    "Images, stain and extraction": ("extraction", "stain", "images", "readers", "histology"),
    "Audits": ("shift",),
}


def entries_of(family: str) -> tuple[Entry, ...]:
    """Return the entries whose names begin with ``family``."""
    found: tuple[Entry, ...] = import_module(f"experiments.benchmarks.{MODULES[family]}").ENTRIES
    return found


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole book."""
    return tuple(entry for family in MODULES for entry in entries_of(family))


def entry_of(name: str) -> Entry:
    """Return one entry."""
    (found,) = (entry for entry in entries_of(name.split(".")[0]) if entry.name == name)
    return found


def chosen(parts: list[str]) -> tuple[Entry, ...]:
    """Return the entries whose name is, or begins with, one of ``parts``; all without any.

    Raises
    ------
    ValueError
        A part that names nothing.
    """
    for part in parts:
        if not any(_begins(entry, part) for entry in entries()):
            raise ValueError(f"{part!r} names nothing in the book: see --list")
    return tuple(entry for entry in entries() if not parts or any(_begins(entry, part) for part in parts))


def _begins(entry: Entry, part: str) -> bool:
    return entry.name == part or entry.name.startswith(f"{part}.")
