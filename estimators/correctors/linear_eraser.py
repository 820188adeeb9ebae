"""LEACE: the least change after which no linear read-out finds the factor; oracle and quadratic forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_choice, check_flag
from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, partial_products, residual_squares
from causalfm.estimators.correctors.blocks import Change
from causalfm.estimators.correctors.gaussian_maps import barycentre, linear_shrinkage, solve_positive, transport_map
from causalfm.estimators.correctors.mean_aligner import common_parts
from causalfm.estimators.correctors.site_wise import SiteWise
from causalfm.level_moments import LevelMoments, Second

SECOND: dict[str, Second] = {"leace": "pooled", "oracle": "diagonal", "quadratic": "full"}
RANK = 1e-10  # squared canonical correlation, relative to the largest, that is rounding


class LinearEraser(SiteWise):
    """Erase what a linear read-out can know of the factor, moving the rows as little as possible.

    Parameters
    ----------
    form
        ``"leace"``: an affine projection that needs no labels when applied. ``"oracle"``: takes the factor's regression
        off, less change, needs ``factor=``. ``"quadratic"``: moves each level's mean and covariance to their
        barycentre, needs ``factor=``; no quadratic read-out finds the factor then.
    shrinkage
        Shrink covariances to a multiple of the identity. Erasure of means is exact with and without.
    unseen
        Rows at new levels, for the forms that need ``factor=``: see :class:`MeanAligner`.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    With biology or covariates what is erased is the factor given them: ``Cov(P x, z - E[z | biology]) = 0``, so that
    case mix stays. A projection removes whole directions, and whatever biology lies along them: LEACE makes no promise
    about biology, the oracle form keeps the distances of its class means. Not for rows that are scored on
    nonlinear read-outs: the oracle form can add nonlinear information about the factor.

    References
    ----------
    Belrose et al., LEACE: perfect linear concept erasure in closed form, NeurIPS 2023.
    """

    reference = None

    def __init__(
        self,
        *,
        form: Literal["leace", "oracle", "quadratic"] = "leace",
        shrinkage: bool = True,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.form = form
        self.shrinkage = shrinkage
        self.unseen = unseen
        self.on_violation = on_violation

    def transform(self, X: Any, factor: Any = None) -> Any:
        """Erase the factor.

        Parameters
        ----------
        X
            ``(n, d)``.
        factor
            ``(n,)`` levels, for the forms ``"oracle"`` and ``"quadratic"``; ``"leace"`` makes no use of them.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``, float64 for float64 input, else float32; a new array.
        """
        return super().transform(X, factor)

    def _needs_factor(self) -> bool:
        return self.form != "leace"

    def _change(self, X: np.ndarray, factor: Any, regressors: np.ndarray | None = None) -> Change:
        if self._needs_factor():
            return super()._change(X, factor, regressors)
        solution = self._solved()
        return lambda _, block: self._map(block, solution)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_flag(self.shrinkage, "shrinkage")
        check_choice(self.form, "form", tuple(SECOND))

    def _second(self) -> Second:
        return SECOND[self.form]

    def _assumptions(self) -> str:
        if self.form == "leace":
            return "directions that tell the factor, given biology and covariates, are technical as a whole"
        return "effects of the factor, biology and covariates on the mean add up"

    def _done(self, name: str) -> str:
        return "erased without its level" if self.form == "leace" else super()._done(name)

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        if self.form == "leace":
            return self._projection(moments)
        out = common_parts(moments, fit, None)
        if self.form == "quadratic":
            square, n = residual_squares(moments, fit), fit.count
            if n.min() < 2:
                raise DataError("form='quadratic' needs two rows (groups) at each level: merge levels.")
            covariances = np.stack([self._covariance(S, m) for S, m in zip(square, n, strict=True)])
            out["target"] = barycentre(covariances, n)
            out["map"] = np.stack([transport_map(C, out["target"]) for C in covariances])
        return out

    def _covariance(self, square: np.ndarray, n: float) -> np.ndarray:
        return linear_shrinkage(square / n, n) if self.shrinkage else square / (n - 1.0)

    def _projection(self, moments: LevelMoments) -> dict[str, np.ndarray]:
        """``x - left right' (x - mean)``: no matrix of ``d x d`` is kept, and none is inverted."""
        found = partial_products(moments)
        xz = found.xz / np.sqrt(np.maximum(found.zz, 1e-300))
        covariance = linear_shrinkage(found.total, self.n_units_) if self.shrinkage else found.total
        right = solve_positive(covariance, xz)
        values, vectors = np.linalg.eigh(xz.T @ right)
        kept = values > RANK * max(float(values[-1]), 1e-300)
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        return {"left": xz @ inverse, "right": right, "centre": found.mean}

    def _map(self, block: np.ndarray, solution: Mapping[str, np.ndarray]) -> np.ndarray:
        block -= ((block - solution["centre"]) @ solution["right"]) @ solution["left"].T
        return block

    def _stretch(self, rows: np.ndarray, code: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        return rows if self.form == "oracle" else rows @ parts["map"][code].T

    def _population(self, solution: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        out = super()._population(solution)
        if self.form == "quadratic":
            out["map"] = solution["map"].mean(axis=0)
        return out

    def _learn(
        self, moments: LevelMoments, solution: Mapping[str, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        n = float(moments.count[0])
        mean = moments.cross[0, 0] / n
        out = {"shift": mean}
        if self.form == "quadratic":
            if n < 2:
                raise DataError("unseen='adapt' needs at least two rows (groups) of a new level, passed together.")
            own = self._covariance(moments.square[0] - n * np.outer(mean, mean), n)
            out["map"] = transport_map(own, solution["target"] + inside - solution["within"])
        return out
