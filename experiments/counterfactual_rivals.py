"""What a causal model of embeddings is compared with: ComBat, and ridge on true pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort

FOLDS = 5
STILL = 0.05  # least share of the largest spread that a level must have
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times the mean squared length of a row


def combat_missing() -> str:
    """Say why ComBat cannot be run; empty if it can."""
    try:
        import combatlearn  # noqa: F401
    except ImportError:
        return "combatlearn is not installed (a development-only oracle)"
    return ""


def combat(rows: Cohort, training: Cohort, *, factor: str, level: str, biology: str) -> np.ndarray:
    """Move rows to a level by ComBat with that level as reference and the class as covariate (combatlearn).

    Dimensions that hardly vary at one of the levels stay as they are: ComBat divides by their spread there.
    """
    from combatlearn import ComBat

    names = [f"{kind}{i}" for kind, n in (("a", len(training)), ("b", len(rows))) for i in range(n)]
    obs = pd.concat([training.obs, rows.obs])[[factor, biology]].astype(str).set_axis(names, axis=0)
    spread = np.stack([training.X[(training.obs[factor] == v).to_numpy()].std(0) for v in set(training.obs[factor])])
    used = spread.min(axis=0) > STILL * spread.max(axis=0)
    X = pd.DataFrame(np.concatenate([training.X, rows.X])[:, used].astype(np.float64), index=names)
    X.columns = X.columns.astype(str)
    model = ComBat(obs[factor], discrete_covariates=obs[[biology]], method="fortin", reference_batch=level)
    model.fit(X.iloc[: len(training)])
    moved = np.array(rows.X)
    moved[:, used] = model.transform(X.iloc[len(training) :])
    return moved


def paired_ridge(
    before: np.ndarray,
    after: np.ndarray,
    patient: np.ndarray,
    rows: np.ndarray,
    context: tuple[np.ndarray, np.ndarray] | None = None,
    penalty: float | None = None,
) -> np.ndarray:
    """Predict rows at another level from true pairs: the change is regressed on the embedding.

    Parameters
    ----------
    before, after
        ``(m, d)`` the same tissue at the two levels.
    patient
        ``(m,)`` whose tissue it is.
    rows
        ``(n, d)`` to move.
    context
        ``(m, q)`` and ``(n, q)`` regressors without penalty, a constant among them; None is the constant alone.
    penalty
        Of the ridge, times the mean squared length of a row's residual; None chooses it with patients left out.

    Returns
    -------
    numpy.ndarray
        ``(n, d)``.
    """
    D, new = context if context is not None else (np.ones((len(before), 1)), np.ones((len(rows), 1)))
    if penalty is None:
        codes = np.unique(patient, return_inverse=True)[1]
        fold = np.random.default_rng(0).permutation(codes.max() + 1)[codes] % FOLDS
        error = np.zeros(len(PENALTIES))
        for f in range(FOLDS):
            left, kept = fold == f, fold != f
            moved = _moved(before[kept], after[kept], before[left], D[kept], D[left], PENALTIES)
            error += [((X - after[left]) ** 2).sum() for X in moved]
        penalty = PENALTIES[int(np.argmin(error))]
    return next(_moved(before, after, rows, D, new, (penalty,)))


def _moved(
    before: np.ndarray, after: np.ndarray, rows: np.ndarray, D: np.ndarray, new: np.ndarray, penalties: Sequence[float]
) -> Iterator[np.ndarray]:
    """Yield the rows moved under each penalty: one eigendecomposition for all."""
    before, change, inverse = before.astype(np.float64), (after - before).astype(np.float64), np.linalg.pinv(D)
    level, shift = inverse @ before, inverse @ change
    A = before - D @ level
    eigenvalues, vectors = np.linalg.eigh(A @ A.T)
    start, across = rows + new @ shift, ((rows - new @ level) @ A.T) @ vectors
    along = vectors.T @ (change - D @ shift)
    for penalty in penalties:
        yield start + (across / (eigenvalues + penalty * eigenvalues.mean())) @ along


def one_tissue_each(obs: pd.DataFrame, n: int, by: Sequence[str]) -> np.ndarray:
    """Choose one tissue of each of ``n`` patients, spread over the cells of ``by``; positions."""
    first = obs.assign(at=np.arange(len(obs))).drop_duplicates("patient")
    turn = first.groupby(list(by)).cumcount()
    return np.sort(first.assign(turn=turn).sort_values(["turn", "patient"])["at"].to_numpy()[:n])
