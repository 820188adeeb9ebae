"""Scores as found and where class and factor are independent, with their difference: the shortcut premium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.estimators.deconfounding.independent_population import Mixed, influence, small_sample
from causalfm.estimators.deconfounding.score_intervals import level_interval, premium_interval, squares
from causalfm.estimators.deconfounding.weighted_scores import SCORES, TOPS, Scored, gaps
from causalfm.results import Estimate

ROUNDING = 1e-12
CALIBRATION = "squared_calibration_gap"


@dataclass(frozen=True)
class Premium:
    """One score in two populations.

    Attributes
    ----------
    score
        Its name.
    found, independent
        As found, and where biology and the factor are independent.
    premium
        ``found - independent``, with the interval of the difference.
    """

    score: str
    found: Estimate
    independent: Estimate
    premium: Estimate

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per population, and one for the premium."""
        parts = {"as found": self.found, "independent": self.independent, "premium": self.premium}
        return [{**part.rows()[0], "name": self.score, "population": name} for name, part in parts.items()]


def premiums(scored: Scored, rows: Mixed, unit: str) -> tuple[Premium, ...]:
    """All scores in both populations.

    Parameters
    ----------
    scored
        Probabilities and classes of the rows.
    rows
        Their levels, classes and patients.
    unit
        Name of the independent unit.

    Returns
    -------
    tuple of Premium
        One per score, the squared calibration gap last.
    """
    effective, same = (int(rows.groups.max()) + 1, rows.effective()), rows.independent is rows.found
    out = []
    for name, score in SCORES.items():
        (found, slopes), (moved, others) = score(scored, rows.found), score(scored, rows.independent)
        parts = np.hstack([influence(rows, rows.found, slopes), influence(rows, rows.independent, others)])
        parts = np.hstack([parts, parts[:, :1] - parts[:, 1:]])
        covariance, df = small_sample(parts, rows.strata())
        errors = np.sqrt(np.diag(covariance))
        values = float(found[0]), float(moved[0])
        out.append(premium_of(name, values, errors, df, effective, len(scored.y), unit, TOPS[name], same))
    return (*out, _calibration(scored, rows, unit))


def premium_of(
    name: str,
    values: tuple[float, float],
    errors: np.ndarray,
    df: np.ndarray,
    effective: tuple[float, float],
    n: int,
    unit: str,
    top: float,
    same: bool = False,
) -> Premium:
    """Put intervals to a score as found, independent, and to their difference: ``errors`` and ``df`` have three.

    ``same``: the populations are the same (a balanced design), and the difference is exactly nothing.
    """
    values = _snapped(values[0], top), _snapped(values[1], top)
    ends = [level_interval(v, float(errors[i]), float(df[i]), effective[i], top) for i, v in enumerate(values)]
    gap = (0.0, 0.0) if same else premium_interval(values, (ends[0], ends[1]), float(errors[2]), float(df[2]), top)
    G, nan = round(effective[0]), float("nan")
    return Premium(
        name,
        Estimate(name, values[0], *ends[0], nan, n, G, unit, {"effective": effective[0]}),
        Estimate(name, values[1], *ends[1], nan, n, G, unit, {"effective": effective[1]}),
        Estimate(f"{name}_premium", values[0] - values[1], *gap, 0.0, n, G, unit),
    )


def _snapped(value: float, top: float) -> float:
    """Take rounding off scores of 0 and of the top: a perfect score has no error of its own."""
    return top if value > top - ROUNDING else 0.0 if value < ROUNDING else value


def _calibration(scored: Scored, rows: Mixed, unit: str) -> Premium:
    """Squared gaps between confidence and accuracy over bins, freed of their noise."""
    values, parts, plain = [], [], []
    for weights in (rows.found, rows.independent):
        gap, slopes = gaps(scored, weights)
        values.append(gap)
        parts.append(influence(rows, weights, slopes))
        plain.append(float(np.abs(gap) @ np.sqrt(np.bincount(scored.bins, weights, len(gap)))))
    covariance, df = small_sample(np.hstack(parts), rows.strata())
    both, k = np.concatenate(values), len(values[0])
    ones, none, slack = np.ones(k), np.zeros(k), float(df.min())
    G, n, name = int(rows.groups.max()) + 1, len(scored.y), CALIBRATION
    estimates = [
        Estimate(
            name,
            *squares(both, covariance, np.concatenate(sign), slack),
            0.0,
            n,
            G,
            unit,
            {"expected_calibration_error": plain[i], "bins": k} if i < 2 else {},
        )
        for i, sign in enumerate(((ones, none), (none, ones), (ones, -ones)))
    ]
    if rows.independent is rows.found:
        estimates[2] = Estimate(name, 0.0, 0.0, 0.0, 0.0, n, G, unit)
    return Premium(name, *estimates)
