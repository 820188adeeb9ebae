"""Shares of the classes where labels are not known: black-box estimation and expectation-maximisation, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 1e-6  # probabilities below it count as it
STEPS = 50
REPEAT_STEPS = 60  # of EM in bootstrap replicates, from the estimate
TOLERANCE = 1e-8
LEAST_SINGULAR = 0.05  # of the confusion matrix: below, predictions hardly tell the classes


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with a model's probabilities.

    Attributes
    ----------
    logits
        ``(n, K)`` logarithms of the probabilities, at least 1e-6.
    labels
        ``(n,)`` codes; -1 where not known.
    units
        ``(n,)`` codes of the patients, from 0 without gaps.
    """

    logits: np.ndarray
    labels: np.ndarray
    units: np.ndarray

    @property
    def n_units(self) -> int:
        """Number of patients."""
        return int(self.units.max()) + 1

    @property
    def weights(self) -> np.ndarray:
        """``(n,)`` patients weigh the same; they add up to 1."""
        weights = 1.0 / np.bincount(self.units)[self.units]
        return np.asarray(weights / weights.sum())


def scored(scores: np.ndarray, labels: np.ndarray, units: np.ndarray, rows: np.ndarray) -> Scored:
    """Take some rows of scores ``(n, K)``."""
    codes = np.unique(units[rows], return_inverse=True)[1].reshape(-1)
    return Scored(np.log(np.maximum(scores[rows], FLOOR)), labels[rows], codes)


@dataclass(frozen=True, eq=False)
class Shares:
    """Estimated shares ``(K,)`` with bootstrap replicates ``(B, K)``; known shares of the same replicates, if known."""

    bbse: np.ndarray
    em: np.ndarray
    bbse_draws: np.ndarray
    em_draws: np.ndarray
    known_draws: np.ndarray
    conditioned: bool


def class_shares(reference: Scored, new: Scored, n_boot: int, random_state: int) -> Shares:
    """Estimate the shares of the classes among the patients of ``new`` by two methods.

    Parameters
    ----------
    reference
        Held-out rows with labels.
    new
        Rows whose labels are not looked at, but for ``known_draws``.
    n_boot
        Bootstrap replicates: patients of both drawn with replacement.
    random_state
        Seed.

    Returns
    -------
    Shares
        ``conditioned`` is False where predictions hardly tell the classes.

    Notes
    -----
    ``bbse``: the shares ``w`` on the simplex with ``C w`` next to the shares of the predictions, ``C`` the confusion
    matrix of the reference. ``em``: maximum likelihood of the shares, with the probabilities of the reference made
    calibrated by a temperature and a bias per class. In replicates the calibration takes one Newton step.

    Assumption: classes look alike in both (label shift).

    References
    ----------
    Lipton, Wang and Smola, ICML 2018; Saerens, Latinne and Decaestecker, Neural Comput. 14 (2002) 21-41;
    Alexandari, Kundaje and Shrikumar, ICML 2020.
    """
    rng = np.random.default_rng(random_state)
    W, V = (_multiplicities(rng, side, n_boot) for side in (reference, new))  # first row: as they are
    K = reference.logits.shape[1]
    onehot = np.eye(K)
    predicted = [onehot[side.logits.argmax(axis=1)] for side in (reference, new)]
    truth = onehot[reference.labels]
    confusion = np.einsum("bn,nj,nk->bjk", W, predicted[0], truth, optimize=True)
    prior = W @ truth
    confusion = confusion / np.maximum(prior, FLOOR)[:, None, :]
    met = V @ predicted[1]
    bbse = np.array([_on_simplex(C, m) for C, m in zip(confusion, met, strict=True)])
    slopes = _calibrations(reference, W)
    ratio = _calibrated(new.logits, slopes) / np.maximum(prior, FLOOR)[:, None, :]
    first = _em(ratio[:1], V[:1], prior[:1], 1000)
    em = np.concatenate([first, _em(ratio[1:], V[1:], np.repeat(first, n_boot, axis=0), REPEAT_STEPS)])
    known = V @ np.where(new.labels[:, None] >= 0, onehot[new.labels], 0.0)
    told = bool(np.linalg.svd(confusion[0], compute_uv=False)[-1] >= LEAST_SINGULAR)
    return Shares(bbse[0], em[0], bbse[1:], em[1:], known[1:], told)


def _multiplicities(rng: np.random.Generator, side: Scored, n_boot: int) -> np.ndarray:
    """Row weights ``(1 + B, n)``, each adding up to 1: as they are, then patients drawn with replacement."""
    G = side.n_units
    drawn = rng.multinomial(G, np.full(G, 1.0 / G), size=n_boot).astype(np.float64)
    each = np.concatenate([np.ones((1, G)), drawn])[:, side.units] * side.weights
    return np.asarray(each / each.sum(axis=1, keepdims=True))


def _on_simplex(C: np.ndarray, met: np.ndarray) -> np.ndarray:
    """Shares on the simplex that bring ``C w`` next to ``met``."""
    from scipy.optimize import nnls

    heavy = 1e3  # the sum of the shares is 1 to three digits, then exactly
    found = nnls(np.vstack([C, np.full(len(met), heavy)]), np.append(met, heavy))[0]
    return np.asarray(found / found.sum())


def _calibrated(logits: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Probabilities ``(B, n, K)`` at calibrations ``(B, K)``: a slope, then the biases of all classes but the first."""
    biases = np.concatenate([np.zeros((len(slopes), 1)), slopes[:, 1:]], axis=1)
    z = slopes[:, :1, None] * logits + biases[:, None, :]
    z -= z.max(axis=2, keepdims=True)
    np.exp(z, out=z)
    return np.asarray(z / z.sum(axis=2, keepdims=True))


def _calibrations(reference: Scored, W: np.ndarray) -> np.ndarray:
    """Slope and biases ``(1 + B, K)`` that maximise the likelihood of the labels at the weights ``W (1 + B, n)``."""
    K = reference.logits.shape[1]
    truth = np.eye(K)[reference.labels]
    theta = np.append(1.0, np.zeros(K - 1))
    ridge = 1e-4 * np.eye(K)  # keeps the slope finite where the classes are perfectly told apart

    def derivatives(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = _calibrated(reference.logits, theta[None])[0]
        centred = reference.logits - (p * reference.logits).sum(axis=1, keepdims=True)
        rows = np.column_stack([((truth - p) * reference.logits).sum(axis=1), (truth - p)[:, 1:]])
        w = W[0]
        H = np.empty((K, K))
        H[0, 0] = w @ (p * centred**2).sum(axis=1)
        H[0, 1:] = H[1:, 0] = w @ (p * centred)[:, 1:]
        H[1:, 1:] = np.diag(w @ p[:, 1:]) - (p[:, 1:] * w[:, None]).T @ p[:, 1:]
        return rows, H + ridge

    start = theta.copy()
    for _ in range(STEPS):
        rows, H = derivatives(theta)
        step = np.linalg.solve(H, W[0] @ rows - ridge @ (theta - start))
        theta = theta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), FLOOR))
        if np.abs(step).max() < TOLERANCE:
            break
    rows, H = derivatives(theta)
    moves = np.linalg.solve(H, (W @ rows - ridge @ (theta - start)).T).T
    out = theta + moves - moves[0]
    out[:, 0] = np.maximum(out[:, 0], FLOOR)
    return np.asarray(out)


def _em(ratio: np.ndarray, weights: np.ndarray, start: np.ndarray, most: int) -> np.ndarray:
    """Shares ``(B, K)`` of greatest likelihood: ``ratio (B, n, K)`` probabilities over those of the reference."""
    shares = np.maximum(start, FLOOR)
    shares = shares / shares.sum(axis=1, keepdims=True)
    for _ in range(most):
        mixed = np.einsum("bnk,bk->bn", ratio, shares)
        after = shares * np.einsum("bnk,bn->bk", ratio, weights / np.maximum(mixed, 1e-300))
        moved = float(np.abs(after - shares).max())
        shares = after
        if moved < TOLERANCE:
            break
    return np.asarray(shares)
