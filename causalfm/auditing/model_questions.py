"""What the audit asks of a downstream model: shortcut premium, scores by level, decisions at another level."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from causalfm.auditing.downstream import Downstream
from causalfm.auditing.findings import Finding, numbers_of
from causalfm.auditing.policy import Policy
from causalfm.auditing.running import Step, answer_or_reason
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.estimators import deconfounded_performance
from causalfm.graph import CausalGraph
from causalfm.invariance import prediction_invariance
from causalfm.results import verdict_against
from causalfm.scm import EmbeddingSCM, flips
from causalfm.scm.flip_tables import PER


def model_questions(
    cohort: Cohort,
    graph: CausalGraph,
    factors: list[str],
    policy: Policy,
    given: Downstream,
    seed: int,
    rows: Cohort | None = None,
) -> list[Step]:
    """List what is asked of the model for each categorical technical factor.

    Parameters
    ----------
    cohort, graph
        All rows, to which the model of the embedding is fitted too, and declared graph.
    factors
        Technical factors with levels.
    policy, given, seed
        Margins, the model, seed of folds and permutations.
    rows
        Those whose decisions are asked at other levels, where that is a sample of a cohort outside memory; None: all.

    Returns
    -------
    list
        Names of steps, and what answers them.
    """
    out: list[Step] = []
    scm = cache(lambda: EmbeddingSCM(graph).fit(cohort))  # once for all factors, and only if it is asked for
    for factor in factors:
        asked = cohort, graph, factor, policy, given, seed
        out.append(_step("shortcut", factor, graph, given, _premium, *asked))
        out.append(_step("predictions", factor, graph, given, _scores, *asked))
        if given.model is not None:
            moved = cohort if rows is None else rows, *asked[1:], scm
            out.append(_step("decisions", factor, graph, given, _decisions, *moved))
    return out


def _step(
    question: str, factor: str, graph: CausalGraph, given: Downstream, ask: Callable[..., Finding], *asked: Any
) -> Step:
    blank = Finding(question, _title(question, factor, given), factor, "cannot tell", "", unit=graph.group)
    return f"{factor}: {question}", partial(answer_or_reason, blank, lambda: [ask(*asked)], CausalFMError)


def _title(question: str, factor: str, given: Downstream) -> str:
    return {
        "shortcut": f"Is {given.who} right because of {factor}?",
        "predictions": f"Do the scores of {given.who} depend on {factor}?",
        "decisions": f"Would {given.who} decide otherwise at another {factor}?",
    }[question]


def _premium(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, given: Downstream, seed: int) -> Finding:
    found = deconfounded_performance(cohort, graph, predictions=given.predictions, of=factor, random_state=seed)
    title = _title("shortcut", factor, given)
    if not found.scores:
        return Finding("shortcut", title, factor, "cannot tell", found.sentence, unit=graph.group)
    premium = found["accuracy"].premium
    verdict = verdict_against(premium.low, premium.high, policy.shortcut_premium)
    if verdict == "pass" and found.left_out:
        verdict = "cannot tell"  # a pass must hold for every level
    return Finding(
        question="shortcut",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=found.sentence,
        value=premium.value,
        low=premium.low,
        high=premium.high,
        chance=0.0,
        margin=policy.shortcut_premium,
        quantity=f"accuracy as found less accuracy where {graph.biology} and {factor} are independent",
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        target=f"{', '.join(found.levels)}; {', '.join(found.classes)}",
        advice="" if verdict == "pass" else f"Train the model with {factor} balanced within {graph.biology}.",
        details={
            "want": "below",
            "scores": [row for score in found.scores for row in score.rows()],
            "left_out": [{"left out": text} for text in found.left_out],
        },
    )


def _scores(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, given: Downstream, seed: int) -> Finding:
    found = prediction_invariance(
        given.predictions,
        cohort,
        graph,
        of=factor,
        margin=policy.score_gap,
        n_permutations=policy.permutations,
        random_state=seed,
    )
    effect = found.effect
    numbers = {} if effect is None else numbers_of(effect)
    kept = ("why", "gaps", "tests", "left_out", "levels", "margin_bounds", "implied", "not_implied")
    return Finding(
        question="predictions",
        title=_title("predictions", factor, given),
        factor=factor,
        verdict=found.verdict,
        sentence=found.sentence,
        **numbers,
        quantity=f"largest gap of {found.effect_kind} between levels of {factor}, in points of probability",
        chance=0.0 if effect is not None else float("nan"),
        margin=policy.score_gap,
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        target=f"new {found.unit}s of these levels of {factor}"
        + f", given {', '.join(found.given)}" * bool(found.given),
        advice="" if found.verdict == "pass" else f"Look at the gaps; recalibrate or retrain with {factor} balanced.",
        details={"want": "below", **{key: found.details[key] for key in kept if key in found.details}},
    )


def _decisions(
    cohort: Cohort,
    graph: CausalGraph,
    factor: str,
    policy: Policy,
    given: Downstream,
    seed: int,
    fitted: Callable[[], EmbeddingSCM],
) -> Finding:
    scm = fitted()
    found = flips(scm, cohort, given.model, of=factor, random_state=seed)
    worst = found.worst
    if worst is None:
        raise DataError(f"no row can be moved to another level of {factor}.")
    low, high = worst.low / PER, worst.high / PER
    verdict = verdict_against(low, high, policy.flip_rate)
    if verdict == "pass" and found.not_moved:
        verdict = "cannot tell"
    sentence = (
        f"Moved from {worst.source} to {worst.target}, where it changes most, {given.who} would decide "
        f"{worst.flips:.0f} [{worst.low:.0f}, {worst.high:.0f}] of 1,000 otherwise ({worst.chance:.0f} by errors of "
        f"the counterfactual alone), under coupling {found.coupling}."
    )
    return Finding(
        question="decisions",
        title=_title("decisions", factor, given),
        factor=factor,
        verdict=verdict,
        sentence=sentence,
        value=worst.flips / PER,
        low=low,
        high=high,
        chance=worst.chance / PER,
        margin=policy.flip_rate,
        quantity="share of decisions that change, worst pair of levels",
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        target=f"new {found.unit}s at {worst.source}, set to {worst.target}",
        advice="" if verdict == "pass" else f"Do not use this model across levels of {factor} without a correction.",
        details={
            "want": "below",
            "pairs": [rate.row() for rate in found.pairs],
            "who": [rate.row() for rate in found.who],
            "not moved": list(found.not_moved),
            "coupling": found.coupling,
            "mechanism": scm.mechanism,
        },
    )
