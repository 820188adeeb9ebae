"""AMi-Br mitotic figures: three encoders on the same patches of three scanners. The card is ``amibr.md``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError

Encoder = Literal["lite0", "shell", "color"]

METADATA = "amibr_metadata.csv.gz"
# files and array of each encoder; parts are concatenated in order
ENCODERS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "lite0": (
        tuple(f"amibr_efficientnet_lite0_f16_part{i}.npz" for i in range(3)),
        "emb",
        "EfficientNet-Lite0 (ImageNet), 224 px, mean over space, 1280-d",
    ),
    "shell": (
        ("amibr_shell256_color6_f16.npz",),
        "shell",
        "SHELL SegResNet (H&E), bottleneck mean and standard deviation, 256-d; off its design point (see the card)",
    ),
    "color": (("amibr_shell256_color6_f16.npz",), "color", "mean and standard deviation of red, green and blue, 6-d"),
}
_INFO = {
    "dataset": "AMi-Br mitotic figures, MIDOG21 and TUPAC16 patches",
    "licence": "MIDOG21 images CC0, crops and labels MIT; TUPAC16 images not included, features only",
    "source": "DeepMicroscopy/AMi-Br, commit 20a217b33a8708279600e30129bc55a504ee6620",
    "warning": "Scanners were used on different patients: scanner and case mix are not strictly separable.",
}


def load(folder: str | Path, encoder: Encoder, *, dataset: str | None = "MIDOG21") -> Cohort:
    """Load the patches of one data set as one encoder sees them; rows are the same for every encoder.

    Parameters
    ----------
    folder
        Folder that holds ``amibr_metadata.csv.gz`` and the encoders' ``.npz`` files.
    encoder
        ``"lite0"``, ``"shell"`` or ``"color"``.
    dataset
        ``"MIDOG21"`` (three scanners in one laboratory), ``"TUPAC16"`` (three blocks of cases, not verified centres)
        or None for both.

    Returns
    -------
    Cohort
        ``X (n, d)`` float32, rows in file order; ``obs`` with the columns of the table (``domain`` is the scanner or
        block, ``label`` atypical or normal, ``patient``) and ``scanner``, the same as ``domain``.

    Raises
    ------
    DataError
        A file is missing or unreadable, files disagree, or encoder or data set are unknown.

    References
    ----------
    Bertram et al., BVM 2025; Aubreville et al., Scientific Data 2023.
    """
    if encoder not in ENCODERS:
        raise DataError(f"encoder={encoder!r} is not known: choose {', '.join(ENCODERS)}.")
    files, key, words = ENCODERS[encoder]
    folder = Path(folder)
    for name in (METADATA, *files):
        if not (folder / name).is_file():
            raise DataError(
                f"the folder has no file {name}: pass the folder that holds the AMi-Br files (they are not part of the "
                "package; datasets/amibr.md says where they come from)."
            )
    X = np.concatenate([_array(folder / name, key) for name in files])
    obs = pd.read_csv(folder / METADATA, dtype={"patient": str})
    if len(X) != len(obs):
        raise DataError(f"{encoder} has {len(X)} rows and {METADATA} has {len(obs)}: fetch the files again.")
    text = obs.columns[[not pd.api.types.is_numeric_dtype(t) for t in obs.dtypes]]
    obs[text] = obs[text].astype(object)  # Arrow-backed text (pandas 3) breaks scikit-learn's indexing
    obs["scanner"] = obs["domain"]
    keep = np.ones(len(obs), dtype=bool)
    if dataset is not None:
        keep = (obs["dataset"] == dataset).to_numpy()
        if not keep.any():
            raise DataError(f"dataset={dataset!r} is not known: choose {', '.join(sorted(obs['dataset'].unique()))}.")
    return Cohort(X[keep], obs[keep].reset_index(drop=True), {**_INFO, "encoder": words})


def _array(path: Path, key: str) -> np.ndarray:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive[key], dtype=np.float32)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        raise DataError(f"{path.name} does not hold a plain array {key!r}: fetch the file again.") from None
