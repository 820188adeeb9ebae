"""Tables on disk: CSV and parquet read without guessing, files replaced as a whole, errors that name the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.formats.durable import atomic as atomic
from causalfm.formats.durable import existing as existing
from causalfm.formats.spelling import differ_in_kind, loses_digits

if TYPE_CHECKING:
    import pyarrow as pa


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


def read_table(path: Path) -> pd.DataFrame:
    """Read a table from ``.csv``, ``.csv.gz`` or ``.parquet``.

    A CSV is UTF-8, with or without a byte order mark, one header line, fields parted by commas. Empty fields and what
    pandas takes for missing (``NA``, ``NaN``, ``null``, ``None`` ...) are missing. A column of numbers stays text where
    a number would lose how it was written (``007``) or make one of two (``1.1`` and ``1.10``).

    Raises
    ------
    DataError
        Unknown ending, damaged file, not UTF-8, other delimiters than commas, repeated column names, rows longer or
        shorter than the header.
    """
    return read_tables([path])[0]


def read_tables(tables: Sequence[Path | pd.DataFrame]) -> list[pd.DataFrame]:
    """Read parts of one table as :func:`read_table` does; a column that is text in one CSV is text in all."""
    pairs = [(table, None) if isinstance(table, pd.DataFrame) else _read(table) for table in tables]
    for name in dict.fromkeys(column for frame, _ in pairs for column in frame.columns):
        numbers = [frame[name] for frame, text in pairs if text is not None and name in text]
        written = [text[name] for _, text in pairs if text is not None and name in text]
        others = [frame[name] for frame, text in pairs if text is None and list(frame.columns).count(name) == 1]
        if written and (differ_in_kind([*numbers, *others]) or loses_digits(numbers, written)):
            for frame, text in pairs:
                if text is not None and name in text:
                    frame[name] = text[name]
    return [frame for frame, _ in pairs]


def _read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table and, of a CSV, the same as it is written."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        with reading(path):
            return to_frame(arrow_table(path)), None
    if not name.endswith((".csv", ".csv.gz")):
        sheet = name.endswith((".xlsx", ".xls", ".ods"))
        way_out = ": save the sheet as 'CSV UTF-8', or read it with pandas.read_excel" if sheet else ""
        raise DataError(
            f"{path.name!r}: the table is read from .csv, .csv.gz or .parquet, or passed as a DataFrame{way_out}."
        )
    with reading(path):
        content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
        if b"\0" in content:  # legal UTF-8, but pandas ends the field there
            raise DataError(f"{path.name!r} is not UTF-8 text (it has zero bytes): save it again as 'CSV UTF-8'.")
        _check_delimiter(content.decode("utf-8-sig"), path)
        frame = pd.read_csv(io.BytesIO(content), low_memory=False)
        text = pd.read_csv(io.BytesIO(content), dtype=str, low_memory=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would take the first column for the index
        raise DataError(f"{path.name!r}: the rows have more fields than the header. Export the table again.")
    with reading(path):
        _check_fields(content.decode("utf-8-sig"), path)
    return frame, text


def _check_delimiter(content: str, path: Path) -> None:
    header = next(csv.reader(io.StringIO(content, newline="")), [])
    marks = [mark for mark in (";", "\t") if len(header) == 1 and mark in header[0]]
    if marks:
        raise DataError(
            f"{path.name!r} has {'semicolons' if marks[0] == ';' else 'tabs'} between its fields, not commas: save it "
            f"again, for instance with pandas.read_csv(path, sep={marks[0]!r}, dtype=str).to_csv(path, index=False)."
        )


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


def join_tables(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put tables one after the other; row numbers start again only if every part was merely numbered.

    Raises
    ------
    DataError
        Parts with different columns, orders of levels, or row ids that repeat.
    """
    for i, table in enumerate(tables):
        differ = sorted(set(map(str, table.columns)) ^ set(map(str, tables[0].columns)))
        if differ:
            raise DataError(f"part {i + 1} of the table has other columns than part 1: {', '.join(differ)}.")
        for name in table.columns:
            kinds = [part[name].dtype for part in (tables[0], table)]
            if kinds[0] != kinds[1] and any(isinstance(k, pd.CategoricalDtype) and k.ordered for k in kinds):
                raise DataError(
                    f"part {i + 1} of the table has other levels or another order in the ordered column {name!r} than "
                    "part 1: give all parts the same with .cat.set_categories(...)."
                )
    counted = all(_numbered(table.index) for table in tables)
    if (
        len(tables) > 1
        and not counted
        and (twice := pd.Index([row for table in tables for row in table.index]).duplicated()).any()
    ):
        raise DataError(
            f"{twice.sum()} row ids occur in more than one part: is a part given twice? If they are numbers without "
            "meaning, pass the table of each part with obs=[...], after table.reset_index(drop=True)."
        )
    frame = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=counted)
    # scikit-learn cannot index the string arrays of pandas 3: text is dtype object from here on
    text = {name: object for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.StringDtype)}
    frame = frame.astype(text) if text else frame
    return frame.set_axis(frame.index.astype(object)) if isinstance(frame.index.dtype, pd.StringDtype) else frame


def _numbered(index: pd.Index) -> bool:
    """Whether an index holds 0, 1, 2 ... and no more; AnnData files write the numbers as text."""
    return isinstance(index, pd.RangeIndex) or (
        index.name is None and index.map(str).tolist() == [str(i) for i in range(len(index))]
    )


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


def odd_columns(obs: pd.DataFrame) -> list[str]:
    """Return the names of columns that hold something else than text, numbers and truth values, such as intervals."""
    plain = {"string", "integer", "floating", "boolean", "empty"}
    values = {
        str(name): column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
        for name, column in obs.items()
    }
    return [name for name, column in values.items() if pd.api.types.infer_dtype(column, skipna=True) not in plain]
