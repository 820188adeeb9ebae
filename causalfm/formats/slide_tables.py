"""Join files that are named after slides with a table that has one row per slide: every slide, or an error.

File names and slide names can identify patients, so messages count and give positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions


@dataclass(frozen=True)
class Words:
    """What is matched, in messages: ``thing`` (with its plural), its files, the table, the column to add, a way out."""

    thing: str
    files: str
    table: str
    order: str
    way_out: str


SLIDES = Words(
    "slide",
    "file",
    "slide table",
    "sorted by name",
    "extract the missing slides, or pass a list of the files you want instead of the folder",
)


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
    return match_names(table, [files], SLIDES)


def match_names(table: pd.DataFrame, namings: Sequence[Sequence[str]], words: Words) -> np.ndarray:
    """Find the file of each row, as :func:`match_slides`; each of ``namings`` names all files, uniquely."""
    candidates = {str(c): table[c] for c in table.columns}
    if table.index.name is not None or not pd.api.types.is_integer_dtype(table.index.dtype):
        candidates["the index"] = pd.Series(table.index)
    found = _fits(candidates, namings)
    if len({order.tobytes() for _, order in found}) > 1:
        columns = dict.fromkeys(name for name, _ in found)
        raise DataError(
            f"the {words.thing}s of several columns fit the {words.files}s, in different ways: {', '.join(columns)}. "
            "Keep the right one in the table and drop or correct the others (the index: reset_index(drop=True))."
        )
    if found:
        return found[0][1]
    raise DataError(_explain(candidates, namings, words))


def _fits(columns: dict[str, pd.Series], namings: Sequence[Sequence[str]]) -> list[tuple[str, np.ndarray]]:
    places = [{name: i for i, name in enumerate(names)} for names in namings]
    found = []
    for name, column in columns.items():
        for place, spell in product(places, _SPELLINGS):
            order = np.array([place.get(spell(value), -1) for value in column], dtype=np.int64)
            if np.array_equal(np.sort(order), np.arange(len(place))):
                found.append((name, order))
    return found


def _without_ending(value: object) -> str:
    return str(value).rpartition(".")[0]


_SPELLINGS: tuple[Callable[[object], str], ...] = (str, _without_ending)


def _explain(columns: dict[str, pd.Series], namings: Sequence[Sequence[str]], words: Words) -> str:
    """Say what is wrong with the column that fits best."""
    spelled = {(name, spell): [spell(value) for value in columns[name]] for name in columns for spell in _SPELLINGS}
    fits = {(key, i): len(set(namings[i]) & set(names)) for key, names in spelled.items() for i in range(len(namings))}
    (key, best), common = max(fits.items(), key=lambda item: item[1]) if fits else ((("", str), 0), 0)
    files = namings[best]
    thing, file = words.thing, words.files
    if not common:
        return (
            f"no column of the {words.table} ({', '.join(columns)}) holds the names of the {len(files)} {file}s "
            f"without their ending. Add a column {thing!r}."
        )
    names, there = spelled[key], set(files)
    listed = set(names)
    twice = np.flatnonzero(pd.Series(names).duplicated(keep=False)).tolist()
    no_file = [i for i, value in enumerate(names) if value not in there]
    no_row = [i for i, value in enumerate(files) if value not in listed]
    problems = []
    if no_file:
        problems.append(f"{len(no_file)} of {len(names)} rows have no {file} ({positions(no_file)})")
    if no_row:
        where = positions(no_row).replace("row", file, 1)
        problems.append(f"{len(no_row)} of {len(files)} {file}s have no row ({where}, {words.order})")
    if twice:
        problems.append(f"{len(twice)} rows name the {thing} of another row ({positions(twice)})")
    return (
        f"the {words.table} and the {file}s must name the same {thing}s. By {key[0]}: {'; '.join(problems)}. Take "
        f"these rows out of the table, {words.way_out}."
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
