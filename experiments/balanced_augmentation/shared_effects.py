"""Does the hospital shift all organs alike? Squared distances between the hospitals per cancer, and their angles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from experiments.balanced_augmentation.hospitals import Pool


def shared_effects(pool: Pool) -> pd.DataFrame:
    """Return one row per cancer: squared distance between hospitals, cosines between cancers.

    Dimensions are scaled by their spread over lung patients. Squares are debiased; 95 % intervals by a jackknife over
    patients, stratified by cell.
    """
    lung = pool.cohort.X[pool.lung].astype(np.float64)
    X = (pool.cohort.X - lung.mean(axis=0)) / lung.std(axis=0)
    value = _numbers(X, pool.cell)
    variance = np.zeros_like(value)
    for c in np.unique(pool.cell):
        members = np.flatnonzero(pool.cell == c)
        without = np.stack([_numbers(np.delete(X, i, 0), np.delete(pool.cell, i)) for i in members])
        variance += (len(members) - 1) * without.var(axis=0)
    half = float(stats.t.ppf(0.975, np.bincount(pool.cell).min() - 1)) * np.sqrt(variance)
    named = pool.cohort.obs["project_id"].astype(str).to_numpy()
    cancers, rows = [c.removeprefix("TCGA-") for c in dict.fromkeys(named)], []
    for k, names in enumerate(("squared distance", *(f"cosine with {c}" for c in cancers[:-1]))):
        for j in range(value.shape[1]):
            if j < k:  # each pair once
                continue
            number = {"value": value[k, j], "low": value[k, j] - half[k, j], "high": value[k, j] + half[k, j]}
            rows.append({"cancer": cancers[j], "quantity": names, **number})
    return pd.DataFrame(rows)


def _numbers(X: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Squares, and cosines with all but the last cancer ``(cancers, cancers)``."""
    gaps, squares = [], []
    for c in range(0, int(cell.max()) + 1, 2):
        sides = [X[cell == c + h] for h in (0, 1)]
        gaps.append(sides[1].mean(axis=0) - sides[0].mean(axis=0))
        noise = sum(float(s.var(axis=0, ddof=1).sum()) / len(s) for s in sides)
        squares.append(gaps[-1] @ gaps[-1] - noise)
    gap, square = np.stack(gaps), np.array(squares)
    return np.vstack([square, (gap @ gap.T / np.sqrt(np.outer(square, square)))[:-1]])
