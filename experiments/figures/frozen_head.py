"""The small version of training under a shortcut: a linear head on the frozen encoder, where the study fine-tunes it.

Tissue, hospitals, StainSwap and judging are those of ``experiments.training_with_interventions``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.augment import InterventionalAugment, StainLibrary
from experiments.training_with_interventions import AGREE, both_stains, judge, load_script

COPIES = 4  # of every training tile, each with a stain of its own draw
C = 0.1  # of the logistic regression


def heads(seed: int, patients: int, tested: int) -> list[dict[str, Any]]:
    """Train on tiles as they come and on tiles with swapped stains; one row each, judged on other patients."""
    script = load_script()
    obs, test = script.hospital(patients, AGREE, 3 * seed), script.hospital(tested, AGREE, 3 * seed + 2)
    images, encoder = script.tiles(obs, 3 * seed), script.pretrained()
    judged, solid = both_stains(script, test, 3 * seed + 2), (obs["tumour"] == "solid").to_numpy()
    library = StainLibrary.fit(images, obs["stain"].tolist())
    augment = InterventionalAugment(script.GRAPH, {"stain": library}, obs, random_state=seed).train(True)
    codes = augment.encode(obs)

    def features(tiles: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(encoder(script.scaled(tiles)).numpy(), dtype=float)

    rows = []
    for arm in ("as it comes", "StainSwap"):
        shown = [images] if arm == "as it comes" else [augment(images, codes)[0] for _ in range(COPIES)]
        head = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
        head.fit(np.vstack([features(tiles) for tiles in shown]), np.tile(solid, len(shown)))
        found = judge(lambda tiles, head=head: head.predict(features(tiles)), test, judged)
        rows.append({"seed": seed, "arm": arm, **found})
    return rows
