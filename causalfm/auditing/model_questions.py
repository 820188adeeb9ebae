"""What the audit asks of a downstream model: shortcut premium, scores by level, decisions at another level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_choice, check_type
from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.auditing.running import Step
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.estimators import deconfounded_performance
from causalfm.graph import CausalGraph
from causalfm.invariance import prediction_invariance
from causalfm.invariance.aligned import aligned_predictions
from causalfm.results import verdict_against
from causalfm.scm import EmbeddingSCM, flips
from causalfm.scm.flip_tables import PER

if TYPE_CHECKING:
    import pandas as pd

LINEAR = "linear"
NOT_TRAINED = "The model was not trained on these patients: its numbers are too good otherwise."
FITTED_HERE = (
    "The model is a linear head fitted to this cohort here, as the user gave none: what is said of its accuracy and its "
    "decisions holds for such a head. Every row is decided by a head that has not seen its {}, also where the row is moved "
    "to another level."
)
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
    whose, who
        What it is in words: at the beginning of a sentence, with how it was trained, and within one.
    refitted
        Whether it was fitted here, without the unit that it is asked about.
    """

    predictions: pd.DataFrame
    model: Any = None
    whose: str = "The model given"
    who: str = "the model"
    refitted: bool = False


def downstream(
    cohort: Cohort, graph: CausalGraph, predictions: Any, model: Any, random_state: int = 0
) -> Downstream | None:
    """Check what was given as a model, and let it score the cohort.

    Parameters
    ----------
    cohort, graph
        Rows and declared graph.
    predictions, model
        As in :func:`causalfm.audit`; ``"linear"`` fits a head here.
    random_state
        Seed of the folds of a head fitted here.

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
    if isinstance(model, str):
        return _fitted_here(cohort, graph, model, random_state)
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


def _fitted_here(cohort: Cohort, graph: CausalGraph, name: str, random_state: int) -> Downstream:
    """Fit linear heads, each without a fold of units, and let them score the rows that they have not seen."""
    import pandas as pd

    from causalfm.shift.heads import held_out_heads

    check_choice(name, "model", (LINEAR,))
    biology, unit = cohort.factor(graph.biology), graph.group
    units = cohort.factor(unit, private=True).codes
    heads = held_out_heads(cohort.X, biology.codes, units, biology.levels, random_state=random_state)
    scores = heads.probabilities(cohort.X, np.arange(len(cohort)))
    table = pd.DataFrame(scores, index=cohort.obs.index, columns=list(biology.levels))
    whose = f"The linear head fitted here (without the {unit} it decides about)"
    return Downstream(table, heads, whose, "the linear head fitted here", refitted=True)


def model_notes(given: Downstream | None, unit: str) -> list[str]:
    """Return what numbers about the model lean on."""
    if given is None:
        return []
    return [FITTED_HERE.format(unit) if given.refitted else NOT_TRAINED, *[NO_MODEL] * (given.model is None)]


def model_questions(
    cohort: Cohort, graph: CausalGraph, factors: list[str], policy: Policy, given: Downstream, seed: int
) -> list[Step]:
    """List what is asked of the model for each categorical technical factor.

    Parameters
    ----------
    cohort, graph
        Rows and declared graph.
    factors
        Technical factors with levels.
    policy, given, seed
        Margins, the model, seed of folds and permutations.

    Returns
    -------
    list
        Names of steps, and what answers them.
    """
    out: list[Step] = []
    scm = cache(lambda: EmbeddingSCM(graph).fit(cohort))  # once for all factors, and only if it is asked for
    for factor in factors:
        asked = cohort, graph, factor, policy, given, seed
        out.append((f"{factor}: shortcut", _told("shortcut", factor, graph, given, _premium, *asked)))
        out.append((f"{factor}: predictions", _told("predictions", factor, graph, given, _scores, *asked)))
        if given.model is not None:
            out.append((f"{factor}: decisions", _told("decisions", factor, graph, given, _decisions, *asked, scm)))
    return out


def _told(
    question: str, factor: str, graph: CausalGraph, given: Downstream, ask: Callable[..., Finding], *asked: Any
) -> Callable[[], list[Finding]]:
    """Answer, or say why there is no answer."""

    def answer() -> list[Finding]:
        try:
            return [ask(*asked)]
        except CausalFMError as error:
            sentence = f"Cannot tell: {error}"
            title = _title(question, factor, given)
            return [Finding(question, title, factor, "cannot tell", sentence, unit=graph.group)]

    return answer


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
    numbers = {} if effect is None else {"value": effect.value, "low": effect.low, "high": effect.high}
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
