"""Calibration of probabilities within each level of a factor: in the large, expected error, Brier score, slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar

from causalfm.arguments import check_seed, check_whole
from causalfm.confidence import alpha_in_force
from causalfm.errors import DataError
from causalfm.results import Estimate

SMALLEST = 1e-12  # a probability of zero has no logarithm
STEEPEST = 100.0
BINS = 10
FLIPS = 500


def calibration_by_level(
    probabilities: np.ndarray,
    y: np.ndarray,
    by: np.ndarray,
    groups: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    unit: str = "group",
    balanced: bool = True,
    minimum: int = 10,
    random_state: int = 0,
) -> tuple[Estimate, ...]:
    """Calibration of class probabilities within each level of a factor, with intervals for independent groups.

    Parameters
    ----------
    probabilities
        ``(n, classes)``, rows add up to one; of rows that were not used for training.
    y, by, groups
        ``(n,)`` codes of true class, level and independent unit, each from 0.
    names, classes, unit
        Names for the levels, the classes and the unit.
    balanced
        The probabilities are for equally frequent classes: rows are weighted so. False: for the frequencies found.
    minimum
        Fewest units of a class in a level; classes with fewer are left out of the level, named, and the probabilities
        of the others divided by their sum.
    random_state
        Seed of the sign flips.

    Returns
    -------
    tuple of Estimate
        One for every level, in order. The value is the calibration in the large, mean predicted minus observed
        frequency, of the class that is furthest off (for two classes, the second): the one whose interval lies furthest
        from 0, and among those that hold 0 the largest. Intervals are corrected for all classes of all levels
        (Bonferroni). ``nan`` with ``details["reason"]`` where fewer than two
        classes can be judged. ``details``: ``"class"``; ``"classes"``, all rows; ``"ece"``, expected calibration error
        of the predicted class over ``"bins"`` bins, as equally heavy as ties allow; ``"ece_null"``, what a calibrated
        model would have here; ``"brier"`` (0 to 2) with ``"brier_low"`` and ``"brier_high"``, and ``"brier_guess"``,
        that of the class frequencies; ``"slope"``, below one where the probabilities are too bold, ``nan`` where every
        row is right; ``"left_out"``.

    Raises
    ------
    DataError
        Shapes differ, ``probabilities`` are none, a code is out of range, or ``minimum`` is under 2.

    Notes
    -----
    A finite sample has a positive expected calibration error even if the model is calibrated. Its null is the mean
    over sign flips of the residuals of whole groups, which keep their spread and dependence but lose their mean. No
    p-value is made of them: residuals are skewed, and 7 to 28 % of calibrated models were rejected at 5 %. With 10
    groups of one class and 40 of another the interval covers 93 %, with 5 and 30 only 91 %: hence the minimum.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017. Broecker, Estimating reliability and resolution of
    probability forecasts, Climate Dynamics 39:655, 2012. Van Calster et al., Calibration: the Achilles heel of
    predictive analytics, BMC Medicine 17:230, 2019.
    """
    check_seed(random_state)
    check_whole(minimum, "minimum", 2, why="an interval needs 2 units")
    probabilities, y, by, groups = (np.asarray(part) for part in (probabilities, y, by, groups))
    _check(probabilities, y, by, groups)
    probabilities = probabilities.astype(np.float64)
    names = [str(i) for i in range(int(by.max()) + 1)] if names is None else names
    classes = [str(i) for i in range(probabilities.shape[1])] if classes is None else classes
    _check_names(probabilities, y, by, len(names), len(classes))
    parts = [_part(probabilities, y, groups, np.flatnonzero(by == i), minimum, balanced) for i in range(len(names))]
    looks = sum(len(part.offsets) for part in parts)
    rng = np.random.default_rng(random_state)
    return tuple(_estimate(part, name, classes, unit, looks, rng) for part, name in zip(parts, names, strict=True))


@dataclass(frozen=True, eq=False)
class _Part:
    """The judged rows of a level; ``judged`` are class codes, ``y`` positions in them, ``held`` units per class."""

    probabilities: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    stratum: np.ndarray
    judged: np.ndarray
    held: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Positions of the classes that are judged in the large: of two, one says it all; of one, none."""
        return np.arange(len(self.judged)) if len(self.judged) > 2 else np.arange(1, len(self.judged))


def _check(probabilities: np.ndarray, y: np.ndarray, by: np.ndarray, groups: np.ndarray) -> None:
    if probabilities.ndim != 2 or probabilities.dtype.kind not in "fiu" or not probabilities.size:
        raise DataError(
            f"probabilities must be numbers, rows by classes; they have shape {probabilities.shape} and type "
            f"{probabilities.dtype}."
        )
    n = len(probabilities)
    if not len(y) == len(by) == len(groups) == n:
        raise DataError(f"{n} rows of probabilities, but {len(y)} classes, {len(by)} levels and {len(groups)} groups.")
    for what, codes in (("class", y), ("level", by), ("group", groups)):
        if codes.ndim != 1 or codes.dtype.kind not in "iu" or codes.min() < 0:
            raise DataError(f"{what} codes must be whole numbers from 0, such as cohort.factor(name).codes.")
    off = np.flatnonzero(
        ~(np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1.0) < 1e-3)
        | (probabilities < 0.0).any(axis=1)  # also catches nan
    )
    if len(off):
        raise DataError(
            f"{len(off)} rows of probabilities are negative, missing or do not add up to one (first: row {off[0]}): "
            "pass the probabilities of all classes."
        )


def _check_names(probabilities: np.ndarray, y: np.ndarray, by: np.ndarray, n_names: int, n_classes: int) -> None:
    wide = probabilities.shape[1]
    for what, codes, size in (("class", y, wide), ("level", by, n_names)):
        if codes.max() >= size:
            raise DataError(f"{what} codes run from {codes.min()} to {codes.max()}; there are {size}.")
    if n_classes != wide:
        raise DataError(f"{n_classes} class names for {wide} columns of probabilities.")


def _part(
    probabilities: np.ndarray, y: np.ndarray, groups: np.ndarray, rows: np.ndarray, minimum: int, balanced: bool
) -> _Part:
    pairs = np.unique(np.stack([y[rows], groups[rows]]), axis=1)[0]
    held = np.bincount(pairs, minlength=probabilities.shape[1])
    judged = np.flatnonzero(held >= minimum)
    rows = rows[np.isin(y[rows], judged)]
    chances = np.maximum(probabilities[np.ix_(rows, judged)], SMALLEST)
    units = np.unique(groups[rows], return_inverse=True)[1]
    weights = 1.0 / np.bincount(units)[units] if len(rows) else np.zeros(0)
    codes = np.searchsorted(judged, y[rows])
    stratum = codes if balanced else np.zeros_like(codes)
    weights = _stratum_weights(stratum, weights)
    return _Part(chances / chances.sum(axis=1, keepdims=True), codes, units, weights, stratum, judged, held)


def _stratum_weights(stratum: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rescale weights so that strata weigh the same and all add up to one."""
    if not len(stratum):
        return weights
    codes = np.unique(stratum, return_inverse=True)[1]
    total = np.bincount(codes, weights)
    return np.asarray(weights / total[codes] / len(total))


def _estimate(
    part: _Part, name: str, classes: Sequence[str], unit: str, looks: int, rng: np.random.Generator
) -> Estimate:
    left_out = [f"{classes[i]}: {part.held[i]} {unit}" for i in range(len(classes)) if i not in part.judged]
    details: dict[str, Any] = {"level": name, "left_out": left_out}
    if len(part.judged) < 2:
        details["reason"] = (
            f"{len(part.judged)} class has enough {unit}s here, of two that are needed ({'; '.join(left_out)})"
        )
        nan = float("nan")
        return Estimate("calibration_in_the_large", nan, nan, nan, 0.0, 0, 0, unit, details)
    rows = []
    for k in part.offsets:
        value, low, high = _mean_interval(part.probabilities[:, k] - (part.y == k), part, alpha_in_force() / looks)
        rows.append({"class": classes[part.judged[k]], "value": value, "low": low, "high": high})
    worst = max(rows, key=lambda row: furthest_off(row["value"], row["low"], row["high"]))
    confidence, guess = part.probabilities.max(axis=1), part.probabilities.argmax(axis=1)
    truth = np.eye(len(part.judged))[part.y]
    observed = part.weights @ truth
    details |= {"class": worst["class"], "classes": rows, "looks": looks}
    details |= _expected_error(confidence, guess == part.y, part, rng)
    brier = _mean_interval(((part.probabilities - truth) ** 2).sum(axis=1), part, alpha_in_force())
    details |= dict(zip(("brier", "brier_low", "brier_high"), brier, strict=True))
    details["brier_guess"] = float(1.0 - (observed**2).sum())
    slope = calibration_slope(np.log(part.probabilities), part.y, part.weights)
    details["slope"] = slope if slope < 0.99 * STEEPEST else float("nan")
    n_groups = int(part.groups.max()) + 1
    value, low, high = worst["value"], worst["low"], worst["high"]
    return Estimate("calibration_in_the_large", value, low, high, 0.0, len(part.y), n_groups, unit, details)


def furthest_off(value: float, low: float, high: float) -> tuple[float, float]:
    """Order how far off numbers are: by the distance of the interval from 0, then by size.

    By size alone a class with a wide interval would hide one that is shown to be off.
    """
    return max(low, -high, 0.0), abs(value)


def _mean_interval(values: np.ndarray, part: _Part, error: float) -> tuple[float, float, float]:
    """Return the weighted mean and its interval: groups within strata are the sample, t by Satterthwaite."""
    n_strata, n_groups = int(part.stratum.max()) + 1, int(part.groups.max()) + 1
    share = np.bincount(part.stratum, part.weights, n_strata)
    mean = np.bincount(part.stratum, part.weights * values, n_strata) / share
    pairs, cell = np.unique(part.stratum * n_groups + part.groups, return_inverse=True)
    stratum = pairs // n_groups
    sums = np.bincount(cell, part.weights * (values - mean[part.stratum]))
    held = np.bincount(stratum, minlength=n_strata)
    sums *= np.sqrt(held / (held - 1.0))[stratum]
    variance = float((np.bincount(pairs % n_groups, sums) ** 2).sum())
    own = np.bincount(stratum, sums**2, n_strata)
    freedom = float(own.sum() ** 2 / max(float((own**2 / (held - 1.0)).sum()), 1e-300)) if own.any() else 1.0
    value = float(mean @ share)
    reach = float(stats.t.ppf(1.0 - error / 2.0, max(freedom, 1.0)) * np.sqrt(variance))
    return value, value - reach, value + reach


def _expected_error(
    confidence: np.ndarray, hit: np.ndarray, part: _Part, rng: np.random.Generator
) -> dict[str, float | int]:
    """Compute the expected calibration error over equally heavy bins, with its null from sign flips of groups."""
    n_groups = int(part.groups.max()) + 1
    index = confidence_bins(confidence, part.weights, n_groups)
    bins = int(index.max()) + 1
    sums = np.zeros((n_groups, bins))
    np.add.at(sums, (part.groups, index), part.weights * (hit - confidence))
    ece = float(np.abs(sums.sum(axis=0)).sum())
    flipped = np.abs(rng.choice([-1.0, 1.0], (FLIPS, n_groups)) @ sums).sum(axis=1)
    return {"ece": ece, "ece_null": float(flipped.mean()), "bins": bins}


def confidence_bins(confidence: np.ndarray, weights: np.ndarray, n_groups: int) -> np.ndarray:
    """Sort rows into bins of confidence, as equally heavy as ties allow.

    Parameters
    ----------
    confidence, weights
        ``(n,)``; weights add up to one.
    n_groups
        Independent units: one bin for every ten, at least 2 and at most 10.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` codes from 0 without gaps.
    """
    bins = int(np.clip(n_groups // 10, 2, BINS))
    tied = np.unique(confidence, return_inverse=True)[1]  # equal ones share a bin: row order must not matter
    mass = np.bincount(tied, weights)
    middle = np.cumsum(mass) - mass / 2.0
    return np.asarray(np.unique((middle * bins).astype(np.int64)[tied], return_inverse=True)[1])


def calibration_slope(logs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Return the factor on the log probabilities, up to 100, with the least weighted log loss (convex: one search)."""

    def loss(factor: float) -> float:
        scaled = factor * logs
        top = scaled.max(axis=1)
        return float(weights @ (np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top - scaled[np.arange(len(y)), y]))

    return float(minimize_scalar(loss, bounds=(0.0, STEEPEST), method="bounded", options={"xatol": 1e-4}).x)
