"""A cohort: embeddings and a row-aligned table. Row order is the contract."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from anndata import AnnData

MISSING_LEVEL = "(missing)"
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Factor:
    """A categorical column as codes.

    Attributes
    ----------
    name
        Column name.
    codes
        ``(n,)`` int64, positions in ``levels``.
    levels
        Level names as text: sorted, or in the order of a categorical column.
    """

    name: str
    codes: np.ndarray
    levels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def counts(self) -> np.ndarray:
        """Rows per level, ``(n_levels,)``."""
        return np.bincount(self.codes, minlength=self.n_levels)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Embeddings ``X (n, d)`` and their table ``obs`` (n rows), aligned by position.

    Parameters
    ----------
    X
        ``(n, d)`` float16, float32 or float64; integers are refused with a way out. A memory map stays one.
    obs
        One row per embedding, unique index.
    info
        Provenance: encoder, source files, what was filled or dropped.

    Raises
    ------
    DataError
        Unequal lengths, empty or not 2-D, not floating, non-finite values, repeated index or column names.
    """

    X: np.ndarray
    obs: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.obs, pd.DataFrame):
            raise DataError(f"obs must be a pandas DataFrame, not {type(self.obs).__name__}: wrap it in pd.DataFrame(...)")
        X = self.X if isinstance(self.X, np.ndarray) else np.asarray(self.X)
        object.__setattr__(self, "X", X)
        _check_matrix(X)
        if len(X) != len(self.obs):
            raise DataError(
                f"X has {len(X)} rows and obs has {len(self.obs)}: they must describe the same rows in the same order. "
                "Join the table to the embeddings before building the cohort."
            )
        if not self.obs.columns.is_unique:
            twice = sorted(set(self.obs.columns[self.obs.columns.duplicated()].astype(str)))
            raise DataError(f"obs has repeated column names: {', '.join(twice)}. Rename or drop the copies.")
        if not self.obs.index.is_unique:
            where = np.flatnonzero(self.obs.index.duplicated(keep=False)).tolist()
            raise DataError(
                f"the index of obs is not unique ({positions(where)}): each row needs an id of its own. "
                "Use obs.reset_index(drop=True) if the index means nothing."
            )
        _check_finite(X)

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        return f"Cohort({len(self)} rows x {self.d} dimensions, {self.X.dtype}, columns: {', '.join(map(str, self.obs.columns))})"

    @property
    def d(self) -> int:
        """Embedding dimension."""
        return int(self.X.shape[1])

    def __getitem__(self, rows: Any) -> Cohort:
        """Select rows by slice, boolean mask or positions; order and repetition as given (repeats need a new index)."""
        if isinstance(rows, (int, np.integer)):
            rows = [int(rows)]
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(rows, np.ndarray) and rows.dtype == bool and len(rows) != len(self):
            raise DataError(f"the row mask has {len(rows)} entries and the cohort {len(self)} rows")
        return Cohort(self.X[rows], self.obs.iloc[rows], self.info)

    def replace(self, **changes: Any) -> Cohort:
        """Return a copy with ``X``, ``obs`` or ``info`` replaced."""
        return dataclasses.replace(self, **changes)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield consecutive row blocks as float32 or float64, each at most 64 MiB: one pass, also over a memory map."""
        for rows in _row_blocks(self.X):
            block = self.X[rows]
            yield rows, np.asarray(block, dtype=np.float32 if block.dtype == np.float16 else block.dtype)

    def column(self, name: str) -> pd.Series:
        """Return a column of ``obs`` or raise a DataError that lists the columns there are."""
        if name not in self.obs.columns:
            raise DataError(f"obs has no column {name!r}. Columns: {', '.join(map(str, self.obs.columns))}.")
        return self.obs[name]

    def factor(self, name: str, *, private: bool = False) -> Factor:
        """Return a column as a :class:`Factor`.

        Parameters
        ----------
        name
            Column of ``obs``.
        private
            The levels identify patients: never put them in a message.

        Raises
        ------
        DataError
            Unknown column or missing values (count and first positions).
        """
        column = self.column(name)
        _refuse_missing(column, name)
        if isinstance(column.dtype, pd.CategoricalDtype):
            used = column.cat.remove_unused_categories()
            return Factor(name, used.cat.codes.to_numpy(np.int64), tuple(str(v) for v in used.cat.categories))
        values = np.asarray(column, dtype=object)
        try:
            levels, codes = np.unique(values, return_inverse=True)
        except TypeError:  # mixed types do not sort
            levels, codes = np.unique(values.astype(str), return_inverse=True)
        names = [str(v) for v in levels]
        if len(set(names)) < len(names):
            shown = "" if private else f": {', '.join(sorted({v for v in names if names.count(v) > 1}))}"
            raise DataError(f"column {name!r} has levels that read the same as text{shown}. Convert it with astype(str).")
        return Factor(name, codes.astype(np.int64).reshape(-1), tuple(names))

    def numeric(self, name: str) -> np.ndarray:
        """Return a column as finite float64 ``(n,)`` or raise a DataError."""
        column = self.column(name)
        _refuse_missing(column, name)
        try:
            values = np.asarray(pd.to_numeric(column), dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"column {name!r} is declared continuous but holds text: declare it categorical or convert it.") from None
        bad = np.flatnonzero(~np.isfinite(values)).tolist()
        if bad:
            raise DataError(f"column {name!r} has infinite values in {positions(bad)}: correct or drop these rows.")
        return values

    def handle_missing(self, columns: Iterable[str], how: Literal["error", "level", "drop"] = "error") -> Cohort:
        """Apply the missing-value policy to factor columns.

        Parameters
        ----------
        columns
            Columns of ``obs``.
        how
            ``"error"`` refuses, ``"level"`` makes missing a level of its own (categorical columns), ``"drop"``
            drops the rows. What was done is recorded in ``info["missing"]``.

        Returns
        -------
        Cohort
            This cohort if nothing was missing, else a new one.

        Raises
        ------
        DataError
            Missing values under ``"error"``; a numeric column under ``"level"``; no row left under ``"drop"``.
        """
        columns = list(columns)
        counts = {c: int(self.column(c).isna().sum()) for c in columns}
        counts = {c: k for c, k in counts.items() if k}
        if not counts:
            return self
        if how == "error":
            column = next(iter(counts))
            _refuse_missing(self.obs[column], column)
        record = {**dict(self.info.get("missing", {})), "policy": how, "counts": counts}
        if how == "drop":
            keep = ~self.obs[columns].isna().any(axis=1).to_numpy()
            if not keep.any():
                raise DataError(f"every row misses a value in {', '.join(counts)}: nothing is left after missing='drop'.")
            record["rows_dropped"] = int((~keep).sum())
            return self[keep].replace(info={**self.info, "missing": record})
        if how != "level":
            raise DataError(f"missing={how!r} is not a policy: choose 'error', 'level' or 'drop'.")
        obs = self.obs.copy()
        for column in counts:
            if pd.api.types.is_float_dtype(obs[column].dtype):
                raise DataError(
                    f"column {column!r} is continuous and misses {counts[column]} values: a missing level needs a "
                    "categorical column. Use missing='drop' or impute it yourself."
                )
            values = np.asarray(obs[column].astype(object).where(obs[column].notna(), MISSING_LEVEL), dtype=object)
            obs[column] = values.astype(str)
        return self.replace(obs=obs, info={**self.info, "missing": record})

    def aggregate(self, by: str) -> Cohort:
        """Average the embeddings of each level of ``by`` (tiles of a slide, slides of a patient).

        Parameters
        ----------
        by
            Column of ``obs``.

        Returns
        -------
        Cohort
            One row per level, in order of first appearance; ``obs`` keeps the columns that are constant within a
            level, ``n_rows`` counts the rows averaged, ``info["aggregated"]`` names the columns left out.
        """
        from causalfm.moments import cell_sums

        factor = self.factor(by, private=True)
        sums = cell_sums(self.X, factor.codes, factor.n_levels)
        first = np.full(factor.n_levels, len(self), dtype=np.int64)
        np.minimum.at(first, factor.codes, np.arange(len(self)))
        order = np.argsort(first, kind="stable")
        keep, varying = [], []
        for column in self.obs.columns:
            codes, _ = pd.factorize(self.obs[column], use_na_sentinel=False)
            (keep if np.array_equal(codes, codes[first][factor.codes]) else varying).append(column)
        obs = self.obs.iloc[first[order]][keep].copy()
        obs["n_rows"] = sums.count[order].astype(np.int64)
        X = (sums.total[order] / sums.count[order, None]).astype(np.float64 if self.X.dtype == np.float64 else np.float32)
        record = {"by": by, "from_rows": len(self), "columns_left_out": [str(c) for c in varying]}
        return Cohort(X, obs, {**self.info, "aggregated": record})

    def fingerprint(self, columns: Iterable[str] = ()) -> str:
        """SHA-256 of the embeddings and of the named columns, as hexadecimal text: ties a report to its data."""
        digest = hashlib.sha256(f"{self.X.shape}{self.X.dtype.str}".encode())
        for rows in _row_blocks(self.X):
            digest.update(np.ascontiguousarray(self.X[rows]).tobytes())
        for name in columns:
            digest.update(str(name).encode())
            digest.update("\x1f".join(self.column(name).astype(object).map(str)).encode())
        return digest.hexdigest()

    @classmethod
    def from_anndata(cls, adata: AnnData, *, obsm: str | None = None) -> Cohort:
        """Build a cohort from ``adata.X`` or ``adata.obsm[obsm]`` and ``adata.obs``.

        Raises
        ------
        DataError
            Unknown ``obsm`` key, or a sparse matrix.
        """
        if obsm is not None and obsm not in adata.obsm:
            raise DataError(f"obsm has no key {obsm!r}. Keys: {', '.join(adata.obsm) or 'none'}.")
        X = adata.X if obsm is None else adata.obsm[obsm]
        if X is None:
            raise DataError(f"adata.X is empty. Name the embeddings with obsm=. Keys: {', '.join(adata.obsm) or 'none'}.")
        if hasattr(X, "toarray"):
            raise DataError("the matrix is sparse: embeddings are dense. Pass obsm= or convert it with .toarray().")
        return cls(np.asarray(X), adata.obs.copy(), {"source": "anndata", "obsm": obsm})

    def to_anndata(self) -> AnnData:
        """Return an AnnData with the embeddings in ``X`` and the table in ``obs`` (index as text)."""
        from anndata import AnnData

        obs = self.obs.copy()
        obs.index = obs.index.astype(str)
        return AnnData(np.asarray(self.X), obs=obs)


def _row_blocks(X: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // max(1, X.shape[1] * 8))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def _check_matrix(X: np.ndarray) -> None:
    if X.ndim != 2:
        hint = " Reshape one vector with X[None, :]." if X.ndim == 1 else " Pool patch tokens to one vector per row first."
        raise DataError(f"X must be 2-D, rows by dimensions; it has shape {X.shape}.{hint}")
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise DataError(f"X is empty: shape {X.shape}. A cohort needs at least one row and one dimension.")
    if X.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(f"X has dtype {X.dtype}; embeddings are float16, float32 or float64. Convert it: X.astype('float32').")


def _check_finite(X: np.ndarray) -> None:
    bad: list[int] = []
    for rows in _row_blocks(X):
        block = X[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(block.sum(dtype=np.float64)):  # one cheap pass; rows are looked at only if it fails
                continue
        bad.extend((np.flatnonzero(~np.isfinite(block).all(axis=1)) + rows.start).tolist())
    if bad:
        raise DataError(
            f"X has NaN or infinite values in {len(bad)} of {len(X)} rows ({positions(bad)}): "
            "re-extract these rows or leave them out, cohort rows are never dropped silently."
        )


def _refuse_missing(column: pd.Series, name: str) -> None:
    missing = np.flatnonzero(column.isna().to_numpy()).tolist()
    if missing:
        raise DataError(
            f"column {name!r} has {len(missing)} missing values of {len(column)} ({positions(missing)}): "
            "choose missing='drop' or missing='level', or complete the table."
        )
