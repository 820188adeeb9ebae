"""Several factors at once: one family of tests, its p-values adjusted for their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_positive
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance.decision import answer
from causalfm.invariance.methods import Tested
from causalfm.invariance.posing import pose
from causalfm.positivity import MIN_GROUPS
from causalfm.results import Result, TestResult

JOINT = "Westfall and Young: the same draws for all factors"
HOLM = "Holm"


@dataclass(frozen=True)
class TestFamily(Result):
    """Tests of several factors.

    Attributes
    ----------
    results
        One result per factor, in the order asked; ``details["p_adjusted"]`` holds the adjusted p-value (``nan`` where
        there was no test).
    adjustment
        How the p-values were adjusted, and why so.
    """

    __test__ = False  # not a pytest class

    results: tuple[TestResult, ...]
    adjustment: str

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[TestResult]:
        return iter(self.results)

    def __getitem__(self, at: int) -> TestResult:
        return self.results[at]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per factor, with its adjusted p-value."""
        return [{**result.rows()[0], "p_adjusted": result.details["p_adjusted"]} for result in self.results]


def invariance_tests(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: Sequence[str | Sequence[str]],
    effect: Literal["total", "direct"] = "total",
    method: str = "mean",
    margin: float | None = None,
    n_permutations: int = 999,
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> TestFamily:
    """Test several technical factors, one by one, with p-values adjusted for their number.

    Parameters
    ----------
    cohort, graph, effect, method, margin, n_permutations, minimum, random_state
        See :func:`causalfm.invariance_test`; the conditioning set of each factor is the graph's.
    of
        Factors; an entry that is itself a sequence asks the joint question of its factors.

    Returns
    -------
    TestFamily
        The results, with family-wise adjusted p-values. Verdicts rest on each factor's own bounds and are not adjusted.

    Raises
    ------
    GraphError, NotIdentifiedError, DataError
        As the single test; also if ``of`` names fewer than two questions, or one twice.

    Notes
    -----
    Where all factors are tested on the same patients in the same strata, the same permutations (or signs) are drawn for
    all, so that what the factors have in common is kept: the adjusted p-values are those of Westfall and Young's
    step-down minimum of p-values. The largest statistic itself would favour the factor with the widest null
    distribution; on the scale of p-values all count alike. Such factors are siblings: neither is in the other's
    conditioning set. Otherwise draws are not shared and Holm's procedure, which needs no common draws, is used. A
    factor that cannot be tested is no member of the family.

    Assumption of the joint draws: under the null the embedding depends on none of the factors given the strata (subset
    pivotality holds for patients that are exchangeable within strata).

    References
    ----------
    Westfall and Young, Resampling-Based Multiple Testing (1993); Holm, Scand. J. Statist. 6 (1979) 65-70.
    """
    if margin is not None:
        check_positive(margin, "margin", "it is a share of the distance between classes; None asks without a margin")
    questions = [names(entry) for entry in names(of)] if isinstance(of, str) else [names(entry) for entry in of]
    if len(questions) < 2 or len({frozenset(question) for question in questions}) < len(questions):
        raise DataError(f"of={of!r}: name two or more different questions, or ask invariance_test for one.")
    answers = []
    for question in questions:
        posed = pose(
            cohort, graph, question, effect, "auto", method, n_permutations, minimum, random_state, {"margin": margin}
        )
        answers.append(answer(posed, graph.biology, minimum, margin))
    results = [result for result, _ in answers]
    members = [i for i, result in enumerate(results) if not np.isnan(result.p_value)]
    tested = [found for _, found in answers if found is not None]
    reason = _not_joint([results[i] for i in members], tested)
    adjusted = np.full(len(results), np.nan)
    if reason:
        adjusted = holm([result.p_value for result in results])
    elif members:
        null = np.stack([np.asarray(found.null) for found in tested], axis=1)
        adjusted[members] = step_down(np.array([found.statistic for found in tested]), null)
    how = f"{HOLM}: {reason}" if reason else JOINT
    return TestFamily(
        tuple(
            dataclasses.replace(r, details={**r.details, "p_adjusted": float(p), "adjustment": how})
            for r, p in zip(results, adjusted, strict=True)
        ),
        how,
    )


def step_down(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Westfall and Young's step-down adjusted p-values from joint draws.

    Parameters
    ----------
    observed
        ``(m,)`` statistics.
    null
        ``(B, m)`` their values in the same draws.

    Returns
    -------
    numpy.ndarray
        ``(m,)``: of the tests with at least as large a p-value, the share of draws whose smallest p-value is as small.
    """
    values = np.concatenate([observed[None], null])
    ranked = np.sort(values, axis=0)
    tails = np.empty(values.shape)
    for j in range(values.shape[1]):
        near = values[:, j] - 1e-12 * np.abs(values[:, j])  # a tie up to rounding is a tie
        below = np.searchsorted(ranked[:, j], near, side="left")
        tails[:, j] = (len(values) - below) / len(values)
    order = np.argsort(tails[0], kind="stable")
    least = np.minimum.accumulate(tails[:, order[::-1]], axis=1)[:, ::-1]
    shares = (least <= least[0] + 1e-12).mean(axis=0)  # of the draws, the observed one included
    out = np.empty(len(observed))
    out[order] = np.maximum.accumulate(shares)
    return out


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values.

    Parameters
    ----------
    p_values
        ``m`` p-values; ``nan`` where there was no test.

    Returns
    -------
    numpy.ndarray
        ``(m,)`` adjusted p-values, at most 1; a ``nan`` stays one and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    told = np.flatnonzero(~np.isnan(p))
    order = told[np.argsort(p[told], kind="stable")]
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return out


def _not_joint(results: Sequence[TestResult], tested: Sequence[Tested]) -> str:
    """Say why draws are not shared, or nothing if they are."""
    if len({frozenset(result.given) for result in results}) > 1:
        return "the factors are tested given different columns"
    if any(found.null is None or found.used is None for found in tested):
        return "the draws of a paired design are not shared"
    if len({(found.draws, np.asarray(found.used).tobytes()) for found in tested}) > 1:
        return "the factors can be compared in different patients"
    return ""
