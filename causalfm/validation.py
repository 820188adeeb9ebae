"""What a matrix, a table and a column must satisfy; every message says where, never who."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions

BLOCK_BYTES = 64 * 2**20
MISSING_LEVEL = "(missing)"


def row_blocks(X: np.ndarray) -> Iterator[slice]:
    """Yield consecutive row slices of at most 64 MiB of float64 each.

    Parameters
    ----------
    X
        ``(n, d)``.

    Yields
    ------
    slice
        Rows of one block.
    """
    step = max(1, BLOCK_BYTES // (8 * X.shape[1]))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def check_matrix(X: np.ndarray) -> None:
    """Refuse what is not a non-empty 2-D floating matrix of finite values.

    Raises
    ------
    DataError
        Shape, dtype, or the count and first positions of rows that are not finite.
    """
    if X.ndim != 2:
        hint = "Reshape one vector with X[None, :]." if X.ndim == 1 else "Pool tokens to one vector per row first."
        raise DataError(f"X must be 2-D, rows by dimensions; it has shape {X.shape}. {hint}")
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise DataError(f"X is empty: shape {X.shape}. A cohort needs at least one row and one dimension.")
    if X.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"X has dtype {X.dtype}; embeddings are float16, float32 or float64. Convert it: X.astype('float32')."
        )
    bad: list[int] = []
    for rows in row_blocks(X):
        block = X[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            # One cheap pass; rows are looked at only if the sum is not finite. Finite rows can overflow it too.
            if np.isfinite(block.sum(dtype=np.float64)):
                continue
        bad.extend((np.flatnonzero(~np.isfinite(block).all(axis=1)) + rows.start).tolist())
    if bad:
        raise DataError(
            f"X has NaN or infinite values in {len(bad)} of {len(X)} rows ({positions(bad)}): extract these rows again "
            "or leave them out yourself; causalfm drops no rows silently."
        )


def check_table(obs: pd.DataFrame) -> None:
    """Refuse repeated column names and repeated ids.

    Raises
    ------
    DataError
        The repeated names, or the positions of the repeated ids.
    """
    if not obs.columns.is_unique:
        twice = sorted(set(obs.columns[obs.columns.duplicated()].astype(str)))
        raise DataError(f"obs has repeated column names: {', '.join(twice)}. Rename or drop the copies.")
    if not obs.index.is_unique:
        where = np.flatnonzero(obs.index.duplicated(keep=False)).tolist()
        raise DataError(
            f"the index of obs is not unique ({positions(where)}): each row needs an id of its own. "
            "Use obs.reset_index(drop=True) if the index means nothing."
        )


def refuse_missing(column: pd.Series, name: str) -> None:
    """Refuse missing values.

    Raises
    ------
    DataError
        Their count and first positions.
    """
    missing = np.flatnonzero(column.isna().to_numpy()).tolist()
    if missing:
        raise DataError(
            f"column {name!r} has {len(missing)} missing values of {len(column)} ({positions(missing)}): "
            "choose missing='drop' or missing='level', or complete the table."
        )


def missing_as_level(column: pd.Series, name: str) -> pd.Series:
    """Return the column with missing values as the level ``"(missing)"``, last in a categorical column.

    Raises
    ------
    DataError
        A numeric column, or one that already has such a level.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise DataError(
            f"column {name!r} is numeric and misses {int(column.isna().sum())} values: a missing level needs a "
            "categorical column. Convert it with astype('category'), use missing='drop', or impute it yourself."
        )
    if (column == MISSING_LEVEL).any():
        raise DataError(f"column {name!r} already has a level {MISSING_LEVEL!r}: rename it first.")
    if isinstance(column.dtype, pd.CategoricalDtype):  # keeps the order of the levels
        return column.cat.add_categories([MISSING_LEVEL]).fillna(MISSING_LEVEL)
    return column.astype(object).where(column.notna(), MISSING_LEVEL)


def encode_levels(column: pd.Series, name: str, *, private: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Code a column without missing values.

    Parameters
    ----------
    column
        Any dtype; an unused category is no level.
    name
        Its name, for the message.
    private
        Keep the levels out of messages.

    Returns
    -------
    tuple
        Codes ``(n,)`` int64 and the level names as text: sorted, or in the order of a categorical column.

    Raises
    ------
    DataError
        Two levels read the same as text, such as ``1`` and ``"1"``: merging them silently would change the design.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, levels = used.cat.codes.to_numpy(np.int64), list(used.cat.categories)
    else:
        found, distinct = pd.factorize(np.asarray(column, dtype=object))
        try:
            order = np.argsort(distinct, kind="stable")
        except TypeError:  # mixed types have no order of their own
            order = np.argsort(distinct.astype(str), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        codes, levels = rank[found], distinct[order].tolist()
    names = [str(level) for level in levels]
    if len(set(names)) < len(names):
        shown = "" if private else f": {', '.join(sorted({v for v in names if names.count(v) > 1}))}"
        raise DataError(f"column {name!r} has levels that read the same as text{shown}. Convert it with astype(str).")
    return codes, tuple(names)
