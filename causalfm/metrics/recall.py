"""Balanced accuracy with a group-robust interval, over a cohort and within the strata of a case mix."""

from __future__ import annotations

import numpy as np
from scipy import stats

from causalfm.confidence import alpha_in_force, level_in_force
from causalfm.wilson import wilson_interval

CASE_MIX_PERMUTATIONS = 200
MIN_UNITS = 3


def balanced_accuracy(
    hit: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
    share: np.ndarray | None = None,
    level: float | None = None,
    chance: float | None = None,
) -> tuple[float, np.ndarray, float, float]:
    """Balanced accuracy with a group-robust Wilson interval.

    Parameters
    ----------
    hit
        ``(n,)`` correct or not.
    y, groups
        ``(n,)`` codes of true level and independent unit.
    weights
        ``(n,)`` row weights.
    share
        Weight of each level, summing to one; equal by default.
    level
        Confidence; None for the level in force.
    chance
        What a guess scores; default 1 / levels.

    Returns
    -------
    value : float
        Mean recall.
    recalls : numpy.ndarray
        Recall of each level.
    low, high : float
        Interval. With no error at all the effective size is that of the design, so that the interval has a width.

    Notes
    -----
    The predictions are not independent: patients train each other's probes. A pair of patients that look alike and
    share the level helps both, so that the part of the variance that belongs to pairs counts twice. That part is all of
    it at most, at chance, and falls towards certainty; see :func:`pair_share`. Without this the interval covered
    81-90 % at chance with one row per patient.
    """
    n_levels, n_groups = int(y.max()) + 1, int(groups.max()) + 1
    share = np.full(n_levels, 1.0 / n_levels) if share is None else share
    recalls, effects = recall_effects(hit, y, groups, weights, share)
    value = float(recalls @ share)
    variance = float((effects**2).sum() * n_groups / (n_groups - 1))
    cells = np.unique(np.stack([y, groups]), axis=1)[0]
    size = min(1.0 / float((share**2 / np.bincount(cells, minlength=n_levels)).sum()), n_groups)
    if variance > 0.0:
        variance *= 1.0 + pair_share(value, 1.0 / n_levels if chance is None else chance)
        size = min(value * (1.0 - value) / variance, n_groups) if 0.0 < value < 1.0 else size
    quantile = float(stats.t.ppf(0.5 + level_in_force(level) / 2.0, max(n_groups - n_levels, 1)))
    low, high = wilson_interval(value, size, quantile)
    return value, recalls, float(low), float(high)


def recall_effects(
    hit: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the recall of each level and what each group adds to their weighted mean.

    Parameters
    ----------
    hit
        ``(n,)`` correct or not; or any number whose means by level are wanted, such as a difference of two hits.
    y, groups, weights, share
        As in :func:`balanced_accuracy`.

    Returns
    -------
    recalls : numpy.ndarray
        ``(levels,)``.
    effects : numpy.ndarray
        ``(groups,)`` deviations from the recall; they add up to 0.
    """
    total = np.bincount(y, weights, len(share))
    recalls = np.bincount(y, weights * hit, len(share)) / total
    return recalls, np.bincount(groups, weights * (hit - recalls[y]) * (share / total)[y], int(groups.max()) + 1)


def discordance_floor(y: np.ndarray, groups: np.ndarray, share: np.ndarray) -> float:
    """Variance that a difference of two accuracies on the same groups has at least: without any error it has a width.

    That of one more discordant group in each direction (Agresti and Min, Biometrics 61:1059, 2005); parameters as in
    :func:`recall_effects`.
    """
    cells = np.bincount(np.unique(np.stack([y, groups]), axis=1)[0])
    return 1.0 / (1.0 / float((share**2 / cells).sum()) + 2.0) ** 2


def pair_share(value: float, chance: float) -> float:
    """Largest share of a cross-validated hit rate's variance that can belong to pairs of units.

    On a probit scale a hit is ``margin + z > 0``, and pairs enter through the part of the hit that is linear in ``z``.
    Its share of the variance is ``phi(q)^2 / (u (1 - u))`` with ``q`` the normal quantile of the hit rate ``u``; this
    is scaled to one at chance.

    Parameters
    ----------
    value, chance
        Balanced accuracy and what a guess scores; ``u`` is the value on the scale where chance is 1/2.

    Returns
    -------
    float
        Between 0 (certainty) and 1 (chance, or below).
    """
    u = 0.5 + 0.5 * max(value - chance, 0.0) / (1.0 - chance)
    return float(0.5 * np.pi * stats.norm.pdf(stats.norm.ppf(u)) ** 2 / (u * (1.0 - u))) if u < 1.0 else 0.0


def within_contexts(
    hit: np.ndarray, y: np.ndarray, context: np.ndarray, groups: np.ndarray, weights: np.ndarray, looks: int = 1
) -> dict[str, float]:
    """Balanced accuracy within contexts: what a probe reads beyond anything that the context tells.

    Parameters
    ----------
    hit
        ``(n,)`` correct or not.
    y, context, groups
        ``(n,)`` codes of true level, context (the case mix) and independent unit.
    weights
        ``(n,)`` row weights.
    looks
        Number of probes of which the best will be judged.

    Returns
    -------
    dict
        ``value``, ``low``, ``high``; ``low_of_best``, the lower bound with its error divided by ``looks``;
        ``chance``, which any guess from the context alone scores exactly: the mean over contexts of 1 / levels;
        ``share`` of the units in contexts that hold two levels with three units each. Values are ``nan`` if there is
        no such context.

    Notes
    -----
    Over several probes the largest ``low_of_best`` and the largest ``high`` are a 95 % interval for the best probe's
    true value: any of the lower bounds could be the largest (Bonferroni), while the largest upper bound is at least
    that of the truly best probe, which needs no correction.
    """
    rows, codes, share, chance = usable_cells(y, context, groups)
    if not rows.any():
        return {**dict.fromkeys(("value", "low", "high", "low_of_best", "chance"), float("nan")), "share": 0.0}
    units = np.unique(groups[rows], return_inverse=True)[1]
    sample = hit[rows], codes, units, weights[rows], share
    value, _, low, high = balanced_accuracy(*sample, chance=chance)
    low_of_best = balanced_accuracy(*sample, level=1.0 - alpha_in_force() / looks, chance=chance)[2]
    covered = len(np.unique(groups[rows])) / len(np.unique(groups))
    bounds = {"low": low, "high": high, "low_of_best": low_of_best}
    return {"value": value, **bounds, "chance": chance, "share": covered}


def usable_cells(
    y: np.ndarray, context: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Find the cells in which levels can be told within a context: it holds two levels with three units each.

    Returns
    -------
    rows : numpy.ndarray
        ``(n,)`` which rows lie in such cells.
    codes : numpy.ndarray
        Cell of each of these rows.
    share : numpy.ndarray
        Weight of each cell: contexts are equal, and so are the levels in them.
    chance : float
        What a guess from the context alone scores.
    """
    n_levels, n_context = int(y.max()) + 1, int(context.max()) + 1
    cell = context * n_levels + y
    pairs = np.unique(np.stack([cell, groups]), axis=1)[0]
    usable = np.bincount(pairs, minlength=n_context * n_levels).reshape(n_context, n_levels) >= MIN_UNITS
    usable &= usable.sum(axis=1, keepdims=True) >= 2
    rows = usable.reshape(-1)[cell]
    kept, codes = np.unique(cell[rows], return_inverse=True)
    levels = usable.sum(axis=1)[kept // n_levels]
    share = 1.0 / (levels * usable.any(axis=1).sum())
    return rows, codes, share, float(share @ (1.0 / levels))


def cell_balance(y: np.ndarray, context: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weigh rows so that levels are independent of contexts; a cell counts as at least three units, or rows."""
    cell = np.unique(np.stack([context, y]), axis=1, return_inverse=True)[1].reshape(-1)
    held = np.bincount(cell, weights)
    return np.asarray(weights / np.maximum(held, MIN_UNITS)[cell])


def case_mix(
    y: np.ndarray, context: np.ndarray, groups: np.ndarray, weights: np.ndarray, random_state: int
) -> tuple[float, float]:
    """Balanced accuracy of the best guess of ``y`` from ``context``, and the same less what a finite cohort adds.

    The best guess in a context is the level with the largest share there. Its accuracy on the cohort itself is too high
    by what patients assigned at random would give (200 permutations); taking all of that off is too much where the two
    are truly associated, so that the truth lies between the two values. Leaving patients out in turn is no way round:
    it turns every tie against the row's own level.
    """
    n_groups = int(groups.max()) + 1
    shares = [np.zeros((n_groups, int(codes.max()) + 1)) for codes in (context, y)]
    for share, codes in zip(shares, (context, y), strict=True):
        np.add.at(share, (groups, codes), weights)
    joint = np.zeros((shares[0].shape[1], shares[1].shape[1]))
    np.add.at(joint, (context, y), weights)
    totals = joint.sum(axis=0)

    def best(table: np.ndarray) -> float:
        return float((table / totals).max(axis=1).sum() / len(totals))

    rng = np.random.default_rng(random_state)
    random = np.mean([best(shares[0][rng.permutation(n_groups)].T @ shares[1]) for _ in range(CASE_MIX_PERMUTATIONS)])
    uniform = 1.0 / len(totals)
    return best(joint), max(uniform, best(joint) - float(random) + uniform)
