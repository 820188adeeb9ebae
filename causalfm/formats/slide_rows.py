"""Many slides, one file or store each, as one matrix with one row per tile; each format says how a slide is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_tables import file_positions, match_slides, spread
from causalfm.tables import reading
from causalfm.validation import check_matrix, refuse_not_finite, rows_not_finite


@dataclass(frozen=True, eq=False)
class Slide:
    """What one slide holds, before its embeddings are read.

    Attributes
    ----------
    shape, dtype
        Of the embeddings as stored: ``(n, d)``, ``(1, n, d)`` or ``(d,)``.
    columns
        What is known of each tile, ``(n,)`` each: ``x`` and ``y``, and what else lies in the slide.
    made
        What the slide says of how the embeddings were made.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: Mapping[str, np.ndarray]
    made: Mapping[str, Any]

    @property
    def tiled(self) -> bool:
        """Whether there is a row per tile, not one for the slide."""
        return len(self.shape) > 1

    @property
    def placed(self) -> bool:
        """Whether tiles have coordinates."""
        return "x" in self.columns

    @property
    def names(self) -> str:
        """Columns of the tiles, as a message lists them."""
        return ", ".join(self.columns)

    @property
    def rows(self) -> int:
        """Embeddings."""
        return self.shape[-2] if self.tiled else min(self.shape[0], 1)

    @property
    def dimensions(self) -> int:
        """Of an embedding."""
        return self.shape[-1]

    @property
    def encoder(self) -> Any:
        """Its name, or None."""
        return self.made.get("encoder")


# Look at a slide; read its embeddings into rows of the shape it has. Both get the path and what to call it in messages.
Inspect = Callable[[Path, str], Slide]
Fill = Callable[[Path, np.ndarray], None]

_MUST_AGREE = {
    "dimensions": "dimensions",
    "dtype": "dtype",
    "tiled": "whether they hold tiles or one vector per slide",
    "placed": "whether tiles have coordinates",
    "names": "columns of their tiles",
    "encoder": "encoder",
}


def gather(files: list[Path], table: pd.DataFrame | None, inspect: Inspect, fill: Fill) -> Loaded:
    """Read slides into one matrix, in the order of the slide table, else as given.

    Parameters
    ----------
    files
        One per slide, named after it.
    table
        One row per slide (:func:`causalfm.formats.slide_tables.match_slides`), or None: then ``obs`` holds what the
        files hold.
    inspect, fill
        Of the format.

    Returns
    -------
    Loaded
        One row per tile: the slide's row, ``slide``, ``tile`` and the columns of the tiles; numbered rows.
        ``info["patches"]`` says how the embeddings were made: the value, or the list of values where slides differ.

    Raises
    ------
    DataError
        Unmatched slides, mixed dtypes, dimensions or encoders, slides without tiles, values that are not finite.
    """
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        raise DataError("two files carry the name of one slide: read the folders one by one.")
    order = np.arange(len(files)) if table is None else match_slides(table, names)
    files, names = [files[i] for i in order], [names[i] for i in order]
    labels = [f"slide file {i} of {len(files)}" for i in order]
    slides = []
    for path, label in zip(files, labels, strict=True):
        with reading(path, label):
            slides.append(inspect(path, label))
    _refuse_mixtures(slides, order)
    obs = _rows(slides, names, table)  # before the embeddings, which take long
    return Loaded(_matrix(files, labels, slides, fill), obs, _shared(slides), finite=True)


def _rows(slides: list[Slide], names: list[str], table: pd.DataFrame | None) -> pd.DataFrame:
    """Make the table of the tiles."""
    counts = np.array([slide.rows for slide in slides])
    where = np.repeat(np.arange(len(slides)), counts)
    tiles = pd.DataFrame({"slide": pd.Series(names, dtype=object).to_numpy()[where]})
    if slides[0].tiled:
        tiles["tile"] = np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)
    if taken := [name for name in slides[0].columns if name in tiles]:
        raise DataError(f"the slides bring columns that number their tiles here: rename {', '.join(taken)} in them.")
    for name in slides[0].columns:
        tiles[name] = np.concatenate([slide.columns[name] for slide in slides])
    return spread(table, where, tiles)


def _refuse_mixtures(slides: list[Slide], order: np.ndarray) -> None:
    """Refuse files that cannot be rows of one matrix, or that must not."""
    empty = order[[slide.rows == 0 for slide in slides]].tolist()
    if empty:
        raise DataError(
            f"{len(empty)} of {len(slides)} slide files hold no tiles ({file_positions(empty)}): pass a list of the "
            "other files instead of the folder, and leave these slides out of the slide table."
        )
    for what, meaning in _MUST_AGREE.items():
        values = [getattr(slide, what) for slide in slides]
        odd = order[[value != values[0] for value in values]].tolist()
        if odd:
            found = ", ".join(sorted({str(value) for value in values}))
            raise DataError(
                f"slide files differ in {meaning} ({found}): {file_positions(odd)} from file {order[0]}. Read "
                "files of one kind at a time."
            )


def _matrix(files: list[Path], labels: list[str], slides: list[Slide], fill: Fill) -> np.ndarray:
    """Read every slide into its rows of one matrix, and look at the values while they are in cache."""
    try:
        X = np.empty((sum(slide.rows for slide in slides), slides[0].dimensions), dtype=slides[0].dtype)
    except MemoryError:
        total = sum(slide.rows for slide in slides) * slides[0].dimensions * slides[0].dtype.itemsize / 2**30
        raise DataError(f"the slides hold {total:.0f} GiB and do not fit into memory: read fewer at a time.") from None
    check_matrix(X, values=False)
    bad: list[int] = []
    start = 0
    for path, label, slide in zip(files, labels, slides, strict=True):
        rows = X[start : start + slide.rows]
        with reading(path, label):
            fill(path, rows.reshape(slide.shape))
        bad.extend(i + start for i in rows_not_finite(rows))
        start += slide.rows
    refuse_not_finite(bad, len(X))
    return X


def _shared(slides: list[Slide]) -> dict[str, Any]:
    """Return what the slides say of their making under ``patches``."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for slide in slides for name in slide.made):
        values = {slide.made[name] for slide in slides if name in slide.made}
        found[name] = values.pop() if len(values) == 1 else sorted(values, key=str)
    return {"patches": found} if found else {}
