"""Leave one site out: what a probe of the biology loses at a hospital (scanner, stain) that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from causalfm.arguments import check_whole
from causalfm.confidence import level_in_force
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs
from causalfm.metrics.design import t_quantile, variance_of
from causalfm.metrics.learners import cross_fitted, grouped_folds
from causalfm.metrics.probes import Prediction, Probe, predict, score, unit_influence
from causalfm.metrics.recall import balanced_accuracy, discordance_floor, pair_share, recall_effects
from causalfm.results import Estimate
from causalfm.strata import confounder_of, groups_per_level

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

FOLDS = (2, 10)
NEW_SITE = 8  # sites from which their spread says something of another one


def transfer_gap(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    probe: Probe = "logistic",
    minimum: int = 5,
    n_splits: int | None = None,
    max_rows: int = 20_000,
    random_state: int = 0,
) -> Estimate:
    """Balanced accuracy for the biology that is lost where the probe has not seen the level of a technical factor.

    Every level is left out of training in turn and tested; the same patients are also read by probes that were trained
    on other patients of all levels. The gap is the second accuracy less the first: positive where transfer costs.

    Parameters
    ----------
    cohort, graph
        Data and declared graph; its ``group`` is never split between training and test.
    confounder
        Technical column; the graph's first technical factor by default.
    probe
        ``"logistic"`` or ``"network"``, as in :func:`causalfm.metrics.readout`.
    minimum
        Groups that a class needs at a level, and at the others together, to be judged there.
    n_splits
        Folds of the probes that see all levels. Default: as many as there are levels, from 2 to 10, so that both kinds
        of probe are trained on about as many patients.
    max_rows
        Beyond it a random sample is used, as many rows of every patient.
    random_state
        Seed of the folds and of the sample.

    Returns
    -------
    Estimate
        Mean gap over the levels judged, each weighing the same; chance is 0. ``nan`` with ``details["reason"]`` where
        no level holds two classes, or the probe does not read the biology within levels even if it has seen them.
        ``details``: ``"levels"``, one record each: classes, both accuracies, gap with its joint interval (all levels
        together 95 %, Bonferroni), patients trained on; ``"worst"``, the level with the largest gap, and
        ``"worst_accuracy"``, that with the least accuracy unseen, each with joint bounds for the worst of all levels;
        ``"not_judged"`` with reasons; ``"new_level"``, a 95 % prediction interval for the gap at another level, from
        their spread, with at least 8.

    Raises
    ------
    DataError
        No read-out is possible, a probe that cannot leave levels out, or a confounder with another role.

    Notes
    -----
    The interval is for new patients of these levels. Patients who were seen at several levels (scanned again) are left
    out of training wherever they are tested.
    """
    if probe == "knn":
        raise DataError("probe='knn': the gap compares trained probes; choose 'logistic' or 'network'.")
    check_whole(minimum, "minimum", 2, why="an interval needs two units")
    check_inputs(cohort, graph)
    name = confounder_of(graph, confounder)
    levels = cohort.factor(name).levels
    splits = int(np.clip(len(levels), *FOLDS)) if n_splits is None else n_splits
    settings: dict[str, Any] = {"of": graph.biology, "probe": probe, "beyond": (name,), "random_state": random_state}
    p = predict(cohort, graph, n_splits=splits, max_rows=max_rows, **settings)
    masks = _masks(p, random_state)
    unseen, _ = cross_fitted(cohort.X[p.rows], p.y, p.groups, p.context, masks, probe, random_state)
    judged, not_judged = _judged(p, levels, minimum)
    inside = score(p, random_state).details["within"]
    details: dict[str, Any] = {"biology": graph.biology, "confounder": name, "probe": probe, "not_judged": not_judged}
    details |= {"left_out": p.details["left_out"], "n_splits": p.details["n_splits"], "within_levels": inside}
    n_groups, nan = int(p.groups.max()) + 1, float("nan")
    reason = ""
    if not judged:
        reason = f"cannot tell: no level of {name} holds two classes with {minimum} {p.unit}s, here and elsewhere"
    elif not inside["low"] > inside["chance"]:
        reason = f"cannot tell: the {probe} probe does not read {graph.biology} within levels that it has seen"
    if reason:
        details["reason"] = reason
        return Estimate("transfer_gap", nan, nan, nan, 0.0, len(p.y), n_groups, p.unit, details)
    sites = [_Site.of(p, unseen.argmax(axis=1) == p.y, rows, levels[i], len(judged)) for i, rows in judged.items()]
    details["levels"] = [site.record for site in sites]
    details |= _worst(sites)
    gaps = np.array([site.record["gap"] for site in sites])
    details["new_level"] = _new_level(gaps)
    value, effects = float(gaps.mean()), np.mean([site.effects for site in sites], axis=0)
    inflation = float(np.mean([site.inflation for site in sites]))
    influence = unit_influence(effects, p.units, inflation)
    variance, df = variance_of(influence)
    half = t_quantile(df) * (variance + sum(site.floor for site in sites) / len(sites) ** 2) ** 0.5
    details["interval"] = f"{p.unit}s of these levels, t with {df:.0f} degrees of freedom"
    interval = value - half, value + half
    return Estimate("transfer_gap", value, *interval, 0.0, len(p.y), n_groups, p.unit, details, influence)


def _masks(p: Prediction, random_state: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to train on and to test: a level each, or a fold of a level where patients were seen at several."""
    seen_at = np.unique(np.stack([p.groups, p.context]), axis=1).shape[1]
    once = seen_at == int(p.groups.max()) + 1
    folds = np.zeros(len(p.y), dtype=np.int64) if once else _folds(p, random_state)
    for level in np.unique(p.context):
        for fold in np.unique(folds):
            train = (p.context != level) & (once | (folds != fold))
            if train.any():
                yield train, (p.context == level) & (folds == fold)


def _folds(p: Prediction, random_state: int) -> np.ndarray:
    return grouped_folds(p.y, p.groups, p.details["n_splits"], random_state)


def _judged(p: Prediction, levels: Sequence[str], minimum: int) -> tuple[dict[int, np.ndarray], list[dict[str, str]]]:
    """Return the rows of the classes that can be judged at each level, and the levels that cannot."""
    n_classes = p.probabilities.shape[1]
    cell = p.context * n_classes + p.y
    held = groups_per_level(cell, p.groups, len(levels) * n_classes).reshape(len(levels), n_classes)
    known = np.array(
        [groups_per_level(p.y[p.context != i], p.groups[p.context != i], n_classes) for i in range(len(levels))]
    )
    usable = (held >= minimum) & (known >= minimum)
    judged, not_judged = {}, []
    for i, level in enumerate(levels):
        if usable[i].sum() >= 2:
            judged[i] = np.flatnonzero((p.context == i) & usable[i][p.y])
            continue
        names = p.details["levels"]
        counts = "; ".join(
            f"{name}: {a} here, {b} elsewhere" for name, a, b in zip(names, held[i], known[i], strict=True)
        )
        not_judged.append({"level": level, "reason": f"fewer than two classes with {minimum} {p.unit}s ({counts})"})
    return judged, not_judged


@dataclass(frozen=True, eq=False)
class _Site:
    """What is lost at one level: its record, ``effects`` of the units, factor and floor of their variance."""

    record: dict[str, Any]
    effects: np.ndarray
    inflation: float
    floor: float

    @classmethod
    def of(cls, p: Prediction, outside: np.ndarray, rows: np.ndarray, name: str, looks: int) -> _Site:
        classes, y = np.unique(p.y[rows], return_inverse=True)
        used, groups = np.unique(p.groups[rows], return_inverse=True)
        weights = 1.0 / np.bincount(groups)[groups]
        n_classes, uniform = len(classes), 1.0 / p.probabilities.shape[1]
        share, error = np.full(n_classes, 1.0 / n_classes), (1.0 - level_in_force()) / looks
        inside, outside = p.hits()[rows], outside[rows]
        seen = balanced_accuracy(inside, y, groups, weights, chance=uniform)[0]
        unseen, _, *bounds = balanced_accuracy(outside, y, groups, weights, level=1.0 - error, chance=uniform)
        lost, part = recall_effects(inside.astype(float) - outside, y, groups, weights, share)
        effects = np.zeros(int(p.groups.max()) + 1)
        effects[used] = part
        inflation = 1.0 + pair_share(seen, uniform)
        floor = discordance_floor(y, groups, share)
        variance = float((part**2).sum()) * len(used) / (len(used) - 1) * inflation + floor
        df = max(len(used) - n_classes, 1)  # as for the accuracies; units that hold every class can be fewer than these
        half = float(stats.t.ppf(1.0 - error / 2.0, df)) * variance**0.5
        gap = float(lost @ share)
        record: dict[str, Any] = {
            "level": name,
            "classes": [p.details["levels"][i] for i in classes],
            "groups": len(used),
        }
        record |= {"seen": seen, "unseen": unseen, "unseen_low": bounds[0], "unseen_high": bounds[1]}
        elsewhere = len(np.unique(p.groups[p.context != p.context[rows[0]]]))
        record |= {"gap": gap, "low": gap - half, "high": gap + half, "trained_on": elsewhere}
        return cls(record, effects, inflation, floor)


def _worst(sites: list[_Site]) -> dict[str, Any]:
    """Name the level that loses most and the one that is read worst; bounds for the worst of all, whichever it is."""
    records = [site.record for site in sites]
    gap, least = max(records, key=lambda r: r["gap"]), min(records, key=lambda r: r["unseen"])
    bounds = {key: max(r[key] for r in records) for key in ("low", "high")}
    below = {key: min(r[f"unseen_{key}"] for r in records) for key in ("low", "high")}
    return {
        "worst": {"level": gap["level"], "value": gap["gap"], **bounds},
        "worst_accuracy": {"level": least["level"], "value": least["unseen"], **below},
    }


def _new_level(gaps: np.ndarray) -> dict[str, Any]:
    """Return the interval for the gap at another level, drawn as these were."""
    if len(gaps) < NEW_SITE:
        return {"reason": f"cannot tell: {len(gaps)} levels judged, and their spread needs {NEW_SITE}"}
    half = t_quantile(len(gaps) - 1) * float(gaps.std(ddof=1)) * (1.0 + 1.0 / len(gaps)) ** 0.5
    return {"value": float(gaps.mean()), "low": float(gaps.mean()) - half, "high": float(gaps.mean()) + half}
