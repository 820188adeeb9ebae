"""Tables of a data set as they lie on disk: the file, the columns that are relied on, rows that must be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError, positions
from causalfm.tables import join_tables, read_table


def existing_folder(folder: str | Path, of: str) -> Path:
    """Return a folder that is there.

    Raises
    ------
    DataError
        It is not.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"there is no folder {path.name!r} where you point: pass the folder of {of}.")
    return path


def existing_file(folder: Path, name: str, card: str) -> Path:
    """Return a file of a data set.

    Raises
    ------
    DataError
        It is not in the folder; names the file and the card that says where it comes from.
    """
    path = folder / name
    if not path.is_file():
        raise DataError(
            f"the folder has no file {name}: pass the folder that holds it; datasets/{card}.md says how it is laid "
            "out and "
            f"fetched ('causalfm data get {card} FOLDER')."
        )
    return path


def table_of(path: Path, columns: Sequence[str], frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read a table and refuse one without the columns that are relied on.

    Parameters
    ----------
    path
        ``.csv``, ``.csv.gz`` or ``.parquet``.
    columns
        Needed columns.
    frame
        The table, where another reader has read it.

    Raises
    ------
    DataError
        Missing columns, with those that are there.
    """
    table = join_tables([read_table(path) if frame is None else frame])
    if missing := [name for name in columns if name not in table.columns]:
        have = ", ".join(map(str, table.columns))
        near = did_you_mean(missing[0], table.columns)
        raise DataError(
            f"{path.name!r} has no column {', '.join(map(repr, missing))}: is it the file of this data set, and of "
            "this "
            f"version? Columns: {have}.{near}"
        )
    return table


def refuse_repeated(table: pd.DataFrame, keys: Sequence[str], name: str) -> None:
    """Refuse rows that describe one image twice.

    Raises
    ------
    DataError
        With the positions of the rows, without the values.
    """
    where = np.flatnonzero(table.duplicated(list(keys), keep=False)).tolist()
    if where:
        raise DataError(
            f"{name}: {len(where)} rows repeat the {' and '.join(keys)} of another ({positions(where)}): an image "
            "counts "
            "once. Drop the copies."
        )


def refuse_gaps(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Refuse missing values in columns that play a role.

    Raises
    ------
    DataError
        The column, and the positions of the rows.
    """
    for column in columns:
        where = np.flatnonzero(table[column].isna()).tolist()
        if where:
            raise DataError(f"{name}: column {column!r} is empty in {len(where)} rows ({positions(where)}).")


def refuse_odd_names(column: pd.Series, pattern: str, name: str) -> None:
    """Refuse values that are not of the form that files of this set are named by: they become parts of paths.

    Raises
    ------
    DataError
        The column and the positions of the rows, without the values.
    """
    odd = [value for value in column.unique() if not re.fullmatch(pattern, str(value))]
    if odd:
        where = np.flatnonzero(column.isin(odd)).tolist()
        raise DataError(
            f"{name}: column {column.name!r} has {len(where)} values that name no file of this set "
            f"({positions(where)})."
        )


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as plain text, numbers without a decimal point: it holds names, not quantities."""
    if pd.api.types.is_integer_dtype(column):
        return column.astype(str).astype(object)
    values = [f"{v:.0f}" if isinstance(v, float) and v.is_integer() else str(v) for v in column]
    return pd.Series(np.asarray(values, dtype=object), index=column.index, name=column.name)
