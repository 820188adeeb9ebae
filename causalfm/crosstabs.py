"""Cross tables of biology and a technical factor, and how strongly they are associated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.strata import groups_per_level, table
from causalfm.validation import look_alikes

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def cross_table(cohort: Cohort, graph: CausalGraph, factor: str) -> Mapping[str, Any]:
    """Cross table biology x factor in patients and rows, with its strength of association.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    factor
        Technical column.

    Returns
    -------
    Mapping
        ``biology``, ``levels``, ``groups`` and ``rows`` (B lists of L counts), ``unit``, ``cramers_v``,
        ``cramers_v_corrected`` (Bergsma, J. Korean Statist. Soc. 42, 2013), ``empty_cells``, ``effective_units``
        (Kish's effective sample size of the weights that make biology independent of the factor).
    """
    biology, technical = cohort.factor(graph.biology), cohort.factor(factor)
    groups = cohort.factor(graph.group, private=True)
    shape = (biology.n_levels, technical.n_levels)
    rows = table(biology.codes, technical.codes, shape)
    cells = biology.codes * shape[1] + technical.codes
    units = groups_per_level(cells, groups.codes, shape[0] * shape[1]).reshape(shape)
    v, corrected = cramers_v(units)
    return {
        "biology": list(biology.levels),
        "levels": list(technical.levels),
        "groups": units.tolist(),
        "rows": rows.tolist(),
        "unit": graph.group,
        "cramers_v": v,
        "cramers_v_corrected": corrected,
        "empty_cells": int((units == 0).sum()),
        "effective_units": effective_units(units),
    }


def cramers_v(counts: np.ndarray) -> tuple[float, float]:
    """Return Cramer's V of a table and Bergsma's bias-corrected version.

    Either is ``nan`` where it is not defined: a margin with a single level, too few patients for the correction.
    """
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)].astype(float)
    r, c = counts.shape
    n = counts.sum()
    if min(r, c) < 2:
        return float("nan"), float("nan")
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum() / n)
    plain = float(np.sqrt(phi2 / (min(r, c) - 1)))
    shrunk = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1.0
    if shrunk <= 0.0:
        return plain, float("nan")
    return plain, float(np.sqrt(max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1)) / shrunk))


def effective_units(counts: np.ndarray) -> float:
    """Kish's effective size of the weights ``p(b) p(s) / p(b, s)`` that make rows and columns independent."""
    used = counts > 0
    weights = np.outer(counts.sum(axis=1), counts.sum(axis=0))[used] / counts[used]
    return float((counts[used] * weights).sum() ** 2 / (counts[used] * weights**2).sum())


def similar_levels(cohort: Cohort, graph: CausalGraph) -> list[str]:
    """Say which levels count as different although they read alike: often one hospital spelled in two ways.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.

    Returns
    -------
    list of str
        One sentence per set of such levels of biology or a technical factor; units are counted and not named.
    """
    out = []
    for name in (graph.biology, *graph.technical):
        for same in look_alikes(cohort.factor(name).levels):
            shown = ", ".join(map(repr, same))
            out.append(f"Levels of {name} that differ in case or blanks only are taken as different: {shown}.")
    for name in graph.groups:
        if sets := look_alikes(cohort.factor(name, private=True).levels):
            out.append(
                f"{sum(map(len, sets))} values of {name} differ from another in case or blanks only: taken apart."
            )
    return out
