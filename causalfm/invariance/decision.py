"""From a question on the graph to a test, an effect and a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative, mean_test
from causalfm.positivity import MIN_GROUPS, Overlap, comparable_set
from causalfm.results import Estimate, TestResult, Verdict, verdict_against
from causalfm.standardisation import Contrasts, contrast_levels
from causalfm.units import Units, patient_units

TECHNICAL_CAVEAT = (
    "The effect of a technical factor is technical, or biology that was not declared (grade, purity, composition)."
)


def invariance_test(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    effect: Literal["total", "direct"] = "total",
    given: Literal["auto"] | Sequence[str] = "auto",
    method: Literal["mean"] = "mean",
    margin: float | None = None,
    n_permutations: int = 999,
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> TestResult:
    """Test whether the embedding depends on a technical factor, given what it may depend on.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph; it chooses the conditioning set.
    of
        Technical factor; several ask the joint question.
    effect
        ``"total"``: through its technical descendants too (site through scanner); ``"direct"``: given them.
    given
        ``"auto"``: the largest valid set that leaves something to compare. A set of one's own must be valid.
    method
        ``"mean"``: studentised difference of patient means, patients permuted within strata.
    margin
        Largest acceptable distance between two levels, in units of the root mean square distance between two classes of
        biology. None: the test can fail (an effect is there) but never pass.
    n_permutations
        Permutations of patients.
    minimum
        Least patients per cell.
    random_state
        Seed of the permutations.

    Returns
    -------
    TestResult
        ``effect`` is the mean squared distance between levels, signed and debiased, in squared embedding units;
        ``details`` holds the ratio to biology, the valid alternatives to the conditioning set and what was left out.

    Raises
    ------
    GraphError, NotIdentifiedError
        The graph does not allow the question.
    DataError
        The cohort does not fit the graph.

    Notes
    -----
    The verdict rests on bounds, never on the p-value alone: pass if the upper 95 % bound of the *largest* pair's squared
    distance minus ``margin^2`` times the biology's is below zero, fail if a lower bound is above it (Bonferroni over pairs).
    """
    if method != "mean":
        raise DataError(f"method={method!r} is not available: this version has method='mean'.")
    graph.check(cohort)
    factors = names(of)
    question = graph.invariance(factors, effect)
    valid = question.valid if isinstance(given, str) and given == "auto" else (_own_set(question.valid, given),)
    found = comparable_set(cohort, graph, factors, valid, minimum)
    groups = cohort.factor(graph.group, private=True)
    base = TestResult(
        float("nan"), float("nan"), None, "cannot tell", found.sentence, found.factor, found.given, effect, method,
        len(cohort), groups.n_levels, graph.group,
        {
            "valid_sets": [list(s) for s in question.valid], "question": question.sentence, "overlap": found.to_dict(),
            "margin": margin, "n_permutations": n_permutations, "caveat": TECHNICAL_CAVEAT,
        },
    )  # fmt: skip
    if not question.recoverable:
        return dataclasses.replace(base, sentence=f"Cannot tell: {question.sentence}")
    if not found.comparable:
        if found.nested_in:
            hint = f" Ask the joint question of={[found.nested_in, *factors]} instead."
            return dataclasses.replace(
                base, sentence=f"Cannot tell {found.factor} from {found.nested_in}. {found.sentence}{hint}"
            )
        return dataclasses.replace(base, sentence=f"Cannot tell. {found.sentence}")
    units = patient_units(cohort, graph, factors, found.given)
    statistic, p_value = mean_test(units, n_permutations=n_permutations, random_state=random_state)
    contrasts = contrast_levels(units, graph.biology, minimum)
    return _decide(base, units, contrasts, found, statistic, p_value, margin)


def _decide(
    base: TestResult,
    units: Units,
    contrasts: Contrasts,
    found: Overlap,
    statistic: float,
    p_value: float,
    margin: float | None,
) -> TestResult:
    value, low, high = contrasts.joint.value, *contrasts.joint.interval()
    n_groups = len(contrasts.design.Z)
    effect = Estimate(
        "mean_squared_distance", value, low, high, 0.0, base.n, n_groups, units.unit, {"target": found.target}
    )
    ratio, ratio_low, ratio_high = np.sqrt(np.maximum(contrasts.ratio(), 0.0))
    details: dict[str, Any] = {
        **base.details, "target": found.target, "ratio_to_biology": (float(ratio), float(ratio_low), float(ratio_high)),
        "no_biology": contrasts.no_biology, "tested_groups": int(informative(units).sum()),
    }  # fmt: skip
    verdict: Verdict = "cannot tell"
    given = f" given {', '.join(found.given)}" if found.given else ""
    seen = (
        f"The mean embedding depends on {found.factor}{given}"
        if low > 0
        else f"No dependence on {found.factor}{given} was found"
    )
    words = f"{seen} (p = {p_value:.3g}, {base.details['n_permutations']} permutations of {units.unit}s)"
    if margin is None:
        verdict = "fail" if low > 0 else "cannot tell"
        words += "." if low > 0 else "; without a margin absence cannot be shown."
    else:
        bounds = contrasts.margin_bounds(margin)
        details["margin_bounds"] = bounds
        verdict = verdict_against(bounds[0], bounds[1], 0.0)
        words += {
            "pass": f"; even the largest distance between two levels is below {margin:g} times the distance between classes.",
            "fail": f"; some distance between two levels is above {margin:g} times the distance between classes.",
            "cannot tell": f"; whether the largest distance is above or below {margin:g} times that between classes is not settled.",
        }[verdict]
        if np.isnan(bounds[0]):
            words += f" {contrasts.no_biology or 'The distance between classes is not told from zero'}."
    return dataclasses.replace(
        base,
        statistic=statistic,
        p_value=p_value,
        effect=effect,
        verdict=verdict,
        sentence=words,
        n_groups=n_groups,
        details=details,
    )


def _own_set(valid: Sequence[tuple[str, ...]], given: str | Sequence[str]) -> tuple[str, ...]:
    wanted = set(names(given))
    for candidate in valid:
        if set(candidate) == wanted:
            return candidate
    shown = "; ".join("{" + ", ".join(s) + "}" for s in valid)
    raise GraphError(f"given={sorted(wanted)} is not a valid conditioning set under this graph. Valid: {shown}.")
