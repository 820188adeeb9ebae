"""Encoded images in the column ``image`` of parquet files, as the Hugging Face hub stores image data sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.datasets.set_tables import table_of
from causalfm.datasets.stored_images import StoredImages, picture
from causalfm.errors import DataError
from causalfm.tables import reading, to_frame

if TYPE_CHECKING:
    from PIL import Image

IMAGE = "image"


class ParquetPatches(StoredImages):
    """Images of parquet files; one row group is held at a time, because rows lie side by side."""

    def __init__(self, files: Sequence[Path], places: np.ndarray, obs: pd.DataFrame) -> None:
        super().__init__(obs)
        self.files = list(files)
        self.places = places  # (n, 3): file, row group, row in it

    def _take(self, rows: np.ndarray) -> None:
        self.places = self.places[rows]

    def _read(self, i: int) -> Image.Image:
        file, group, row = map(int, self.places[i])
        column = self._block((file, group), partial(_images, self.files[file], group))
        return picture(column[row].as_py())


def open_parquet(files: Sequence[Path], columns: Sequence[str]) -> ParquetPatches:
    """Open parquet files with an image per row: a struct of ``bytes`` and ``path``.

    Parameters
    ----------
    files
        Parts of one table, in order.
    columns
        Needed beside the image.

    Returns
    -------
    ParquetPatches
        ``obs`` has every column but the image.

    Raises
    ------
    DataError
        A damaged file; no column of encoded images; missing columns.
    """
    tables, places = [], []
    for number, path in enumerate(files):
        table, sizes = _read_without_images(path, columns)
        tables.append(table)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        rows = np.concatenate([np.arange(size) for size in sizes])
        places.append(np.column_stack([np.full(len(table), number), groups, rows]))
    return ParquetPatches(files, np.concatenate(places), pd.concat(tables, ignore_index=True))


def _read_without_images(path: Path, columns: Sequence[str]) -> tuple[pd.DataFrame, list[int]]:
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = [name for name in schema.names if name != IMAGE]
        has_images = IMAGE in schema.names and str(schema.field(IMAGE).type).startswith("struct<")
        table = to_frame(file.read(columns=names))
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    if not has_images:
        raise DataError(
            f"{path.name!r} has no column {IMAGE!r} of encoded images: is it a metadata table? "
            f"Columns: {', '.join(names)}."
        )
    return table_of(path, columns, table), sizes


def _images(path: Path, group: int) -> Any:
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[IMAGE]).column(IMAGE).combine_chunks().field("bytes")
