"""Tables on disk: CSV and parquet read without guessing, files replaced as a whole, errors that name the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    import pyarrow as pa


def existing(path: str | os.PathLike[str], label: str | None = None) -> Path:
    """Return the path of a file that is there and holds something.

    Parameters
    ----------
    path
        The file.
    label
        What to call it where its name must not be printed.

    Raises
    ------
    DataError
        Missing or empty.
    """
    path = Path(path)
    name = label or repr(path.name)
    if not path.is_file():
        missing = f"{label} is not there" if label else f"there is no file {name} where you point"
        raise DataError(f"{missing}: check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty (0 bytes): copy or export it again.")
    return path


@contextmanager
def reading(path: Path, label: str | None = None) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into a DataError that names the file and the way out.

    Parameters
    ----------
    path
        The file.
    label
        What to call it where its name is a slide or patient: a position, such as ``"file 3 of 'features'"``.
    """
    name = label or repr(path.name)
    try:
        yield
    except DataError:
        raise
    except MemoryError:  # a damaged header asks for exabytes, a sound one for more than this machine has
        raise DataError(
            f"{name} does not fit into memory, or its header is damaged: read fewer parts at a time, use a format that "
            "stays on disk (npy), or copy the file again."
        ) from None
    except Exception as error:  # zlib, zipfile, h5py, Arrow and pandas share no base class
        text = str(error)
        if "allow_pickle" in text or "Python objects" in text:
            raise DataError(
                f"{name} holds pickled Python objects or is no array file: causalfm never unpickles, because "
                "that can run code. Save a plain float array, np.savez(path, X=X), and pass the table with obs=."
            ) from None
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{name} is not UTF-8 text: save it again as 'CSV UTF-8'.") from None
        detail = f": {text.strip()}" if isinstance(error, pd.errors.ParserError) else ""  # counts fields, quotes none
        raise DataError(
            f"{name} cannot be read ({type(error).__name__}{detail}): it is damaged, truncated or of another "
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
        _swap(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _swap(new: Path, path: Path) -> None:
    """Put a file or folder in the place of another; only a full folder is in the way of a rename."""
    if not path.is_dir():
        new.replace(path)
        return
    old = path.with_name(f"{new.name}.old")
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table from ``.csv``, ``.csv.gz`` or ``.parquet``.

    A CSV is UTF-8, with or without a byte order mark, one header line, fields parted by commas. Empty fields and what
    pandas takes for missing (``NA``, ``NaN``, ``null``, ``None`` ...) are missing. A column of whole numbers stays text
    where a number would lose how it was written (``007``).

    Raises
    ------
    DataError
        Unknown ending, damaged file, not UTF-8, repeated column names, rows longer or shorter than the header.
    """
    name = path.name.lower()
    if name.endswith(".parquet"):
        with reading(path):
            return to_frame(arrow_table(path))
    if not name.endswith((".csv", ".csv.gz")):
        raise DataError(f"{path.name!r}: the table is read from .csv, .csv.gz or .parquet, or passed as a DataFrame.")
    with reading(path):
        content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
        if b"\0" in content:  # legal UTF-8, but pandas ends the field there
            raise DataError(f"{path.name!r} is not UTF-8 text (it has zero bytes): save it again as 'CSV UTF-8'.")
        frame = pd.read_csv(io.BytesIO(content), low_memory=False)
        text = pd.read_csv(io.BytesIO(content), dtype=str, low_memory=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would take the first column for the index
        raise DataError(f"{path.name!r}: the rows have more fields than the header. Export the table again.")
    with reading(path):
        _check_fields(content.decode("utf-8-sig"), path)
    for column in frame.columns:
        if _loses_digits(frame[column], text[column]):
            frame[column] = text[column]
    return frame


def _check_fields(content: str, path: Path) -> None:
    """Refuse what pandas mends in silence: a repeated name becomes ``site.1``, a short row ends in missing values."""
    rows = (row for row in csv.reader(io.StringIO(content, newline="")) if row)
    header = next(rows)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path.name!r} has repeated column names: {', '.join(twice)}. Rename or drop the copies.")
    short = [i for i, row in enumerate(rows) if len(row) < len(header)]
    if short:
        raise DataError(
            f"{path.name!r}: {len(short)} rows have fewer fields than the header ({positions(short)}, from 0 after the "
            "header): the file is cut or was edited by hand. Export the table again."
        )


def _loses_digits(numbers: pd.Series, text: pd.Series) -> bool:
    """Whether whole numbers were written in a way that numbers forget: 007, +7, more digits than a float holds."""
    if not pd.api.types.is_numeric_dtype(numbers) or pd.api.types.is_bool_dtype(numbers):
        return False
    there = text.notna()
    written = text[there].astype(object)
    if written.empty or not written.str.fullmatch(r"\s*[+-]?\d+\s*").all():
        return False
    values = numbers[there].to_numpy()
    if values.dtype.kind == "f":
        if (np.abs(values) >= 2**53).any():
            return True
        values = values.astype(np.int64)
    return bool((values.astype(str) != written.to_numpy(dtype=str)).any())


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
    """Read a parquet file as it is, under :func:`reading`: no pandas conversion, no folder names as columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
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
