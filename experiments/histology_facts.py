"""What the card of the rendered tissue claims: who can be read from colour, and who from embeddings.

``python -m experiments.histology_facts [--patients 96] [--tiles 3] [--seed 0]``
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.datasets import histology
from causalfm.extraction import encode

PAIR = ("glandular", "solid")


def readout(features: np.ndarray, labels: pd.Series, groups: pd.Series) -> float:
    """Balanced accuracy of a logistic read-out, five folds by patient."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return float(balanced_accuracy_score(labels, cross_val_predict(probe, features, labels, groups=groups, cv=folds)))


def colour(images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of RGB per tile ``(n, 3)``, and mean with standard deviation ``(n, 6)``."""
    flat = images.reshape(len(images), -1, 3)
    mean = flat.mean(axis=1)
    return {"mean RGB": mean, "mean and SD of RGB": np.hstack([mean, flat.std(axis=1)])}


def patterns_under_one_hospital(patients: int, tiles: int, seed: int) -> list[tuple[str, str, str, float]]:
    """Read the pattern where hospital, stain and scanner are the same for all: two patterns, then all four."""
    obs = histology.cohort_table(patients, tiles, 0.0, seed, tissues=histology.TISSUES)
    rows = []
    for scanner in histology.SCANNERS:
        same = histology.intervene(obs, site="Northfield", stain="HE-1", scanner=scanner)
        images = histology.render_cohort(same, random_state=seed)
        features = colour(images)
        if scanner == "Argus 2":
            features["EfficientNet-Lite0"] = encode(images)
        for name, X in features.items():
            for what, keep in (("glandular or solid", obs["tumour"].isin(PAIR)), ("four patterns", obs["tile"] >= 0)):
                score = readout(X[keep.to_numpy()], obs["tumour"][keep], obs["patient"][keep])
                rows.append((f"one hospital, {scanner}", name, what, score))
    return rows


def causes_in_the_cohort(patients: int, tiles: int, seed: int) -> list[tuple[str, str, str, float]]:
    """Read pattern, hospital, stain and scanner in the default cohort of two patterns."""
    images, obs = histology.confounded_cohort(n_patients=patients, tiles_per_patient=tiles, random_state=seed)
    features = {"mean RGB": colour(images)["mean RGB"], "EfficientNet-Lite0": encode(images)}
    return [
        ("default cohort", name, cause, readout(X, obs[cause], obs["patient"]))
        for name, X in features.items()
        for cause in ("tumour", "site", "stain", "scanner")
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Facts of the rendered tissue.")
    parser.add_argument("--patients", type=int, default=96)
    parser.add_argument("--tiles", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args(arguments)
    rows = patterns_under_one_hospital(o.patients, o.tiles, o.seed) + causes_in_the_cohort(o.patients, o.tiles, o.seed)
    table = pd.DataFrame(rows, columns=["tiles", "features", "read", "balanced accuracy"])
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
