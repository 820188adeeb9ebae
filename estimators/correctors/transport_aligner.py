"""Mean and covariance of each level moved to the pooled ones: Gaussian optimal transport, or CORAL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_flag, check_whole
from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, residual_squares
from causalfm.estimators.correctors.gaussian_maps import coral_map, transport_map
from causalfm.estimators.correctors.mean_aligner import common_parts
from causalfm.estimators.correctors.site_wise import SiteWise
from causalfm.level_moments import LevelMoments, Second
from causalfm.scm.scales import reliability

MAPS = {"transport": transport_map, "coral": coral_map}
MOST, MOST_OWN = 64, 0.999  # directions; share of a level's own covariance: the rest keeps the maps invertible


class TransportAligner(SiteWise):
    """Move each level's mean, and its covariance in a principal subspace, to those of all levels or of a reference.

    Parameters
    ----------
    map
        ``"transport"``: the affine map of least movement between Gaussians; ``"coral"``: whiten and colour.
    n_components
        Principal directions of the residual in which covariances are moved; None: a quarter of the rows (groups), at
        most 64. Outside of them one stretch per level.
    shrinkage
        Shrink covariances of levels to the pooled one, by the share of their differences that is signal.
    reference, unseen, on_violation
        See :class:`MeanAligner`.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    Covariances are those of residuals, biology and covariates taken off. :meth:`transform` reshapes rows about the mean
    of all rows; a level that is stretched then has the distances between its classes stretched with it. The fit holds
    one ``d x d`` matrix per level.

    References
    ----------
    Peyre and Cuturi, Computational Optimal Transport (2019), remark 2.31; Sun, Feng and Saenko, AAAI 2016.
    """

    def __init__(
        self,
        *,
        map: Literal["transport", "coral"] = "transport",
        n_components: int | None = None,
        shrinkage: bool = True,
        reference: Any = None,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.map = map
        self.n_components = n_components
        self.shrinkage = shrinkage
        self.reference = reference
        self.unseen = unseen
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        check_flag(self.shrinkage, "shrinkage")
        if self.n_components is not None:
            check_whole(self.n_components, "n_components", 1)
        if self.map not in MAPS:
            raise DataError(f"map={self.map!r}: choose 'transport' or 'coral'.")

    def _second(self) -> Second:
        return "full"

    def _assumptions(self) -> str:
        return "effects of the factor, biology and covariates on the mean add up; spread by level is technical"

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        reference = self._reference()
        out, square = common_parts(moments, fit, reference), residual_squares(moments, fit)
        df = np.maximum(fit.count - 1.0, 0.5)
        pooled = square.sum(axis=0) / df.sum()
        values, vectors = np.linalg.eigh(pooled)
        most = self.n_components or max(1, min(MOST, self.n_units_ // 4))
        k = min(most, int((values > 1e-12 * max(float(values[-1]), 1e-300)).sum()))
        if k == 0:
            raise DataError("rows of a level do not differ: there is no covariance to move. MeanAligner moves means.")
        if not self.shrinkage and fit.count.min() <= k:
            raise DataError(
                f"{k} directions need more than {k} rows (groups) at each level, and one has {fit.count.min():g}: "
                "choose n_components, or shrinkage=True."
            )
        basis = vectors[:, ::-1][:, :k]
        inside = basis.T @ square @ basis / df[:, None, None]
        rest = np.maximum(np.trace(square, axis1=1, axis2=2) / df - np.trace(inside, axis1=1, axis2=2), 0.0)
        centre = basis.T @ pooled @ basis
        noise = 1.0 / df - 1.0 / df.sum()
        size_of, shape = _split(inside, centre)
        own, signal_size = self._share((size_of - 1.0) ** 2, 2.0 / k * noise, fit.count)
        share, signal = self._share((shape**2).sum(axis=(1, 2)), (k * k + k - 2.0 / k) * noise, fit.count)
        covariances = _joined(1.0 + own * (size_of - 1.0), share[:, None, None] * shape, centre)
        logs, signal_rest, size = self._outside(pooled, basis, rest, noise, fit.count)
        target = centre if reference is None else covariances[reference]
        goal = 0.0 if reference is None else logs[reference]
        out |= {"basis": basis, "target": target, "goal": np.array(goal), "size": np.array(size)}
        out |= {"signal": np.array([signal_size, signal, signal_rest])}
        out |= {"outside": np.exp(0.5 * (goal - logs))}
        out["inside"] = np.stack([MAPS[self.map](C, target) for C in covariances])
        return out

    def _share(self, square: np.ndarray, noise: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, float]:
        """Share of each level's own covariance, and the signal behind it per unit of noise of one row."""
        if not self.shrinkage:
            return np.ones(len(square)), float("inf")
        share = np.minimum(reliability(square, noise, count), MOST_OWN)
        return share, float(share[0] / (1.0 - share[0]) * noise[0])

    def _outside(
        self, pooled: np.ndarray, basis: np.ndarray, rest: np.ndarray, noise: np.ndarray, count: np.ndarray
    ) -> tuple[np.ndarray, float, float]:
        """Log variances outside the subspace, less the pooled one; signal; effective number of directions."""
        left = pooled - basis @ (basis.T @ pooled)
        total = float(np.trace(left))
        if total <= 1e-9 * float(np.trace(pooled)):
            return np.zeros(len(rest)), 0.0, 1.0
        size = total**2 / max(float((left * left.T).sum()), 1e-300)
        logs = np.log(np.maximum(rest, 1e-12 * total) / total)
        share, signal = self._share(logs**2, 2.0 * noise / size, count)
        return share * logs, signal, size

    def _stretch(self, rows: np.ndarray, code: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        basis, outside = parts["basis"], parts["outside"][code]
        scores = rows @ basis
        return np.asarray(
            rows * outside + (scores @ (parts["inside"][code] - outside * np.eye(basis.shape[1])).T) @ basis.T
        )

    def _population(self, solution: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        mean = np.exp(np.log(solution["outside"]).mean())
        return {
            "shift": solution["shift"].mean(axis=0),
            "inside": solution["inside"].mean(axis=0),
            "outside": np.asarray(mean),
        }

    def _learn(
        self, moments: LevelMoments, solution: Mapping[str, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        n, basis = float(moments.count[0]), solution["basis"]
        if n < 2 or (not self.shrinkage and n <= basis.shape[1]):
            raise DataError(
                f"unseen='adapt' needs more rows (groups) of a new level, passed together; there are {n:g}."
            )
        mean = moments.cross[0, 0] / n
        own = (moments.square[0] - n * np.outer(mean, mean)) / (n - 1.0)
        mix = inside - solution["within"]
        k, size = basis.shape[1], float(solution["size"])
        noise = np.array([2.0 / k, k * k + k - 2.0 / k, 2.0 / size]) / n
        share = np.ones(3) if not self.shrinkage else solution["signal"] / (solution["signal"] + noise)
        share[:2] = np.minimum(share[:2], MOST_OWN if self.shrinkage else 1.0)
        centre, seen = basis.T @ inside @ basis, basis.T @ own @ basis
        size_of, shape = _split(seen[None], centre)
        covariance = _joined(1.0 + share[0] * (size_of - 1.0), share[1] * shape, centre)[0]
        A = MAPS[self.map](covariance, solution["target"] + basis.T @ mix @ basis)
        before, after = (float(np.trace(C) - np.trace(c)) for C, c in ((inside, centre), (own, seen)))
        log = np.log(max(after, 1e-12 * before) / before) if before > 1e-9 * float(np.trace(inside)) else 0.0
        outside = np.exp(0.5 * (float(solution["goal"]) - share[2] * log))
        return {"shift": mean, "inside": A, "outside": np.asarray(outside)}


def _split(covariances: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes ``(L,)`` and shapes ``(L, k, k)`` of covariances, in units of a centre: ``size (1 + shape)``.

    One number for all directions takes a few rows, a shape takes many: they are shrunk apart.
    """
    values, vectors = np.linalg.eigh(centre)
    back = vectors / np.sqrt(np.maximum(values, 1e-300))
    seen = back.T @ covariances @ back
    size = np.maximum(np.trace(seen, axis1=1, axis2=2) / len(centre), 1e-12)
    return size, seen / size[:, None, None] - np.eye(len(centre))


def _joined(size: np.ndarray, shape: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Undo :func:`_split`."""
    values, vectors = np.linalg.eigh(centre)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(root @ (size[:, None, None] * (np.eye(len(centre)) + shape)) @ root.T)
