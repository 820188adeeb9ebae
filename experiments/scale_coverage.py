"""Coverage of the intervals of counterfactual rows where hospitals stretch dimensions, and what stretching costs.

``python -m experiments.scale_coverage --cohorts 200`` prints one line per design.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM

FIRST_SEED = 2_000_000  # fixed before the first run; 10,000 to a design
D, SITES, OF_PATIENT = 6, 3, 0.7  # dimensions, sites, standard deviation of a patient's mean beside 0.7 of a row's
GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")


@dataclass(frozen=True)
class Design:
    """Patients, rows of each, and the standard deviation of the log scales of a site."""

    patients: int
    rows: int
    stretch: float


DESIGNS = {
    "36 patients, one row": Design(36, 1, 0.5),
    "36 patients, five rows": Design(36, 5, 0.5),
    "120 patients, five rows": Design(120, 5, 0.5),
    "36 patients, five rows, nothing stretched": Design(36, 5, 0.0),
    "120 patients, five rows, nothing stretched": Design(120, 5, 0.0),
}


def draw(design: Design, seed: int) -> tuple[Cohort, np.ndarray]:
    """Draw a cohort, and its rows as they would be at the first site: same noise, its mean and its scales."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    means, scales = fixed.standard_normal((SITES, D)), np.exp(design.stretch * fixed.standard_normal((SITES, D)))
    site, tumour = np.arange(design.patients) % SITES, np.arange(design.patients) // SITES % 2
    row = np.repeat(np.arange(design.patients), design.rows)
    noise = OF_PATIENT * rng.standard_normal((design.patients, D))[row] + 0.7 * rng.standard_normal((len(row), D))
    noise *= np.linspace(2.0, 0.5, D)
    Z, moved = (means[at] + 0.7 * tumour[row][:, None] + scales[at] * noise for at in (site[row], 0 * row))
    columns = {"patient": row, "site": site[row], "tumour": tumour[row]}
    obs = pd.DataFrame({name: [f"{name}{code}" for code in codes] for name, codes in columns.items()})
    return Cohort(Z, obs), moved


def study(design: Design, seed: int) -> tuple[float, float, float]:
    """Coverage over rows that move, and squared errors of location-scale and of additive."""
    cohort, truth = draw(design, seed)
    away = (cohort.obs["site"] != "site0").to_numpy()
    do = {"site": "site0"}
    moved, errors = (
        EmbeddingSCM(GRAPH, "location-scale").fit(cohort).counterfactual(cohort, do, return_uncertainty=True)
    )
    plain = EmbeddingSCM(GRAPH).fit(cohort).counterfactual(cohort, do)
    low, high = errors.interval()
    held = ((low <= truth) & (truth <= high))[away].mean()
    return float(held), float(((moved.X - truth) ** 2).sum()), float(((plain.X - truth) ** 2).sum())


def main() -> None:
    """Run all designs."""
    parser = argparse.ArgumentParser(description="Coverage of counterfactual rows under location-scale.")
    parser.add_argument("--cohorts", type=int, default=200, help="per design")
    options = parser.parse_args()
    for k, (name, design) in enumerate(DESIGNS.items()):
        found = np.array([study(design, FIRST_SEED + 10_000 * k + i) for i in range(options.cohorts)])
        held, error = found[:, 0], found[:, 0].std(ddof=1) / np.sqrt(len(found))
        ratio = np.sqrt(found[:, 1].sum() / found[:, 2].sum())
        print(f"{name}: {100 * held.mean():.1f} % (standard error {100 * error:.1f}), error {ratio:.2f} of additive")


if __name__ == "__main__":
    main()
