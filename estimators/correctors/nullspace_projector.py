"""INLP: directions of a linear classifier of the factor, removed again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from causalfm.arguments import check_flag, check_whole
from causalfm.estimators.correctors.adjusted import Adjusted, partial_products
from causalfm.estimators.correctors.base import Corrector
from causalfm.estimators.correctors.gaussian_maps import linear_shrinkage, solve_positive
from causalfm.level_moments import LevelMoments, Second


class NullspaceProjector(Corrector):
    """Project onto the null space of least-squares classifiers of the factor, one after the other.

    Parameters
    ----------
    n_iterations
        Most classifiers; each removes up to ``levels - 1`` directions.
    shrinkage
        Shrink the covariance behind the classifiers to a multiple of the identity.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    It stops once a classifier explains no more of the factor than chance would (mean and two standard deviations, rows
    or groups independent). Least-squares classifiers need moments only, so that this streams; the published method
    trains them on rows. With biology or covariates they are regressed out of rows and factor first. Orthogonal
    projections remove biology that lies along the directions: nothing is promised about it.

    References
    ----------
    Ravfogel et al., Null it out, ACL 2020.
    """

    def __init__(
        self,
        *,
        n_iterations: int = 10,
        shrinkage: bool = True,
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.n_iterations = n_iterations
        self.shrinkage = shrinkage
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        check_whole(self.n_iterations, "n_iterations", 1)
        check_flag(self.shrinkage, "shrinkage")

    def _second(self) -> Second:
        return "pooled"

    def _assumptions(self) -> str:
        return "directions that tell the factor, given biology and covariates, are technical as a whole"

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        found, n = partial_products(moments), float(self.n_units_)
        xz, zz, basis = found.xz, float(found.zz.sum()), np.zeros((len(found.mean), 0))
        covariance = linear_shrinkage(found.xx, n) if self.shrinkage else found.xx
        level = float(np.trace(covariance)) / len(covariance)
        for _ in range(self.n_iterations):
            left = xz - basis @ (basis.T @ xz)
            inside = _projected(covariance, basis) + level * basis @ basis.T  # invertible; removed directions stay out
            slopes = solve_positive(inside, left)
            ratio = solve_positive(inside, _projected(found.xx, basis))
            chance = float(np.trace(ratio)) / n
            spread = np.sqrt(2.0 * float((ratio * ratio.T).sum()) / (len(self.levels_) - 1)) / n
            if float((left * slopes).sum()) / zz <= chance + 2.0 * spread:
                break
            directions, size, _ = np.linalg.svd(slopes - basis @ (basis.T @ slopes), full_matrices=False)
            directions = directions[:, size > 1e-8 * size[0]][:, : len(self.levels_) - 1]
            basis = np.linalg.qr(np.concatenate([basis, directions], axis=1))[0]
            if basis.shape[1] >= len(basis):
                break
        return {"basis": basis, "centre": found.mean}

    def _map(self, block: np.ndarray, solution: Mapping[str, np.ndarray]) -> np.ndarray:
        block -= ((block - solution["centre"]) @ solution["basis"]) @ solution["basis"].T
        return block


def _projected(matrix: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """``N matrix N`` with ``N = 1 - basis basis'``."""
    half = matrix - basis @ (basis.T @ matrix)
    return np.asarray(half - (half @ basis) @ basis.T)
