"""The directions along which levels of the factor differ most, orthogonal to biology, projected out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from causalfm.arguments import check_whole
from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted
from causalfm.estimators.correctors.base import Corrector
from causalfm.level_moments import LevelMoments, Second
from causalfm.singular_values import orthonormal


class NuisanceSubspace(Corrector):
    """Project out the top directions between levels of the factor; those between classes of biology stay.

    Parameters
    ----------
    n_directions
        How many, or the share of the variance between levels, in (0, 1), that they hold; None: all.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    Effects of the factor are taken given biology and covariates. Their part along the span of the differences between
    classes of biology is left in, so that these differences are the same after as before. No labels are needed when it
    is applied. Without biology it removes what lies along the effects, whatever that is.

    References
    ----------
    Nygaard, Rodland and Hovig, Biostatistics 17 (2016) 29-39, on keeping the groups of interest.
    """

    def __init__(
        self, *, n_directions: int | float | None = None, on_violation: Literal["refuse", "trim"] = "refuse"
    ) -> None:
        self.n_directions = n_directions
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.n_directions is None:
            return
        if isinstance(self.n_directions, float) and 0.0 < self.n_directions < 1.0:
            return
        check_whole(self.n_directions, "n_directions", 1, why="or a share in (0, 1)")

    def _second(self) -> Second:
        return "diagonal"

    def _assumptions(self) -> str:
        return "directions between levels given the rest, and orthogonal to biology, are technical as a whole"

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        at = [i - 1 for i, name in enumerate(self.regressors_.names) if name.startswith("biology=")]
        effects = fit.effects(None)
        size = float(np.abs(effects).max())
        if len(at) > 1:
            kept = orthonormal((fit.beta[at] - fit.beta[at].mean(axis=0)).T)
            effects = effects - (effects @ kept) @ kept.T
        _, values, directions = np.linalg.svd(
            effects * np.sqrt(fit.count / fit.count.sum())[:, None], full_matrices=False
        )
        keep = values > 1e-9 * max(size, 1e-300)
        held = np.cumsum(values**2) / max(float((values**2).sum()), 1e-300)
        tell = min(len(effects) - 1, len(values))
        most = tell if self.n_directions is None else int(self.n_directions)
        if isinstance(self.n_directions, float) and self.n_directions < 1.0:
            most = int(np.searchsorted(held, self.n_directions)) + 1
        if most > tell:
            raise DataError(f"n_directions={most}: {tell} directions tell {len(effects)} levels apart.")
        return {"basis": directions[:most][keep[:most]].T, "centre": fit.centre}

    def _map(self, block: np.ndarray, solution: Mapping[str, np.ndarray]) -> np.ndarray:
        block -= ((block - solution["centre"]) @ solution["basis"]) @ solution["basis"].T
        return block
