"""Tables on disk: CSV and parquet read without guessing, files replaced as a whole, errors that name the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd

from causalfm.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there and holds something.

    Raises
    ------
    DataError
        Missing or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path.name!r} where you point: check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name!r} is empty (0 bytes): copy or export it again.")
    return path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into a DataError that names the file and the way out."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zlib, zipfile, h5py, Arrow and pandas share no base class
        text = str(error)
        if "allow_pickle" in text or "Python objects" in text:
            raise DataError(
                f"{path.name!r} holds pickled Python objects or is no array file: causalfm never unpickles, because "
                "that can run code. Save a plain float array, np.savez(path, X=X), and pass the table with obs=."
            ) from None
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{path.name!r} is not UTF-8 text: save it again as 'CSV UTF-8'.") from None
        detail = f": {text.strip()}" if isinstance(error, pd.errors.ParserError) else ""  # counts fields, quotes none
        raise DataError(
            f"{path.name!r} cannot be read ({type(error).__name__}{detail}): it is damaged, truncated or of another "
            "format than its name says. Copy or export it again."
        ) from None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block ends well, and is removed if it does not.

    Parameters
    ----------
    path
        Final file; missing parent folders are made.

    Yields
    ------
    Path
        A file name in the same folder, with the same ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table from ``.csv``, ``.csv.gz`` or ``.parquet``.

    Raises
    ------
    DataError
        Unknown ending, damaged file, not UTF-8, rows with more fields than the header.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        return to_frame(arrow_table(path))
    if not name.endswith((".csv", ".csv.gz")):
        raise DataError(f"{path.name!r}: the table is read from .csv, .csv.gz or .parquet, or passed as a DataFrame.")
    with reading(path):
        frame = pd.read_csv(path, low_memory=False)
        text = pd.read_csv(path, dtype=str, low_memory=False)
        for column in frame.columns:  # "007" and "7" are two patients: keep the text if numbers would merge whole ones
            whole = pd.api.types.is_numeric_dtype(frame[column]) and not text[column].str.contains(r"[.eE]").any()
            if whole and frame[column].nunique() < text[column].nunique():
                frame[column] = text[column]
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would take the first column for the index
        raise DataError(f"{path.name!r}: the rows have more fields than the header. Export the table again.")
    return frame


def join_tables(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put tables one after the other; row numbers start again only if every part was merely numbered.

    Raises
    ------
    DataError
        Parts with different columns.
    """
    for i, table in enumerate(tables):
        differ = sorted(set(map(str, table.columns)) ^ set(map(str, tables[0].columns)))
        if differ:
            raise DataError(f"part {i + 1} of the table has other columns than part 1: {', '.join(differ)}.")
    counted = all(isinstance(table.index, pd.RangeIndex) for table in tables)
    frame = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=counted)
    # scikit-learn cannot index the string arrays of pandas 3: text is dtype object from here on
    text = {name: object for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.StringDtype)}
    frame = frame.astype(text) if text else frame
    return frame.set_axis(frame.index.astype(object)) if isinstance(frame.index.dtype, pd.StringDtype) else frame


def arrow_table(path: Path) -> pa.Table:
    """Read a parquet file as it is: no pandas conversion, no folder names turned into columns."""
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        return file.read()


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Turn an Arrow table into a DataFrame, with the categories that :func:`to_arrow` set aside."""
    frame: pd.DataFrame = table.to_pandas()
    aside = json.loads((table.schema.metadata or {}).get(b"causalfm", b"{}"))
    for name, kept in aside.items():
        frame[name] = pd.Categorical(frame[name], categories=kept["levels"], ordered=kept["ordered"])
    return frame


def to_arrow(obs: pd.DataFrame) -> pa.Table:
    """Turn a DataFrame into an Arrow table. Arrow keeps categories of text only; others travel in the schema."""
    import pyarrow as pa

    table = pa.Table.from_pandas(obs)
    odd = {
        str(name): {"levels": column.cat.categories.tolist(), "ordered": bool(column.cat.ordered)}
        for name, column in obs.items()
        if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.inferred_type != "string"
    }
    return table.replace_schema_metadata({**table.schema.metadata, b"causalfm": json.dumps(odd).encode()})


def mixed_columns(obs: pd.DataFrame) -> list[str]:
    """Return the names of columns that no typed file can hold, such as numbers among text."""
    import pyarrow as pa

    odd = []
    for name, column in obs.items():
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            odd.append(str(name))
    return odd
