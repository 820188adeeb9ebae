"""Join files that are named after slides with a table that has one row per slide: every slide, or an error.

File names and slide names can identify patients, so messages count and give positions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions


def match_slides(table: pd.DataFrame, files: list[str]) -> np.ndarray:
    """Find the file of each row.

    Parameters
    ----------
    table
        One row per slide. Its slide names are in a column, or in the index, that fits every file; as they are, or
        without a file ending (``.svs``). An unnamed index of whole numbers is numbering and names no slides.
    files
        Names of the files without their ending, unique.

    Returns
    -------
    np.ndarray
        ``(len(table),)`` positions in ``files``.

    Raises
    ------
    DataError
        Rows without a file, files without a row, a slide in two rows; several columns that fit in different ways.
    """
    candidates = {str(c): table[c] for c in table.columns}
    if table.index.name is not None or not pd.api.types.is_integer_dtype(table.index.dtype):
        candidates["the index"] = pd.Series(table.index)
    found = _fits(candidates, files)
    if len({tuple(order) for order in found.values()}) > 1:
        raise DataError(
            f"the slides of several columns fit the files, in different ways: {', '.join(found)}. Keep the right one "
            "in the table and drop or correct the others (the index: reset_index(drop=True))."
        )
    if found:
        return next(iter(found.values()))
    raise DataError(_explain(candidates, files))


def _fits(columns: dict[str, pd.Series], files: list[str]) -> dict[str, np.ndarray]:
    place = {name: i for i, name in enumerate(files)}
    found: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        for spell in _SPELLINGS:
            order = [place.get(spell(value), -1) for value in column]
            if sorted(order) == list(range(len(files))):
                found.setdefault(name, np.array(order, dtype=np.int64))
    return found


def _without_ending(value: object) -> str:
    return str(value).rpartition(".")[0]


_SPELLINGS: tuple[Callable[[object], str], ...] = (str, _without_ending)


def _explain(columns: dict[str, pd.Series], files: list[str]) -> str:
    """Say what is wrong with the column that fits best."""
    there = set(files)
    spelled = {(name, spell): [spell(value) for value in columns[name]] for name in columns for spell in _SPELLINGS}
    (name, _), names = max(spelled.items(), key=lambda item: len(there & set(item[1])))
    if not there & set(names):
        return (
            f"no column of the slide table ({', '.join(columns)}) holds the names of the {len(files)} files without "
            "their ending. Add a column 'slide'."
        )
    listed = set(names)
    twice = np.flatnonzero(pd.Series(names).duplicated(keep=False)).tolist()
    no_file = [i for i, value in enumerate(names) if value not in there]
    no_row = [i for i, value in enumerate(files) if value not in listed]
    problems = []
    if no_file:
        problems.append(f"{len(no_file)} of {len(names)} rows have no file ({positions(no_file)})")
    if no_row:
        problems.append(f"{len(no_row)} of {len(files)} files have no row ({file_positions(no_row)}, sorted by name)")
    if twice:
        problems.append(f"{len(twice)} rows name a slide that another row names too ({positions(twice)})")
    return (
        f"the slide table and the files must name the same slides. By {name}: {'; '.join(problems)}. Take these rows "
        "out of the table, extract the missing slides, or pass a list of the files you want instead of the folder."
    )


def file_positions(where: list[int]) -> str:
    """Format positions of files for a message."""
    return positions(sorted(where)).replace("row", "file", 1)


def spread(table: pd.DataFrame | None, order: np.ndarray, tiles: pd.DataFrame) -> pd.DataFrame:
    """Repeat each slide's row for its tiles.

    Parameters
    ----------
    table
        One row per slide, or None.
    order
        Row of the table for each tile, ``(n,)``.
    tiles
        ``slide`` and, for tiles, ``tile`` and coordinates; n rows.

    Raises
    ------
    DataError
        The table has columns that the tiles bring.
    """
    if table is None:
        return tiles
    clash = [c for c in tiles.columns if c in table.columns and c != "slide"]
    if clash:
        raise DataError(
            f"the slide table has columns that come with the tiles: {', '.join(clash)}. Rename them in the table."
        )
    own = tiles[[c for c in tiles.columns if c not in table.columns]]
    rows = table.iloc[order].reset_index(drop=True)
    return pd.concat([rows, own], axis=1)
