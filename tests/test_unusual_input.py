"""What is unusual but legal is answered with the right numbers and verdicts, without a warning."""

import time

import numpy as np
import pandas as pd
import pytest
from bad_data import SENTINEL, N, cohort, graph, matrix, table

import causalfm as cfm
from causalfm.auditing.reading import differing_covariates
from causalfm.datasets.linear_scm import linear_scm
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.selection import select_levels


def ratio(c, g=None):
    found = cfm.effect(c, g or graph(), treatment="site", confirm=False)
    return found.joint.value, found.joint.low, found.joint.high


def index(c):
    found = robustness_index(c, graph(), k=5, standardised=False)
    return found.value, found.chance


def p_value(c, g=None):
    return cfm.invariance_test(c, g or graph(), of="site", n_permutations=99).p_value


def same(a, b, tolerance=1e-6):
    for measure in (ratio, index, p_value):
        np.testing.assert_allclose(measure(a), measure(b), rtol=tolerance)


def reversed_view(X):
    return X[::-1, ::-1][::-1, ::-1]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "negative strides": reversed_view,
    "Fortran order": np.asfortranarray,
    "every other column of a wider array": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "read-only": read_only,
    "lists": lambda X: X.tolist(),
    "DataFrame": lambda X: pd.DataFrame(X, table().index),
    "tensor": lambda X: __import__("torch").from_numpy(X),
    "float64": lambda X: X.astype(np.float64),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_X_changes_nothing(name):
    same(cfm.Cohort(LAYOUTS[name](matrix()), table()), cohort())


def test_a_read_only_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", matrix())
    same(cfm.Cohort(np.load(tmp_path / "x.npy", mmap_mode="r"), table()), cohort())


def test_half_precision_whose_sums_and_norms_overflow():
    X = (matrix() * 8000).astype(np.float16)
    with np.errstate(over="ignore"):
        assert np.isinf((X * X).sum())
    half, single = cfm.Cohort(X, table()), cfm.Cohort(X.astype(np.float32), table())
    for measure in (ratio, index, p_value):
        assert measure(half) == measure(single)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_directions_of_any_length(scale):
    big = cohort().replace(X=matrix().astype(float) * scale)
    assert index(big) == index(cohort().replace(X=matrix().astype(float)))


def test_constant_and_repeated_columns():
    wide = np.concatenate([matrix(), np.full((N, 3), 7, np.float32)], axis=1)
    c = cohort().replace(X=wide)
    np.testing.assert_allclose(ratio(c), ratio(cohort()), rtol=0.01)  # bounds of traces count the dimensions
    assert p_value(c) == p_value(cohort())


def test_embeddings_without_any_signal_never_pass_and_never_fail():
    audit = cfm.audit(cohort().replace(X=np.full((N, 6), 3, np.float32)), graph())
    verdicts = {f.question: f.verdict for f in audit.findings}
    assert verdicts["biology"] == "cannot tell"
    assert {verdicts[q] for q in ("neighbourhood", "invariance", "effect")} == {"cannot tell"}


def test_more_dimensions_than_rows():
    c, _ = linear_scm(n_groups=40, rows_per_group=2, d=500, site_effect=3.0, n_sites=2, random_state=1)
    g = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
    low, high = ratio(c, g)[1:]
    assert low < 9.0 < high
    assert p_value(c, g) == 0.01


def test_repeated_rows_of_a_patient_and_one_row_per_patient_agree():
    one = cohort()[::3]
    thrice = cfm.Cohort(np.repeat(one.X, 3, axis=0), table())
    np.testing.assert_allclose(ratio(one), ratio(thrice), rtol=1e-9)
    assert p_value(one) == p_value(thrice)


def test_every_row_its_own_patient():
    c = cohort(patient=[f"{SENTINEL}{i}" for i in range(N)])
    assert cfm.invariance_test(c, graph(), of="site", n_permutations=99).n_groups == N


CODES = {
    "integers": lambda s: np.where(s == "A", 3, 70),
    "booleans": lambda s: s == "A",
    "unused categories": lambda s: pd.Categorical(s, ["C", "B", "A", "D"]),
    "ordered categories": lambda s: pd.Categorical(s, ["B", "A"], ordered=True),
    "right to left": lambda s: s.map({"A": "\u202eabc\u202c", "B": "אב"}),
    "brackets and arrows": lambda s: s.map({"A": "a -> {b; c}", "B": 'x, "y"\nz'}),
    "dates": lambda s: pd.to_datetime(s.map({"A": "2020-01-01", "B": "2021-01-01"})),
}


@pytest.mark.parametrize("name", CODES)
def test_the_coding_of_levels_changes_nothing(name):
    kinds = {"site": "categorical", "tumour": "categorical"}
    coded = cohort(site=CODES[name](table()["site"]), tumour=CODES[name](table()["tumour"].map({"x": "A", "y": "B"})))
    g = graph(kinds=kinds)
    np.testing.assert_allclose(ratio(coded, g), ratio(cohort()), rtol=1e-9)
    found = cfm.invariance_test(coded, g, of="site", n_permutations=99)
    assert found.details["overlap"]["verdict"] == "pass"


@pytest.mark.parametrize(
    "name", ["a,b", "a -> b", "->", "{a}", ";", "<->", "a→b", "#x", "\u202eabc\u202c", "é è", " a "]
)
def test_any_column_name_survives_the_graph(name):
    c = cfm.Cohort(matrix(), table().rename(columns={"site": name}))
    g = graph(technical=name)
    assert cfm.CausalGraph(str(g), biology="tumour", technical=name, group="patient") == g
    assert cfm.effect(c, g, treatment=name, confirm=False).joint.value == ratio(cohort())[0]


def test_unicode_arrows_are_arrows():
    roles = {"biology": "tumour", "technical": "site", "group": "patient"}
    assert cfm.CausalGraph("site ↔ tumour; Z ← {site, tumour}", **roles) == graph()


def test_biology_within_patients():
    c, _ = linear_scm(n_groups=60, rows_per_group=6, site_effect=2.0, n_sites=2, biology_within_group=True)
    g = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
    low, high = ratio(c, g)[1:]
    assert low < 4.0 < high


def test_scanners_within_patients_are_a_paired_design():
    settings = {"rows_per_group": 2, "d": 8, "site_effect": 1.5, "n_sites": 2, "random_state": 2}
    c, _ = linear_scm(n_groups=24, biology_effect=3.0, **settings)
    X = c.X.copy()
    X[::2, 0] += 6.0
    paired = c.replace(X=X, obs=c.obs.assign(scanner=["P", "Q"] * 24))
    g = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    audit = cfm.audit(paired, g)
    found = {f.question: f for f in audit.findings if f.factor == "scanner"}
    assert [found[q].verdict for q in ("overlap", "readout", "invariance", "effect")] == ["pass", *["fail"] * 3]
    assert "within 24 patients, each its own control" in found["overlap"].sentence
    assert (found["overlap"].value, found["invariance"].n_groups, found["effect"].n) == (1.0, 24, 48)
    assert found["effect"].low < 2.0 < found["effect"].high  # 6 against 3
    assert "sign flips of patients" in found["invariance"].sentence
    assert {f.question for f in audit.findings if f.factor == "site"} >= {"overlap", "invariance", "effect"}
    assert "each its own control" in audit.to_html()


def test_one_hospital_that_scanned_its_slides_again_is_a_paired_design():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 2)
    X = rng.standard_normal((40, 6))[patient] + 0.3 * rng.standard_normal((80, 6))
    X[:, 0] += 4.0 * (patient % 2)
    X[::2, 1] += 6.0
    obs = pd.DataFrame({"patient": patient, "tumour": patient % 2, "scanner": ["P", "Q"] * 40}).astype(str)
    g = cfm.CausalGraph.standard(biology="tumour", technical=["scanner"], group="patient")
    found = {f.question: f for f in cfm.audit(cfm.Cohort(X, obs), g).findings}
    assert (found["readout"].verdict, found["biology"].verdict) == ("fail", "pass")
    assert np.isfinite([found["neighbourhood"].low, found["neighbourhood"].high]).all()
    assert [found[q].verdict for q in ("overlap", "invariance", "effect")] == ["pass", "fail", "fail"]
    assert found["effect"].low < 6.0 / 4.0 < found["effect"].high
    few = obs.assign(scanner=obs["scanner"].where(patient % 3 == 0, "P"))  # 14 of 40 patients
    with pytest.raises(cfm.errors.DataError, match="leave these patients out, keep one level of each"):
        cfm.audit(cfm.Cohort(X, few), g)


@pytest.mark.parametrize("paired", [True, False])
def test_covariates_of_patients_at_several_levels_do_not_depend_on_the_order_of_rows(paired):
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 2)
    age, sex = rng.normal(60, 10, 40)[patient], np.where(rng.random(40) < 0.5, "f", "m")[patient]
    scanner = np.tile(["P", "Q"], 40)
    if not paired:  # 30 patients at one level only, older at Q; the others at both say nothing
        old = age > np.median(age)
        scanner = np.where(patient < 10, scanner, np.where(old, "Q", "P"))
    obs = pd.DataFrame({"patient": patient, "tumour": patient % 2, "site": patient // 2 % 2}).astype(str)
    obs = obs.assign(scanner=scanner, age=age, sex=sex)
    g = cfm.CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates=["age", "sex"], group="patient"
    )
    c = cfm.Cohort(rng.standard_normal((80, 4)), obs)
    by_age = np.lexsort((np.where(age > 60, scanner == "P", scanner == "Q"), patient))
    for order in (np.arange(80), by_age, rng.permutation(80)):
        assert differing_covariates(c[order], g, "scanner") == ([] if paired else ["age"])


def test_a_covariate_within_patients_leaves_the_rest_answered_and_levels_that_read_alike_are_mentioned():
    site = table()["site"].where(np.arange(N) > 5, table()["site"].str.lower() + " ")
    patient = table()["patient"].where(np.arange(N) > 1, f"{SENTINEL}-0 ")
    c = cohort(region=["rim", "core", "rim"] * 24, site=site, patient=patient)
    audit = cfm.audit(c, graph(covariates="region"))
    found = {f.question: f for f in audit.findings}
    assert found["readout"].value > -1
    for question in ("overlap", "effect", "invariance"):
        assert found[question].verdict == "cannot tell"
        assert "'region' takes several values within 24 of 25 patients" in found[question].sentence
        assert "Keep one value per patient" in found[question].sentence
    assert "Levels of site that differ in case or blanks only are taken as different: 'A', 'a '." in audit.assumptions
    assert any(text.startswith("2 values of patient differ") for text in audit.assumptions)
    assert SENTINEL not in audit.to_json() + audit.to_html() + audit.to_markdown()


def test_biology_that_is_the_site_cannot_be_told():
    c = cohort(tumour=table()["site"].map({"A": "x", "B": "y"}))
    audit = cfm.audit(c, graph())
    assert {f.verdict for f in audit.findings} == {"cannot tell"}


def test_a_scanner_that_is_the_site_is_asked_about_with_it():
    c = cohort(scanner=table()["site"].str.lower())
    found = cfm.invariance_test(c, graph(technical=["site", "scanner"]), of="scanner")
    assert found.verdict == "cannot tell"
    assert "of=['site', 'scanner']" in found.sentence


@pytest.mark.parametrize("values", [60.0, 1e300, np.nan])
def test_a_constant_covariate_changes_nothing(values):
    c = cohort(age=1e300 * (1.0 + np.arange(N) // 3) if np.isnan(values) else values)
    plain = cohort(age=1.0 + np.arange(N) // 3) if np.isnan(values) else cohort()
    g = graph(covariates="age")
    np.testing.assert_allclose(ratio(c, g), ratio(plain, g if np.isnan(values) else None), rtol=1e-6)


def test_lopsided_cells_are_left_out_and_named():
    g = np.repeat(np.arange(60), 3)
    obs = pd.DataFrame({"site": np.select([g < 55, g < 59], ["A", "B"], "C"), "tumour": "x", "patient": g})
    obs["tumour"] = np.where((g % 2 == 1) & (g < 55), "y", "x")
    c = cfm.Cohort(np.random.default_rng(0).normal(size=(180, 4)), obs)
    found = cfm.effect(c, graph(), treatment="site", confirm=False).overlap
    assert found.levels == ("A", "B")
    assert "site=C: fewer than 3 patients in tumour=x (1)" in found.sentence
    assert "tumour=y" in found.sentence


def test_ten_thousand_patients():
    c, _ = linear_scm(n_groups=10_000, rows_per_group=1, d=4, site_effect=1.0, n_sites=2)
    g = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
    started = time.perf_counter()
    low, high = ratio(c, g)[1:]
    assert low < 1.0 < high
    assert p_value(c, g) == 0.01
    assert time.perf_counter() - started < 60


def test_levels_are_selected_as_text():
    c = cohort(batch=np.arange(N) % 3)
    for wanted in ("1", ["1"], [1]):
        assert len(select_levels(c, {"batch": wanted})) == 24
