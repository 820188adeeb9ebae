"""What every method of the invariance test owes, whatever it compares."""

import numpy as np
import pandas as pd
import pytest
import torch

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.methods import DOSE_METHODS, METHODS

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
NO_CAUSE = CausalGraph("site -> Z; tumour", biology="tumour", technical=["site"], group="patient")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
every_method = pytest.mark.parametrize("method", METHODS)


def scm(**settings) -> Cohort:
    return linear_scm(**{"n_groups": 36, "d": 6, "n_sites": 3, "rows_per_group": (1, 4), **settings})[0]


def ask(cohort: Cohort, method: str, graph: CausalGraph = GRAPH, **settings):
    return invariance_test(cohort, graph, **{"of": "site", "method": method, "n_permutations": 99, **settings})


@every_method
def test_same_seed_same_answer_and_no_other_randomness_is_touched(method: str) -> None:
    cohort = scm(site_effect=0.3)
    X, obs = cohort.X.copy(), cohort.obs.copy()
    np.random.seed(1)  # noqa: NPY002 - the point is that nobody touches it
    torch.manual_seed(1)
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()  # noqa: NPY002
    first, same, other = (ask(cohort, method, random_state=seed, n_permutations=499) for seed in (3, 3, 5))
    assert first.to_dict() == same.to_dict()
    assert first.p_value != other.p_value
    if method in ("mean", "gcm"):  # the others draw folds, or rows for a bandwidth
        assert first.statistic == other.statistic
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(cohort.X, X)
    pd.testing.assert_frame_equal(cohort.obs, obs)


@every_method
def test_row_order_and_names_of_levels_do_not_matter(method: str) -> None:
    cohort = scm(site_effect=0.3, confounding=0.3)
    obs = cohort.obs
    plain = ask(cohort, method)
    names = {"site0": "zzz", "site1": "aaa", "site2": "mmm"}
    others = {
        "row order": cohort[np.random.default_rng(1).permutation(len(cohort))],
        "names": cohort.replace(obs=obs.assign(site=obs["site"].map(names))),
        "categories": cohort.replace(obs=obs.assign(site=pd.Categorical(obs["site"], ["site2", "site0", "site1"]))),
    }
    for what, other in others.items():
        found = ask(other, method)
        assert found.statistic == pytest.approx(plain.statistic, rel=1e-6), what
        assert found.p_value == pytest.approx(plain.p_value, abs=0.011), what  # a tie up to rounding
        assert found.effect.value == pytest.approx(plain.effect.value, rel=1e-6, abs=1e-9), what


@every_method
def test_names_of_patients_choose_the_draws_and_nothing_else(method: str) -> None:
    """Patients are permuted in the order of their names: another draw of the same null distribution."""
    cohort = scm(site_effect=0.35)
    patients = cohort.obs["patient"].unique()
    new = dict(zip(patients, np.random.default_rng(2).permutation([f"q{i:02d}" for i in range(36)]), strict=True))
    renamed = cohort.replace(obs=cohort.obs.assign(patient=cohort.obs["patient"].map(new)))
    one, other = ask(cohort, method, n_permutations=499), ask(renamed, method, n_permutations=499)
    assert other.effect.value == pytest.approx(one.effect.value, rel=1e-6, abs=1e-9)
    if method != "c2st":  # its folds are drawn by position
        assert other.statistic == pytest.approx(one.statistic, rel=1e-6)
        p = max(one.p_value, other.p_value, 0.01)
        assert abs(one.p_value - other.p_value) < 4.0 * np.sqrt(2.0 * p * (1.0 - p) / 499)


@every_method
def test_every_row_twice_leaves_the_p_value(method: str) -> None:
    cohort = scm(site_effect=0.35)
    twice = np.repeat(np.arange(len(cohort)), 2)
    again = Cohort(cohort.X[twice], cohort.obs.iloc[twice].reset_index(drop=True))
    one, other = ask(cohort, method), ask(again, method)
    assert other.p_value == pytest.approx(one.p_value, abs=0.011)
    assert other.statistic == pytest.approx(one.statistic, rel=1e-6)
    assert other.effect.value == pytest.approx(one.effect.value, rel=1e-6)


@every_method
@pytest.mark.parametrize("kind", ["categorical", "ordinal", "continuous", "within patients"])
def test_conditioning_columns_of_every_kind(method: str, kind: str) -> None:
    """What is conditioned on explains the sites' difference away; without it the same test finds it."""
    rng = np.random.default_rng(5)
    cohort = scm(n_groups=60, n_sites=2, d=4, biology_effect=0.0, noise=0.3, rows_per_group=(4, 6))
    patient, site = cohort.factor("patient").codes, cohort.factor("site").codes
    of_patient = (2.0 * site[np.unique(patient, return_index=True)[1]] + rng.standard_normal(60))[patient]
    values = {
        "categorical": of_patient > 1.0,
        "ordinal": np.digitize(of_patient, [0.0, 1.5]),
        "continuous": of_patient,
        "within patients": rng.random(len(cohort)) < np.where(site, 0.75, 0.25),
    }[kind]
    words = np.char.add("grade", values.astype(int).astype(str))
    column = pd.Categorical(words, ordered=True) if kind == "ordinal" else words
    given = "age" if kind == "continuous" else "tumour"
    obs = cohort.obs.assign(**{given: values if kind == "continuous" else column})
    moved = cohort.replace(X=cohort.X + values[:, None] * np.array([4.0, -4.0, 2.0, 0.0]), obs=obs)
    found = ask(moved, method, AGED if kind == "continuous" else GRAPH)
    assert found.p_value > 0.05
    assert given in found.given
    bare = ask(moved, method, NO_CAUSE)
    assert bare.given == ()
    assert bare.p_value <= 0.05


@every_method
def test_ordered_levels_and_the_joint_question(method: str) -> None:
    cohort = scm(n_scanners=2, site_effect=0.9, n_groups=72, d=4)
    obs = cohort.obs.assign(site=pd.Categorical(cohort.obs["site"], ordered=True))
    ordered = ask(cohort.replace(obs=obs), method, SCANNED)
    assert (ordered.p_value, ordered.of) == (0.01, "site")
    joint = ask(cohort, method, SCANNED, of=["site", "scanner"])
    assert joint.of == "site + scanner"
    assert joint.p_value <= 0.02


@every_method
def test_a_nested_factor_is_not_told_from_its_parent_and_asked_jointly_it_is(method: str) -> None:
    cohort = scm(n_sites=4, n_scanners=2, scanner_nested=True, site_effect=1.0, n_groups=48)
    alone = ask(cohort, method, SCANNED, of="scanner")
    assert alone.verdict == "cannot tell"
    assert np.isnan(alone.p_value)
    assert "['site', 'scanner']" in alone.sentence
    assert ask(cohort, method, SCANNED, of=["site", "scanner"]).p_value == 0.01


@every_method
def test_a_continuous_factor_is_answered_or_refused_with_a_way_out(method: str) -> None:
    cohort = scm(n_groups=60)
    patient = cohort.factor("patient").codes
    dose = np.random.default_rng(0).standard_normal(60)[patient]
    graph = CausalGraph.standard(biology="tumour", technical="thickness", group="patient")
    moved = cohort.replace(X=cohort.X + 0.6 * dose[:, None], obs=cohort.obs.assign(thickness=dose))
    if method in DOSE_METHODS:
        found = ask(moved, method, graph, of="thickness")
        assert found.p_value == 0.01
        assert found.effect.name == "squared_slope_per_sd"
        return
    with pytest.raises(DataError, match=r"thickness is continuous.*choose 'mean' or.*pandas\.cut"):
        ask(moved, method, graph, of="thickness")


@every_method
def test_collapsed_embeddings_and_every_patient_alike(method: str) -> None:
    cohort = scm()
    flat = cohort.replace(X=np.ones_like(cohort.X))
    if method in ("gcm", "c2st"):
        with pytest.raises(DataError, match="the same: there is nothing to"):
            ask(flat, method)
        return
    assert ask(flat, method).verdict == "cannot tell"


@every_method
def test_nested_groups_are_tested_by_the_coarsest(method: str) -> None:
    cohort = scm(site_effect=0.6, rows_per_group=6)
    slide = cohort.obs["patient"] + np.array(["a", "b"])[np.arange(len(cohort)) % 2]
    nested = CausalGraph.standard(biology="tumour", technical="site", group=["slide", "patient"])
    found, plain = ask(cohort.replace(obs=cohort.obs.assign(slide=slide)), method, nested), ask(cohort, method)
    assert (found.p_value, found.statistic, found.unit) == (plain.p_value, plain.statistic, "patient")
    assert found.n_groups == 36
