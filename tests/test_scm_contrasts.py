"""Contrasts that set numbers, and nodes below an intervention that lead nowhere."""

import numpy as np
import pandas as pd
import pytest
from scm_samples import SCANNED, aged, scanned

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM

AGE = CausalGraph(
    "{tumour, site, age} -> Z; site <-> tumour; site <-> age",
    biology="tumour",
    technical="site",
    covariates="age",
    group="patient",
)
OLD, YOUNG = {"age": 66.0}, {"age": 54.0}


@pytest.mark.parametrize("mechanism", ["additive", "location-scale", "interaction"])
def test_a_number_that_is_set_is_that_of_the_rows_on_average(mechanism):
    """Whoever stands where: counterfactual rows differ by the same, for the residual is carried along."""
    cohort, _ = aged()
    scm = EmbeddingSCM(AGE, mechanism).fit(cohort)
    found = scm.contrast({**OLD, "site": "site1"}, {**YOUNG, "site": "site0"})
    old, young = (scm.counterfactual(cohort, do) for do in (found.do, found.reference))
    weight = 1.0 / cohort.factor("patient").counts()[cohort.factor("patient").codes]
    at = np.average(old.X - young.X, axis=0, weights=weight)
    shrunken = 0.02 if mechanism == "location-scale" else 1e-9  # residuals average to 0 within levels only roughly
    np.testing.assert_allclose(found.difference, at, rtol=0, atol=shrunken)
    assert found.details["follows"] == []


def ageing(seed, n_patients=60, d=8):
    """Age moves ``Z`` along a straight line, and sites differ in age; two rows of each patient, and the line."""
    rng, line = np.random.default_rng(seed), 0.05 * np.random.default_rng(1).standard_normal(d)
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    age = 60.0 + 10.0 * (rng.standard_normal(n_patients) + 0.5 * (site - 1))
    Z = age[:, None] * line + np.eye(3, d)[site] + rng.standard_normal((n_patients, d))
    row = np.repeat(np.arange(n_patients), 2)
    columns = {"patient": row, "site": site[row], "tumour": tumour[row]}
    obs = pd.DataFrame({name: [f"{name}{c}" for c in codes] for name, codes in columns.items()})
    return Cohort(Z[row] + 0.5 * rng.standard_normal((len(row), d)), obs.assign(age=age[row])), line


def test_intervals_of_a_number_cover_and_grow_towards_the_ends():
    held, width = [], []
    for seed in range(60):
        cohort, line = ageing(seed)
        scm = EmbeddingSCM(AGE).fit(cohort)
        found = scm.contrast({"age": 68.0}, {"age": 55.0})
        held.append(((found.low <= 13.0 * line) & (13.0 * line <= found.high)).mean())
        ends = scm.contrast({"age": cohort.obs["age"].max()}, {"age": cohort.obs["age"].min()})
        width.append((ends.standard_error / found.standard_error).mean())
    assert abs(np.mean(held) - 0.95) <= 3.3 * np.std(held) / np.sqrt(len(held)) + 0.01
    assert np.mean(width) > 1.0


def test_what_follows_and_leads_nowhere_does_not_matter():
    """A number below the hospital that does not cause Z was a reason to refuse."""
    cohort, _ = scanned()
    thick = np.random.default_rng(0).normal(4.0, 1.0, 90)[cohort.factor("patient").codes]
    more = Cohort(cohort.X, cohort.obs.assign(thickness=thick))
    graph = CausalGraph(
        "site -> {scanner, thickness, Z}; {scanner, tumour, age} -> Z; tumour <-> site; age <-> site",
        biology="tumour",
        technical=["site", "scanner", "thickness"],
        covariates="age",
        group="patient",
        kinds={"thickness": "continuous"},
    )
    do = {"site": "site0"}, {"site": "site1"}
    found = EmbeddingSCM(graph).fit(more).contrast(*do)
    plain = EmbeddingSCM(SCANNED).fit(cohort).contrast(*do)
    np.testing.assert_allclose(found.difference, plain.difference, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.standard_error, plain.standard_error, rtol=0, atol=1e-9)
    assert found.details["follows"] == ["scanner"]


def test_a_number_on_the_way_is_refused_unless_it_is_set():
    cohort, _ = scanned()
    thick = np.random.default_rng(0).normal(4.0, 1.0, 90)[cohort.factor("patient").codes]
    more = Cohort(cohort.X, cohort.obs.assign(thickness=thick))
    graph = CausalGraph(
        "site -> {scanner, thickness, Z}; {scanner, tumour, thickness} -> Z; tumour <-> site",
        biology="tumour",
        technical=["site", "scanner", "thickness"],
        group="patient",
        kinds={"thickness": "continuous"},
    )
    scm = EmbeddingSCM(graph).fit(more)
    with pytest.raises(DataError, match=r"'thickness' follows from site .* Set 'thickness' in do as well"):
        scm.contrast({"site": "site0"}, {"site": "site1"})
    held = [scm.contrast({"site": "site0", "thickness": t}, {"site": "site1", "thickness": t}) for t in (3.5, 4.5)]
    np.testing.assert_allclose(held[0].difference, held[1].difference, rtol=0, atol=1e-9)
