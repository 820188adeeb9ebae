"""From numbers of halves to intervals: variance, degrees of freedom, floors, chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.estimators.scoring.measuring import AT, floor_of, judged_at
from causalfm.estimators.scoring.trial import Codes, Trial, chance_of, freedom
from causalfm.strata import groups_per_level

LEAST = 5  # halvings


@dataclass(frozen=True)
class Scale:
    """What an interval of one measure needs besides the halves.

    Attributes
    ----------
    floor
        Variance that the number has at least: an accuracy without any error has a width too.
    df
        Degrees of freedom of the patients behind it.
    chance
        What nothing would score; ``nan`` where the notion is void.
    """

    floor: float
    df: float
    chance: float


def scale_of(trial: Trial, measured: str) -> Scale:
    """Return the scale of a measure of a trial."""
    nan = float("nan")
    codes = trial.biology if measured.startswith(("biology", "worst")) else trial.site
    if measured.startswith(AT):
        codes = Codes(codes.y, codes.context, judged_at(codes.judged, int(measured.removeprefix(AT))))
    contexts, levels = codes.judged.shape
    patients = groups_per_level(codes.context * levels + codes.y, trial.groups, contexts * levels)
    floor, df = floor_of(codes.judged, patients.reshape(contexts, levels)), freedom(codes, trial.groups)
    if measured.startswith("new_site"):
        return Scale(floor, df, 0.5)
    if measured == "biology_new_site":  # a class that only the site left out holds is not asked for there
        judged = codes.judged
        return Scale(floor, df, chance_of(np.any([judged_at(judged, at) for at in range(len(judged))], axis=0)))
    if measured.startswith(("site_", "biology")):
        return Scale(floor, df, chance_of(codes.judged))
    if measured == "worst_new_site":
        return Scale(floor, df, nan)  # sites may hold different numbers of classes
    chances = {"apd": 0.0, "robustness_index": 0.5, "croma": 0.0}
    return Scale(0.0, df, chances.get(measured, nan))


def half_width(parts: np.ndarray, scale: Scale, looks: int = 1) -> float:
    """Half the width of an interval from ``(halvings, 2)`` numbers; ``nan`` if too few are complete, or nothing varies.

    Halves have no patient in common, so that ``(a - b)^2 / 4`` has the variance of the number on all patients as its
    mean. The variance of the patients at hand has its own degrees of freedom, and the finite number of halvings adds to
    its error. A halving in which one half has no value is left out, if most have one.

    Parameters
    ----------
    parts
        Numbers of both halves.
    scale
        Of the measure.
    looks
        Intervals that are to hold together (Bonferroni).
    """
    whole = parts[np.isfinite(parts).all(axis=1)]
    if len(whole) < max(LEAST, len(parts) / 2):
        return float("nan")
    variance = max(float(((whole[:, 0] - whole[:, 1]) ** 2).mean()) / 4.0, scale.floor)
    df = 1.0 / (1.0 / len(whole) + 1.0 / max(1.0, scale.df))
    error = (1.0 - level_in_force()) / looks
    return float(stats.t.ppf(1.0 - error / 2.0, df)) * variance**0.5 if variance > 0.0 else float("nan")


def least_bounds(values: np.ndarray, halves: np.ndarray) -> tuple[float, float]:
    """Bounds of the least of several numbers, from intervals that hold together: their least ends.

    The least value of a few sites is too low, by as much as it is noisy, and its spread in halves is that of a number
    of other size. The least of the true values lies above the least lower bound and below the least upper one.
    """
    return float((values - halves).min()), float((values + halves).min())


def change_bounds(changes: np.ndarray, halves: np.ndarray) -> tuple[float, float]:
    """Bounds of the change in the least of several numbers: the least never moves further than one of them did."""
    return float((changes - halves).min()), float((changes + halves).max())


def within_range(name: str, low: float, high: float) -> tuple[float, float]:
    """Cut an interval to what the number can be: accuracies and the index lie in 0 to 1, margins in -1 to 1."""
    if name in ("apd", "seconds"):
        return low, high
    least = -1.0 if name == "croma" else 0.0
    return float(np.clip(low, least, 1.0)), float(np.clip(high, least, 1.0))
