"""Real slides: a TCGA hospital is watched, then the slides of another hospital come instead."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.tcga_hipt import load
from causalfm.graph import CausalGraph
from causalfm.shift import Monitor

CANCERS, LEAST, SPLITS, BATCH, ALPHA = ("BRCA", "KIRC", "LGG"), 60, 20, 10, 0.01
REFERENCE = 0.7  # of the patients of a hospital; the others are its quiet stream
GRAPH = CausalGraph.standard(biology="oncotree_code", technical="center", group="case")


@dataclass(frozen=True)
class Watched:
    """What came of the random splits of one hospital.

    Attributes
    ----------
    cancer, home, patients
        Project, hospital and its patients.
    false
        Splits with an alarm among its own patients.
    delays
        Patients of another hospital until the alarm, over hospitals and splits; infinite: none came.
    """

    cancer: str
    home: str
    patients: int
    false: int
    delays: tuple[float, ...]


def studies() -> Iterator[Watched]:
    """Watch the two largest hospitals of each cancer that have patients enough."""
    for cancer in CANCERS:
        cohort = load(os.environ["CAUSALFM_DATA"], cancers=[cancer])
        cohort = cohort[cohort.obs["center"].notna().to_numpy()]
        sizes = cohort.obs.groupby("center")["case"].nunique().sort_values(ascending=False)
        large = sizes.index[sizes >= LEAST]
        for home in large[:2]:
            yield _watched(cohort, cancer, home, [other for other in large if other != home])


def _watched(cohort: Cohort, cancer: str, home: str, others: list[str]) -> Watched:
    false, delays = 0, []
    own = cohort.obs.loc[cohort.obs["center"] == home, "case"].unique()
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        order = rng.permutation(own)
        first, rest = np.split(order, [int(REFERENCE * len(own))])
        monitor = Monitor.fit(_of(cohort, first), GRAPH, alpha=ALPHA, noticeable=4.0, random_state=seed)
        if np.isfinite(_until_alarm(monitor, cohort, rest)):
            false += 1
            continue  # the alarm is up already
        for other in others:
            them = rng.permutation(cohort.obs.loc[cohort.obs["center"] == other, "case"].unique())
            delays.append(_until_alarm(copy.copy(monitor), cohort, them))
    return Watched(cancer, home, len(own), int(false), tuple(delays))


def _until_alarm(monitor: Monitor, cohort: Cohort, patients: np.ndarray) -> float:
    for start in range(0, len(patients), BATCH):
        if monitor.update(_of(cohort, patients[start : start + BATCH])).alarm is not None:
            return float(start + BATCH)
    return float("inf")


def _of(cohort: Cohort, patients: np.ndarray) -> Cohort:
    return cohort[cohort.obs["case"].isin(patients).to_numpy()]
