"""Does an interval of the biology effect on corrected rows hold the truth: ``docs/corrector_intervals.csv``.

Two intervals of the difference between classes of new patients, along itself: with the corrector taken as given, as by
whoever analyses corrected rows; and with the error of its fit added, by a jackknife that fits it anew without each of
10 blocks of its patients. ``python -m experiments.corrector_intervals``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from experiments.corrector_biology import CONFOUNDING, METHODS, SETTINGS, needs_factor, write_rows

COHORTS, BLOCKS = 40, 10
SHOWN = (  # without SCMCorrector, which takes ten times as long
    "none",
    "MeanAligner",
    "ComBat",
    "TransportAligner",
    "LinearEraser, oracle",
    "LinearEraser",
    "NuisanceSubspace",
    "NullspaceProjector",
    "MeanAligner, no biology given",
    "ComBat, no biology given",
    "LinearEraser, no biology given",
)
INTERVALS = ("corrector_as_given", "corrector_fitted_anew")


def effect(corrector: Any, new: Cohort, real: np.ndarray) -> tuple[float, float]:
    """Difference between the classes of new patients along the true one, its size 1, and its variance."""
    moved = new.X
    if corrector is not None:
        moved = corrector.transform(new.X, **({"factor": new.obs["site"]} if needs_factor(corrector) else {}))
    patient, names = pd.factorize(new.obs["patient"])
    scores = np.bincount(patient, moved @ real / (real @ real)) / np.bincount(patient)
    classes = np.empty(len(names), dtype=object)
    classes[patient] = new.obs["tumour"].to_numpy()  # one class per patient
    one, zero = (scores[classes == c] for c in ("class1", "class0"))
    return float(one.mean() - zero.mean()), float(one.var(ddof=1) / len(one) + zero.var(ddof=1) / len(zero))


def blocks_of(cohort: Cohort, seed: int) -> np.ndarray:
    """Deal patients to blocks, as evenly as can be within site and class; one number per row."""
    patients = cohort.obs.drop_duplicates("patient").sample(frac=1.0, random_state=seed)
    patients = patients.sort_values(["site", "tumour"], kind="stable")
    block = dict(zip(patients["patient"], np.arange(len(patients)) % BLOCKS, strict=True))
    return cohort.obs["patient"].map(block).to_numpy()


def held(method: str, confounding: float, seed: int) -> tuple[float, float]:
    """Whether either interval holds the truth, on one cohort and its new patients."""
    make, given = METHODS[method]
    cohort, truth = linear_scm(**SETTINGS, confounding=confounding, effect_seed=seed, random_state=seed)
    new, _ = linear_scm(**SETTINGS, confounding=confounding, effect_seed=seed, random_state=seed + 1000)
    real, block = truth.biology[1] - truth.biology[0], blocks_of(cohort, seed)

    def fitted(rows: np.ndarray) -> Any:
        corrector, obs = make(), cohort.obs[rows]
        more = {"biology": obs["tumour"], "covariates": obs[["age"]]} if given else {}
        return corrector.fit(cohort.X[rows], obs["site"], groups=obs["patient"], **more) if corrector else None

    found, variance = effect(fitted(block >= 0), new, real)
    within = abs(found - 1.0) <= 1.96 * np.sqrt(variance)
    without = np.array([effect(fitted(block != b), new, real)[0] for b in range(BLOCKS)])
    added = (BLOCKS - 1) / BLOCKS * float(((without - without.mean()) ** 2).sum())
    # Satterthwaite: only the jackknife's part has few degrees of freedom
    df = (BLOCKS - 1) * ((variance + added) / added) ** 2 if added > 0.0 else np.inf
    whole = abs(found - 1.0) <= stats.t.ppf(0.975, df) * np.sqrt(variance + added)
    return float(within), float(whole)


def rows(cohorts: int = COHORTS) -> list[dict[str, Any]]:
    """One row per method and confounding: shares of cohorts, with binomial standard errors."""
    out = []
    for method in SHOWN:
        for confounding in CONFOUNDING:
            shares = np.mean([held(method, confounding, seed) for seed in range(cohorts)], axis=0)
            row: dict[str, Any] = {"method": method, "confounding": confounding}
            for name, share in zip(INTERVALS, shares, strict=True):
                row[name] = round(float(share), 3)
                row[f"{name}_se"] = round(float(np.sqrt(share * (1.0 - share) / cohorts)), 3)
            out.append({**row, "cohorts": cohorts})
    return out


def main() -> None:
    """Write the table."""
    table = rows()
    path = Path(__file__).parents[1] / "docs" / "corrector_intervals.csv"
    write_rows(table, path)


if __name__ == "__main__":
    main()
