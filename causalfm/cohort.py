"""A cohort: embeddings and a row-aligned table. Row order is the contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError, positions
from causalfm.fingerprinting import fingerprints
from causalfm.lazy_rows import is_lazy, part_of
from causalfm.validation import (
    aligned_matrix,
    check_matrix,
    check_table,
    differs_within,
    encode_levels,
    missing_as_level,
    refuse_missing,
    row_blocks,
)

if TYPE_CHECKING:
    from anndata import AnnData


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
        ``(n, d)`` floats; integers are refused with a way out. A memory map stays one; a Dask array becomes
        :class:`causalfm.lazy_rows.LazyRows`, of which a few chunks are read at a time.
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
        self._settle(values=True)

    @classmethod
    def _of_finite(cls, X: np.ndarray, obs: pd.DataFrame, info: Mapping[str, Any]) -> Cohort:
        """Build from embeddings that a reader found finite as they came in; everything else is checked as ever."""
        cohort = object.__new__(cls)
        for name, value in (("X", X), ("obs", obs), ("info", info)):
            object.__setattr__(cohort, name, value)
        cohort._settle(values=False)
        return cohort

    def _settle(self, *, values: bool) -> None:
        X = aligned_matrix(self.X, self.obs)
        object.__setattr__(self, "X", X)
        check_table(self.obs)
        check_matrix(X, values=values)

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        columns = ", ".join(map(str, self.obs.columns))
        return f"Cohort({len(self)} rows x {self.d} dimensions, {self.X.dtype}, columns: {columns})"

    @property
    def d(self) -> int:
        """Embedding dimension."""
        return int(self.X.shape[1])

    def __getitem__(self, rows: Any) -> Cohort:
        """Select rows by slice, boolean mask or positions, in the order given.

        A slice keeps a memory map a memory map; a mask or positions read the chosen rows into memory. Of lazy rows
        those chosen are read if they fit into an eighth of the limit.

        Raises
        ------
        DataError
            A mask of another length, positions out of range or repeated, nothing selected.
        """
        if isinstance(rows, slice):
            return Cohort(part_of(self.X, rows), self.obs.iloc[rows], self.info)
        chosen = np.atleast_1d(np.asarray(rows))
        if chosen.dtype == bool and chosen.shape != (len(self),):
            raise DataError(f"the row mask has shape {chosen.shape} and the cohort {len(self)} rows")
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "bui"):
            raise DataError("select rows by a slice, a boolean mask or a list of positions")
        where = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if where.size and (where.min() < -len(self) or where.max() >= len(self)):
            raise DataError(f"row positions run from {where.min()} to {where.max()}; the cohort has {len(self)} rows")
        return Cohort(part_of(self.X, where), self.obs.iloc[where], self.info)

    def replace(self, **changes: Any) -> Cohort:
        """Return a copy with ``X``, ``obs`` or ``info`` replaced."""
        return dataclasses.replace(self, **changes)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield consecutive row blocks as float32 or float64, each at most 64 MiB: one pass, also over a memory map."""
        for rows in row_blocks(self.X):
            block = self.X[rows]
            yield rows, np.asarray(block, dtype=np.float32 if block.dtype == np.float16 else block.dtype)

    def column(self, name: str) -> pd.Series:
        """Return a column of ``obs`` or raise a DataError that lists the columns there are."""
        if name not in self.obs.columns:
            near, known = did_you_mean(name, self.obs.columns), ", ".join(map(str, self.obs.columns))
            raise DataError(f"obs has no column {name!r}. Columns: {known}.{near}")
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
            Unknown column, missing values (count and first positions), levels that read the same as text.
        """
        column = self.column(name)
        refuse_missing(column, name)
        return Factor(name, *encode_levels(column, name, private=private))

    def numeric(self, name: str) -> np.ndarray:
        """Return a column as finite float64 ``(n,)`` or raise a DataError."""
        column = self.column(name)
        way_out = f"complete the table, or leave these rows out with cohort.handle_missing([{name!r}], 'drop')"
        refuse_missing(column, name, way_out)
        try:
            values = np.asarray(pd.to_numeric(column), dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(
                f"column {name!r} is declared continuous but holds text: declare it categorical or convert it."
            ) from None
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
            drops the rows. Each call that changed something appends one record to ``info["missing"]``.

        Returns
        -------
        Cohort
            This cohort if nothing was missing, else a new one.

        Raises
        ------
        DataError
            Missing values under ``"error"``; a numeric column under ``"level"``; no row left under ``"drop"``.
        """
        if how not in ("error", "level", "drop"):
            raise DataError(f"missing={how!r} is not a policy: choose 'error', 'level' or 'drop'.")
        columns = list(dict.fromkeys(columns))
        counts = {c: int(self.column(c).isna().sum()) for c in columns}
        counts = {c: k for c, k in counts.items() if k}
        if not counts:
            return self
        if how == "error":
            column = next(iter(counts))
            refuse_missing(self.obs[column], column)
        record: dict[str, Any] = {"policy": how, "counts": counts}
        if how == "level":
            obs = self.obs.assign(**{c: missing_as_level(self.obs[c], c) for c in counts})
            return self.replace(obs=obs, info=self._with_missing(record))
        keep = ~self.obs[columns].isna().any(axis=1).to_numpy()
        if not keep.any():
            raise DataError(
                f"every row misses a value in {', '.join(counts)}: nothing is left after missing='drop'. "
                "Complete the table or leave out the emptiest column."
            )
        record["rows_dropped"] = int((~keep).sum())
        return self._kept(np.flatnonzero(keep), self._with_missing(record))

    def _kept(self, rows: np.ndarray, info: Mapping[str, Any]) -> Cohort:
        """Return rows at ascending positions, with other provenance.

        Lazy rows stay where they are, however few: what is asked of a cohort must not depend on the memory limit.
        """
        X: Any = self.X.kept(rows) if is_lazy(self.X) else self.X[rows]
        return Cohort._of_finite(X, self.obs.iloc[rows], info)

    def _with_missing(self, record: dict[str, Any]) -> dict[str, Any]:
        return {**self.info, "missing": [*self.info.get("missing", []), record]}

    def aggregate(self, by: str) -> Cohort:
        """Average the embeddings of each level of ``by`` (tiles of a slide, slides of a patient).

        Parameters
        ----------
        by
            Column of ``obs``.

        Returns
        -------
        Cohort
            One row per level, in order of first appearance, under the id of its first row; float64 stays float64,
            the rest becomes float32. ``obs`` keeps the columns that are constant within a level, ``n_rows`` counts
            the rows averaged, ``info["aggregated"]`` names the columns left out.
        """
        from causalfm.moments import cell_sums

        factor = self.factor(by, private=True)
        sums = cell_sums(self.X, factor.codes, factor.n_levels)
        first = np.full(factor.n_levels, len(self), dtype=np.int64)
        np.minimum.at(first, factor.codes, np.arange(len(self)))
        order = np.argsort(first, kind="stable")
        left_out = [c for c in self.obs.columns if c == "n_rows" or differs_within(self.obs[c], factor.codes, first)]
        obs = self.obs.iloc[first[order]].drop(columns=left_out)
        obs["n_rows"] = sums.count[order].astype(np.int64)
        dtype = np.float64 if self.X.dtype == np.float64 else np.float32
        record = {"by": by, "from_rows": len(self), "columns_left_out": [str(c) for c in left_out]}
        return Cohort(sums.means()[order].astype(dtype), obs, {**self.info, "aggregated": record})

    def fingerprint(self, columns: Iterable[str] = ()) -> str:
        """SHA-256 of the embeddings and of the named columns, as hexadecimal text: ties a report to its data."""
        return fingerprints(self.X, ((name, self.column(name)) for name in columns))[1]

    @classmethod
    def from_anndata(cls, adata: AnnData, *, obsm: str | None = None) -> Cohort:
        """Build a cohort from ``adata.X`` or ``adata.obsm[obsm]`` and ``adata.obs``.

        Raises
        ------
        DataError
            Unknown ``obsm`` key, or a sparse matrix.
        """
        from causalfm.formats.annotated import choose

        X = choose(adata.X, adata.obsm, obsm)
        return cls(np.asarray(X), adata.obs.copy(), {"source": "anndata", "obsm": obsm})

    def to_anndata(self) -> AnnData:
        """Return an AnnData with the embeddings in ``X`` and the table in ``obs`` (index as text)."""
        from anndata import AnnData

        obs = self.obs.copy()
        obs.index = obs.index.astype(str)
        return AnnData(np.asarray(self.X), obs=obs)
