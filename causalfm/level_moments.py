"""Mergeable moments of rows and regressors per level of a factor: one streaming pass, enough for every corrector."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from causalfm.errors import DataError
from causalfm.row_tasks import map_blocks, spans
from causalfm.validation import refuse_not_finite, rows_not_finite

Second = Literal["diagonal", "pooled", "full"]
SMALL, LARGE = 4 * 2**20, 48 * 2**20  # bytes of float64 rows per block: inside the cache; enough rows for a product

MOST_BYTES = 4 * 2**30  # of covariances per level

# Of one block: a level, its sums w f f' and w f x', its sums of squares where they are per level.
Piece = tuple[int, np.ndarray, np.ndarray, np.ndarray | None]


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
            ``(n, d)`` float16, float32 or float64, may be a memory map or lie outside memory.
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
        given = (codes, regressors) if weights is None else (codes, regressors, weights)
        function = _block_sums if weights is None else _weighted_block_sums
        bad: list[int] = []
        found = map_blocks(X, spans(len(X), step), function, aligned=given, shared=(self.shift, self.second))
        for rows, (wrong, pieces, pooled) in found:
            bad += [i + rows.start for i in wrong]
            for level, own_gram, own_cross, own_square in pieces:
                gram[level] += own_gram
                cross[level] += own_cross
                if own_square is not None:
                    square[level] += own_square
            if pooled is not None:
                square += pooled
        refuse_not_finite(bad, len(X))
        self.gram, self.cross, self.square = self.gram + gram, self.cross + cross, self.square + square
        self.rows = self.rows + np.bincount(codes, minlength=len(self.rows))

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


def _block_sums(
    block: np.ndarray,
    codes: np.ndarray,
    regressors: np.ndarray,
    shift: np.ndarray,
    second: Second,
    weights: np.ndarray | None = None,
) -> tuple[list[int], list[Piece], np.ndarray | None]:
    """Return the rows that are not finite, or the sums of each level that a block holds and of their products."""
    if bad := rows_not_finite(np.ascontiguousarray(block)):
        return bad, [], None
    order = np.argsort(codes, kind="stable")  # level by level: sums are then plain products of pieces
    centred = np.subtract(block[order], shift, dtype=np.float64)
    codes, f, w = codes[order], regressors[order], None if weights is None else weights[order]
    weighted = f if w is None else f * w[:, None]
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    parts = [(int(codes[a]), slice(a, b)) for a, b in itertools.pairwise(edges)]
    sums = [(weighted[part].T @ f[part], weighted[part].T @ centred[part]) for _, part in parts]
    if w is not None:
        centred *= np.sqrt(w)[:, None]
    if second == "pooled":
        pieces: list[Piece] = [(level, *own, None) for (level, _), own in zip(parts, sums, strict=True)]
        return [], pieces, centred.T @ centred
    squares = [
        rows.T @ rows if second == "full" else np.einsum("ij,ij->j", rows, rows)
        for rows in (centred[part] for _, part in parts)
    ]
    return [], [(level, *own, s) for (level, _), own, s in zip(parts, sums, squares, strict=True)], None


def _weighted_block_sums(
    block: np.ndarray, codes: np.ndarray, f: np.ndarray, weights: np.ndarray, shift: np.ndarray, second: Second
) -> tuple[list[int], list[Piece], np.ndarray | None]:
    return _block_sums(block, codes, f, shift, second, weights)


def mean_of_first_rows(X: np.ndarray, most: int = 1024) -> np.ndarray:
    """Mean ``(d,)`` of the first rows that are finite: a shift near the mean."""
    head = np.asarray(X[:most], dtype=np.float64)
    head = head[np.isfinite(head).all(axis=1)]
    return head.mean(axis=0) if len(head) else np.zeros(X.shape[1])
