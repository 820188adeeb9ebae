"""Cohorts with known structural equations, shared by the tests of the causal model."""

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph

SITE = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates="age", group="patient")


def aged(seed=0, **settings):
    """Confounded sites and ages, 80 patients."""
    defaults = {"n_groups": 80, "d": 16, "site_effect": 1.0, "age_effect": 0.5, "age_by_site": 1.0, "confounding": 0.4}
    return linear_scm(**{**defaults, **settings}, random_state=seed)


def scanned(seed=0, n_patients=90, d=8):
    """Three sites with their own shares of three scanners; site, scanner and class shift ``Z``."""
    rng = np.random.default_rng(seed)
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    turn = np.arange(n_patients) // 6  # counts follow the shares in every site and class
    scanner = (np.cumsum(shares, axis=1)[site] <= ((turn * 0.37 + 0.05) % 1)[:, None]).sum(axis=1)
    effects = [rng.standard_normal((k, d)) for k in (3, 3, 2)]
    row = np.repeat(np.arange(n_patients), 2)
    Z = sum(e[c[row]] for e, c in zip(effects, (site, scanner, tumour), strict=True))
    Z = Z + rng.standard_normal((n_patients, d))[row] + 0.5 * rng.standard_normal((len(row), d))
    columns = {"patient": row, "site": site[row], "scanner": scanner[row], "tumour": tumour[row]}
    obs = pd.DataFrame({name: [f"{name}{c}" for c in codes] for name, codes in columns.items()})
    obs["age"] = 60.0 + rng.standard_normal(n_patients)[row]
    return Cohort(Z, obs), effects


def stretched(seed=0, n_patients=240, d=6, shapes=None):
    """Sites shift ``Z`` and reshape its residual: ``z = m_s + b_t + A_s e``; by default they stretch dimensions."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    means = fixed.standard_normal((3, d))
    if shapes is None:
        shapes = [np.diag(np.exp(0.5 * fixed.standard_normal(d))) for _ in range(3)]
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    noise = rng.standard_normal((n_patients, d)) * np.linspace(2.0, 0.5, d)
    Z = means[site] + 0.7 * tumour[:, None] + np.einsum("nij,nj->ni", np.stack(shapes)[site], noise)
    moved = means[0] + 0.7 * tumour[:, None] + noise @ shapes[0].T  # every patient at site 0, with its own noise
    obs = pd.DataFrame({"patient": [f"p{g}" for g in range(n_patients)], "site": [f"s{s}" for s in site]})
    obs["tumour"] = [f"t{t}" for t in tumour]
    return Cohort(Z, obs), moved


def bent(seed=0, n_patients=300, d=6):
    """Sites bend ``Z``: half of the coordinates move with the square of the others, by as much as the site says."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    bend, means = np.array([-0.8, 0.0, 0.8]), fixed.standard_normal((3, d))
    turn = np.linalg.qr(fixed.standard_normal((d, d)))[0]
    noise = rng.standard_normal((n_patients, d))

    def Z(s):
        moved = noise.copy()
        moved[:, d // 2 :] += bend[s][:, None] * (noise[:, : d // 2] ** 2 - 1.0)
        return (moved + means[s] + 0.7 * tumour[:, None]) @ turn

    obs = pd.DataFrame({"patient": [f"p{g}" for g in range(n_patients)], "site": [f"s{s}" for s in site]})
    return Cohort(Z(site), obs.assign(tumour=[f"t{t}" for t in tumour])), Z(0 * site)
