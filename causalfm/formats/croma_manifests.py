"""croma tile sets: a folder with ``manifest.csv`` and, row for row, ``<Model>.npy`` with its ``<Model>.npy.json``.

This record carries a fingerprint of the manifest. Where it is there it must fit: a matrix beside another manifest has
the right shape and the wrong rows.

References
----------
croma 1.0.1 (Apache-2.0), ``scripts/bench/layout.py``, ``input_fingerprint.py`` and ``embedding_artifacts.py`` of its
source distribution.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.arrays import read_npy
from causalfm.formats.loaded import Loaded
from causalfm.tables import existing, read_table, reading

CONFOUNDER = "confounder"
REQUIRED = ("sample_id", "image_path", "label", "group_id")
# What of the record goes on into reports: how the embeddings were made. It also has paths, and a user's own entries.
KEPT = (
    "model_id",
    "extract",
    "mixed_precision",
    "checkpoint_revision",
    "extraction_contract",
    "precision",
    "manifest_fingerprint",
    "batch_size",
    "output_dtype",
    "output_shape",
    "n_samples",
    "embedding_dim",
)


def read_croma(manifest: Path, key: str | None) -> Loaded:
    """Read one model of a tile set.

    Parameters
    ----------
    manifest
        ``manifest.csv``: sample_id, image_path, label, group_id and confounder columns, one row per embedding.
    key
        Name of the model; needed if the folder holds several.

    Returns
    -------
    Loaded
        A memory map, the manifest, and in ``info`` the model, its record and whether the fingerprint was there.

    Raises
    ------
    DataError
        No such model; a shape, dtype or fingerprint that the record does not confirm.
    """
    matrix = _matrix(manifest.parent, key)
    X = read_npy(matrix).X
    obs = read_table(existing(manifest))
    info: dict[str, Any] = {"model": matrix.stem}
    record_path = matrix.with_name(matrix.name + ".json")
    if record_path.is_file():
        with reading(existing(record_path)):
            record = dict(json.loads(record_path.read_text("utf-8")))
        _confirm(record, X.shape, str(X.dtype), manifest, matrix)
        info["record"] = {name: record[name] for name in KEPT if name in record}
    info["fingerprint"] = "confirmed" if "manifest_fingerprint" in info.get("record", {}) else "none"
    return Loaded(X, obs, info)


def _matrix(folder: Path, key: str | None) -> Path:
    models = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    if key is None and len(models) == 1:
        return next(iter(models.values()))
    if key not in models:
        raise DataError(f"{folder.name!r}: name one model with key=. Models: {', '.join(models) or 'none'}.")
    return models[key]


def _confirm(record: dict[str, Any], shape: tuple[int, ...], dtype: str, manifest: Path, matrix: Path) -> None:
    expected = {
        "output_shape": list(shape),
        "output_dtype": dtype,
        "n_samples": shape[0],
        "embedding_dim": shape[-1],
    }
    for name, value in expected.items():
        if name in record and record[name] != value:
            raise DataError(
                f"{matrix.name!r}: its record says {name} {record[name]}, the file has {value}: one of the two is of "
                "another run. Extract the embeddings again."
            )
    if "manifest_fingerprint" not in record:
        return
    text = pd.read_csv(manifest, dtype=str)
    if record["manifest_fingerprint"] not in set(_fingerprints(text)):
        raise DataError(
            f"{matrix.name!r} was made from another manifest than {manifest.name!r}: the fingerprints differ, so rows "
            "may not belong together. Bring back the manifest of the run, or extract the embeddings again."
        )


def _fingerprints(manifest: pd.DataFrame) -> Iterator[str]:
    """Yield the fingerprint under each column that can have been croma's confounder: its record does not name it."""
    if not set(REQUIRED) <= set(manifest.columns):
        return
    others = [str(c) for c in manifest.columns if c not in REQUIRED]
    columns = ["sample_id", "label", CONFOUNDER, "group_id", "image_path"]
    columns += ["subset"] if "subset" in others else []
    for confounder in others:
        normal = manifest.assign(**{CONFOUNDER: manifest[confounder]})[columns]
        rows = [[str(value).strip() for value in row] for row in normal.itertuples(index=False, name=None)]
        for name in {confounder, CONFOUNDER}:
            payload = {"columns": columns, "rows": rows, "confounder_column": name}
            text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
            yield hashlib.sha256(text.encode()).hexdigest()
