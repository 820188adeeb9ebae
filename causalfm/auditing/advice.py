"""What to do about a factor that failed: correctors tried on the cohort itself, or how to have them tried."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causalfm.auditing.findings import Advice, Finding
from causalfm.errors import CausalFMError

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.estimators import Scoreboard
    from causalfm.graph import CausalGraph

NOT_TRIED = (
    "Correctors were not tried. Run the audit again with --corrections quick (in Python: corrections='quick') to "
    "measure on this cohort whether one helps."
)
NUMBER = (
    "{0} is a number, and correctors remove levels: none was tried. Cut it into levels in a column of its own and "
    "declare that as technical, or keep {0} within a narrower range; then audit again."
)


@dataclass(frozen=True)
class Plan:
    """Which correctors are tried, by name and settings, and how much is measured."""

    correctors: tuple[tuple[str, Mapping[str, Any]], ...]
    readers: tuple[str, ...]
    parts: tuple[str, ...]
    halvings: int


AUGMENTATION = "counterfactual training (causalfm.augment.balanced_counterfactuals)"
SHOWN = 4  # levels named in a sentence
ADAPT = {"unseen": "adapt"}
CHEAP: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("MeanAligner", {"shrinkage": "empirical-bayes", **ADAPT}),
    ("ComBat", ADAPT),
    ("LinearEraser", {}),
)
MORE: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("TransportAligner", ADAPT),
    ("LinearEraser", {"form": "oracle", **ADAPT}),
    ("NullspaceProjector", {}),
    ("NuisanceSubspace", {}),
)
PLANS = {
    "quick": Plan(CHEAP, ("linear",), ("site", "biology", "new_sites"), 5),
    "full": Plan((*CHEAP, *MORE), ("linear", "knn", "forest"), ("site", "neighbours", "biology", "new_sites"), 10),
}


def failing(findings: Sequence[Finding], graph: CausalGraph) -> list[str]:
    """Return the technical factors with a failed finding; one asked about jointly counts by itself."""
    return [name for name in graph.technical if name in _failed(findings)]


def _failed(findings: Sequence[Finding]) -> set[str]:
    failed = (f for f in findings if f.verdict == "fail" and f.question not in ("biology", "graph"))
    return {f.factor.split(" + ")[-1] for f in failed}


def advise(
    cohort: Cohort,
    graph: CausalGraph,
    findings: Sequence[Finding],
    corrections: str,
    random_state: int,
    continuous: Sequence[str] = (),
) -> tuple[Advice, ...]:
    """Say for each factor that failed whether a corrector helps on this cohort.

    Parameters
    ----------
    cohort, graph, findings
        What was audited, and what was found.
    corrections
        ``"none"``: nothing is tried; ``"quick"`` or ``"full"``: the plan.
    random_state
        Seed of the scoreboard.
    continuous
        Technical factors that are numbers; the graph has the others.

    Returns
    -------
    tuple of Advice
        One per factor; empty if none failed.
    """
    out = [advice_on(cohort, graph, factor, corrections, random_state) for factor in failing(findings, graph)]
    out += [Advice(name, None, NUMBER.format(name)) for name in continuous if name in _failed(findings)]
    return tuple(out)


def advice_on(cohort: Cohort, graph: CausalGraph, factor: str, corrections: str, random_state: int) -> Advice:
    """Say whether a corrector or counterfactual training helps against one factor; parameters as in :func:`advise`."""
    if corrections == "none":
        return Advice(factor, None, NOT_TRIED)
    return _tried(cohort, graph, factor, PLANS[corrections], random_state)


def _tried(cohort: Cohort, graph: CausalGraph, factor: str, plan: Plan, random_state: int) -> Advice:
    from causalfm.augment import CounterfactualTraining
    from causalfm.estimators import scoreboard
    from causalfm.estimators.correctors.applying import corrector_named
    from causalfm.estimators.scoring.result import NONE

    correctors = {_label(name, settings): corrector_named(name, settings) for name, settings in plan.correctors}
    correctors[AUGMENTATION] = CounterfactualTraining(graph, random_state=random_state)
    clock = time.process_time()
    try:
        board = scoreboard(
            cohort,
            graph,
            correctors,
            confounder=factor,
            readers=plan.readers,
            parts=plan.parts,
            halvings=plan.halvings,
            random_state=random_state,
        )
    except CausalFMError as error:  # the cohort was fit for the audit, but is too small or thin for this question
        return Advice(factor, None, f"Cannot tell whether a corrector helps: {error}")
    seconds = round(time.process_time() - clock, 1)
    chosen = dict(zip(correctors, plan.correctors, strict=False)).get(board.recommended or "")  # the last is no command
    words = {
        "unseen sites": f"levels of {factor} left out",
        "known sites": "known levels",
        "patients": f"{graph.group}s",
    }
    sentence = board.sentence
    for ours, theirs in words.items():
        sentence = sentence.replace(ours, theirs)
    sentence += _falls(board)
    return Advice(
        factor,
        board.recommended,
        sentence[:1].upper() + sentence[1:],
        "" if chosen is None else command(graph, factor, *chosen),
        tuple(_row(board, name) for name in (NONE, *correctors)),
        {"processor seconds": seconds, **board.details, "scores": board.rows()},
    )


def _falls(board: Scoreboard) -> str:
    """Name the levels at which a recommended corrector lowered the accuracy: a mean can rise at the cost of some."""
    from causalfm.estimators.scoring.result import NONE

    at = board.details["biology_at_new_site"]
    moved = {level: value - at[NONE][level] for level, value in at.get(board.recommended, {}).items()}
    fell = sorted((change, level) for level, change in moved.items() if change < 0.0)
    if not fell:
        return ""
    shown = ", ".join(f"{level} ({change:.3f})" for change, level in fell[:SHOWN])
    more = f" and {len(fell) - SHOWN} more" if len(fell) > SHOWN else ""
    many = f"{len(fell)} of {len(moved)}"
    return f" The accuracy fell at {many} levels, each by a number without interval: {shown}{more}."


def command(graph: CausalGraph, factor: str, name: str, settings: Mapping[str, Any]) -> str:
    """Return the shell command that fits a corrector to these columns and applies it."""
    asked: list[str] = ["--corrector", name]
    for key, value in settings.items():
        asked += ["--unseen", str(value)] if key == "unseen" else ["--set", f"{key}={value}"]
    roles = {"factor": [factor], "biology": [graph.biology], "covariates": graph.covariates, "group": [graph.group]}
    for role, names in roles.items():
        many = role in ("factor", "covariates")  # the others are names as they stand
        text = ",".join(f'"{column}"' if many and "," in column else column for column in names)
        asked += [f"--{role}", text] if text else []
    asked += ["--save", "corrector.safetensors", "--apply", "NEW", "--out", "corrected.npz"]
    return f"causalfm correct REFERENCE {shlex.join(asked)}"


def _label(name: str, settings: Mapping[str, Any]) -> str:
    return name + (f" ({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else "")


def _row(board: Scoreboard, name: str) -> dict[str, Any]:
    """Lay out one corrector: what counts first."""
    scores = {score.name: score for score in board.scores if score.corrector == name}
    row: dict[str, Any] = {"corrector": name}
    for key, measured in (("new_levels", "biology_new_site"), ("new_units", "biology"), ("readout", "site_linear")):
        score = scores[measured]
        row[key] = {"value": score.value, "change": score.change, "low": score.joint_low, "high": score.joint_high}
    reasons = dict.fromkeys(score.reason for score in scores.values() if score.reason)
    return row | {"note": "; ".join(reasons)}
