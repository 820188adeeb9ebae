"""The population that the levels of a factor come from: what a hospital that was never seen may do to ``Z``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.errors import DataError
from causalfm.scm.fitted import Fitted
from causalfm.scm.parents import Parents

LEAST = 3  # levels seen: two tell nothing of how far a third may lie


@dataclass(frozen=True, eq=False)
class LevelPrior:
    """Random-effects prior of the effect of a new level, around the mean of the levels seen.

    Attributes
    ----------
    variance
        ``(d,)`` of the effect of a new level about the mean of the levels seen.
    ratio
        The same over the variance of a patient's mean, one number for all dimensions.
    df
        Degrees of freedom of ``variance``.
    """

    variance: np.ndarray
    ratio: float
    df: float


def block_of(parents: Parents, factor: int) -> slice:
    """Columns of the regressors that are the levels of a factor."""
    start = 1 + parents.n_splines + sum(parents.sizes[:factor])
    return slice(start, start + parents.sizes[factor])


def patient_variance(fitted: Fitted) -> np.ndarray:
    """Residual variance ``(d,)`` of a patient's mean: of its rows in one cell, and in several."""
    error, C = fitted.error, len(fitted.error.cells)
    return np.asarray(error.moment[(error.left < C) & (error.right < C)].sum(axis=0) / fitted.n_groups)


def level_prior(fitted: Fitted, factor: int, *, shrunken: bool = False) -> LevelPrior:
    """Estimate how far the levels of a factor lie apart, by the method of moments.

    Parameters
    ----------
    fitted
        The model.
    factor
        Position among the categorical parents of ``Z``.
    shrunken
        Whether the levels' effects are posterior means, and their errors posterior variances.

    Returns
    -------
    LevelPrior
        The excess of the levels' spread over their sampling error; the spread of posterior means falls short by their
        posterior variance, and it is added. Each dimension's is shrunk to what is common to all
        (in units of a patient's variance) as far as their differences are what chance gives.

    Raises
    ------
    DataError
        Fewer than three levels, or levels that cannot be compared on the design.
    """
    parents = fitted.mean.parents
    name, L = parents.categorical[factor], parents.sizes[factor]
    if L < LEAST:
        raise DataError(
            f"{L} levels of {name!r} were seen: how far a new one may lie takes at least {LEAST}. Fit on a cohort with "
            "more levels, or leave the rows at new levels out."
        )
    contrasts = np.zeros((L, parents.width))
    contrasts[:, block_of(parents, factor)] = np.eye(L) - 1.0 / L
    if fitted.mean.undetermined(contrasts).any():
        raise DataError(
            f"the levels of {name!r} cannot be compared on the cohort of the fit, so that nothing tells what a new one "
            "does: merge factors that go together, or leave the rows at new levels out."
        )
    effects = contrasts @ fitted.mean.coefficients
    seen = (effects**2).sum(axis=0) / (L - 1)
    noise = fitted.error.variance(contrasts).sum(axis=0) / (L - 1)
    if shrunken:
        seen, noise = seen + noise, np.zeros_like(noise)
    raw, unit = seen - noise, patient_variance(fitted)
    unit = np.where(unit > 0, unit, 1e-300)
    ratio = max(0.0, float(raw.sum() / unit.sum()))
    spread = float(np.mean((raw / unit - ratio) ** 2))
    chance = float(np.mean(2.0 * (seen / unit) ** 2 / (L + 1)))  # E[seen**2] is (L + 1) / (L - 1) times its square
    own = max(0.0, 1.0 - chance / spread) if spread > 0 else 0.0
    common = (1.0 - own) * ratio * unit
    variance = np.maximum(common + own * raw, common)
    grow = 1.0 + 1.0 / L  # about the mean of L levels, which is one of a population itself
    gram = effects @ effects.T
    square = float((gram**2).sum())
    directions = max(1.0, float(np.trace(gram)) ** 2 / square) if square > 0 else 1.0
    df = (L - 1) / (own**2 + (1.0 - own) ** 2 / directions)
    return LevelPrior(grow * variance, grow * ratio, df)
