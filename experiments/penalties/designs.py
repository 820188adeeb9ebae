"""Where the penalties are compared: simulated hospitals with and without a shortcut, and hospitals of TCGA."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causalfm.datasets import tcga_hipt
from causalfm.datasets.linear_scm import linear_scm

SEEN, SITES = 3, 6  # simulated hospitals to train on, and in all
MARKER = (0.95, 0.85, 0.75, 0.1, 0.1, 0.1)  # how often a marker names the class, by hospital
DESIGNS = {
    "shortcut": {"confounding": 0.6, "site_effect": 3.0},
    "no association": {"confounding": 0.0, "site_effect": 3.0},
    "hospitals alike": {"confounding": 0.6, "site_effect": 0.0},
    "marker": {"confounding": 0.0, "site_effect": 0.0},
}
WORDS = {
    "shortcut": "the hospital is in the embedding (hospitals 3 apart, classes 1), and four of five patients of a "
    "training hospital have the class that goes with it",
    "no association": "the hospital is in the embedding, every hospital has as many patients of both classes",
    "hospitals alike": "four of five patients of a hospital have one class, but nothing of the hospital is in the "
    "embedding: what goes with the hospital is biology",
    "marker": "hospitals are alike but for a marker (a pen stroke, a drain) that names the class of 95, 85 and 75 % of "
    "the patients of the training hospitals, and of 10 % at new ones",
    "TCGA lung": "adenocarcinoma against squamous carcinoma (HIPT slide embeddings, pretrained on TCGA); three of four "
    "patients of a training hospital have the class that goes with it",
}
TCGA = "TCGA lung"
TRAINING = {  # patients of each class (LUAD, LUSC) that are trained on: each hospital leans as it does in TCGA
    "Christiana Healthcare": (12, 4),
    "International Genomics Consortium": (12, 4),
    "Asterand": (4, 12),
    "Prince Charles Hospital": (4, 12),
}
NEW = ("Indivumed", "Johns Hopkins", "Ontario Institute for Cancer Research", "University of Pittsburgh")
CLASSES = ("TCGA-LUAD", "TCGA-LUSC")


@dataclass(frozen=True, eq=False)
class Rows:
    """Embeddings ``X (n, d)``, classes 0 and 1, hospitals as numbers."""

    X: np.ndarray
    y: np.ndarray
    site: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Rows:
        return Rows(self.X[rows], self.y[rows], self.site[rows])


def training_set(design: str, number: int, per_site: int) -> Rows:
    """Patients of the first hospitals, with the association of the design."""
    return _drawn(design, number, 2 * number, per_site, **DESIGNS[design])


def test_set(design: str, number: int, per_site: int) -> Rows:
    """New patients of all hospitals of the same cohort, classes even."""
    return _drawn(design, number, 2 * number + 1, per_site, **DESIGNS[design] | {"confounding": 0.0}, sites=SITES)


def _drawn(
    design: str, number: int, seed: int, per_site: int, *, confounding: float, site_effect: float, sites: int = SEEN
) -> Rows:
    cohort, _ = linear_scm(
        n_groups=per_site * SITES,
        rows_per_group=1,
        d=16,
        n_sites=SITES,
        site_effect=site_effect,
        confounding=confounding,
        effect_seed=number,
        random_state=seed,
    )
    X, y, site = np.asarray(cohort.X), cohort.factor("tumour").codes, cohort.factor("site").codes
    rows = np.flatnonzero(site < sites)
    if design == "marker":
        rng = np.random.default_rng([seed, 1])
        named = np.where(rng.random(len(y)) < np.array(MARKER)[site], y, 1 - y)
        X = np.column_stack([X, 2.0 * named + 0.5 * rng.standard_normal(len(y))])
    return Rows(X[rows], y[rows], site[rows])


def lung(folder: Path) -> Rows:
    """One slide per patient of the eight hospitals, those to train on first."""
    hospitals = (*TRAINING, *NEW)
    cohort = tcga_hipt.load(folder, cancers=CLASSES, hospitals=hospitals)
    cohort = cohort[(~cohort.obs["case"].duplicated()).to_numpy()]
    place = {name: i for i, name in enumerate(hospitals)}
    site = np.array([place[name] for name in cohort.obs["center"]])
    return Rows(
        np.asarray(cohort.X, dtype=float), (cohort.obs["project_id"] == CLASSES[1]).to_numpy().astype(int), site
    )


def lung_split(pool: Rows, number: int) -> np.ndarray:
    """Positions of a training set, drawn at random."""
    rng, parts = np.random.default_rng([3, number]), []
    for i, counts in enumerate(TRAINING.values()):
        for c, count in enumerate(counts):
            members = np.flatnonzero((pool.site == i) & (pool.y == c))
            parts.append(rng.permutation(members)[:count])
    return np.concatenate(parts)
