"""Robustness of an encoder in training, measured after every epoch on one validation set."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from causalfm.arguments import check_whole
from causalfm.errors import DataError, positions
from causalfm.neighbours import Neighbours, knn

Codes = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class EpochRobustness:
    """What one epoch measured; nan where the validation set cannot tell, or where there were no logits.

    Attributes
    ----------
    epoch
        As passed.
    robustness_index
        Of the typed neighbours, the share with the same biology at another site: 1 biology orders, 0 the site.
    site_readout
        Balanced accuracy of the vote of the nearest rows of other patients for the site.
    site_chance
        What it is of an embedding without information: 1 / sites.
    worst_site_accuracy, worst_site
        Least accuracy at a site (mean over its classes; patients weigh the same), and the site's code, the smallest of
        equals.
    accuracy
        Mean over sites.
    """

    epoch: int
    robustness_index: float
    site_readout: float
    site_chance: float
    worst_site_accuracy: float
    worst_site: int | float
    accuracy: float

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers, for any logger."""
        return asdict(self)


class RobustnessMonitor:
    """Measure embeddings and predictions of the same validation rows again and again.

    Parameters
    ----------
    y, env
        ``(n,)`` integer codes of biology and site.
    groups
        ``(n,)`` integer codes of patients: neighbours and votes are of others. None: rows.
    k
        Neighbours; fixed, so that epochs can be compared.

    Attributes
    ----------
    history
        One :class:`EpochRobustness` per call.

    Raises
    ------
    DataError
        Codes that do not fit each other.

    Notes
    -----
    The index is that of :func:`causalfm.metrics.robustness_index` at this ``k`` and ``within=()``; take that, with its
    interval, for what is reported. Votes count 1 / (rows of the site) each, ties go to the site named first; in
    read-out and accuracies patients weigh the same. One neighbour pass per call. Needs torch and numpy only.

    Examples
    --------
    >>> monitor = RobustnessMonitor(y, site, patient)  # doctest: +SKIP
    >>> found = monitor(epoch, encoder(images), logits)  # after every epoch  # doctest: +SKIP
    >>> found.worst_site_accuracy  # doctest: +SKIP
    """

    def __init__(self, y: Codes, env: Codes, groups: Codes | None = None, *, k: int = 11) -> None:
        check_whole(k, "k", 1, why="neighbours")
        groups = np.arange(len(y)) if groups is None else groups
        self.y, self.env, self.groups = (_codes(v, name) for v, name in ((y, "y"), (env, "env"), (groups, "groups")))
        if not len(self.y) == len(self.env) == len(self.groups):
            raise DataError(f"{len(self.y)} y, {len(self.env)} env, {len(self.groups)} groups: pass one per row.")
        if len(np.unique(self.env)) < 2 or len(np.unique(self.y)) < 2:
            raise DataError("the validation set has one site or one class: nothing can be compared.")
        self.k, self.history = k, list[EpochRobustness]()
        unit = np.unique(self.groups, return_inverse=True)[1]
        self._weight = 1.0 / np.bincount(unit)[unit]

    def __call__(
        self, epoch: int, features: torch.Tensor | np.ndarray, logits: torch.Tensor | np.ndarray | None = None
    ) -> EpochRobustness:
        """Measure.

        Parameters
        ----------
        epoch
            Number of the epoch.
        features
            ``(n, d)`` embeddings of the validation rows, in the order of ``y``.
        logits
            ``(n, classes)`` predictions, any monotone score; None leaves accuracies and worst site nan.

        Returns
        -------
        EpochRobustness
            Also kept in ``history``.

        Raises
        ------
        DataError
            Another number of rows, rows not finite or 0, too few other patients for ``k``, fewer logits than classes.
        """
        X, scores = _array(features, "features", len(self.y)), None
        if logits is not None:
            scores = _array(logits, "logits", len(self.y))
            if scores.shape[1] < 2 or scores.shape[1] <= self.y.max() or self.y.min() < 0:
                raise DataError(
                    f"logits have {scores.shape[1]} columns and y runs from {self.y.min()} to {self.y.max()}: pass one "
                    "column per class, y as positions in them."
                )
        found = knn(X, self.k, exclude=np.unique(self.groups, return_inverse=True)[1])
        sites = np.unique(self.env)
        by_site = np.full(len(sites), np.nan)
        if scores is not None:
            by_site = np.array([self._accuracy(scores, site) for site in sites])
        self.history.append(
            EpochRobustness(
                epoch=epoch,
                robustness_index=self._index(found),
                site_readout=self._readout(found),
                site_chance=1.0 / len(sites),
                worst_site_accuracy=float(by_site.min()),
                worst_site=int(sites[by_site.argmin()]) if scores is not None else float("nan"),
                accuracy=float(by_site.mean()),
            )
        )
        return self.history[-1]

    def _index(self, found: Neighbours) -> float:
        near = found.indices[:, : self.k]
        same_y = self.y[near] == self.y[found.queries, None]
        same_env = self.env[near] == self.env[found.queries, None]
        so, os = int((same_y & ~same_env).sum()), int((~same_y & same_env).sum())
        return so / (so + os) if so + os else float("nan")

    def _readout(self, found: Neighbours) -> float:
        sites, code = np.unique(self.env, return_inverse=True)
        votes, near = np.zeros((len(code), len(sites))), code[found.indices[:, : self.k]]
        np.add.at(votes, (np.arange(len(code))[:, None], near), (1.0 / np.bincount(code))[near])
        right = votes.argmax(axis=1) == code[found.queries]
        weight = self._weight[found.queries]
        return float(np.mean([np.average(right[code == s], weights=weight[code == s]) for s in range(len(sites))]))

    def _accuracy(self, scores: np.ndarray, site: int) -> float:
        right = scores.argmax(axis=1) == self.y
        cells = [(self.env == site) & (self.y == c) for c in np.unique(self.y[self.env == site])]
        return float(np.mean([np.average(right[cell], weights=self._weight[cell]) for cell in cells]))


def _codes(values: Codes, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{name} has shape {array.shape} and type {array.dtype}: pass integer codes (n,).")
    return array


def _array(values: torch.Tensor | np.ndarray, name: str, n: int) -> np.ndarray:
    array = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim != 2 or len(array) != n:
        raise DataError(f"{name} has shape {array.shape}: pass ({n}, d), the validation rows in the order of y.")
    if not (fine := np.isfinite(array).all(axis=1)).all():
        where = positions(np.flatnonzero(~fine).tolist())
        raise DataError(f"{name} are not finite in {int((~fine).sum())} rows ({where}): training has diverged there.")
    return array
