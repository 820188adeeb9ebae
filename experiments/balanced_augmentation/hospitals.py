"""Training sets with a shortcut: lung cancers of two hospitals, and other organs of the same two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import causalfm as cfm
from causalfm.datasets import tcga_hipt

GRAPH = cfm.CausalGraph.standard(biology="project_id", technical=["center"], group="case")
HOSPITALS = ("Johns Hopkins", "International Genomics Consortium")
CLASSES = ("TCGA-LUAD", "TCGA-LUSC")  # the shortcut: the first class at the first hospital, the second at the second
AGREEMENT = {"balanced": 0.5, "75/25": 0.75, "full": 1.0}
LENT = 15  # least patients of another cancer at both hospitals


@dataclass(frozen=True, eq=False)
class Pool:
    """One slide per patient.

    Attributes
    ----------
    cohort
        Lung first, then other organs of the two hospitals.
    cell
        ``(n,)`` cell of each patient: ``2 class + hospital`` for lung (0 and 3 agree with the shortcut), from 4 on one
        cell per other cancer and hospital.
    """

    cohort: cfm.Cohort
    cell: np.ndarray

    @property
    def lung(self) -> np.ndarray:
        """Mask ``(n,)`` of the patients that are classified."""
        return self.cell < 4

    @property
    def lent(self) -> np.ndarray:
        """Positions of the patients with other cancers: all of them are lent to every training set that asks."""
        return np.flatnonzero(~self.lung)

    @property
    def hospital(self) -> np.ndarray:
        """``(n,)`` 0 or 1."""
        return self.cell % 2

    @property
    def label(self) -> np.ndarray:
        """``(n,)`` 0 or 1 for lung."""
        return self.cell // 2


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the pool: a training set, and every lung patient not trained on."""

    train: np.ndarray
    test: np.ndarray


def load_pool(folder: Path) -> Pool:
    """Read the two hospitals; the first slide of a patient is kept."""
    cohort = tcga_hipt.load(folder, hospitals=HOSPITALS)
    cohort = cohort[(~cohort.obs["case"].duplicated()).to_numpy()]
    project, center = (np.asarray(cohort.obs[c], dtype=object).astype(str) for c in ("project_id", "center"))
    hospital = (center == HOSPITALS[1]).astype(int)
    cell = np.full(len(cohort), -1)
    for c, name in enumerate(CLASSES):
        cell[project == name] = 2 * c + hospital[project == name]
    others = sorted(set(project) - set(CLASSES))
    shared = [o for o in others if np.bincount(hospital[project == o], minlength=2).min() >= LENT]
    for c, name in enumerate(shared):
        cell[project == name] = 4 + 2 * c + hospital[project == name]
    order = np.argsort(cell, kind="stable")
    order = order[cell[order] >= 0]
    chosen = cohort[order]
    return Pool(chosen.replace(obs=chosen.obs[["case", "project_id", "center"]]), cell[order])


def draw_split(pool: Pool, training: str, per_class: int, seed: int, number: int) -> Split:
    """Draw a training set of constant size; the same number draws from the same shuffled patients in every design."""
    rng = np.random.default_rng([seed, number])
    agreeing = round(AGREEMENT[training] * per_class)
    take = {0: agreeing, 1: per_class - agreeing, 2: per_class - agreeing, 3: agreeing}
    train, test = [], []
    for cell in range(4):
        members = rng.permutation(np.flatnonzero(pool.cell == cell))
        if len(members) < take[cell] + 5:
            raise SystemExit(
                f"cell {cell} has {len(members)} patients: {take[cell]} to train on and 5 to test on needed"
            )
        train.append(members[: take[cell]])
        test.append(members[take[cell] :])
    return Split(np.concatenate(train), np.concatenate(test))
