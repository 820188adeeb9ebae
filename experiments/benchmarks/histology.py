"""The renderer of tissue, beside the noise and the colours that its pixels cannot do without."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causalfm.datasets import histology
from experiments.benchmarks.claim import Claim, Trial

DYES = 2


def prepare(folder: Path, tiles: int, side: int, threads: int) -> Trial:
    """Render tiles of all patterns, stains and scanners."""
    obs = histology.cohort_table(16, -(-tiles // 16), 0.6, 0, tissues=histology.TISSUES)
    obs["scanner"] = np.resize(list(histology.SCANNERS), len(obs))

    def bare() -> None:
        rng = np.random.default_rng(0)
        for _ in range(len(obs)):
            dyes, noise = rng.random((side * side, DYES)), rng.standard_normal((side * side, 3))
            (255.0 * np.exp(-dyes @ np.ones((DYES, 3))) + noise).clip(0, 255).astype(np.uint8)

    return Trial(lambda: histology.render_cohort(obs, random_state=0, size=side, n_jobs=threads), bare)


ENTRIES = (
    Claim(
        "histology.render",
        "tiles of tissue rendered over all patterns, stains and scanners, two threads",
        prepare,
        {"tiles": 96, "side": 224, "threads": 2},
        {"tiles": 16, "side": 128, "threads": 2},
        "two dyes and noise drawn for every pixel, and Beer-Lambert's law, one thread",
        no_peer="no other renderer of tissue under declared causes",
        why="Tissue is laid out and nuclei are drawn one by one; the optics blur, the scanner resamples and "
        "compresses. The limit has none of that.",
    ),
)
