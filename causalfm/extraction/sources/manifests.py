"""Images that a table lists by path."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.file_names import ARCHIVES, SLIDES, ending, refuse_odd_text
from causalfm.extraction.sources.folders import FileSource
from causalfm.tables import existing, join_tables, read_table
from causalfm.validation import check_table, refuse_missing

COLUMNS = ("path", "image", "image_path", "file", "filename", "file_name", "filepath")


def open_manifest(
    manifest: pd.DataFrame | Path, rules: Decoding, *, key: str | None = None, root: Path | None = None
) -> FileSource:
    """Open the images of a manifest, in its order; its columns become ``obs``.

    Parameters
    ----------
    manifest
        A DataFrame, CSV or parquet with a column of paths. It is the user's own: absolute paths, and relative ones
        that leave its folder, are read (``info["paths_outside"]`` counts them).
    rules
        How pixels are read.
    key
        The column; needed where not exactly one of ``path``, ``image``, ``image_path``, ``file``, ``filename``,
        ``file_name``, ``filepath`` is there.
    root
        Where relative paths start: the folder of the manifest if None.

    Raises
    ------
    DataError
        No or several such columns; missing values, repeated paths, paths without a file, each with row positions.
    """
    frame = manifest if isinstance(manifest, pd.DataFrame) else read_table(existing(manifest))
    check_table(frame)
    frame = join_tables([frame]).copy()
    name = _column(frame, key)
    column = frame[name]
    refuse_missing(column, name, "complete the manifest, or take these rows out")
    if len(column) == 0:
        raise DataError("the manifest has no rows.")
    names = [os.fspath(value) if isinstance(value, os.PathLike) else str(value) for value in column]
    refuse_odd_text(names, "the manifest")
    if root is None and isinstance(manifest, pd.DataFrame):
        if not all(Path(value).is_absolute() for value in names):
            raise DataError(f"column {name!r} holds relative paths: say with root= where they start.")
        root = Path("/")
    start = (root or Path(manifest).parent).absolute()  # type: ignore[arg-type]
    paths = [os.path.normpath(start / value) for value in names]
    _refuse_rows(paths, names, name)
    outside = sum(not path.startswith(f"{os.path.normpath(start)}{os.sep}".replace("//", "/")) for path in paths)
    return FileSource(
        paths, names, rules, frame, {"kind": "manifest", **({"paths_outside": outside} if outside else {})}
    )


def _column(frame: pd.DataFrame, key: str | None) -> str:
    found = [name for name in ([key] if key is not None else COLUMNS) if name in frame.columns]
    if len(found) == 1:
        return found[0]
    what = f"no column {key!r}" if key is not None else f"{len(found) or 'no'} columns that could hold paths"
    raise DataError(
        f"the manifest has {what} (it has {', '.join(map(str, frame.columns))}): name the column of paths with key=."
    )


def _refuse_rows(paths: list[str], written: list[str], name: str) -> None:
    twice = np.flatnonzero(pd.Index(paths).duplicated(keep=False)).tolist()
    if twice:
        raise DataError(
            f"column {name!r} names {len(twice)} files that another row names too ({positions(twice)}): each image is "
            "one row. Drop the copies, or put what differs into columns."
        )
    missing = [i for i, path in enumerate(paths) if not Path(path).is_file()]
    if missing:
        urls = " Addresses (https://, s3://) are not fetched." if any("://" in written[i] for i in missing) else ""
        raise DataError(
            f"column {name!r}: {len(missing)} of {len(paths)} paths lead to no file ({positions(missing)}). Relative "
            f"paths start at the folder of the manifest, or at root=.{urls}"
        )
    for endings, what in ((SLIDES, "whole slides: pass them with tiles="), (ARCHIVES, "archives: pass them as a list")):
        found = [i for i, path in enumerate(paths) if ending(path) in endings]
        if found:
            raise DataError(f"column {name!r} names {len(found)} files ({positions(found)}) that are {what}.")
