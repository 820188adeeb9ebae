"""Equivalence: show that a factor's effect is small, instead of failing to show that there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_positive
from causalfm.cohort import Cohort
from causalfm.confidence import alpha_in_force
from causalfm.factor_contrasts import Contrasts
from causalfm.graph import CausalGraph
from causalfm.invariance.decision import size_of_effect
from causalfm.invariance.posing import pose
from causalfm.norm_contrasts import upper_bound
from causalfm.paired_units import contrast_units
from causalfm.positivity import MIN_GROUPS
from causalfm.results import TestResult, Verdict, verdict_against

SMALLEST_P = 1e-3  # the bounds' distribution is averaged over 1,000 points
STEPS = 14  # to a relative 4e-4
WORDS: dict[Verdict, str] = {
    "pass": "All levels of {of} lie within {margin:g} times the distance between classes of {biology} of each other",
    "fail": "Some levels of {of} lie further apart than {margin:g} times the distance between classes of {biology}",
    "cannot tell": "It is not settled whether all levels of {of} lie within {margin:g} times the distance between "
    "classes of {biology}",
}
DOSE_WORDS: dict[Verdict, str] = {
    "pass": "One standard deviation of {of} moves the embedding by less than {margin:g} times the distance between "
    "classes of {biology}",
    "fail": "One standard deviation of {of} moves the embedding by more than {margin:g} times the distance between "
    "classes of {biology}",
    "cannot tell": "It is not settled whether one standard deviation of {of} moves the embedding by more than "
    "{margin:g} times the distance between classes of {biology}",
}


def equivalence_test(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    margin: float,
    effect: Literal["total", "direct"] = "total",
    given: Literal["auto"] | Sequence[str] = "auto",
    method: str = "mean",
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> TestResult:
    """Test that every two levels of a technical factor lie closer together than a margin.

    The null hypothesis is that some two lie further apart, ``|pair|^2 - margin^2 |biology|^2 >= 0``: a small p-value
    speaks for invariance. An invariance test cannot do this, it can only fail to find a difference.

    Parameters
    ----------
    cohort, graph, of, effect, given, minimum
        See :func:`causalfm.invariance_test`. In a paired design distances are measured within patients; of a continuous
        factor the distance is what one standard deviation of it moves.
    margin
        Largest acceptable distance between two levels, in units of the root mean square distance between two classes of
        biology.
    method
        Space in which distances are measured: that of this method of the invariance test.
    random_state
        Seed of random features, where the method has them.

    Returns
    -------
    TestResult
        ``statistic`` is the estimated ``|pair|^2 - margin^2 |biology|^2`` of the pair that decides. ``p_value`` is the
        smallest error at which all upper bounds are below zero; 0.001 stands for all below it, 1 for an estimate that
        is not below the margin itself. Pass: p at most 0.05; fail: some pair's lower bound (Bonferroni) is above the
        margin. ``details`` has the pair, ``margin_bounds`` and the ratio to biology.

    Raises
    ------
    GraphError, NotIdentifiedError
        The graph does not allow the question.
    DataError
        The cohort does not fit the graph, or an argument is out of range.

    Notes
    -----
    Bounds of the two squared norms, each by inversion, are combined as a linear contrast; no ratio is formed, which
    would have no finite bound near a biology of zero. Every pair is tested at full level (intersection-union), so the
    largest p-value of the pairs is that of all.

    References
    ----------
    R. L. Berger and J. C. Hsu, Statistical Science 11 (1996) 283-319; S. Wellek, Testing Statistical Hypotheses of
    Equivalence and Noninferiority, 2nd ed. (2010).
    """
    check_positive(margin, "margin", "it is a share of the distance between classes")
    posed = pose(cohort, graph, of, effect, given, method, 1, minimum, random_state, {"margin": margin})
    base = dataclasses.replace(posed.base, method=f"equivalence ({method})")
    if posed.question is None:
        return base
    units = posed.method(posed.question).units
    contrasts = contrast_units(units, graph.biology, minimum)
    size = size_of_effect(units, contrasts, posed.found)
    statistic, p_value, pair = equivalence_p_value(contrasts, margin)
    bounds = contrasts.margin_bounds(margin)
    verdict = verdict_against(bounds[0], bounds[1], 0.0)
    names = " to ".join(units.level.levels[i] for i in pair)
    table = DOSE_WORDS if posed.found.continuous else WORDS
    words = table[verdict].format(of=posed.found.factor, margin=margin, biology=graph.biology)
    sentence = f"{words}: {names} decides (p = {p_value:.3g} for a larger distance)."
    if np.isnan(p_value):
        reason = contrasts.no_biology or "the distance between classes is not told from zero"
        sentence = f"Cannot tell: {reason}."
    if verdict == "pass" and posed.found.left_out:  # a pass must hold for every level
        verdict = "cannot tell"
        sentence += f" Not compared: {'; '.join(posed.found.left_out)}."
    details: dict[str, Any] = {k: v for k, v in base.details.items() if k != "n_permutations"}
    details |= {
        "target": posed.found.target,
        "pair": names,
        "margin_bounds": bounds,
        "ratio_to_biology": tuple(np.sqrt(np.maximum(contrasts.ratio(), 0.0)).tolist()),
        "no_biology": contrasts.no_biology,
        "alpha": alpha_in_force(),
    }
    return dataclasses.replace(
        base,
        statistic=statistic,
        p_value=p_value,
        effect=size,
        verdict=verdict,
        sentence=sentence,
        n=size.n,
        n_groups=size.n_groups,
        details=details,
    )


def equivalence_p_value(contrasts: Contrasts, margin: float) -> tuple[float, float, tuple[int, int]]:
    """Test all pairs of levels against the margin.

    Parameters
    ----------
    contrasts
        Pairs and biology.
    margin
        Margin in units of the biology distance.

    Returns
    -------
    statistic, p_value : float
        See :func:`equivalence_test`; ``nan`` if biology is not told from zero.
    pair : tuple of int
        The pair with the largest p-value; the furthest apart if there is none.
    """
    furthest = max(contrasts.pairs, key=lambda pair: contrasts.pairs[pair].value)
    biology = contrasts.biology
    if biology is None or biology.interval()[0] <= 0.0:
        return float("nan"), float("nan"), furthest

    def upper(pair: tuple[int, int], error: float) -> float:
        return upper_bound(contrasts.pairs[pair], biology, margin**2, contrasts.cells, 1.0 - error)

    p_value, decides = 0.0, furthest
    for pair in sorted(contrasts.pairs, key=lambda pair: -upper(pair, alpha_in_force())):
        if p_value == 0.0 or upper(pair, p_value) >= 0.0:  # no smaller p-value than those before
            found = _smallest_error(partial(upper, pair))
            p_value, decides = (found, pair) if found > p_value else (p_value, decides)
    return max(contrasts.pairs[decides].value, 0.0) - margin**2 * biology.value, p_value, decides


def _smallest_error(upper: Callable[[float], float]) -> float:
    """Smallest error at which an upper bound is below zero, by bisection; the bound falls as the error grows."""
    if upper(0.5) >= 0.0:
        return 1.0
    low, high = SMALLEST_P, 0.5
    if upper(low) < 0.0:
        return low
    for _ in range(STEPS):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if upper(middle) < 0.0 else (middle, high)
    return float(high)
