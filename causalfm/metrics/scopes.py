"""Where typed neighbours are looked for: in the strata that allow a comparison, or in every 2 x 2 table."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np

from causalfm.metrics.design import Design

TABLES = "2 x 2 tables"


def comparable_strata(design: Design) -> tuple[Design, list[dict[str, Any]]]:
    """Keep the strata in which both SO and OS neighbours can occur.

    A stratum with one level of the confounder (a hospital with one scanner) has OS neighbours only, whatever the
    embedding: it would count against it.

    Parameters
    ----------
    design
        With strata.

    Returns
    -------
    kept : Design
        Its entries are the rows of these strata; none may be left.
    left_out : list of dict
        The other strata by name, and what they lack.
    """
    n_strata = int(design.within.max()) + 1
    present = np.zeros((n_strata, len(design.biology_levels), len(design.confounder_levels)), dtype=bool)
    present[design.within, design.biology, design.confounder] = True
    so, os = (present.sum(2) > 1).any(1), (present.sum(1) > 1).any(1)
    left_out = []
    for stratum in np.flatnonzero(~(so & os)):
        lacks = [] if so[stratum] else [f"no {design.biology_name} at two levels of {design.confounder_name}"]
        lacks += [] if os[stratum] else [f"no {design.confounder_name} with two levels of {design.biology_name}"]
        left_out.append({"stratum": design.within_levels[stratum], "reason": " and ".join(lacks)})
    return only_entries(design, np.flatnonzero((so & os)[design.within])), left_out


def paired_tables(design: Design) -> tuple[Design, list[dict[str, Any]]]:
    """Lay out every 2 x 2 table (two classes by two levels) with rows in all four cells, within each stratum.

    A row comes once in each table that has its cell, so that a pair (table, row) is an entry of its own.

    Parameters
    ----------
    design
        Of the whole cohort.

    Returns
    -------
    tables : Design
        Its strata are the tables; there may be none.
    records : list of dict
        Classes, levels and stratum of each table, in the order of their codes.
    """
    shape = len(design.biology_levels), len(design.confounder_levels)
    cell = (design.within * shape[0] + design.biology) * shape[1] + design.confounder
    order = np.argsort(cell, kind="stable")
    n_strata = int(design.within.max()) + 1
    ends = np.searchsorted(cell[order], np.arange(n_strata * shape[0] * shape[1] + 1))
    size = np.diff(ends).reshape(n_strata, *shape)
    entries, records = [], []
    for stratum, classes in product(range(n_strata), combinations(range(shape[0]), 2)):
        shared = np.flatnonzero((size[stratum, list(classes)] > 0).all(axis=0)).tolist()
        for levels in combinations(shared, 2):
            cells = [(stratum * shape[0] + a) * shape[1] + b for a, b in product(classes, levels)]
            entries.append(np.sort(np.concatenate([order[ends[c] : ends[c + 1]] for c in cells])))
            records.append(table_record(design, classes, levels, stratum))
    at = np.concatenate(entries) if entries else np.zeros(0, dtype=np.int64)
    codes = np.repeat(np.arange(len(entries)), [len(one) for one in entries])
    tables = only_entries(design, at)
    return replace(tables, within=codes, within_names=(*design.within_names, TABLES)), records


def table_record(design: Design, classes: tuple[int, ...], levels: tuple[int, ...], stratum: int = 0) -> dict[str, Any]:
    """Return the levels of one table under their names, and its stratum if there are any."""
    record: dict[str, Any] = {
        "classes": [design.biology_levels[a] for a in classes],
        "levels": [design.confounder_levels[b] for b in levels],
    }
    return record | ({"within": design.within_levels[stratum]} if design.within_levels else {})


def only_entries(design: Design, entries: np.ndarray) -> Design:
    """Return the design of some of its entries, in this order, a repeated one as another entry."""
    rows = entries if design.rows is None else design.rows[entries]
    return replace(
        design,
        biology=design.biology[entries],
        confounder=design.confounder[entries],
        groups=design.groups[entries],
        within=design.within[entries],
        rows=rows,
    )
