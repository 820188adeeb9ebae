"""What a confounded training set costs: accuracy of probes trained as class and technical factor become one.

APD and nIPD from accuracies, and the sweep that makes the accuracies from any class x level table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed, check_type, check_whole
from causalfm.errors import DataError
from causalfm.metrics.design import design_of, stratified_variance, t_interval, t_quantile
from causalfm.metrics.schedules import confounded_schedule
from causalfm.metrics.sweeps import STRENGTHS, Sweep, probe_sweep
from causalfm.metrics.training_sets import Schedule
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def apd(accuracies: np.ndarray) -> float:
    """Average performance drop: mean relative change of accuracy against the training set without association.

    Parameters
    ----------
    accuracies
        ``(steps, repeats)`` balanced accuracies, the first row without association.

    Returns
    -------
    float
        ``mean_i mean_{s >= 1} accuracy_si / accuracy_0i - 1``: ratios within repeats, then their mean. Negative: worse.

    Raises
    ------
    DataError
        Fewer than two rows, values that are not finite, or a repeat whose first accuracy is not above 0.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026).
    """
    accuracies = _matrix(accuracies)
    if (accuracies[0] <= 0.0).any():
        where = np.flatnonzero(accuracies[0] <= 0.0)
        raise DataError(f"{len(where)} first accuracies (first: column {where[0]}) are not above 0: there is no ratio.")
    return float((accuracies[1:] / accuracies[0]).mean(axis=0).mean() - 1.0)


def nipd(accuracies: np.ndarray, cramers_v: np.ndarray, chance: float) -> float:
    """Normalised integrated performance degradation over Cramér's V.

    Parameters
    ----------
    accuracies
        ``(steps, repeats)`` balanced accuracies.
    cramers_v
        ``(steps,)`` strictly increasing from 0 to 1.
    chance
        What a guess scores, 1 / classes.

    Returns
    -------
    float
        Area under ``(mean accuracy(V) - mean accuracy(0)) / (mean accuracy(0) - chance)`` by trapezoids; means over
        repeats first. A linear fall from the first accuracy to chance gives -0.5.

    Raises
    ------
    DataError
        Shapes differ, associations that do not grow from 0 to 1, or a first accuracy that is not above chance.

    References
    ----------
    Grisi, van der Laak, Litjens, arXiv 2607.25497 (2026).
    """
    accuracies, v = _matrix(accuracies), _floats(cramers_v, "cramers_v")
    if v.shape != (len(accuracies),) or not (
        np.isclose(v[0], 0.0) and np.isclose(v[-1], 1.0) and (np.diff(v) > 0).all()
    ):
        raise DataError(
            f"cramers_v must hold {len(accuracies)} strictly increasing values from 0 to 1, one per row of accuracies; "
            f"it holds {v.size}: {v.ravel()[:8].tolist()}."
        )
    mean = accuracies.mean(axis=1)
    if not 0.0 <= float(_floats(chance, "chance")) < mean[0]:
        raise DataError(f"chance={chance}, first mean accuracy {mean[0]:.4g}: without skill nothing can be lost.")
    return float(_trapezoids(v) @ (mean - mean[0]) / (mean[0] - chance))


def performance_drop(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    schedule: Schedule | None = None,
    repeats: int = 10,
    strengths: Sequence[float] = STRENGTHS,
    random_state: int = 0,
) -> tuple[Estimate, ...]:
    """Measure how much a probe of the biology loses when its training set is confounded.

    Probes are trained on sets of one size in which the confounder tells the class more and more (Cramér's V from 0 to
    1), and tested on other patients of balanced cells, at the levels trained on and at levels never seen.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    schedule
        Training sets of :func:`causalfm.metrics.confounded_schedule` for this cohort; its default if None.
    repeats
        Random deals of the patients to training, validation and test; at least 3.
    strengths
        Inverse penalties of the logistic regression, ascending.
    random_state
        Seed of the deals.

    Returns
    -------
    tuple of Estimate
        ``"apd_id"``, ``"nipd_id"`` at the levels trained on and ``"apd_ood"``, ``"nipd_ood"`` at the others. Chance is
        0: no change of accuracy. ``nan`` and ``details["reason"]`` where there is no other level with two classes, or,
        for nIPD, where the accuracy without association is not above a guess. ``details``: the schedule,
        ``"accuracies"`` per step and training set, ``"curve"``, their means, ``"baseline"``, the first with its
        interval, and ``"variance"`` by its causes.

    Raises
    ------
    DataError
        A table that cannot carry a schedule, or a schedule of another cohort.

    Notes
    -----
    The interval is for new patients of this design (levels, sizes and schedule fixed), not for the deals alone: those
    use the same patients again and again, so that their standard error says nothing of the cohort. Its variance is that
    of what patients add as test cases, which is seen directly, and as training cases: each deal trains on two sets
    without a patient in common, so that half of the variance within deals is that of one deal's mean; less the variance
    between deals it is that of the cohort. To these come twice the covariance of both, where it is positive (from who
    trained and how well the others were read), and what the number of deals adds. Where cells are too small for two
    sets, the variance between deals times h / (1 - h) is a bound on the part of training, h being the share of a cell
    that training and validation hold (Hoeffding 1948: a mean over random subsets of h n of n units varies at most h
    times as much as one subset does). Parts that come out negative count as 0: the interval is rather too wide.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026). Grisi, van der Laak, Litjens, arXiv 2607.25497
    (2026). Hoeffding, A class of statistics with asymptotically normal distribution, Ann. Math. Statist. 19:293 (1948).
    """
    check_seed(random_state)
    check_whole(repeats, "repeats", 3, why="their spread is part of the interval")
    _check_strengths(strengths)
    if schedule is None:
        schedule = confounded_schedule(cohort, graph, confounder=confounder)
    _check_schedule(schedule, cohort, graph, confounder)
    sweeps = probe_sweep(cohort.X, schedule, repeats=repeats, strengths=strengths, random_state=random_state)
    return tuple(
        e for domain, sweep in zip(("id", "ood"), sweeps, strict=True) for e in _estimates(domain, sweep, schedule)
    )


def _check_strengths(strengths: Any) -> None:
    values = list(strengths) if isinstance(strengths, Sequence) and not isinstance(strengths, str) else []
    number = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    if not values or not number or not all(0.0 < a < b for a, b in zip(values, [*values[1:], math.inf], strict=True)):
        raise DataError(
            f"strengths={strengths!r}: give inverse penalties above 0 in ascending order, such as (0.1, 1)."
        )


def _check_schedule(schedule: Schedule, cohort: Cohort, graph: CausalGraph, confounder: str | None) -> None:
    """Refuse a schedule of other rows: with the same number of them it would train on wrong classes without a word."""
    check_type(schedule, Schedule, "schedule", "make one with causalfm.metrics.confounded_schedule(cohort, graph)")
    if confounder not in (None, schedule.confounder):
        raise DataError(f"confounder={confounder!r}, but the schedule is about {schedule.confounder!r}: name one only.")
    if len(schedule.y) != len(cohort):
        raise DataError(
            f"the schedule was made for {len(schedule.y)} rows and the cohort has {len(cohort)}: plan it again."
        )
    design = design_of(cohort, graph, schedule.confounder, within=())
    about = (graph.biology, schedule.biology, schedule.classes, schedule.y, design.biology_levels, design.biology)
    levels = schedule.levels, schedule.level, design.confounder_levels, design.confounder
    same = about[0] == about[1] and _placed_alike(*about[2:]) and _placed_alike(*levels)
    if not same or not np.array_equal(schedule.groups, design.groups):
        raise DataError(
            f"the schedule was made for other rows: {graph.biology}, {schedule.confounder} or {graph.group} differ, or "
            "are in another order. Make it again with confounded_schedule for this cohort."
        )


def _placed_alike(chosen: Sequence[str], place: np.ndarray, names: Sequence[str], codes: np.ndarray) -> bool:
    """Whether rows are planned for the level that they have: its position among those chosen, -1 for others."""
    where = np.array([chosen.index(name) if name in chosen else -1 for name in names])
    return set(chosen) <= set(names) and np.array_equal(where[codes], place)


def _estimates(domain: str, sweep: Sweep, schedule: Schedule) -> tuple[Estimate, Estimate]:
    v, chance = schedule.cramers_v, 1.0 / len(schedule.classes)
    details: dict[str, Any] = {"schedule": schedule.to_dict(), "accuracies": sweep.accuracies.tolist()}
    if sweep.cells.sum() < 2:
        reason = f"cannot tell: no two classes at levels of {schedule.confounder} that training does not use"
        apart = (None, details | {"reason": reason})
        return _estimate(f"apd_{domain}", *apart, sweep, schedule), _estimate(f"nipd_{domain}", *apart, sweep, schedule)
    mean = sweep.accuracies.mean(axis=1)
    details["curve"] = [{"cramers_v": float(x), "accuracy": float(a)} for x, a in zip(v, mean, strict=True)]
    first = np.eye(len(v))[0]
    baseline = _Spread.of(float(mean[0]), first, sweep, schedule)
    low, high = t_interval(baseline.value, baseline.variance, baseline.df)
    details["baseline"] = {"value": baseline.value, "low": low, "high": high, "chance": chance}
    slope = ((1.0 - first) - first * (mean[1:].sum() / mean[0])) / (mean[0] * (len(v) - 1))
    drop = _Spread.of(apd(sweep.accuracies), slope, sweep, schedule)
    out = _estimate(f"apd_{domain}", drop, details, sweep, schedule)
    if not low > chance:
        reason = f"cannot tell: without any association the accuracy is not above a guess ({chance:.3g})"
        return out, _estimate(f"nipd_{domain}", None, details | {"reason": reason}, sweep, schedule)
    value = nipd(sweep.accuracies, v, chance)
    slope = (_trapezoids(v) - first * (1.0 + value)) / (mean[0] - chance)
    lost = _Spread.of(value, slope, sweep, schedule)
    return out, _estimate(f"nipd_{domain}", lost, details, sweep, schedule)


@dataclass(frozen=True, eq=False)
class _Spread:
    """A number made of accuracies, with its variance by what causes it."""

    value: float
    effects: np.ndarray
    parts: dict[str, float]
    df: float

    @property
    def variance(self) -> float:
        return sum(self.parts.values())

    @classmethod
    def of(cls, value: float, slope: np.ndarray, sweep: Sweep, schedule: Schedule) -> _Spread:
        effects, used = slope @ sweep.effects, sweep.strata >= 0
        tested, df = stratified_variance(effects[used], sweep.strata[used])
        # who trains is not tested: what deals take out of the test at the levels trained on is put back
        taken = sweep.held @ ((1.0 + schedule.odds()) * effects) if sweep.inner else np.zeros(len(sweep.held))
        drawn = (slope @ sweep.accuracies + taken).reshape(-1, schedule.parts)
        deals = float(drawn.mean(axis=1).var(ddof=1))
        if schedule.parts > 1:
            trained = max(0.0, float(drawn.var(axis=1, ddof=1).mean()) / schedule.parts - deals)
        else:
            trained = deals * float((schedule.held / (1.0 - schedule.held)).max())
        both = max(0.0, 2.0 * float(np.cov(drawn.ravel(), taken)[0, 1]))
        parts = {"test cases": tested, "training cases": trained, "both": both, "deals": deals / len(drawn)}
        rest = trained + both + parts["deals"]
        below = tested**2 / df + rest**2 / (len(drawn) - 1)
        return cls(value, effects, parts, (tested + rest) ** 2 / below if below > 0.0 else len(drawn) - 1.0)


def _estimate(name: str, spread: _Spread | None, details: dict[str, Any], sweep: Sweep, schedule: Schedule) -> Estimate:
    n = int(((schedule.y >= 0) & ((schedule.level >= 0) == sweep.inner)).sum())
    about = 0.0, n, int((sweep.strata >= 0).sum()), schedule.unit
    nan = float("nan")
    if spread is None:
        return Estimate(name, nan, nan, nan, *about, details)
    if not spread.parts["test cases"] > 0.0:
        details = details | {"interval": f"none: no {schedule.unit} makes any difference, so the spread is unknown"}
        return Estimate(name, spread.value, nan, nan, *about, details)
    half = t_quantile(spread.df) * spread.variance**0.5
    influence = Influence(spread.effects, sweep.strata, inflation=spread.variance / spread.parts["test cases"])
    note = f"{schedule.unit}s as test and training cases and deals, t with {spread.df:.0f} degrees of freedom"
    details = details | {"interval": note, "variance": spread.parts}
    return Estimate(name, spread.value, spread.value - half, spread.value + half, *about, details, influence)


def _trapezoids(v: np.ndarray) -> np.ndarray:
    """Return the weights of the trapezoid rule."""
    width = np.diff(v)
    return np.asarray((np.append(width, 0.0) + np.append(0.0, width)) / 2.0)


def _matrix(accuracies: np.ndarray) -> np.ndarray:
    accuracies = _floats(accuracies, "accuracies")
    if accuracies.ndim != 2 or len(accuracies) < 2 or not accuracies.shape[1] or not np.isfinite(accuracies).all():
        raise DataError(
            f"accuracies must be finite, steps by repeats, with at least two steps; they have shape {accuracies.shape}"
            f" and {int((~np.isfinite(accuracies)).sum())} values that are not finite."
        )
    return accuracies


def _floats(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} holds what is no number: pass numbers.") from None
