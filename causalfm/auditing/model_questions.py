"""What the audit asks of a downstream model: shortcut premium, scores by level, decisions at another level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_type
from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.auditing.running import Step
from causalfm.cohort import Cohort
from causalfm.confidence import alpha_in_force
from causalfm.errors import CausalFMError, DataError
from causalfm.estimators import deconfounded_performance
from causalfm.graph import CausalGraph
from causalfm.invariance import prediction_invariance
from causalfm.invariance.aligned import aligned_predictions
from causalfm.metrics.recall import balanced_accuracy
from causalfm.results import verdict_against
from causalfm.scm import EmbeddingSCM, flips
from causalfm.scm.flip_tables import PER

if TYPE_CHECKING:
    import pandas as pd

NOT_TRAINED = "The model was not trained on these patients: its numbers are too good otherwise."
NO_MODEL = "Decisions at another level were not asked: predictions are given for the rows as they are; pass the model."


@dataclass(frozen=True, eq=False)
class Downstream:
    """A downstream model: its probabilities of the cohort's rows and, if it can be asked again, itself.

    Attributes
    ----------
    predictions
        One column of probabilities per class, under the ids of the cohort's table.
    model
        ``(n, d) -> (n, classes)``, or None where only predictions are at hand.
    """

    predictions: pd.DataFrame
    model: Any = None


def downstream(cohort: Cohort, graph: CausalGraph, predictions: Any, model: Any) -> Downstream | None:
    """Check what was given as a model, and let it score the cohort.

    Returns
    -------
    Downstream or None
        None without predictions and model.

    Raises
    ------
    DataError
        Both are given, or scores are no probabilities of the classes.
    """
    import pandas as pd

    if predictions is not None and model is not None:
        raise DataError("give predictions or a model, not both: they could disagree.")
    if predictions is not None:
        check_type(predictions, pd.DataFrame, "predictions", "one column of probabilities per class")
        aligned_predictions(predictions.loc[predictions.index.isin(cohort.obs.index)], cohort, graph.biology)
        return Downstream(predictions.loc[cohort.obs.index])
    if model is None:
        return None
    from causalfm.scm.scores import scorer_of

    scorer, levels = scorer_of(model, cohort.X, decisions=True), cohort.factor(graph.biology).levels
    scores = scorer.scores(cohort.X)
    # a model that numbers its classes counts them as the levels are sorted; other names are names, and must fit
    unnamed = all(name in (str(i), f"class {i}") for i, name in enumerate(scorer.classes))
    named = levels if unnamed and not set(scorer.classes) & set(levels) else scorer.classes
    if scores.shape[1] != len(named):
        raise DataError(f"model gives {scores.shape[1]} scores and {graph.biology} has {len(levels)} classes.")
    table = pd.DataFrame(scores, index=cohort.obs.index, columns=list(named))
    aligned_predictions(table, cohort, graph.biology)
    return Downstream(table, model)


def model_notes(given: Downstream | None) -> list[str]:
    """Return what numbers about the model lean on."""
    return [] if given is None else [NOT_TRAINED, *[NO_MODEL] * (given.model is None)]


def model_questions(
    cohort: Cohort,
    graph: CausalGraph,
    factors: list[str],
    policy: Policy,
    given: Downstream,
    seed: int,
    rows: Cohort,
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
        Those whose decisions are asked at other levels: all, or a sample of a cohort outside memory.

    Returns
    -------
    list
        Names of steps, and what answers them.
    """
    out: list[Step] = []
    scm = cache(lambda: EmbeddingSCM(graph).fit(cohort))  # once for all factors, and only if it is asked for
    for factor in factors:
        asked = cohort, graph, factor, policy, given, seed
        out.append((f"{factor}: shortcut", _told("shortcut", factor, graph, _premium, *asked)))
        out.append((f"{factor}: predictions", _told("predictions", factor, graph, _scores, *asked)))
        if given.model is not None:
            moved = rows, *asked[1:], scm
            out.append((f"{factor}: decisions", _told("decisions", factor, graph, _decisions, *moved)))
    return out


def _told(
    question: str, factor: str, graph: CausalGraph, ask: Callable[..., Finding], *asked: Any
) -> Callable[[], list[Finding]]:
    """Answer, or say why there is no answer."""

    def answer() -> list[Finding]:
        try:
            return [ask(*asked)]
        except CausalFMError as error:
            sentence = f"Cannot tell: {error}"
            return [Finding(question, _title(question, factor), factor, "cannot tell", sentence, unit=graph.group)]

    return answer


def _title(question: str, factor: str) -> str:
    return {
        "shortcut": f"Is the model right because of {factor}?",
        "predictions": f"Do the model's scores depend on {factor}?",
        "decisions": f"Would the model decide otherwise at another {factor}?",
    }[question]


def _premium(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, given: Downstream, seed: int) -> Finding:
    found = deconfounded_performance(cohort, graph, predictions=given.predictions, of=factor, random_state=seed)
    title = _title("shortcut", factor)
    if not found.scores:
        details = {"per level": _per_level(cohort, graph, factor, given)}
        return Finding("shortcut", title, factor, "cannot tell", found.sentence, unit=graph.group, details=details)
    premium = found["accuracy"].premium
    verdict = verdict_against(premium.low, premium.high, policy.shortcut_premium)
    if verdict == "pass" and found.left_out:
        verdict = "cannot tell"  # a pass must hold for every level
    levels = _per_level(cohort, graph, factor, given)
    worst = min(levels, key=lambda row: row["balanced accuracy"])
    return Finding(
        question="shortcut",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=f"{found.sentence} Least balanced accuracy: {worst['balanced accuracy']:.3f} "
        f"[{worst['low']:.3f}, {worst['high']:.3f}] at {worst['level']} (interval for all levels together).",
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
            "per level": levels,
            "scores": [row for score in found.scores for row in score.rows()],
            "left_out": [{"left out": text} for text in found.left_out],
        },
    )


def _per_level(cohort: Cohort, graph: CausalGraph, factor: str, given: Downstream) -> list[dict[str, Any]]:
    """Balanced accuracy and recalls at every level, over its classes; intervals hold together."""
    label, level = cohort.factor(graph.biology), cohort.factor(factor)
    unit = cohort.factor(graph.group, private=True)
    scores = aligned_predictions(given.predictions, cohort, graph.biology)
    hit = scores.argmax(axis=1) == label.codes
    rows = []
    for code, name in enumerate(level.levels):
        here = np.flatnonzero(level.codes == code)
        classes, y = np.unique(label.codes[here], return_inverse=True)
        groups = np.unique(unit.codes[here], return_inverse=True)[1]
        weights = 1.0 / np.bincount(groups)[groups]
        chance = 1.0 / label.n_levels
        together = 1.0 - alpha_in_force() / level.n_levels
        told = balanced_accuracy(hit[here], y, groups, weights, chance=chance, level=together)
        value, recalls, low, high = told
        row: dict[str, Any] = {"level": name, "balanced accuracy": value, "low": low, "high": high}
        row |= {f"{graph.group}s": int(groups.max()) + 1}
        row |= {f"recall of {label.levels[c]}": float(recalls[i]) for i, c in enumerate(classes)}
        rows.append(row)
    return rows


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
    numbers = {} if effect is None else {"value": effect.value, "low": effect.low, "high": effect.high}
    kept = ("why", "gaps", "tests", "left_out", "levels", "margin_bounds", "implied", "not_implied")
    return Finding(
        question="predictions",
        title=_title("predictions", factor),
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
        target=f"given {', '.join(found.given)}" if found.given else "",
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
        f"Moved from {worst.source} to {worst.target}, where it changes most, the model would decide "
        f"{worst.flips:.0f} [{worst.low:.0f}, {worst.high:.0f}] of 1,000 otherwise ({worst.chance:.0f} by errors of "
        f"the counterfactual alone), under coupling {found.coupling}."
    )
    return Finding(
        question="decisions",
        title=_title("decisions", factor),
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
        target=f"{worst.source} set to {worst.target}",
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
