"""Treatments: pooling of rare levels, and the contrasts that reference and effect coding report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.strata import groups_per_level

Coding = Literal["reference", "effect"]
CODINGS = ("reference", "effect")
MEAN = "mean of the levels"
POOLED = "pooled levels"


def pool_levels(
    cohort: Cohort, graph: CausalGraph, treatment: Sequence[str], pool_rare: int | None
) -> tuple[Cohort, list[str]]:
    """Join the levels with fewer groups than asked into one.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    treatment
        One categorical factor.
    pool_rare
        Levels with fewer groups are joined; None: none is.

    Returns
    -------
    Cohort
        With the joined level in place of the rare ones; the same cohort if there is nothing to join.
    list of str
        The joined levels.

    Raises
    ------
    DataError
        Several factors at once, one rare level that has no other to be joined with, or fewer than two levels left.
    """
    if pool_rare is None:
        return cohort, []
    check_whole(pool_rare, "pool_rare", 2, why="levels with fewer groups are pooled")
    if len(treatment) != 1 or graph.kind(treatment[0], cohort) == "continuous":
        raise DataError("pool_rare joins levels of one categorical factor: cross or bin the columns beforehand.")
    factor, groups = cohort.factor(treatment[0]), cohort.factor(graph.group, private=True)
    counts = groups_per_level(factor.codes, groups.codes, factor.n_levels)
    rare = np.flatnonzero(counts < pool_rare)
    if not len(rare):
        return cohort, []
    if len(rare) == 1 or factor.n_levels - len(rare) < 1:
        which = ", ".join(f"{factor.levels[i]} ({counts[i]})" for i in rare[:5])
        raise DataError(
            f"pool_rare={pool_rare} finds {len(rare)} of {factor.n_levels} levels of {factor.name} rare ({which}): "
            "pooling needs two rare levels or more, and one that is not. Choose another number, or drop the level."
        )
    names = np.array(factor.levels, dtype=object)
    names[rare] = f"{len(rare)} {POOLED}"
    obs = cohort.obs.assign(**{factor.name: names[factor.codes].astype(str)})
    return cohort.replace(obs=obs), [factor.levels[i] for i in rare]


def coding_contrasts(levels: Sequence[str], coding: str, reference: str | None, factor: str) -> tuple[str, np.ndarray]:
    """Return the reference's name and the contrasts ``(K, L)`` that are reported.

    Parameters
    ----------
    levels
        Compared levels.
    coding
        ``"reference"``: every other level against one; ``"effect"``: every level against the mean of all.
    reference
        Level; None: the first that was not pooled.
    factor
        Name of the factor, for messages.

    Raises
    ------
    DataError
        Unknown coding or reference.
    """
    if coding not in CODINGS:
        raise DataError(f"coding={coding!r} is not available: choose 'reference' or 'effect'.")
    L = len(levels)
    if coding == "effect":
        if reference is not None:
            raise DataError("coding='effect' compares with the mean of the levels: leave reference= out.")
        return MEAN, np.eye(L) - 1.0 / L
    named = next((level for level in levels if not level.endswith(POOLED)), levels[0])
    reference = named if reference is None else str(reference)
    if reference not in levels:
        raise DataError(f"reference={reference!r} is not a compared level of {factor}: {', '.join(levels)}.")
    at = list(levels).index(reference)
    return reference, np.delete(np.eye(L) - np.eye(L)[at], at, axis=0)


def rows_of(levels: Sequence[str], reference: str) -> list[str]:
    """Levels in the order of the contrasts' rows."""
    return [level for level in levels if level != reference]
