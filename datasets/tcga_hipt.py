"""TCGA diagnostic slides as HIPT embeddings: real hospitals, real confounding. The card is ``tcga_hipt.md``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError

EMBEDDINGS = "tcga_hipt_slide_embeddings_f16.npz"
METADATA = "tcga_hipt_metadata.csv.gz"
_PREFIX = "TCGA-"
_INFO = {
    "dataset": "TCGA diagnostic slides, HIPT embeddings",
    "encoder": "HIPT (ViT256-ViT4K, DINO), mean over 4096-px regions",
    "licence": "Apache-2.0 with Commons Clause: redistribute with the notice, not for sale",
    "source": "mahmoodlab/HIPT, commit c22f0ecf40fe6bba965e7c79d48808d1cf6a66c8; TCGA open-access tier",
    "warning": "HIPT was pretrained on TCGA: these slides are not out-of-sample for the encoder.",
}


def load(folder: str | Path, *, cancers: Sequence[str] | None = None, hospitals: Sequence[str] | None = None) -> Cohort:
    """Load the slide embeddings, or a selection of cancers and hospitals.

    Parameters
    ----------
    folder
        Folder that holds ``tcga_hipt_slide_embeddings_f16.npz`` and ``tcga_hipt_metadata.csv.gz``.
    cancers
        TCGA projects, with or without the prefix (``"BRCA"`` or ``"TCGA-BRCA"``); column ``project_id``. None: all.
    hospitals
        Tissue source sites as column ``center`` spells them. None: all, including the slides without a centre.

    Returns
    -------
    Cohort
        ``X (n, 192)`` float32, rows in file order; ``obs`` holds the 14 columns of the table under their own names,
        indexed by slide. The patient is column ``case``. ``info`` holds licence, source, the pretraining warning and
        ``info["selection"]``: what was asked for, and how many rows each filter left out because ``project_id`` or
        ``center`` is missing (both are missing on the same 759 slides).

    Raises
    ------
    DataError
        A file is missing or unreadable, the two files disagree, a cancer or hospital is unknown, or no slide is left.

    References
    ----------
    Chen et al., Scaling Vision Transformers to Gigapixel Images via Hierarchical Self-Supervised Learning, CVPR 2022.
    """
    X, obs = _read(Path(folder))
    keep = np.ones(len(obs), dtype=bool)
    selection: dict[str, Any] = {"rows_in_file": len(obs)}
    for column, wanted in (("project_id", _projects(cancers)), ("center", _names(hospitals, "hospitals"))):
        if wanted is None:
            continue
        _refuse_unknown(obs[column], wanted)
        keep &= obs[column].isin(wanted).to_numpy()
        selection[column] = wanted
        selection[f"rows_without_{column}_left_out"] = int(obs[column].isna().sum())
    if not keep.any():
        raise DataError("no slide is both of these cancers and from these hospitals: widen one of the two lists.")
    selection["rows"] = int(keep.sum())
    return Cohort(X[keep], obs[keep], {**_INFO, "selection": selection})


def _read(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    for name in (EMBEDDINGS, METADATA):
        if not (folder / name).is_file():
            raise DataError(
                f"the folder has no file {name}: pass the folder that holds the two TCGA HIPT files "
                "(they are not part of the package; datasets/tcga_hipt.md says where they come from)."
            )
    try:
        with np.load(folder / EMBEDDINGS, allow_pickle=False) as archive:
            X = archive["embeddings"].astype(np.float32)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        raise DataError(f"{EMBEDDINGS} does not hold a plain array 'embeddings': fetch the file again.") from None
    obs = pd.read_csv(folder / METADATA, dtype={"tss": str}, low_memory=False)
    if len(X) != len(obs):
        raise DataError(f"{EMBEDDINGS} has {len(X)} rows and {METADATA} has {len(obs)}: fetch both files again.")
    text = obs.columns[[not pd.api.types.is_numeric_dtype(t) for t in obs.dtypes]]
    obs[text] = obs[text].astype(object)  # Arrow-backed text (pandas 3) breaks scikit-learn's indexing
    return X, obs.set_axis(pd.Index(obs["slide"].to_numpy(dtype=object)), axis=0)


def _names(values: Sequence[str] | None, argument: str) -> list[str] | None:
    if values is None:
        return None
    if isinstance(values, str) or not len(values):
        raise DataError(f"{argument} must be a list of names with at least one entry, or None for all.")
    return list(dict.fromkeys(values))


def _projects(cancers: Sequence[str] | None) -> list[str] | None:
    names = _names(cancers, "cancers")
    return None if names is None else [_PREFIX + name.upper().removeprefix(_PREFIX) for name in names]


def _refuse_unknown(column: pd.Series, wanted: list[str]) -> None:
    known = set(column.dropna())
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DataError(
            f"column {column.name!r} has no level {', '.join(map(repr, unknown))}. Levels: {', '.join(sorted(known))}."
        )
