"""What a test can do on the user's own design: its size, and the smallest effect it would probably see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort, Factor
from causalfm.confidence import CHECK_ALPHA
from causalfm.dose_units import DoseUnits
from causalfm.errors import DataError
from causalfm.factor_contrasts import Contrasts
from causalfm.graph import CausalGraph
from causalfm.graph_checks import rows_that_vary
from causalfm.invariance.dose_nulls import dose_gcm_nulls, dose_nulls
from causalfm.invariance.flipped_residuals import DIRECTIONS
from causalfm.invariance.methods import Question, Tested
from causalfm.invariance.null_models import PValues, mean_nulls, paired_nulls, row_nulls
from causalfm.invariance.posing import Posed, pose
from causalfm.invariance.power import GRID, POWER, detectable_distance, power_curve
from causalfm.paired_units import PairedUnits, contrast_units
from causalfm.positivity import MIN_GROUPS, Overlap
from causalfm.results import Result, Verdict, plain

TOO_LARGE = 0.07  # the size of a valid test is 3-7 %, as in docs/calibration.md
TWICE = 2 * CHECK_ALPHA
NULLS, FEWEST, SLOW = 200, 50, 40  # null cohorts; where one is large; of methods that are run anew for each
BUDGET = 2.7e10  # multiplications of 200 null cohorts of 800 patients in 192 dimensions and 16 cells: five seconds
ON_MEANS = ("mean", "mmd", "energy", "hsic", "dcorr")  # tests of the means of embeddings or features
COARSE = 8  # points of a power curve where each costs much
ROUNDING = 1e-20  # of squares
NOTHING = (float("nan"),) * 3


@dataclass(frozen=True)
class SelfCheck(Result):
    """Size and power of an invariance test on the design that it was asked about.

    Attributes
    ----------
    of, given, method
        What was asked.
    size, size_low, size_high
        Share of null cohorts rejected at 5 %, with its exact 95 % interval.
    detectable, detectable_low, detectable_high
        Root mean square distance between levels, or move per standard deviation of a continuous factor, that the test
        sees with 80 % power, in units of the distance between classes of biology; ``nan`` if that is not told from
        zero, or the test is not valid. Of three directions the one hardest to see, with the error that the number of
        null cohorts leaves.
    verdict
        ``"fail"``: the interval of the size lies above 7 %, the test is not valid on this design. ``"pass"``: it ends
        below 10 %, twice what is promised. Else ``"cannot tell"``.
    sentence
        In words.
    n_nulls, n_groups, unit, clusters
        Null cohorts; units of the test; what they are; what is taken as independent.
    details
        The curves of power, distances in embedding units, how the nulls were made.
    """

    of: str
    given: tuple[str, ...]
    method: str
    size: float
    size_low: float
    size_high: float
    detectable: float
    detectable_low: float
    detectable_high: float
    verdict: Verdict
    sentence: str
    n_nulls: int
    n_groups: int
    unit: str
    clusters: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this check."""
        left_out = ("given", "details")
        row = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__ if name not in left_out}
        return [{**row, "given": ", ".join(self.given)}]


def self_check(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    effect: Literal["total", "direct"] = "total",
    given: Literal["auto"] | Sequence[str] = "auto",
    method: str = "mean",
    clusters: str | None = None,
    n_nulls: int | Literal["auto"] = "auto",
    n_permutations: int = 39,
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> SelfCheck:
    """Measure the size of a test, and what it could not have seen, on the user's own patients, dimensions and cells.

    Parameters
    ----------
    cohort, graph, of, effect, given, method, minimum
        The question, as in :func:`causalfm.invariance_test`.
    clusters
        Column of what is really independent, if that is coarser than the graph's unit: tells what the test is worth
        where, say, slides are its unit and patients have several. None: the graph's unit.
    n_nulls
        Null cohorts. ``"auto"``: 200; fewer, at least 50, where one takes much work; 40 for methods other than those
        of means (of embeddings or features), which are run anew for each.
    n_permutations
        Permutations (or sign flips) of each: 39 have an exact 5 %, and see a little less than 999 would.
    random_state
        Seed.

    Returns
    -------
    SelfCheck
        ``size`` near 0.05 is what a valid test has.

    Raises
    ------
    GraphError, NotIdentifiedError, DataError
        As the test itself; also ``clusters`` that cut units, a question without an answer, an embedding that does not
        vary within cells.

    Notes
    -----
    A null cohort is made of the residuals from the cell means (biology and other strata x factor) with a new error of
    each cell's mean, each cluster's times a random sign. Every cluster keeps its number of rows, its spread and what
    its rows have in common. Null cohorts that permute labels would assume that the test's units are exchangeable, and
    so find 4 % where the true size is 97 %. Residuals without the new error are correlated, and would find 14 % where
    the size is 5 %, where cells are small and uneven and dimensions many (docs/adr/0012).

    What it cannot see: dependence between clusters, and skewness, which flipping removes. In a paired design with its
    own unit the test is exact for such nulls; there only the power is informative. Levels of a null cohort have equal
    means, but not equal spreads: a test of whole distributions is right to reject more.

    The detectable distance is that of ``p <= 0.05``; a verdict against a margin needs more. Levels move by random
    amounts along random directions of the residuals' covariance, along the one direction in which residuals vary most
    ("loud"), or least ("quiet"). A sum of squares sees a loud shift last, if only by a little.

    For a continuous factor the cells are strata, the residuals those of the fit with the factor, and the embedding
    moves along such a direction in proportion to the factor.
    """
    if n_nulls != "auto":
        check_whole(n_nulls, "n_nulls", 20, why="a size is a share of them")
    posed = pose(cohort, graph, of, effect, given, method, n_permutations, minimum, random_state, {})
    question = posed.question
    if question is None:
        raise DataError(f"there is no test to check. {posed.base.sentence}")
    owner = cluster_of_units(cohort, graph, clusters)
    tested = posed.method(question)
    contrasts = contrast_units(tested.units, graph.biology, minimum)
    patients = tested.units.patients if isinstance(tested.units, PairedUnits) else tested.units
    if contrasts.joint.noise <= ROUNDING * float((patients.Z**2).mean()):
        raise DataError(f"X does not vary between {graph.group}s of a cell: there is no noise to make null cohorts of.")
    classes = _distance_between_classes(contrasts)
    p_values, n, points = _nulls(posed, question, tested, owner, n_nulls)
    rejected = int((p_values("random", 0.0) <= CHECK_ALPHA).sum())
    low, high = map(float, stats.binomtest(rejected, n).proportion_ci())
    guess = float(np.sqrt(max(contrasts.joint.noise, 0.0)))
    curves = {name: power_curve(p_values, name, guess, points) for name in DIRECTIONS}
    found = {name: detectable_distance(*curve, n) for name, curve in curves.items()}
    worst = max(found, key=lambda name: found[name][0])
    verdict: Verdict = "fail" if low > TOO_LARGE else "pass" if high < TWICE else "cannot tell"
    seen = tuple(x / classes for x in found[worst]) if verdict != "fail" else NOTHING
    sentence = f"The test rejects {rejected / n:.1%} [{low:.1%}, {high:.1%}] of {n} null cohorts at {CHECK_ALPHA:.0%}"
    if verdict == "fail":
        unlike = f"{graph.group}s vary unlike" if posed.found.continuous else "cells or levels vary unlike"
        cause = f"with {graph.group}s as its unit it is" if clusters else f"{unlike}, and it is"
        sentence += f": {cause} not valid on this design."
    else:
        sentence += f". {_detectable_words(seen, found[worst], graph.biology, posed.found)}"
    return SelfCheck(
        of=posed.found.factor,
        given=posed.found.given,
        method=method,
        size=rejected / n,
        size_low=low,
        size_high=high,
        detectable=seen[0],
        detectable_low=seen[1],
        detectable_high=seen[2],
        verdict=verdict,
        sentence=sentence,
        n_nulls=n,
        n_groups=len(contrasts.groups),
        unit=graph.group,
        clusters=clusters or graph.group,
        details={
            "n_permutations": n_permutations,
            "power": POWER,
            "nulls": f"residuals of {'the slope' if posed.found.continuous else 'cell means'}, signs of whole clusters "
            "flipped",
            "distance_between_classes": classes,
            "no_biology": contrasts.no_biology,
            "detectable_distance": found,
            "direction": worst,
            "curves": {name: {"distance": x.tolist(), "power": y.tolist()} for name, (x, y) in curves.items()},
        },
    )


def cluster_of_units(cohort: Cohort, graph: CausalGraph, clusters: str | None) -> Factor:
    """Return the cluster of each row, after a check that units lie within clusters.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    clusters
        Column; None: the graph's unit.

    Raises
    ------
    DataError
        A unit lies in several clusters.
    """
    if clusters is None:
        return cohort.factor(graph.group, private=True)
    _, count, total = rows_that_vary(cohort, clusters, graph.group)
    if count:
        raise DataError(
            f"{count} of {total} {graph.group}s lie in several levels of clusters={clusters!r}: clusters are coarser "
            f"than the unit of the test. Name a column that is constant within each {graph.group}."
        )
    return cohort.factor(clusters, private=True)


def _nulls(
    posed: Posed, question: Question, tested: Tested, clusters: Factor, n_nulls: int | Literal["auto"]
) -> tuple[PValues, int, int]:
    """Make the null cohorts that fit the method; say how many, and how many points their curve can have."""
    groups = question.cohort.factor(question.graph.group, private=True)
    of_unit = np.zeros(groups.n_levels, dtype=np.int64)
    of_unit[groups.codes] = clusters.codes
    B, seed, units = question.n_permutations, question.random_state, tested.units
    if isinstance(units, PairedUnits):
        each = float(B) * len(units.within) ** 2
        n = int(np.clip(BUDGET / each, FEWEST, NULLS)) if n_nulls == "auto" else n_nulls
        return paired_nulls(units.within, of_unit[units.within.units], n, B, seed), n, GRID
    if isinstance(units, DoseUnits):
        if tested.pairs is None:
            n = SLOW if n_nulls == "auto" else n_nulls
            return dose_gcm_nulls(units, of_unit, n, B, seed), n, COARSE
        each = pairs_work(int(units.inside.sum()), B) * tested.pairs.root.shape[1]
        n = int(np.clip(BUDGET / each, FEWEST, NULLS)) if n_nulls == "auto" else n_nulls
        return dose_nulls(units, tested.pairs, of_unit, n, B, seed), n, GRID
    if posed.base.method in ON_MEANS:
        each = null_work(units.counts(), units.Z.shape[1], B)
        n = int(np.clip(BUDGET / each, FEWEST, NULLS)) if n_nulls == "auto" else n_nulls
        return mean_nulls(units, of_unit, n, B, seed, tested.similarity), n, GRID
    n = SLOW if n_nulls == "auto" else n_nulls
    return row_nulls(question, posed.method, clusters.codes, n), n, COARSE


def null_work(counts: np.ndarray, d: int, n_permutations: int) -> float:
    """Multiplications that one null cohort takes, for units ``counts (strata, levels)`` in ``d`` dimensions."""
    G = int(counts.sum())
    gram = G / 3.0  # of the patients, for their covariances: three times as fast as the sums of cells
    return (float(n_permutations) * int((counts > 0).sum()) + gram) * G * min(G, d)


def pairs_work(G: int, n_permutations: int) -> float:
    """Multiplications that one null cohort of a continuous factor takes, for ``G`` units and one component."""
    return 5.0 * n_permutations * G**2  # products without a slope, of the slope, and with three directions


def _distance_between_classes(contrasts: Contrasts) -> float:
    """Root mean square distance, ``nan`` if it is not told from zero."""
    biology = contrasts.biology
    return float(np.sqrt(biology.value)) if biology is not None and biology.interval()[0] > 0.0 else float("nan")


def _detectable_words(seen: tuple[float, ...], distance: tuple[float, ...], biology: str, asked: Overlap) -> str:
    if np.isnan(seen[0]):
        seen, unit = distance, f"in units of the embedding (the distance between classes of {biology} is not known)"
    else:
        unit = f"times the distance between classes of {biology}"
    per, what = "", "distance between levels"
    if asked.continuous:
        per, what = f" per standard deviation of {asked.factor}", f"slope along {asked.factor}"
    value, low, high = seen
    if not np.isfinite(value):
        return f"No {what} would be seen with 80% power."
    return f"This design could not have seen less than {value:.2g} [{low:.2g}, {high:.2g}] {unit}{per} with 80% power."
