"""Placebo of the grouping: a factor that is random by construction, on the user's own patients."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from causalfm.arguments import check_seed, check_whole
from causalfm.cohort import Cohort, Factor
from causalfm.confidence import CHECK_ALPHA
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.mean import mean_test
from causalfm.invariance.self_checks import TOO_LARGE, cluster_of_units
from causalfm.results import Check, Verdict
from causalfm.units import patient_units

SMALLEST = 2  # clusters per half: the test needs two


def placebo(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    clusters: str | None = None,
    n_splits: int = 200,
    n_permutations: int = 199,
    random_state: int = 0,
) -> Check:
    """Split the patients of every site and class at random into halves, and test whether the embedding knows the half.

    It cannot: 5 % of the splits are rejected at 5 % if the units of the test are independent. This checks the grouping
    and nothing else: not the graph, not what sites differ in, not the power (see :func:`causalfm.self_check`).

    Parameters
    ----------
    cohort, graph
        Data and declared graph. Halves are drawn within the first technical factor and biology, each where it is
        constant within units.
    clusters
        Column of what is really independent, and so is split: tells what a finer unit is worth. None: the graph's unit.
    n_splits
        Random splits.
    n_permutations
        Permutations of the units for each.
    random_state
        Seed.

    Returns
    -------
    Check
        ``"fail"``: the exact 95 % interval of the share of rejections lies above 7 %; ``"pass"``: it holds 5 %; else,
        where fewer are rejected than should be, ``"cannot tell"``. ``details`` has share, interval and p-values.

    Raises
    ------
    DataError
        No site and class with four clusters; ``clusters`` that cut units.
    """
    check_whole(n_splits, "n_splits", 20, why="a share of rejections is estimated")
    check_whole(n_permutations, "n_permutations", 19, why="19 resolve a p-value of 0.05")
    check_seed(random_state)
    check_inputs(cohort, graph)
    graph.check(cohort)
    columns = (graph.technical[0], graph.biology)
    within = [c for c in columns if not graph.varies_within_group(cohort, c)]
    owner = cluster_of_units(cohort, graph, clusters)
    units = patient_units(cohort, graph, (), within)
    of_unit = np.zeros(len(units), dtype=np.int64)
    of_unit[units.groups.codes] = owner.codes
    first = np.unique(of_unit, return_index=True)[1]
    stratum = units.stratum[first]
    if np.bincount(stratum).max() < 2 * SMALLEST:
        raise DataError(
            f"no level of {' x '.join(within) or 'the cohort'} holds {2 * SMALLEST} {owner.name}s: nothing to split."
        )
    rng = np.random.default_rng(random_state)
    p_values = []
    for seed in rng.integers(2**32, size=n_splits).tolist():
        half = Factor("half", _halves(rng, stratum)[of_unit], ("first", "second"))
        split = dataclasses.replace(units, level=half)
        p_values.append(mean_test(split, n_permutations=n_permutations, random_state=seed)[1])
    return _result(np.array(p_values), graph.group, owner.name, within)


def _halves(rng: np.random.Generator, stratum: np.ndarray) -> np.ndarray:
    """Assign the clusters ``(C,)`` of each stratum to two halves; strata of fewer than four are not split."""
    order = np.lexsort((rng.random(len(stratum)), stratum))
    size = np.bincount(stratum)
    rank = np.empty(len(stratum), dtype=np.int64)
    rank[order] = np.arange(len(stratum)) - (np.cumsum(size) - size)[stratum[order]]
    n = size[stratum]
    return np.where(n < 2 * SMALLEST, 0, (2 * rank >= n).astype(np.int64))


def _result(p_values: np.ndarray, unit: str, clusters: str, within: list[str]) -> Check:
    rejected, n = int((p_values <= CHECK_ALPHA).sum()), len(p_values)
    low, high = map(float, stats.binomtest(rejected, n).proportion_ci())
    verdict: Verdict = "fail" if low > TOO_LARGE else "pass" if low <= CHECK_ALPHA <= high else "cannot tell"
    where = f" within {' and '.join(within)}" if within else ""
    sentence = (
        f"Of {n} random splits of {clusters}s into halves{where} {rejected / n:.1%} [{low:.1%}, {high:.1%}] are "
        f"rejected at {CHECK_ALPHA:.0%} with {unit}s as the unit. This checks the grouping only."
    )
    details: dict[str, Any] = {"share": rejected / n, "low": low, "high": high, "p_values": np.sort(p_values).tolist()}
    return Check("placebo", verdict, sentence, details)
