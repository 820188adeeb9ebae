"""The same rendered tissue through other hospitals, stains and scanners, encoded: the truth of the fidelity study.

Encoded views are kept in a folder, one file per 20 patients, so that a run that was cut goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets import histology

CAUSES = ["site", "stain", "scanner"]
UNSEEN_SCANNER = "Corvus X"  # in no table: a level to intervene with that nobody has seen
PATIENTS_PER_FILE = 20


@dataclass(frozen=True)
class Views:
    """Tissues as they were seen, and every tissue under other causes.

    Attributes
    ----------
    seen
        One row per tissue.
    embeddings
        ``(m, d)`` of all views.
    table
        Index (tissue, site, stain, scanner) to row of ``embeddings``.
    """

    seen: Cohort
    embeddings: np.ndarray
    table: pd.Series

    def under(self, obs: pd.DataFrame) -> Cohort:
        """Look up the views of a table whose causes were set; its index names the tissues."""
        keys = pd.MultiIndex.from_arrays([obs.index, *(obs[c] for c in CAUSES)])
        return Cohort(self.embeddings[self.table.loc[keys].to_numpy()], obs)


LEVELS = {
    "site": tuple(histology.SITES),
    "stain": tuple(histology.STAINS),
    "scanner": ("Argus 2", "Meridian", UNSEEN_SCANNER),
}


def wanted_views(obs: pd.DataFrame, factors: Collection[str] = tuple(LEVELS)) -> pd.DataFrame:
    """List the distinct views of each tissue: as seen, and under do() of each level of the factors.

    Parameters
    ----------
    obs
        Table of ``cohort_table``.
    factors
        Of site, stain and scanner, those that are set.

    Returns
    -------
    pandas.DataFrame
        Rows of ``obs`` with other causes, repeated index.
    """
    worlds = [obs]
    worlds += [histology.intervene(obs, **{f: level}) for f in LEVELS if f in factors for level in LEVELS[f]]
    every = pd.concat(worlds)
    repeated = every.assign(tissue=every.index).duplicated(["tissue", *CAUSES])
    return every[~repeated.to_numpy()]


def encoded_views(
    obs: pd.DataFrame,
    folder: Path,
    *,
    random_state: int,
    size: int = 224,
    encode: Callable[[np.ndarray], np.ndarray] | None = None,
    factors: Collection[str] = tuple(LEVELS),
    say: Callable[[str], None] = print,
) -> Views:
    """Render and encode all views, or read those that an earlier run left.

    Parameters
    ----------
    obs
        Table of ``cohort_table``.
    folder
        Keeps the embeddings; a run of the same table and seed goes on.
    random_state, size
        Of the renderer.
    encode
        Images ``(n, size, size, 3)`` to embeddings; EfficientNet-Lite0 unless given.
    factors
        As of :func:`wanted_views`.
    say
        Told of progress.

    Returns
    -------
    Views
        See there.
    """
    if encode is None:
        from causalfm.extraction import encode as encode_images

        def encode(images: np.ndarray) -> np.ndarray:
            return encode_images(images, "efficientnet-lite0", device="cpu")

    folder.mkdir(parents=True, exist_ok=True)
    views, blocks = wanted_views(obs, factors), []
    patients = views["patient"].unique()
    for start in range(0, len(patients), PATIENTS_PER_FILE):
        part = views[views["patient"].isin(patients[start : start + PATIENTS_PER_FILE])]
        key = "\x1f".join(["/".join(map(str, row)) for row in part[["patient", "tile", "tumour", *CAUSES]].to_numpy()])
        path = folder / f"views-{start:05d}.npz"
        Z = _kept(path, key)
        if Z is None:
            images = histology.render_cohort(
                part.reset_index(drop=True), random_state=random_state, size=size, n_jobs=1
            )
            Z = encode(images)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, Z=Z, key=np.array(key))
            temporary.replace(path)
            say(f"encoded {len(part)} views of patients {start} to {start + PATIENTS_PER_FILE - 1}")
        blocks.append((part, Z))
    order = pd.concat([part for part, _ in blocks])
    table = pd.Series(
        np.arange(len(order)), index=pd.MultiIndex.from_arrays([order.index, *(order[c] for c in CAUSES)])
    )
    found = Views(Cohort(np.zeros((len(obs), 1)), obs), np.concatenate([Z for _, Z in blocks]), table)
    return Views(found.under(obs), found.embeddings, table)


def _kept(path: Path, key: str) -> np.ndarray | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return np.array(file["Z"]) if str(file["key"]) == key else None
