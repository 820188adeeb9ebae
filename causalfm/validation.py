"""What a matrix, a table and a column must satisfy; every message says where, never who."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.lazy_rows import LazyRows, as_rows
from causalfm.row_tasks import map_blocks, spans

BLOCK_BYTES = 64 * 2**20
TEXT_ROWS = 2**16
MISSING_LEVEL = "(missing)"


def row_blocks(X: np.ndarray | LazyRows) -> list[slice]:
    """Return consecutive row slices of at most 64 MiB of float64 each.

    Parameters
    ----------
    X
        ``(n, d)``.

    Returns
    -------
    list of slice
        Rows of each block.
    """
    return spans(len(X), max(1, BLOCK_BYTES // (8 * X.shape[1])))


def aligned_matrix(X: Any, obs: pd.DataFrame) -> np.ndarray:
    """Return embeddings as an array with the rows of the table; nothing is aligned by guessing.

    Parameters
    ----------
    X
        Arrays are returned as they are, Dask arrays as lazy rows; lists, DataFrames and CPU tensors are converted.
    obs
        The table. The index of a DataFrame ``X`` must equal its index.

    Raises
    ------
    DataError
        ``obs`` is no DataFrame; ``X`` masked, sparse or ragged, a tensor that NumPy cannot read, of another length or
        under other ids.
    """
    if not isinstance(obs, pd.DataFrame):
        raise DataError(f"obs is a {type(obs).__name__}, not a pandas DataFrame: wrap it in pd.DataFrame(...)")
    if isinstance(X, pd.DataFrame) and len(X) == len(obs) and not X.index.equals(obs.index):
        where = np.flatnonzero(np.asarray(X.index != obs.index)).tolist()
        raise DataError(
            f"X and obs are DataFrames under different row ids ({positions(where)}): bring them into one order with "
            "X.loc[obs.index], or pass X.to_numpy() if they are in one already."
        )
    matrix = _as_array(as_rows(X))
    if matrix.ndim == 2 and len(matrix) != len(obs):
        raise DataError(
            f"X has {len(matrix)} rows and obs has {len(obs)}: bring them to the same rows in the same order first."
            + " A CSV without a header line loses its first row." * (len(obs) == len(matrix) - 1)
        )
    return matrix


def _as_array(X: Any) -> np.ndarray:
    if isinstance(X, np.ma.MaskedArray):
        raise DataError(
            f"X is a masked array: leave out the {int(np.ma.getmaskarray(X).any(axis=-1).sum())} rows with "
            "masked values, or fill them, and pass X.data."
        )
    if hasattr(X, "toarray"):
        raise DataError("X is sparse: embeddings are dense. Convert it with X.toarray().")
    try:
        return X if type(X) in (np.ndarray, np.memmap, LazyRows) else np.asarray(X)
    except ValueError:
        raise DataError("X is ragged: every row needs the same number of dimensions.") from None
    except (TypeError, RuntimeError):
        raise DataError(
            f"X is a {type(X).__name__} that NumPy cannot read as it is: pass X.detach().float().cpu().numpy()."
        ) from None


def check_matrix(X: np.ndarray | LazyRows, *, values: bool = True) -> None:
    """Refuse what is not a non-empty 2-D floating matrix of finite values.

    Parameters
    ----------
    X
        ``(n, d)``.
    values
        Look at the values too; a reader that looked while they were in cache leaves it out.

    Raises
    ------
    DataError
        Shape, dtype, or the count and first positions of rows that are not finite.
    """
    if X.ndim != 2:
        hint = ("Pass an array (n, d).", "Reshape one vector with X[None, :].", "Pool tokens to one vector per row.")
        raise DataError(f"X must be 2-D, rows by dimensions; it has shape {X.shape}. {hint[min(X.ndim, 2)]}")
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise DataError(f"X is empty: shape {X.shape}. A cohort needs at least one row and one dimension.")
    if X.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"X has dtype {X.dtype}; embeddings are float16, float32 or float64. Convert it: X.astype('float32')."
        )
    if values:
        bad = [i + rows.start for rows, found in map_blocks(X, row_blocks(X), rows_not_finite) for i in found]
        refuse_not_finite(bad, len(X))


def rows_not_finite(block: np.ndarray) -> list[int]:
    """Return the positions of rows with NaN or infinite values: one cheap pass, a second one only if it finds some.

    Parameters
    ----------
    block
        ``(n, d)`` float16, float32 or float64.
    """
    if block.dtype == np.float16:  # half precision has no fast arithmetic: not finite = all bits of the exponent set
        exponents = np.ascontiguousarray(block).view(np.uint16) & 0x7C00
        finite = block.size == 0 or exponents.max() < 0x7C00
    else:  # no sum of squares hides NaN or infinity; it may overflow for finite rows, which the second pass sees
        flat = block.ravel(order="K")
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(np.dot(flat, flat))
    return [] if finite else np.flatnonzero(~np.isfinite(block).all(axis=1)).tolist()


def refuse_not_finite(rows: list[int], n: int) -> None:
    """Refuse rows that are not finite, of ``n``.

    Raises
    ------
    DataError
        Their count and first positions.
    """
    if rows:
        raise DataError(
            f"X has NaN or infinite values in {len(rows)} of {n} rows ({positions(rows)}): extract these rows again "
            "or leave them out yourself; causalfm drops no rows silently."
        )


def check_table(obs: pd.DataFrame) -> None:
    """Refuse repeated column names and repeated ids.

    Raises
    ------
    DataError
        The repeated names, or the positions of the repeated ids.
    """
    if isinstance(obs.columns, pd.MultiIndex):
        raise DataError(
            f"obs has column names of {obs.columns.nlevels} levels: flatten them, for instance with "
            "obs.columns = ['_'.join(map(str, name)) for name in obs.columns]."
        )
    if not obs.columns.is_unique:
        twice = sorted(set(obs.columns[obs.columns.duplicated()].astype(str)))
        raise DataError(f"obs has repeated column names: {', '.join(twice)}. Rename or drop the copies.")
    if not obs.index.is_unique:
        where = np.flatnonzero(obs.index.duplicated(keep=False)).tolist()
        raise DataError(
            f"the index of obs is not unique ({positions(where)}): each row needs an id of its own. "
            "Use obs.reset_index(drop=True) if the index means nothing."
        )


def refuse_missing(
    column: pd.Series, name: str, way_out: str = "choose missing='drop' or missing='level', or complete the table"
) -> None:
    """Refuse missing values.

    Parameters
    ----------
    column, name
        The values and their column.
    way_out
        What to do.

    Raises
    ------
    DataError
        Their count and first positions.
    """
    missing = np.flatnonzero(column.isna().to_numpy()).tolist()
    if missing:
        raise DataError(
            f"column {name!r} has {len(missing)} missing values of {len(column)} ({positions(missing)}): {way_out}."
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
        Two levels read the same as text, such as ``1`` and ``"1"``: merging them silently would change the design;
        blank text, which is a missing value in disguise; lists or dictionaries.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, levels = used.cat.codes.to_numpy(np.int64), list(used.cat.categories)
    else:
        try:
            found, distinct = pd.factorize(np.asarray(column, dtype=object))
        except TypeError:
            raise DataError(f"column {name!r} holds lists or dictionaries: make it one value per row.") from None
        try:
            order = np.argsort(distinct, kind="stable")
        except TypeError:  # mixed types have no order of their own
            order = np.argsort(distinct.astype(str), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        codes, levels = rank[found], distinct[order].tolist()
    names = [str(level) for level in levels]
    if blank := [code for code, level in enumerate(names) if not level.strip()]:
        where = np.flatnonzero(np.isin(codes, blank)).tolist()
        raise DataError(
            f"column {name!r} is blank in {len(where)} of {len(codes)} rows ({positions(where)}): name this level, or "
            "turn it into a missing value (None) and choose missing='drop' or missing='level'."
        )
    if len(set(names)) < len(names):
        shown = "" if private else f": {', '.join(sorted({v for v in names if names.count(v) > 1}))}"
        raise DataError(f"column {name!r} has levels that read the same as text{shown}. Convert it with astype(str).")
    return codes, tuple(names)


def texts(column: pd.Series) -> Iterator[bytes]:
    """Yield a column as text, joined by the unit separator, some rows at a time: all at once it could fill memory."""
    for start in range(0, len(column), TEXT_ROWS):
        part = column.iloc[start : start + TEXT_ROWS].astype(object).map(str)
        yield ("\x1f" * (start > 0) + "\x1f".join(part)).encode()


def differs_within(column: pd.Series, codes: np.ndarray, first: np.ndarray) -> bool:
    """Whether a column differs, in any row of a level, from the ``first (levels,)`` row of that level."""
    values, _ = pd.factorize(column, use_na_sentinel=False)
    return not np.array_equal(values, values[first][codes])


def look_alikes(levels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the levels that differ in case, blanks or the form of their characters only, such as ``"A"`` and ``"a "``.

    Parameters
    ----------
    levels
        Level names.

    Returns
    -------
    list of tuple
        Each at least two levels.
    """
    alike: dict[str, list[str]] = {}
    for level in levels:
        alike.setdefault("".join(unicodedata.normalize("NFKC", level).casefold().split()), []).append(level)
    return [tuple(same) for same in alike.values() if len(same) > 1]
