"""Landmarks or random Fourier features for the kernel means of ``mmd``: their error, their power and their time.

``python -m experiments.kernel_features`` prints the table of docs/adr/0009-kernel-features.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from time import perf_counter
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph
from causalfm.invariance.kernels import kernel_units
from causalfm.invariance.mean import mean_test
from causalfm.units import Units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
BANDWIDTHS = np.array([1.0, 0.5, 0.25])  # of the median distance: gaussian_kernel is the mean of the three
DESIGN: dict[str, Any] = {"n_groups": 100, "rows_per_group": 10, "n_sites": 4, "confounding": 0.3}
# What two sites may differ by, at sizes that leave room above and below.
SPECTRA: dict[str, dict[str, Any]] = {
    "32, decay 1": {"d": 32, "shift": {"site_effect": 0.2}, "spread": {"variance_by_site": 0.8}, "none": {}},
    "512, decay .5": {
        "d": 512,
        "decay": 0.5,
        "shift": {"site_effect": 0.15},
        "spread": {"variance_by_site": 0.2},
        "none": {},
    },
}


def fourier_units(cohort: Cohort, exact: Units, scale: float, n_features: int, seed: int) -> Units:
    """Patients' means of random Fourier features of the same kernel: half cosines, half sines."""
    rng = np.random.default_rng(seed)
    half = n_features // 2
    W = rng.standard_normal((cohort.d, half)) / (scale * BANDWIDTHS[np.arange(half) % len(BANDWIDTHS)])
    angles = np.asarray(cohort.X, dtype=np.float64) @ W
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(half)
    patient = cohort.factor("patient", private=True)
    total = np.zeros((patient.n_levels, features.shape[1]))
    np.add.at(total, patient.codes, features)
    return dataclasses.replace(exact, Z=total / patient.counts()[:, None])


def centred_gram(units: Units) -> np.ndarray:
    """Inner products of the patients' means within their strata."""
    strata = np.eye(units.n_strata)[units.stratum]
    Z = units.Z - strata @ ((strata.T @ units.Z) / strata.sum(axis=0)[:, None])
    return np.asarray(Z @ Z.T)


def main(arguments: list[str] | None = None) -> None:
    """Print one line per spectrum, number of features and kind of features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=60)
    options = parser.parse_args(arguments)
    for spectrum, settings in SPECTRA.items():
        for n_features in (64, 256):
            found = [measure(settings, n_features, seed) for seed in range(options.cohorts)]
            for kind in ("exact", "landmarks", "fourier"):
                line = {name: np.mean([one[kind][name] for one in found]) for name in found[0][kind]}
                print(
                    f"{spectrum:>14} {n_features:>4} {kind:>9} ",
                    {k: round(float(v), 4) for k, v in line.items()},
                    flush=True,
                )


def measure(settings: dict[str, Any], n_features: int, seed: int) -> dict[str, dict[str, float]]:
    """Relative error of the kernel means, rejections of three hypotheses, and seconds for the features."""
    out: dict[str, dict[str, float]] = {"exact": {}, "landmarks": {}, "fourier": {}}
    differences = {name: value for name, value in settings.items() if isinstance(value, dict)}
    fixed = {name: value for name, value in settings.items() if name not in differences}
    for difference, effect in differences.items():
        cohort, _ = linear_scm(**DESIGN, **fixed, **effect, random_state=seed)
        ask = (cohort, GRAPH, ("site",), ("tumour",), "gaussian")
        exact, features = kernel_units(*ask, n_landmarks=len(cohort), random_state=seed)
        start = perf_counter()
        landmarks, _ = kernel_units(*ask, n_landmarks=n_features, random_state=seed)
        between = perf_counter()
        fourier = fourier_units(cohort, exact, features.scale, n_features, seed)
        end = perf_counter()
        seconds = {"exact": np.nan, "landmarks": between - start, "fourier": end - between}
        whole = centred_gram(exact)
        for kind, units in (("exact", exact), ("landmarks", landmarks), ("fourier", fourier)):
            out[kind][difference] = float(mean_test(units, n_permutations=199, random_state=seed)[1] <= 0.05)
            out[kind]["error"] = float(np.linalg.norm(centred_gram(units) - whole) / np.linalg.norm(whole))
            out[kind]["seconds"] = seconds[kind]
    return out


if __name__ == "__main__":
    main()
