"""Manifests that list one tensor file per row: eva's ``manifest.csv`` and slide2vec's ``process_list.csv``.

References
----------
eva 0.4.5 (Apache-2.0), ``core/callbacks/writers/embeddings``: columns origin, embeddings, target, split and metadata;
each file holds a list of tensors. slide2vec 7.1.4 (Apache-2.0), ``artifacts.py`` and ``runtime/persistence.py``:
feature_path, feature_status, num_tiles; each file holds one tensor, or the array ``features`` of an npz.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_tables import match_slides, spread
from causalfm.formats.tensors import read_tensor
from causalfm.tables import existing, read_table
from causalfm.validation import refuse_not_finite, rows_not_finite

EVA_FILE, SLIDE2VEC_FILE = "embeddings", "feature_path"
SLIDE2VEC_KINDS = ("tile_embeddings", "slide_embeddings", "patient_embeddings", "image_embeddings")


def read_eva(manifest: Path, key: str | None) -> Loaded:
    """Read what eva's writers left: the manifest's row for each embedding, in its order.

    Where files hold several embeddings (patches of a slide), ``tile`` counts them within the file.
    ``info["files_not_listed"]`` counts the ``.pt`` files of the folder that the manifest leaves out.
    """
    table = read_table(existing(manifest))
    _refuse_gaps(table[EVA_FILE].isna(), manifest, EVA_FILE)
    files = [manifest.parent / str(name) for name in table[EVA_FILE]]
    loaded = _gather(files, manifest, table)
    unlisted = len(
        set(manifest.parent.rglob("*.pt")) - set(files)
    )  # a split left out on purpose, or a manifest cut off
    return Loaded(loaded.X, loaded.obs, {"files_not_listed": unlisted}, loaded.finite)


def read_slide2vec(manifest: Path, key: str | None, slides: pd.DataFrame | None) -> Loaded:
    """Read the embeddings that a slide2vec run lists.

    Parameters
    ----------
    manifest
        ``process_list.csv``. Paths of another machine are looked for below its own folder.
    key
        Unused: a run has one encoder.
    slides
        One row per slide, joined by its name; or None: ``obs`` holds sample_id, annotation and the encoder's name.

    Returns
    -------
    Loaded
        ``info["slides_without_tiles"]`` counts the rows that the run itself found without tissue.

    Raises
    ------
    DataError
        Slides that failed or wait, unmatched slides, two encoders.
    """
    table = read_table(existing(manifest))
    empty = table["num_tiles"] == 0 if "num_tiles" in table else pd.Series(False, index=table.index)
    done = (table["feature_status"] == "success") if "feature_status" in table else pd.Series(True, index=table.index)
    _refuse_gaps(~empty & (~done | table[SLIDE2VEC_FILE].isna()), manifest, SLIDE2VEC_FILE)
    table = table[~empty].reset_index(drop=True)
    encoders = sorted(set(table["encoder_name"].dropna())) if "encoder_name" in table else []
    if len(encoders) > 1:
        raise DataError(f"{manifest.name!r} lists several encoders: {', '.join(encoders)}. Read one run at a time.")
    files = [_moved(str(path), manifest.parent) for path in table[SLIDE2VEC_FILE]]
    kept = [c for c in ("sample_id", "annotation") if c in table and table[c].notna().any()]
    listed = table[kept]
    if slides is not None:
        names = [str(name) for name in table["sample_id"]]
        distinct = list(dict.fromkeys(names))  # a slide has a row for each annotated class
        row = {distinct[file]: i for i, file in enumerate(match_slides(slides, distinct))}
        slide = np.array([row[name] for name in names])
        order = np.argsort(slide, kind="stable")
        files = [files[i] for i in order]
        listed = listed.drop(columns=[c for c in ("sample_id",) if c in slides])
        listed = spread(slides, slide[order], listed.iloc[order].reset_index(drop=True))
    loaded = _gather(files, manifest, listed)
    info = {"encoder": encoders, "slides_without_tiles": int(empty.sum())}
    return Loaded(loaded.X, loaded.obs, info, loaded.finite)


def _refuse_gaps(missing: pd.Series, manifest: Path, column: str) -> None:
    rows = np.flatnonzero(missing).tolist()
    if rows:
        raise DataError(
            f"{manifest.name!r}: {len(rows)} of {len(missing)} rows have no embeddings ({positions(rows)}, column "
            f"{column!r}): finish the run, or take these rows out of a copy of the manifest beside it."
        )


def _moved(written: str, folder: Path) -> Path:
    """Return the file where the run wrote it, or where its folder lies now."""
    path = Path(written)
    if path.is_file():
        return path
    windows = "\\" in written
    tail = (PureWindowsPath(written) if windows else PurePosixPath(written)).parts
    start = max((i for i, part in enumerate(tail) if part in SLIDE2VEC_KINDS), default=len(tail) - 1)
    return folder.joinpath(*tail[start:])


def _gather(files: list[Path], manifest: Path, table: pd.DataFrame) -> Loaded:
    """Read every file into its rows of one matrix and repeat the table's row for each embedding."""
    if not files:
        raise DataError(f"{manifest.name!r} lists no embeddings.")
    labels = [f"the file of row {i} of {manifest.name!r}" for i in range(len(files))]
    arrays = [read_tensor(path, label) for path, label in zip(files, labels, strict=True)]
    kinds = [(array.shape[1], array.dtype) for array in arrays]
    odd = [i for i, kind in enumerate(kinds) if kind != kinds[0]]
    if odd:
        found = ", ".join(sorted({f"{d} x {dtype}" for d, dtype in kinds}))
        raise DataError(
            f"the files of {manifest.name!r} differ in dimensions or dtype ({found}): {positions(odd)} from row 0."
        )
    counts = np.array([len(array) for array in arrays])
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        raise DataError(f"{len(empty)} files of {manifest.name!r} hold no embeddings ({positions(empty)}).")
    X = np.concatenate(arrays)
    refuse_not_finite(rows_not_finite(X) if X.dtype.kind == "f" else [], len(X))
    where = np.repeat(np.arange(len(files)), counts)
    obs = table.iloc[where].reset_index(drop=True)
    if (counts > 1).any():
        if "tile" in obs:
            raise DataError("the table has a column 'tile', which counts the embeddings of a file: rename it.")
        obs["tile"] = np.arange(len(X)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Loaded(X, obs, finite=X.dtype.kind == "f")
