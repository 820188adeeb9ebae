"""Tissue with known scanners: an unpaired cohort, a bridging study, and new patients to judge by."""

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph

GRAPH = CausalGraph(
    "site <-> tumour; {tumour, site, scanner} -> Z",
    biology="tumour",
    technical=["site", "scanner"],
    group="patient",
    specimen="tile",
)


def scanners(n=2, d=12, strength=0.6, seed=7):
    """Linear maps ``I + strength * random`` and shifts of each scanner."""
    rng = np.random.default_rng(seed)
    maps = [np.eye(d) + strength * (s > 0) * rng.standard_normal((d, d)) / np.sqrt(d) for s in range(n)]
    return maps, [0.3 * s * rng.standard_normal(d) for s in range(n)]


def scan(tissue, which, maps, shifts, rng, *, patient=0.2, noise=0.2):
    """See tissue under scanners ``which (n,)``; a scanner does something of its own to each patient and tile."""
    d, groups = tissue.d, tissue.factor("patient")
    of_patient = patient * rng.standard_normal((groups.n_levels, len(maps), d)) / np.sqrt(d)
    X = np.einsum("nij,nj->ni", np.stack(maps)[which], tissue.X) + np.stack(shifts)[which]
    X = X + of_patient[groups.codes, which] + noise * rng.standard_normal(X.shape) / np.sqrt(d)
    obs = tissue.obs.assign(scanner=[f"scanner{s}" for s in which])
    return Cohort(X, obs)


def tissue_of(seed, n_patients, rows, d=12, prefix=""):
    """Tiles as they are before any scanner."""
    cohort, _ = linear_scm(n_groups=n_patients, rows_per_group=rows, d=d, n_sites=2, site_effect=0.5, random_state=seed)
    obs = cohort.obs.assign(patient=prefix + cohort.obs["patient"], tile=[f"{prefix}{t}" for t in range(len(cohort))])
    return cohort.replace(obs=obs.set_axis(obs["tile"].to_numpy(), axis=0))


def unpaired(seed, n_patients=80, rows=3, design=None, **noise):
    """Patients with one scanner each."""
    maps, shifts = design or scanners()
    tissue = tissue_of(seed, n_patients, rows, len(shifts[0]), "u")
    which = tissue.factor("patient").codes // 4 % len(maps)
    return scan(tissue, which, maps, shifts, np.random.default_rng([seed, 1]), **noise)


def rescanned(seed, n_patients, rows, design=None, prefix="b", **noise):
    """Tiles that all scanners saw, scanner by scanner."""
    maps, shifts = design or scanners()
    tissue = tissue_of(seed, n_patients, rows, len(shifts[0]), prefix)
    n = len(tissue)
    every = Cohort(
        np.tile(tissue.X, (len(maps), 1)), tissue.obs.iloc[np.tile(np.arange(n), len(maps))].reset_index(drop=True)
    )
    return scan(every, np.repeat(np.arange(len(maps)), n), maps, shifts, np.random.default_rng([seed, 2]), **noise)


def views(cohort):
    """Split into one cohort per scanner, tiles in the same order."""
    scanner = cohort.factor("scanner")
    return [cohort[np.flatnonzero(scanner.codes == s)] for s in range(scanner.n_levels)]
