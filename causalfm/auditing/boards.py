"""Boards of a comparison: the estimates of all encoders, and the contrasts between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from causalfm.auditing.comparison import Board, Contrast, Standing
from causalfm.auditing.comparison_metrics import Metric
from causalfm.auditing.contrasting import contrast_all
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence


def measure_boards(
    cohorts: Mapping[str, Cohort],
    graph: CausalGraph,
    measures: Mapping[str, Metric],
    factors: Sequence[str],
    passes: Mapping[str, Neighbours],
    ks: Mapping[str, Mapping[str, Any]],
    random_state: int,
    say: Callable[[str], None],
) -> tuple[Board, ...]:
    """Measure every encoder with every measure, about every factor.

    Parameters
    ----------
    cohorts, graph, measures, factors
        As checked by :func:`causalfm.compare`.
    passes
        Neighbours of each encoder.
    ks
        For each factor the common ``k`` with how it was chosen, or the ``reason`` why there is none.
    random_state
        Seed.
    say
        Told what is being done, once for each measure and encoder.
    """
    boards = []
    for key, metric in measures.items():
        asked = list(factors) if metric.takes("confounder") else [graph.biology]
        first = next(iter(ks.values()), {})  # of the first factor, where the measure is about the biology
        settings = {factor: ks.get(factor, first) if metric.takes("k") else {} for factor in asked}
        scores: dict[str, dict[str, Estimate]] = {factor: {} for factor in asked}
        for name, cohort in cohorts.items():
            say(f"{name}: {metric.title}")
            for factor in asked:
                given: dict[str, Any] = {"confounder": factor, "neighbours": passes[name], "random_state": random_state}
                if metric.takes("k"):
                    given["k"] = settings[factor].get("k")
                scores[factor][name] = metric.of(cohort, graph, **given)
        boards += [compare_scores(key, metric, f, scores[f], settings[f], random_state) for f in asked]
    return tuple(boards)


def compare_scores(
    key: str,
    metric: Metric,
    factor: str,
    scores: Mapping[str, Estimate],
    details: Mapping[str, Any],
    random_state: int = 0,
) -> Board:
    """Contrast the encoders whose estimates say what each unit adds to them; the others are named with the reason."""
    board = Board(key, metric.title, factor, metric.better, scores, details=details)
    known = {name: e.influence for name, e in scores.items() if e.influence is not None and np.isfinite(e.value)}
    why = {name: _why_none(estimate) for name, estimate in scores.items() if name not in known}
    same = len(why) == len(scores) and len(set(why.values())) == 1
    reasons = list(why.values())[:1] if same else [f"{name}: {text}" for name, text in why.items()]
    if len(known) > 1 and (other := _other_target({name: scores[name] for name in known})):
        reasons = [f"{other} was measured on other units or tables than {next(iter(known))}"]
        known = {}
    board = dataclasses.replace(board, reason="; ".join(reasons))
    if len(known) < 2:
        return board
    encoders, lower = list(known), metric.better == "lower"
    values = np.array([scores[name].value for name in encoders])
    found = contrast_all(values, list(known.values()), random_state)
    contrasts = tuple(
        Contrast(encoders[a], encoders[b], *(float(column[i]) for column in found.columns()))
        for i, (a, b) in enumerate(found.pairs)
    )
    turned = len(encoders) + 1
    standings = tuple(
        Standing(
            name,
            int(turned - found.rank_high[i] if lower else found.rank_low[i]),
            int(turned - found.rank_low[i] if lower else found.rank_high[i]),
            tuple(float(share) for share in (found.rank_share[i, ::-1] if lower else found.rank_share[i])),
        )
        for i, name in enumerate(encoders)
    )
    return dataclasses.replace(board, contrasts=contrasts, standings=standings)


def _why_none(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return str(estimate.details.get("reason", "no number"))
    return str(estimate.details.get("interval", "the measure does not say what each unit adds to it"))


def _other_target(scores: Mapping[str, Estimate]) -> str | None:
    """Return the first encoder whose estimate holds for other units or tables than that of the first of all."""
    first = next(iter(scores.values()))
    for name, estimate in scores.items():
        if estimate.n != first.n or _strata(estimate) != _strata(first) or _tables(estimate) != _tables(first):
            return name
    return None


def _strata(estimate: Estimate) -> bytes:
    assert isinstance(estimate.influence, Influence)
    return np.asarray(estimate.influence.strata, dtype=np.int64).tobytes()


def _tables(estimate: Estimate) -> list[Any]:
    return [(table.get("classes"), table.get("levels")) for table in estimate.details.get("tables", [])]
