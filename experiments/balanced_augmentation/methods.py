"""What is done to a training set before one and the same classifier is fitted, and to test rows where a method does.

A method takes the pool, a split and a seed and returns rows to train on and to test, or the reason why it has none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import causalfm as cfm
from causalfm.errors import NotIdentifiedError
from experiments.balanced_augmentation.hospitals import GRAPH, Pool, Split

COPIES = 10


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows to train on with classes and weights, and rows to test."""

    X: np.ndarray
    y: np.ndarray
    test: np.ndarray
    weight: np.ndarray | None = None

    def classify(self, C: float) -> np.ndarray:
        """Standardise, fit logistic regression, predict."""
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
        weights = {} if self.weight is None else {"logisticregression__sample_weight": self.weight}
        return np.asarray(model.fit(self.X, self.y, **weights).predict(self.test))


Method = Callable[[Pool, Split, int], Prepared | str]


def nothing(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """Leave all as it is."""
    X = pool.cohort.X
    return Prepared(X[split.train], pool.label[split.train], X[split.test])


def reweighting(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """Weigh rows so that class and hospital are independent: P(class) P(hospital) / P(class, hospital)."""
    label, hospital = pool.label[split.train], pool.hospital[split.train]
    joint = np.zeros((2, 2))
    np.add.at(joint, (label, hospital), 1.0 / len(label))
    if not joint.all():
        return "no patient in two of the four cells"
    weight = (joint.sum(axis=1)[:, None] * joint.sum(axis=0) / joint)[label, hospital]
    X = pool.cohort.X
    return Prepared(X[split.train], label, X[split.test], weight)


def mean_alignment(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """Subtract the mean of the hospital's training rows, from test rows too."""
    X = pool.cohort.X.astype(np.float64)
    for h in (0, 1):
        rows = split.train[pool.hospital[split.train] == h]
        X[pool.hospital == h] -= pool.cohort.X[rows].mean(axis=0)
    return Prepared(X[split.train], pool.label[split.train], X[split.test])


def combat(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """ComBat of the package combatlearn, fitted on the training rows; the class is not known at test time."""
    from combatlearn import ComBat

    X, batch = pd.DataFrame(pool.cohort.X.astype(np.float64)), pd.Series(pool.hospital)
    model = ComBat(batch, method="johnson").fit(X.iloc[split.train])
    train, test = (np.asarray(model.transform(X.iloc[rows])) for rows in (split.train, split.test))
    return Prepared(train, pool.label[split.train], test)


def leace(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """LEACE of the package concept-erasure: no linear reader finds the hospital among the training rows."""
    X = pool.cohort.X.astype(np.float64)
    return _erased(pool, split, X[split.train], pool.hospital[split.train])


def leace_borrowed(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """LEACE fitted on the other organs, each centred."""
    X, hospital = pool.cohort.X[pool.lent].astype(np.float64), pool.hospital[pool.lent]
    if not len(X):
        return "no other organs"
    for organ in np.unique(pool.cell[pool.lent] // 2):
        rows = pool.cell[pool.lent] // 2 == organ
        X[rows] -= X[rows].mean(axis=0)
    return _erased(pool, split, X, hospital)


def _erased(pool: Pool, split: Split, X: np.ndarray, hospital: np.ndarray) -> Prepared:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        from concept_erasure import LeaceEraser

    eraser = LeaceEraser.fit(torch.from_numpy(X), torch.from_numpy(hospital.astype(np.float64)))
    every = eraser(torch.from_numpy(pool.cohort.X.astype(np.float64))).numpy()
    return Prepared(every[split.train], pool.label[split.train], every[split.test])


def augmentation(mechanism: str, *, borrowed: bool = False) -> Method:
    """Balanced counterfactual augmentation; test rows stay as they are."""

    def method(pool: Pool, split: Split, seed: int) -> Prepared | str:
        train = pool.cohort[split.train]
        try:
            scm = _fit(pool, split, mechanism, borrowed=borrowed)
            moved = cfm.augment.balanced_counterfactuals(scm, train, copies=COPIES, target="uniform", random_state=seed)
        except NotIdentifiedError:
            return "refused: not identified"
        label = np.tile(pool.label[split.train], COPIES)
        return Prepared(moved.X, label, pool.cohort.X[split.test], np.full(len(label), 1.0 / COPIES))

    return method


def moved_to_one(pool: Pool, split: Split, seed: int) -> Prepared | str:
    """Move training and test rows to one hospital by the additive model with other organs lent."""
    scm, hospital = _fit(pool, split, "additive", borrowed=True), pool.cohort.obs["center"].iloc[0]
    X = [scm.counterfactual(pool.cohort[rows], {"center": hospital}).X for rows in (split.train, split.test)]
    return Prepared(X[0], pool.label[split.train], X[1])


def _fit(pool: Pool, split: Split, mechanism: str, *, borrowed: bool) -> cfm.EmbeddingSCM:
    rows = np.concatenate([split.train, pool.lent]) if borrowed else split.train
    assume = "additive" if borrowed else None
    return cfm.EmbeddingSCM(GRAPH, mechanism, assume=assume).fit(pool.cohort[rows])


METHODS: dict[str, Method] = {
    "no correction": nothing,
    "reweighting": reweighting,
    "mean alignment": mean_alignment,
    "ComBat": combat,
    "LEACE": leace,
    "augmentation, additive": augmentation("additive"),
    "augmentation, location-scale": augmentation("location-scale"),
    "augmentation, interaction": augmentation("interaction"),
    "augmentation, additive, other organs lent": augmentation("additive", borrowed=True),
    "augmentation, location-scale, other organs lent": augmentation("location-scale", borrowed=True),
    "moved to one hospital, other organs lent": moved_to_one,
    "LEACE, other organs lent": leace_borrowed,
}
