"""Folders of ``<slide>.pt``: embeddings without their places.

References
----------
TRIDENT (``run_batch_of_slides.py --saveas pt``): an array of NumPy per slide. CLAM: a tensor per slide in ``pt_files``.
slide2vec without its ``process_list.csv`` (``tile_embeddings``, ``slide_embeddings``, ``image_embeddings``): a tensor
per slide or image, ``<name>.meta.json`` beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_rows import Slide, gather
from causalfm.formats.tensors import read_tensor

ENDING = ".pt"


def read_slide_tensors(files: list[Path], table: pd.DataFrame | None) -> Loaded:
    """Read ``<slide>.pt`` into one matrix (:func:`causalfm.formats.slide_rows.gather`).

    Parameters
    ----------
    files
        Each a tensor or an array, ``(n, d)`` for the tiles of a slide or ``(d,)`` for the slide.
    table
        One row per slide, or None.

    Raises
    ------
    DataError
        As ``gather``; damaged files, other objects than tensors and arrays.
    """
    held: dict[Path, np.ndarray] = {}  # large ones are memory maps

    def inspect(path: Path, label: str) -> Slide:
        held[path] = read_tensor(path, label)
        return Slide(held[path].shape, held[path].dtype, {}, {})

    def fill(path: Path, rows: np.ndarray) -> None:
        rows[...] = held.pop(path)

    return gather(files, table, inspect, fill)
