"""Join the user's table to images by name: every image and every row, or an error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.protocol import ImageSource
from causalfm.formats.slide_tables import Words, match_names, match_slides, spread
from causalfm.tables import existing, join_tables, read_table
from causalfm.validation import check_table

IMAGES = Words(
    "image",
    "image",
    "table",
    "in the order of the source",
    "or list the images you want in a manifest (for archives: pack these images only)",
)


def joined(source: ImageSource, table: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """Return one row per image, in the order of the source.

    Parameters
    ----------
    source
        The images. Where its ``obs`` has a column ``slide`` with several tiles per slide, the table has one row per
        slide or one per tile. Images without names (arrays, data sets) are joined by position.
    table
        A DataFrame, CSV or parquet. A column or the index holds the names of the images: the path below the source,
        or its last part, with or without the file ending.

    Returns
    -------
    pd.DataFrame
        The columns of the table, then those that only the source has.

    Raises
    ------
    DataError
        Images without a row, rows without an image, several columns that fit in different ways, a column that the
        source has with other values.
    """
    frame = table if isinstance(table, pd.DataFrame) else read_table(existing(table))
    check_table(frame)
    frame = join_tables([frame]).copy()
    if source.obs is None or getattr(source, "info", {}).get("kind") == "items":
        if len(frame) != len(source):
            raise DataError(
                f"the table has {len(frame)} rows and there are {len(source)} images, which have no names: they are "
                "joined by position, one row per image in the same order."
            )
        return frame
    slides = list(dict.fromkeys(source.obs["slide"])) if "slide" in source.obs else []
    if slides and (len(frame) != len(source) or len(slides) == len(source)):
        order = match_slides(frame, slides)
        row = np.empty(len(slides), dtype=np.int64)
        row[order] = np.arange(len(slides))
        return spread(frame, row[pd.Index(slides).get_indexer(source.obs["slide"])], source.obs)
    order = match_names(frame, _namings(source.names), IMAGES)
    rows = frame.iloc[np.argsort(order)]
    return _beside(rows.reset_index(drop=True) if isinstance(frame.index, pd.RangeIndex) else rows, source.obs)


def _namings(names: Sequence[str]) -> list[list[str]]:
    """Return the ways to name the images that tell all of them apart."""
    last = [name.rpartition("/")[2] for name in names]
    ways = [list(names), _without_ending(names), last, _without_ending(last)]
    return [way for way in ways if len(set(way)) == len(way)]


def _without_ending(names: Sequence[str]) -> list[str]:
    return [str(Path(name).with_suffix("")) if name else name for name in names]


def _beside(rows: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    shared = [c for c in own.columns if c in rows.columns]
    clash = [c for c in shared if list(map(str, own[c])) != list(map(str, rows[c]))]
    if clash:
        raise DataError(
            f"the table has columns that come with the images, with other values: {', '.join(clash)}. Rename them in "
            "the table."
        )
    new = own[[c for c in own.columns if c not in shared]].set_axis(rows.index)
    return pd.concat([rows, new], axis=1)
