"""What a corrector reads beside the embeddings: the factor to remove, biology, covariates, groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from causalfm.errors import DataError, positions
from causalfm.lazy_rows import as_rows, is_lazy
from causalfm.validation import check_matrix, encode_levels, refuse_missing

FLOATS = (np.float64, np.float32, np.float16)


@dataclass(frozen=True, eq=False)
class Column:
    """One column, coded: ``values (n,)`` are codes into ``levels``, or numbers if ``levels`` is None."""

    name: str
    values: np.ndarray
    levels: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to fit on: levels of the factor, regressors, weights."""

    codes: np.ndarray
    levels: tuple[str, ...]
    columns: list[Column]
    groups: Any

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, kept: np.ndarray) -> Batch:
        """Return the rows of a mask."""
        used, codes = np.unique(self.codes[kept], return_inverse=True)
        columns = []
        for column in self.columns:
            values, levels = column.values[kept], column.levels
            if levels is not None:
                found, values = np.unique(values, return_inverse=True)
                levels = tuple(levels[i] for i in found)
            columns.append(Column(column.name, values, levels))
        groups = None if self.groups is None else np.asarray(self.groups)[kept]
        return Batch(codes, tuple(self.levels[i] for i in used), columns, groups)


@dataclass(frozen=True)
class Regressors:
    """Columns of a regression: 1, an indicator per level of a categorical column, each number less a shift.

    Attributes
    ----------
    names
        ``"1"``, ``"biology=LUAD"``, ``"age"``.
    shifts
        Of the numbers, by name: near their mean.
    """

    names: tuple[str, ...] = ("1",)
    shifts: Mapping[str, float] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns read, in order."""
        return tuple(dict.fromkeys(name.split("=", 1)[0] for name in self.names[1:]))

    def extended(self, columns: Iterable[Column]) -> Regressors:
        """Return these and those that new columns, or new levels of the same, need."""
        names, shifts = list(self.names), dict(self.shifts or {})
        for column in columns:
            if column.levels is None:
                shifts.setdefault(column.name, float(column.values.mean()))
                wanted = [column.name]
            else:
                wanted = [f"{column.name}={level}" for level in column.levels]
            names += [name for name in wanted if name not in names]
        return Regressors(tuple(names), shifts)

    def refuse_others(self, columns: Iterable[Column]) -> None:
        """Refuse columns other than those of the fit, and numbers where it had levels or the reverse."""
        columns = list(columns)
        names = [column.name for column in columns]
        if set(names) != set(self.columns):
            given, wanted = (", ".join(c) or "none" for c in (names, self.columns))
            raise DataError(f"biology and covariates are not those of the fit: it had {wanted}, here are {given}.")
        for column in columns:
            if (column.levels is None) != (column.name in (self.shifts or {})):
                was, now = ("levels", "numbers") if column.levels is None else ("numbers", "levels")
                raise DataError(f"covariate {column.name!r} had {was} at the fit and has {now} here: convert it.")

    def matrix(self, columns: Iterable[Column], n: int) -> np.ndarray:
        """Return regressors ``(n, q)``.

        Raises
        ------
        DataError
            Other columns than the fit had, or a level that it never saw.
        """
        columns = list(columns)
        self.refuse_others(columns)
        at = {name: i for i, name in enumerate(self.names)}
        out = np.zeros((n, len(self.names)))
        out[:, 0] = 1.0
        for column in columns:
            if column.levels is None:
                out[:, at[column.name]] = column.values - (self.shifts or {})[column.name]
                continue
            where = np.array([at.get(f"{column.name}={level}", -1) for level in column.levels])
            if (where < 0).any():
                new = ", ".join(repr(v) for v, w in zip(column.levels, where, strict=True) if w < 0)
                raise DataError(f"{column.name!r} has levels that the fit never saw: {new}. Leave these rows out.")
            out[np.arange(n), where[column.values]] = 1.0
        return out


def coded(values: Any, name: str, n: int, *, private: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """Code one value per row.

    Raises
    ------
    DataError
        Another number of values, several columns, missing values, levels that read the same.
    """
    column = _series(values, name, n)
    refuse_missing(column, name, "complete it, or leave these rows out")
    return encode_levels(column, name, private=private)


def read_columns(biology: Any, covariates: Any, n: int) -> list[Column]:
    """Read biology (always categorical) and covariates (numbers stay numbers, everything else is categorical).

    Raises
    ------
    DataError
        See :func:`coded`; numbers that are not finite; repeated names.
    """
    out = [] if biology is None else [Column("biology", *coded(biology, "biology", n))]
    if covariates is None:
        return out
    for name, values in _frame(covariates, n).items():
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
                raise DataError(f"covariate {name!r} is not finite in {positions(bad)}: complete it.")
            out.append(Column(str(name), numbers, None))
        else:
            out.append(Column(str(name), *coded(values, str(name), n)))
    return out


def read_rows(corrector: Any, X: Any, *, reset: bool) -> Any:
    """Check rows and their number of dimensions, not their values, which are seen block by block.

    Parameters
    ----------
    corrector
        Whose ``n_features_in_`` is set (``reset``) or must be theirs.
    X
        ``(n, d)`` array, memory map or Dask array; the last stays where it is.
    reset
        At the first fit.

    Raises
    ------
    DataError, ValueError
        As scikit-learn's ``validate_data``; rows of another dimension than the fit's.
    """
    X = as_rows(X)
    if not is_lazy(X):
        return np.asarray(validate_data(corrector, X, dtype=FLOATS, ensure_all_finite=False, reset=reset))
    check_matrix(X, values=False)
    if reset:
        corrector.n_features_in_ = X.shape[1]
    elif X.shape[1] != corrector.n_features_in_:
        raise DataError(f"X has {X.shape[1]} dimensions, and the rows of the fit had {corrector.n_features_in_}.")
    return X


def equal_weights(groups: Any, n: int) -> tuple[np.ndarray | None, int]:
    """Weights ``(n,)`` with which groups weigh equally, summing to their number; None and ``n`` without groups."""
    if groups is None:
        return None, n
    codes, levels = coded(groups, "groups", n, private=True)
    return 1.0 / np.bincount(codes)[codes], len(levels)


def _frame(covariates: Any, n: int) -> pd.DataFrame:
    if isinstance(covariates, pd.Series):
        covariates = covariates.to_frame(covariates.name or "covariate 0")
    if not isinstance(covariates, pd.DataFrame):
        array = np.asarray(covariates)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise DataError(f"covariates has shape {array.shape}: pass a table with one row per embedding.")
        covariates = pd.DataFrame(array, columns=[f"covariate {i}" for i in range(array.shape[1])]).infer_objects()
    if len(covariates) != n:
        raise DataError(f"covariates has {len(covariates)} rows and X has {n}: they must describe the same rows.")
    names = [str(name) for name in covariates.columns]
    taken = {"1", "biology", "factor"}
    if len(set(names)) < len(names) or taken & set(names) or any("=" in name for name in names):
        raise DataError("covariates need names of their own, without '=', and not '1', 'biology' or 'factor': rename.")
    frame: pd.DataFrame = covariates
    return frame


def _series(values: Any, name: str, n: int) -> pd.Series:
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        values = values.iloc[:, 0]
    if not isinstance(values, pd.Series):
        array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise DataError(f"{name} has shape {array.shape}: it should be a 1d array, one value per row.")
        values = pd.Series(array)
    if len(values) != n:
        raise DataError(f"{name} has {len(values)} values and X has {n} rows: they must describe the same rows.")
    column: pd.Series = values.reset_index(drop=True)
    return column
