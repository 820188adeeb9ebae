"""Numbers in the sentences of a claim: a value with its interval, and the span of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENDS = ("value", "low", "high")


def ends(row: Any, value: str, low: str, high: str) -> dict[str, Any]:
    """Return an estimate and the ends of its interval, which ``row`` holds under these names."""
    return dict(zip(ENDS, (row[value], row[low], row[high]), strict=True))


def words(found: Mapping[str, Any], scale: float = 1.0, digits: int = 0, sign: str = "") -> str:
    """Return ``value (low to high)``, or the value alone where there is no interval."""
    value, low, high = (None if found[k] is None else scale * found[k] for k in ENDS)
    if value is None:
        return "no number"
    text = f"{value:{sign}.{digits}f}"
    return text if low is None or high is None else f"{text} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def span(values: Iterable[float], form: str = ".1%") -> str:
    """Return ``smallest to largest``, or one number where both read the same."""
    every = list(values)
    low, high = f"{min(every):{form}}", f"{max(every):{form}}"
    return low if low == high else f"{low} to {high}"
