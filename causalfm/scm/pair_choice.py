"""Choice among ways to predict pairs: errors of patients left out, change by change, borrowing from other changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BORROWED = 5.0  # patients that what is best for all changes counts as, when it is decided for one


@dataclass(frozen=True, eq=False)
class Cells:
    """Pairs by change and patient.

    Attributes
    ----------
    key, patient
        ``(N,)`` codes of the change and of the independent unit.
    weight
        ``(N,)``; a patient's weights add up to 1.
    """

    key: np.ndarray
    patient: np.ndarray
    weight: np.ndarray

    @cached_property
    def of(self) -> np.ndarray:
        """``(N,)`` cell of each pair."""
        n = int(self.patient.max()) + 1
        return np.asarray(np.unique(self.key * n + self.patient, return_inverse=True)[1].reshape(-1))

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Change and patient of each cell."""
        first = np.unique(self.of, return_index=True)[1]
        return self.key[first], self.patient[first]

    def squares(self, errors: np.ndarray) -> np.ndarray:
        """Weighted squared lengths of ``errors (N, m)``, per cell."""
        return np.bincount(self.of, self.weight * (errors**2).sum(axis=1))

    def relative(self, squares: np.ndarray, whole: np.ndarray) -> float:
        """Mean over changes of squared errors, of cells, over those of doing nothing more."""
        key = self.ends[0]
        return float((np.bincount(key, squares) / _positive(np.bincount(key, whole))).mean())


def choose(cells: Cells, options: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Choose an option per change; and for each patient the one that the others choose.

    Parameters
    ----------
    cells
        Layout of the pairs.
    options
        Errors ``(N, m)`` of each option when the patient is left out; the first is to do nothing.

    Returns
    -------
    option, errors
        ``(Q,)`` positions, and ``(N, m)`` errors of patients left out of the choice too.

    Notes
    -----
    Changes differ in how well they can be predicted: the sum over all would serve those with the largest errors. A
    change's own patients decide, together with five that stand for the mean relative error over all changes.
    """
    key, patient = cells.ends
    table = np.stack([cells.squares(errors) for errors in options])
    Q, G = int(key.max()) + 1, int(patient.max()) + 1
    own = np.stack([np.bincount(key, row, Q) for row in table])
    scale = _positive(own[0])
    pooled = (own / scale).mean(axis=1)
    loan = BORROWED * scale / np.bincount(key, minlength=Q)
    without = pooled[:, None] - np.stack([np.bincount(patient, row / scale[key], G) for row in table]) / Q
    option = (own + loan * pooled[:, None]).argmin(axis=0)
    others = (own[:, key] - table + loan[key] * without[:, patient]).argmin(axis=0)
    return option, np.stack(options)[others[cells.of], np.arange(len(cells.of))]


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 1.0)
