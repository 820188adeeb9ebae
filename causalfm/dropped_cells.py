"""Cells of a design that take no part in a comparison, each with its units and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.strata import Strata

SHOWN = 10  # names in a sentence


def cells_left_out(
    strata: Strata, levels: Sequence[int], kept: Sequence[int], minimum: int
) -> tuple[dict[str, Any], ...]:
    """List the cells that hold units and are outside a complete table.

    Parameters
    ----------
    strata
        The design.
    levels, kept
        Positions of the levels and strata compared; none if nothing is.
    minimum
        Least units per cell.

    Returns
    -------
    tuple of dict
        One row per cell: its stratum by column, its level, its units, and the reason.
    """
    counts, unit, factor = strata.counts(), strata.unit, strata.level
    out = []
    for w, row in enumerate(counts):
        thin = [factor.levels[i] for i in levels if row[i] < minimum]
        for i in np.flatnonzero(row):
            if w in kept and i in levels:
                continue
            lacking = [strata.stratum_name(k) for k in kept if counts[k, i] < minimum]
            reason = f"no other level has {minimum} {unit}s here"
            if row[i] < minimum:
                reason = f"fewer than {minimum} {unit}s"
            elif thin:
                reason = f"fewer than {minimum} {unit}s here at {listed(thin)}"
            elif lacking:
                reason = f"{factor.levels[i]} has fewer than {minimum} {unit}s in {listed(lacking)}"
            out.append(
                {**_stratum(strata, w), factor.name: factor.levels[i], f"{unit}s": int(row[i]), "reason": reason}
            )
    return tuple(out)


def strata_left_out(strata: Strata, reasons: dict[int, str]) -> tuple[dict[str, Any], ...]:
    """List strata of a continuous factor that are left out, by position, with their units."""
    held = np.bincount(strata.stratum, minlength=strata.n_strata)
    return tuple(
        {**_stratum(strata, w), f"{strata.unit}s": int(held[w]), "reason": why} for w, why in sorted(reasons.items())
    )


def _stratum(strata: Strata, w: int) -> dict[str, str]:
    pairs = zip(strata.conditioning, strata.stratum_columns[w], strict=True)
    return {factor.name: factor.levels[code] for factor, code in pairs}


def lines_left_out(strata: Strata, levels: Sequence[int], kept: Sequence[int], minimum: int) -> list[str]:
    """Name the levels and strata outside a complete table, each with its reason; parameters as above."""
    unit, factor, table = strata.unit, strata.level, strata.counts()
    out = []
    for i, level in enumerate(factor.levels):
        if i not in levels:
            lacking = [f"{strata.stratum_name(k)} ({table[k, i]})" for k in kept if table[k, i] < minimum]
            out.append(f"{factor.name}={level}: fewer than {minimum} {unit}s in {listed(lacking)}")
    for w, counts in enumerate(table):
        if w not in kept:
            held = listed([f"{level} {n}" for level, n in zip(factor.levels, counts, strict=True) if n])
            out.append(f"{strata.stratum_name(w)}: {unit}s {held}; not {minimum} at every compared level")
    return out


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Join the first names and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more
