"""What a monitor looks at: a few numbers per patient, fixed on reference patients that are not ranked later."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from causalfm.moments import cell_sums

SITE_DIRECTIONS = 4
DIRECTIONS = 8
TINY = 1e-12  # keeps logarithms finite; a score at its end is at the end of the grid


@dataclass(frozen=True, eq=False)
class EmbeddingView:
    """Directions and distances of an embedding.

    Attributes
    ----------
    centre
        ``(d,)`` mean of the shape patients.
    directions
        ``(d, r)`` orthonormal: where hospitals differ at the same biology, then where patients vary most.
    spread
        ``(r,)`` standard deviation of patients along each.
    n_site
        How many directions come from hospitals.
    """

    centre: np.ndarray
    directions: np.ndarray
    spread: np.ndarray
    n_site: int

    @property
    def names(self) -> tuple[str, ...]:
        """One name per column of :meth:`values`."""
        r = len(self.spread)
        sites = [f"direction {i + 1} between hospitals" for i in range(self.n_site)]
        others = [f"direction {i + 1} between patients" for i in range(r - self.n_site)]
        rest = ["distance off the directions"] if r < len(self.centre) else []
        return (*sites, *others, "distance within the directions", *rest)

    def values(self, Z: np.ndarray) -> np.ndarray:
        """Return ``(m, T)`` scores of patients ``(m, d)``: coordinates, and logs of the two squared distances."""
        centred = Z - self.centre
        along = centred @ self.directions
        inside = np.log((along / self.spread) ** 2 @ np.ones(len(self.spread)) + TINY)
        columns = [along, inside[:, None]]
        if len(self.spread) < len(self.centre):
            off = centred - along @ self.directions.T
            columns.append(np.log((off**2).sum(axis=1) + TINY * (self.spread**2).mean())[:, None])
        return np.concatenate(columns, axis=1)


def fit_embedding_view(Z: np.ndarray, sites: np.ndarray, classes: np.ndarray) -> EmbeddingView:
    """Choose the directions.

    Parameters
    ----------
    Z
        ``(n, d)`` shape patients.
    sites, classes
        ``(n,)`` codes; all 0 where there is one level only.

    Returns
    -------
    EmbeddingView
        At most ``SITE_DIRECTIONS`` directions of hospitals given biology (leading singular vectors of their effects in
        an additive fit, weighted by patients), filled up to ``DIRECTIONS`` with principal components of what is left.
    """
    centre = Z.mean(axis=0)
    centred = Z - centre
    design = [_onehot(classes), _onehot(sites)[:, 1:]]
    coefficients, *_ = np.linalg.lstsq(np.concatenate(design, axis=1), centred, rcond=None)
    effects = np.concatenate([np.zeros((1, Z.shape[1])), coefficients[design[0].shape[1] :]])
    weights = np.bincount(sites)
    effects = np.sqrt(weights)[:, None] * (effects - weights @ effects / weights.sum())
    n_site = min(SITE_DIRECTIONS, len(weights) - 1, Z.shape[1])
    basis = _leading(effects, n_site)
    left = centred - (centred @ basis) @ basis.T
    more = min(DIRECTIONS, Z.shape[1], len(Z) - 1) - basis.shape[1]
    basis = np.linalg.qr(np.concatenate([basis, _leading(left, more)], axis=1))[0]
    spread = (centred @ basis).std(axis=0, ddof=1)
    there = spread > 1e-9 * spread.max(initial=0.0)
    return EmbeddingView(centre, basis[:, there], spread[there], int(there[:n_site].sum()))


def _leading(rows: np.ndarray, k: int) -> np.ndarray:
    """First ``k`` right singular vectors ``(d, k)`` of ``rows (n, d)``."""
    if len(rows) < rows.shape[1]:
        return np.asarray(np.linalg.svd(rows, full_matrices=False)[2][: max(k, 0)].T)
    return np.asarray(np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, : max(k, 0)])


def _onehot(codes: np.ndarray) -> np.ndarray:
    return np.asarray(np.eye(int(codes.max()) + 1)[codes])


def score_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """One name per column of :func:`score_values`."""
    return tuple(f"score of {name}" for name in (classes[1:] if len(classes) == 2 else classes))


def score_values(probabilities: np.ndarray) -> np.ndarray:
    """Log odds ``(m, T)`` of patients' mean probabilities ``(m, classes)``; of two classes the second one's."""
    table = probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities
    return log_odds(table)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Log odds that stay finite at 0 and 1."""
    return np.asarray(np.log((p + TINY) / (1.0 - p + TINY)))


def patient_means(values: np.ndarray, units: np.ndarray, n_units: int) -> np.ndarray:
    """Average rows ``(n, d)`` to units ``(n_units, d)``."""
    return cell_sums(values, units, n_units).means()


def one_row_each(units: np.ndarray, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Return the position of one row of each unit, drawn at random."""
    order = rng.permutation(len(units))
    out = np.empty(n_units, dtype=np.int64)
    out[units[order]] = order
    return out


def centre_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and robust scale ``(T,)``; the standard deviation where half the patients have one value, else 1."""
    centre = np.median(values, axis=0)
    scale = (np.quantile(values, 0.75, axis=0) - np.quantile(values, 0.25, axis=0)) / 1.349
    scale = np.where(scale > 0, scale, values.std(axis=0))
    return centre, np.where(scale > 0, scale, 1.0)


def least_share(alpha: float, streams: int, tracks: int) -> float:
    """Log of the value at which a track raises the alarm: each stream, and each track in it, has an equal part."""
    return math.log(streams * tracks / alpha)
