"""Manifests that list one tensor file per row: eva's ``manifest.csv`` and slide2vec's ``process_list.csv``.

References
----------
eva 0.4.5 (Apache-2.0), ``core/callbacks/writers/embeddings``: columns origin, embeddings, target, split and metadata;
each file holds a list of tensors. slide2vec 7.1.4 (Apache-2.0), ``artifacts.py`` and ``runtime/persistence.py``:
feature_path, feature_status, num_tiles; each file holds one tensor, or the array ``features`` of an npz. hs2p 6.1.0,
``tiling/io.py``: ``<slide>.coordinates.npz`` in the folder ``tiles``, x and y at level 0 in the order of the features.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.formats.arrays import archive_member
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_tables import match_slides, spread
from causalfm.formats.tensors import read_tensor
from causalfm.tables import existing, read_table, reading
from causalfm.validation import refuse_not_finite, rows_not_finite

EVA_FILE, SLIDE2VEC_FILE = "embeddings", "feature_path"
SLIDE2VEC_KINDS = ("tile_embeddings", "slide_embeddings", "patient_embeddings", "image_embeddings")
COORDINATES, COORDINATES_KIND = "coordinates_npz_path", "tiles"


def read_eva(manifest: Path) -> Loaded:
    """Read what eva's writers left: the manifest's row for each embedding, in its order.

    ``tile`` counts the embeddings of a file (patches of a slide), also where each file holds one.
    ``info["files_not_listed"]`` counts the ``.pt`` files of the folder that the manifest leaves out.
    """
    table = read_table(existing(manifest))
    _refuse_gaps(table[EVA_FILE].isna(), manifest, EVA_FILE)
    files = [manifest.parent / str(name) for name in table[EVA_FILE]]
    loaded = _gather(files, np.arange(len(files)), manifest, table, tiled=True)
    # a split left out on purpose, or a manifest cut off
    unlisted = len(set(manifest.parent.rglob("*.pt")) - set(files))
    return Loaded(loaded.X, loaded.obs, {"files_not_listed": unlisted}, loaded.finite)


def read_slide2vec(manifest: Path, slides: pd.DataFrame | None) -> Loaded:
    """Read the embeddings that a slide2vec run lists.

    Parameters
    ----------
    manifest
        ``process_list.csv``. Paths of another machine are looked for below its own folder.
    slides
        One row per slide, joined by its name; or None: ``obs`` holds sample_id and annotation. The encoder's
        name is in ``info`` only.

    Returns
    -------
    Loaded
        ``info["slides_without_tiles"]`` counts the rows that the run itself found without tissue.

    Raises
    ------
    DataError
        Slides that failed or wait, unmatched slides, two encoders, a file under two rows, files with another number
        of tiles than ``num_tiles``.
    """
    table = read_table(existing(manifest))
    empty = table["num_tiles"] == 0 if "num_tiles" in table else pd.Series(False, index=table.index)
    done = (table["feature_status"] == "success") if "feature_status" in table else pd.Series(True, index=table.index)
    _refuse_gaps(~empty & (~done | table[SLIDE2VEC_FILE].isna()), manifest, SLIDE2VEC_FILE)
    rows = np.flatnonzero(~empty)
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
        files, rows, table = [files[i] for i in order], rows[order], table.iloc[order]
        listed = listed.drop(columns=[c for c in ("sample_id",) if c in slides])
        listed = spread(slides, slide[order], listed.iloc[order].reset_index(drop=True))
    tiled = any(SLIDE2VEC_KINDS[0] in path.parts for path in files)
    expected = table["num_tiles"].to_numpy() if tiled and "num_tiles" in table else None
    loaded = _gather(files, rows, manifest, listed, tiled=tiled, expected=expected)
    assert loaded.obs is not None
    obs = _placed(loaded.obs, table, rows, manifest) if tiled and COORDINATES in table else loaded.obs
    info = {"encoder": encoders, "slides_without_tiles": int(empty.sum())}
    return Loaded(loaded.X, obs, info, loaded.finite)


def _placed(obs: pd.DataFrame, table: pd.DataFrame, rows: np.ndarray, manifest: Path) -> pd.DataFrame:
    """Return the tiles with ``x`` and ``y``; as they are where not all files of coordinates came with the run."""
    if table[COORDINATES].isna().any():
        return obs
    files = [_moved(str(path), manifest.parent, (COORDINATES_KIND,)) for path in table[COORDINATES]]
    if not all(path.is_file() for path in files):
        return obs
    if taken := [name for name in ("x", "y") if name in obs]:
        raise DataError(
            f"the table has columns that come with the tiles: {', '.join(taken)}. Rename them in the table."
        )
    labels = [f"the file of coordinates of row {i} of {manifest.name!r}" for i in rows]
    places = []
    for path, label in zip(files, labels, strict=True):
        with reading(path, label):
            places.append(np.column_stack([archive_member(path, name, label) for name in ("x", "y")]))
    starts = np.flatnonzero(obs["tile"] == 0)
    counts = np.diff([*starts, len(obs)])
    other = sorted(rows[[len(part) != count for part, count in zip(places, counts, strict=True)]])
    if other:
        raise DataError(
            f"{len(other)} files of coordinates of {manifest.name!r} hold another number of tiles than the embeddings "
            f"({positions(other)}): they are of another run. Extract the embeddings again, or drop {COORDINATES!r} "
            "from a copy of the manifest beside it."
        )
    x, y = np.concatenate(places).T
    return obs.assign(x=x, y=y)


def _refuse_gaps(missing: pd.Series, manifest: Path, column: str) -> None:
    rows = np.flatnonzero(missing).tolist()
    if rows:
        raise DataError(
            f"{manifest.name!r}: {len(rows)} of {len(missing)} rows have no embeddings ({positions(rows)}, column "
            f"{column!r}): finish the run, or take these rows out of a copy of the manifest beside it."
        )


def _moved(written: str, folder: Path, kinds: tuple[str, ...] = SLIDE2VEC_KINDS) -> Path:
    """Return the file below the manifest's folder, or where the run wrote it; the current folder is never looked at."""
    windows = "\\" in written
    tail = (PureWindowsPath(written) if windows else PurePosixPath(written)).parts
    start = max((i for i, part in enumerate(tail) if part in kinds), default=len(tail) - 1)
    moved = folder.joinpath(*tail[start:])
    original = folder / written  # an absolute path stays as it is
    return original if original.is_file() and not moved.is_file() else moved


def _gather(
    files: list[Path],
    rows: np.ndarray,
    manifest: Path,
    table: pd.DataFrame,
    *,
    tiled: bool,
    expected: np.ndarray | None = None,
) -> Loaded:
    """Read every file into its rows of one matrix and repeat the table's row for each embedding.

    ``rows`` are the files' rows in the manifest, ``expected`` their numbers of embeddings.
    """
    if not files:
        raise DataError(f"{manifest.name!r} lists no embeddings.")
    _refuse_repeats(files, rows, manifest)
    labels = [f"the file of row {i} of {manifest.name!r}" for i in rows]
    arrays = [np.atleast_2d(read_tensor(path, label)) for path, label in zip(files, labels, strict=True)]
    kinds = [(array.shape[1], array.dtype) for array in arrays]
    odd = [int(i) for i, kind in zip(rows, kinds, strict=True) if kind != kinds[0]]
    if odd:
        found = ", ".join(sorted({f"{d} x {dtype}" for d, dtype in kinds}))
        raise DataError(
            f"the files of {manifest.name!r} differ in dimensions or dtype ({found}): {positions(sorted(odd))} from "
            f"row {rows[0]}."
        )
    counts = np.array([len(array) for array in arrays])
    _refuse_counts(counts, expected, rows, manifest)
    X = np.concatenate(arrays)
    refuse_not_finite(rows_not_finite(X) if X.dtype.kind == "f" else [], len(X))
    where = np.repeat(np.arange(len(files)), counts)
    obs = table.iloc[where].reset_index(drop=True)
    if tiled or (counts > 1).any():
        if "tile" in obs:
            raise DataError("the table has a column 'tile', which counts the embeddings of a file: rename it.")
        obs["tile"] = np.arange(len(X)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Loaded(X, obs, finite=X.dtype.kind == "f")


def _refuse_repeats(files: list[Path], rows: np.ndarray, manifest: Path) -> None:
    twice = pd.Series([str(path.resolve()) for path in files]).duplicated(keep=False).to_numpy()
    if twice.any():
        raise DataError(
            f"{twice.sum()} rows of {manifest.name!r} list a file that another row lists too "
            f"({positions(sorted(rows[twice]))}): its embeddings would count twice. Keep one row for each file."
        )


def _refuse_counts(counts: np.ndarray, expected: np.ndarray | None, rows: np.ndarray, manifest: Path) -> None:
    empty = sorted(rows[counts == 0])
    if empty:
        raise DataError(f"{len(empty)} files of {manifest.name!r} hold no embeddings ({positions(empty)}).")
    if expected is None:
        return
    other = sorted(rows[(counts != expected) & ~pd.isna(expected)])
    if other:
        raise DataError(
            f"{len(other)} files of {manifest.name!r} hold another number of embeddings than its column 'num_tiles' "
            f"({positions(other)}): they are of another run. Extract the embeddings again."
        )
