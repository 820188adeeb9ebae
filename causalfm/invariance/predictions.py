"""Invariances of a model's predictions: independence, separation, sufficiency, stability, as the graph decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from causalfm.arguments import check_positive, check_seed, check_whole
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.aligned import aligned_predictions
from causalfm.invariance.prediction_parts import Asked, parts_at_equal_scores, parts_by_level
from causalfm.invariance.prediction_verdicts import conclude
from causalfm.invariance.signatures import KINDS, SUFFICIENCY, Signature, signature
from causalfm.positivity import MIN_GROUPS
from causalfm.results import CAVEAT, TestResult
from causalfm.strata import joint_factor, varies_within
from causalfm.trimming import refuse_numbers

if TYPE_CHECKING:
    import pandas as pd

MINIMUM = 10  # probabilities are skewed: with fewer patients Student's interval of a gap holds too seldom


def prediction_invariance(
    predictions: pd.DataFrame,
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    kind: str = "auto",
    margin: float | None = None,
    n_permutations: int = 999,
    minimum: int = MINIMUM,
    random_state: int = 0,
) -> TestResult:
    """Test whether a model's predictions of biology are invariant to a technical factor, in the graph's sense of it.

    Parameters
    ----------
    predictions
        Probabilities of rows that the model was not trained on: one column per class, named as the class, under the
        ids of the cohort's table.
    cohort, graph
        Labels and declared graph. Embeddings take no part.
    of
        Technical factor; several are crossed.
    kind
        ``"independence"``: mean scores do not depend on the factor. ``"separation"``: nor within any class.
        ``"sufficiency"``: at equal scores classes are equally frequent at all levels (one calibration curve fits all).
        ``"stability"``: predicted minus observed frequency is the same at all levels, as it is where P(biology | Z) is
        the same and predictions are that probability over all levels. ``"auto"``: the one that the design implies.
    margin
        Largest acceptable gap, in points of probability (0.05). None: the test can fail but never pass.
    n_permutations
        Permutations of patients, or sign flips.
    minimum
        Fewest patients of a level (within a class) that a gap is told of, at least 3.
    random_state
        Seed.

    Returns
    -------
    TestResult
        ``effect`` is the gap furthest off, with an interval for all gaps together. ``details["why"]`` says what the
        graph implies and what it does not; ``"gaps"`` holds every gap, ``"tests"`` the p-value of every class,
        ``"levels"`` for stability the calibration in the large of every level.

    Raises
    ------
    GraphError, DataError
        The cohort does not fit the graph; predictions do not fit the cohort; an argument is out of range.

    Notes
    -----
    Implications: :func:`causalfm.invariance.signatures.signature`. Tests: patients permuted, studentised
    (:func:`causalfm.invariance.mean.mean_test`), for separation within each class with Bonferroni's correction;
    sufficiency by :func:`causalfm.invariance.residual_products.independence_test`. Gaps are means over patients, who
    weigh equally, with Student's t by patient (:mod:`causalfm.invariance.score_gaps`). Pass: the one-sided 95 % bounds
    of all gaps are below the margin; fail: some bound, corrected for all gaps, is above it (without a margin: p is at
    most 0.05 and the interval of some gap excludes 0). With 10 patients in the smallest level the intervals hold for
    92 % of true nulls, with 20 for 94-97 %. One can ask for an invariance that the graph does not imply; that it does
    not hold is then no fault of the model.

    References
    ----------
    Veitch et al., NeurIPS 2021; Barocas, Hardt, Narayanan: Fairness and Machine Learning (2023), chapter 3.
    """
    if margin is not None:
        check_positive(margin, "margin", "a gap between probabilities; None asks without a margin")
    if kind not in ("auto", *KINDS):
        raise DataError(f"kind={kind!r} is not known: choose 'auto' or one of {', '.join(map(repr, KINDS))}.")
    check_whole(minimum, "minimum", MIN_GROUPS, why="independent units that the variance of a cell needs")
    check_whole(n_permutations, "n_permutations", 1, why="999 resolve a p-value of 0.001")
    check_seed(random_state)
    check_inputs(cohort, graph)
    graph.check(cohort)
    factors = names(of)
    refuse_numbers(cohort, graph, factors)
    implied = signature(graph, factors)
    probabilities = aligned_predictions(predictions, cohort, graph.biology)
    factor, unit = joint_factor(cohort, factors), cohort.factor(graph.group, private=True)
    chosen = implied.preferred if kind == "auto" else kind
    base = _unanswered(cohort, graph, factor.name, implied, chosen or kind, n_permutations, margin)
    if chosen is None:
        return base
    if varies := int(varies_within(factor.codes, unit).sum()):
        sentence = f"Cannot tell: {factor.name} varies within {varies} of {unit.n_levels} {unit.name}s, and predictions"
        return dataclasses.replace(base, sentence=f"{sentence} are compared between {unit.name}s only.")
    sets = tuple(tuple(n for n in s if n != graph.biology) for s in implied.sets[chosen]) or ((),)
    asked = Asked(cohort, graph, factors, probabilities, chosen, sets, minimum, n_permutations, random_state)
    parts, left_out = parts_at_equal_scores(asked) if chosen == SUFFICIENCY else parts_by_level(asked)
    if not parts:
        return dataclasses.replace(base, sentence=f"Cannot tell. {'; '.join(left_out)}. {implied.sentence}")
    return conclude(base, asked, parts, left_out, margin)


def _unanswered(
    cohort: Cohort,
    graph: CausalGraph,
    of: str,
    implied: Signature,
    kind: str,
    n_permutations: int,
    margin: float | None,
) -> TestResult:
    """Return the result without numbers."""
    return TestResult(
        statistic=float("nan"),
        p_value=float("nan"),
        effect=None,
        verdict="cannot tell",
        sentence=f"Cannot tell. {implied.sentence}",
        of=of,
        given=(),
        effect_kind=kind,
        method="sign flip" if kind == SUFFICIENCY else "permutation",
        n=len(cohort),
        n_groups=cohort.factor(graph.group, private=True).n_levels,
        unit=graph.group,
        details={
            "why": implied.sentence,
            "direction": implied.direction,
            "association": list(implied.association),
            "implied": [name for name in KINDS if implied.sets[name]],
            "not_implied": [name for name in KINDS if not implied.sets[name]],
            "margin": margin,
            "n_permutations": n_permutations,
            "caveat": CAVEAT,
        },
    )
