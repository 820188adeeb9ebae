"""Mergeable moments of rows and regressors per level of a factor: one streaming pass, enough for every corrector."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from causalfm.errors import DataError
from causalfm.validation import refuse_not_finite, rows_not_finite

Second = Literal["diagonal", "pooled", "full"]
SMALL, LARGE = 4 * 2**20, 48 * 2**20  # bytes of float64 rows per block: inside the cache; enough rows for a product

MOST_BYTES = 4 * 2**30  # of covariances per level


@dataclass(eq=False)
class LevelMoments:
    """Weighted sums of products per level, of rows less a fixed shift.

    Attributes
    ----------
    shift
        ``(d,)`` subtracted from every row, so that products of large means do not drown the variance.
    gram, cross
        ``(L, q, q)`` and ``(L, q, d)``: sums of ``w f f'`` and ``w f (x - shift)'``; the first regressor is 1.
    square
        Sums of ``w (x - shift)**2`` per level ``(L, d)``, or of ``w (x - shift)(x - shift)'`` over all rows ``(d, d)``
        or per level ``(L, d, d)``.
    rows
        ``(L,)`` rows, whatever their weight.
    second
        Which of these ``square`` is: ``"diagonal"``, ``"pooled"``, ``"full"``.
    """

    shift: np.ndarray
    gram: np.ndarray
    cross: np.ndarray
    square: np.ndarray
    rows: np.ndarray
    second: Second

    @classmethod
    def empty(cls, shift: np.ndarray, n_levels: int, n_regressors: int, second: Second) -> LevelMoments:
        """Return moments of no rows; ``shift (d,)`` should be near the mean. Covariances beyond 4 GiB are refused."""
        d, q = len(shift), n_regressors
        if second == "full" and 8 * n_levels * d * d > MOST_BYTES:
            raise DataError(
                f"{n_levels} levels with a covariance of {d} x {d} each take {8e-9 * n_levels * d * d:.0f} GB: merge "
                "rare levels, reduce the dimensions, or choose a corrector that needs no covariance per level."
            )
        shape = {"diagonal": (n_levels, d), "pooled": (d, d), "full": (n_levels, d, d)}[second]
        gram, cross = np.zeros((n_levels, q, q)), np.zeros((n_levels, q, d))
        return cls(shift, gram, cross, np.zeros(shape), np.zeros(n_levels, dtype=np.int64), second)

    @property
    def count(self) -> np.ndarray:
        """``(L,)`` sums of weights."""
        return np.asarray(self.gram[:, 0, 0])

    def add(self, X: np.ndarray, codes: np.ndarray, regressors: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add rows in one pass, after a check that they are finite; where they are not, nothing is added.

        Parameters
        ----------
        X
            ``(n, d)`` float16, float32 or float64, may be a memory map.
        codes
            ``(n,)`` level of each row.
        regressors
            ``(n, q)``, the first column 1.
        weights
            ``(n,)``; None is 1 each.

        Raises
        ------
        DataError
            Rows with NaN or infinite values, by position.
        """
        gram, cross, square = np.zeros_like(self.gram), np.zeros_like(self.cross), np.zeros_like(self.square)
        step = max(1, (SMALL if self.second == "diagonal" else LARGE) // (8 * X.shape[1]))
        buffer, bad = np.empty((min(step, len(X)), X.shape[1])), []
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            block = np.ascontiguousarray(X[rows])
            if found := rows_not_finite(block):
                bad += [i + start for i in found]
            if bad:
                continue
            order = np.argsort(codes[rows], kind="stable")  # level by level: sums are then plain products of pieces
            centred = np.subtract(block[order], self.shift, out=buffer[: len(block)])
            w = None if weights is None else weights[rows][order]
            self._add_block(centred, codes[rows][order], regressors[rows][order], w, (gram, cross, square))
        refuse_not_finite(bad, len(X))
        self.gram, self.cross, self.square = self.gram + gram, self.cross + cross, self.square + square
        self.rows = self.rows + np.bincount(codes, minlength=len(self.rows))

    def _add_block(
        self,
        block: np.ndarray,
        codes: np.ndarray,
        f: np.ndarray,
        w: np.ndarray | None,
        sums: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Add rows sorted by level; ``block`` is overwritten."""
        (gram, cross, square), weighted = sums, f if w is None else f * w[:, None]
        edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
        pieces = [(int(codes[a]), slice(a, b)) for a, b in itertools.pairwise(edges)]
        for level, piece in pieces:
            gram[level] += weighted[piece].T @ f[piece]
            cross[level] += weighted[piece].T @ block[piece]
        if w is not None:
            block *= np.sqrt(w)[:, None]
        if self.second == "pooled":
            square += block.T @ block
            return
        for level, piece in pieces:
            rows = block[piece]
            square[level] += rows.T @ rows if self.second == "full" else np.einsum("ij,ij->j", rows, rows)

    def widened(self, levels: np.ndarray, n_levels: int, regressors: np.ndarray, n_regressors: int) -> LevelMoments:
        """Return the same sums at new places: ``levels (L,)`` and ``regressors (q,)`` are where the old ones go."""
        out = LevelMoments.empty(self.shift, n_levels, n_regressors, self.second)
        out.gram[np.ix_(levels, regressors, regressors)] = self.gram
        out.cross[np.ix_(levels, regressors)] = self.cross
        out.rows[levels] = self.rows
        if self.second == "pooled":
            out.square = self.square
        else:
            out.square[levels] = self.square
        return out

    def fingerprint(self) -> str:
        """Hash of the sums: which data these are, without a second look at them."""
        digest = hashlib.sha256()
        for part in (self.shift, self.gram, self.cross, self.square, self.rows):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def first_rows(X: np.ndarray, most: int = 1024) -> np.ndarray:
    """Mean ``(d,)`` of the first rows that are finite: a shift near the mean."""
    head = np.asarray(X[:most], dtype=np.float64)
    head = head[np.isfinite(head).all(axis=1)]
    return head.mean(axis=0) if len(head) else np.zeros(X.shape[1])
