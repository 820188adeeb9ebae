"""How many patients to label at the new site before the drop can be told from the margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.confidence import bounds_in_force
from causalfm.errors import DataError
from causalfm.results import Result
from causalfm.shift.costs.label_free_results import LabelFree
from causalfm.shift.costs.rates import Rate, rate
from causalfm.shift.domains import Domains
from causalfm.shift.temperatures import scored
from causalfm.wilson import wilson_interval

DRAWS = 2000
GRID = (5, 8, 12, 16, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 2000, 3000, 5000, 8000, 12000, 20000)


@dataclass(frozen=True)
class LabelBudget(Result):
    """Patients to label.

    Attributes
    ----------
    patients
        Fewest patients, of the numbers tried, for which the verdict is told from the margin with the power asked; None
        if none up to ``most`` is enough.
    expected
        Accuracy supposed at the new site.
    expected_drop, margin, power
        The drop that follows, the largest acceptable one, and the power asked.
    would_be
        ``"pass"`` or ``"fail"``: what the verdict would be.
    fewest, most_needed
        The same number at the ends of the range supposed, smaller and larger (None: not enough, or the margin lies
        within the range).
    curve
        Records of ``patients`` and ``power``.
    sentence
        The result in words.
    details
        How it was simulated.
    """

    patients: int | None
    expected: float
    expected_drop: float
    margin: float
    power: float
    would_be: str
    fewest: int | None
    most_needed: int | None
    curve: tuple[Mapping[str, float], ...]
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per number of patients tried."""
        return [dict(record) for record in self.curve]


def label_budget(
    domains: Domains,
    *,
    margin: float,
    expected: float | LabelFree | None = None,
    power: float = 0.8,
    most: int = 5000,
    random_state: int = 0,
) -> LabelBudget:
    """Find how many patients decide by simulating the verdict that their labels would give.

    Parameters
    ----------
    domains
        Reference and deployment.
    margin
        Largest acceptable drop of the accuracy.
    expected
        Accuracy supposed at the new site: a number, or label-free estimates, whose interval is the range. Default: the
        accuracy of reference sites held out, or of the reference.
    power
        Chance of a verdict other than "cannot tell".
    most
        Largest number of patients worth labelling.
    random_state
        Seed.

    Returns
    -------
    LabelBudget
        Number of patients, its range and the curve.

    Raises
    ------
    DataError
        A margin, accuracy or power that is none.

    Notes
    -----
    Patients are drawn with replacement from the reference's (sites held out where there are any), by what share of
    their rows is right: so rows of a patient err together as they do there. They are weighted, exponentially, so that
    their mean is the accuracy supposed; where nobody in the reference is wrong, or right, patients err as a whole. For
    each draw the drop's one-sided 95 % bounds against the reference are computed as
    :func:`causalfm.shift.measured_performance` does.
    """
    check_seed(random_state)
    check_whole(most, "most", GRID[0], why="fewer decide nothing")
    chance = 1.0 / len(domains.classes) if domains.refitted else None
    known = scored(domains.reference, domains.reference.scores)
    reference = rate(known.hit, known.units, known.weights, chance=chance)
    outside = scored(domains.reference, domains.site_out)
    outside = outside[np.flatnonzero(~np.isnan(outside.hit))] if np.isfinite(outside.hit).any() else known
    means = np.bincount(outside.units, outside.hit) / np.bincount(outside.units)
    value, span, said = _supposed(expected, float(means.mean()))
    if not 0.0 < margin < 1.0 or not 0.0 < power < 1.0:
        raise DataError("margin and power must lie between 0 and 1.")
    sizes = [m for m in GRID if m <= most]
    curves = {v: _curve(means, v, reference, margin, sizes, random_state) for v in {value, *span}}
    needed = {v: next((int(r["patients"]) for r in curve if r["power"] >= power), None) for v, curve in curves.items()}
    drop = reference.value - value
    ends = [needed[v] for v in span]
    across = any((reference.value - v - margin) * (drop - margin) <= 0.0 for v in span)
    fewest = min((n for n in ends if n is not None), default=None)
    largest = None if across or None in ends else max(n for n in ends if n is not None)
    would_be = "pass" if drop < margin else "fail"
    sentence = _sentence(needed[value], value, drop, margin, power, would_be, most, domains.graph.group)
    details = {
        "supposed": said,
        "range": span,
        "draws": DRAWS,
        "reference": (reference.value, *reference.interval()),
        "margin_within_range": across,
    }
    return LabelBudget(
        needed[value], value, drop, margin, power, would_be, fewest, largest, tuple(curves[value]), sentence, details
    )


def _supposed(expected: float | LabelFree | None, outside: float) -> tuple[float, tuple[float, float], str]:
    if isinstance(expected, LabelFree) and expected.trusted:
        return expected.value, (expected.low, expected.high), f"what {expected.trusted} predicts without labels"
    if expected is None or isinstance(expected, LabelFree):
        return outside, (outside, outside), "as at reference sites held out"
    if not 0.0 <= expected <= 1.0:
        raise DataError("expected must be an accuracy between 0 and 1, or label-free estimates.")
    return float(expected), (float(expected), float(expected)), "as given"


def _curve(
    means: np.ndarray, value: float, reference: Rate, margin: float, sizes: list[int], random_state: int
) -> list[dict[str, float]]:
    """Return the chance of a verdict for each number of patients."""
    rng = np.random.default_rng(random_state)
    values, shares = _tilted(means, value)
    low, high = reference.interval(bounds_in_force())
    out: list[dict[str, float]] = []
    for m in sizes:
        counts = rng.multinomial(m, shares, size=DRAWS)
        mean = counts @ values / m
        squares = np.maximum(counts @ values**2 - m * mean**2, 0.0)
        ends = _intervals(mean, squares, m)
        drop = reference.value - mean
        lower = drop - np.hypot(reference.value - low, ends[1] - mean)
        upper = drop + np.hypot(high - reference.value, mean - ends[0])
        out.append({"patients": m, "power": float(((upper < margin) | (lower > margin)).mean())})
    return out


def _tilted(means: np.ndarray, value: float) -> tuple[np.ndarray, np.ndarray]:
    """Return patients' shares of right rows and probabilities whose mean is ``value``."""
    from scipy.optimize import brentq

    values, counts = np.unique(np.round(means, 3), return_counts=True)
    if not values[0] < value < values[-1]:
        return np.array([0.0, 1.0]), np.array([1.0 - value, value])

    def shares(tilt: float) -> np.ndarray:
        logs = np.log(counts) + tilt * values
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    tilt = brentq(lambda t: float(shares(t) @ values) - value, -500.0, 500.0)
    return values, shares(float(tilt))


def _intervals(mean: np.ndarray, squares: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of :meth:`Rate.interval` for many samples of ``m`` patients at once."""
    from scipy import stats

    more = (mean**2 + (1.0 - mean) ** 2) / m**2
    scale = m / max(m - 1, 1)
    effect = (squares / m**2 * scale + more) / (mean * (1.0 - mean) / m * scale + more)
    return wilson_interval(mean, m / effect, float(stats.t.ppf(0.5 + bounds_in_force() / 2.0, max(m - 1, 1))))


def _sentence(
    n: int | None, value: float, drop: float, margin: float, power: float, would_be: str, most: int, unit: str
) -> str:
    about = f"if the accuracy at the new site is {value:.2f} (a drop of {drop:.2f} against a margin of {margin:g})"
    if n is None:
        why = "the drop is too near the margin, or the reference too small"
        return f"Labels of {most} {unit}s do not decide {about}: {why}."
    return f"Labels of {n} randomly chosen {unit}s decide with a chance of {power:.0%} {about}: {would_be}."
