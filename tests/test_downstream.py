import json
from pathlib import Path

import croma
import numpy as np
import pandas as pd
import pytest
from croma.downstream._pathorob import train_logistic_regression
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import apd, confounded_schedule, nipd, performance_drop
from causalfm.metrics.design import variance_of
from causalfm.metrics.sweeps import STRENGTHS, fit_on_validation, probe_sweep

PUBLISHED = Path(__file__).parent / "published" / "pathorob_apd.json"

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
FEW = (1e-2, 1.0)


def cohort_of(
    seed: int, *, n: int = 10, sites: int = 3, biology: float = 1.0, site: float = 1.5, rows: int = 1
) -> Cohort:
    """``n`` patients per class and site; directions of biology and sites are the same for all seeds."""
    rng, axes = np.random.default_rng(seed), np.linalg.qr(np.random.default_rng(99).standard_normal((8, 8)))[0]
    y, s = np.repeat([0, 1], sites * n), np.tile(np.repeat(np.arange(sites), n), 2)
    patient = np.repeat(np.arange(len(y)), rows)
    X = (biology * axes[y] + site * axes[2 + s] + 0.7 * rng.standard_normal((len(y), 8)))[patient]
    obs = pd.DataFrame({"tumour": y[patient], "site": s[patient], "patient": patient}).astype(str)
    return Cohort((X + 0.4 * rng.standard_normal(X.shape)).astype("f4"), obs)


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1), (8, 20), (4, 3)])
def test_apd_and_nipd_are_those_of_croma(shape):
    rng = np.random.default_rng(shape[0])
    accuracies = rng.uniform(0.55, 1.0, shape)
    v = np.r_[0.0, np.sort(rng.uniform(0.05, 0.95, shape[0] - 2)), 1.0]
    assert apd(accuracies) == pytest.approx(croma.apd(accuracies), abs=1e-12)
    assert nipd(accuracies, v, 0.5) == pytest.approx(croma.nipd(accuracies, v, 0.5), abs=1e-12)


@pytest.mark.parametrize("case", json.loads(PUBLISHED.read_text())["cases"], ids=lambda case: case["name"])
def test_apd_is_the_value_that_pathorob_published_for_its_accuracies(case):
    assert apd(np.array(case["accuracies"])) == pytest.approx(case["apd"], abs=1e-14)


def test_limits_of_apd_and_nipd():
    v = np.linspace(0, 1, 5)
    constant = np.full((5, 3), 0.8)
    assert apd(constant) == pytest.approx(0.0, abs=1e-15)
    assert nipd(constant, v, 0.5) == pytest.approx(0.0, abs=1e-15)
    falling = (0.9 - 0.4 * v)[:, None] * np.ones(3)
    assert nipd(falling, v, 0.5) == pytest.approx(-0.5)
    assert apd(falling) == pytest.approx(np.mean(falling[1:, 0]) / 0.9 - 1)


def test_arrays_that_have_no_answer():
    good, v = np.full((3, 2), 0.7), np.array([0.0, 0.5, 1.0])
    for call, message in (
        (lambda: apd(good[:1]), "at least two steps"),
        (lambda: apd(np.where(good > 0, np.nan, good)), "6 values that are not finite"),
        (lambda: apd(np.array([[0.0, 0.5], [0.4, 0.5]])), "first: column 0"),
        (lambda: nipd(good, v[::-1], 0.5), "strictly increasing"),
        (lambda: nipd(good, v[:2], 0.5), "3 strictly increasing values"),
        (lambda: nipd(good, v, 0.7), "nothing can be lost"),
    ):
        with pytest.raises(DataError, match=message):
            call()


# --- the sweep --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_probe_is_pathorobs(seed):
    """Without association all validation rows weigh alike; with a complete one those of empty cells weigh nothing."""
    cohort = cohort_of(seed, n=16, rows=2)
    plan = confounded_schedule(cohort, GRAPH)
    part = plan.draw(np.random.default_rng(seed))[0]
    X, y = cohort.X.astype(np.float64), plan.y
    for step in (0, -1):
        used = part.validation[part.shares[step] > 0]
        train = part.train[step]
        _, _, (theirs,) = train_logistic_regression(
            X[train], y[train], X[used], y[used], [X[part.test]], [y[part.test]]
        )
        validation = X[part.validation], y[part.validation]
        guess = fit_on_validation((X[train], y[train]), validation, part.shares[step], X[part.test], STRENGTHS)
        recalls = [(guess == y[part.test])[y[part.test] == c].mean() for c in (0, 1)]
        assert np.mean(recalls) == pytest.approx(theirs)


def test_accuracies_by_brute_force():
    cohort = cohort_of(2, n=9, sites=4)
    plan = confounded_schedule(cohort, GRAPH, steps=3)
    sweeps = probe_sweep(cohort.X, plan, repeats=2, strengths=FEW, random_state=5)
    rng, X, y = np.random.default_rng(5), cohort.X.astype(np.float64), plan.y
    columns = [part for _ in range(2) for part in plan.draw(rng)]
    for column, part in enumerate(columns):
        for step in range(3):
            fit = X[part.train[step]], y[part.train[step]]
            checked = X[part.validation], y[part.validation]
            for rows, sweep in zip((part.test, part.other), sweeps, strict=True):
                hit = fit_on_validation(fit, checked, part.shares[step], X[rows], FEW) == y[rows]
                cells = pd.DataFrame({"y": y[rows], "level": plan.level[rows], "hit": hit})
                recall = (
                    cells.groupby(["y", "level"])["hit"].mean() if sweep.inner else cells.groupby("y")["hit"].mean()
                )
                assert sweep.accuracies[step, column] == pytest.approx(recall.mean())
    for sweep in sweeps:
        np.testing.assert_allclose(sweep.effects.sum(axis=1), 0.0, atol=1e-12)
        assert (sweep.effects[:, sweep.strata < 0] == 0.0).all()


def test_rotation_into_the_span_of_the_training_rows_changes_nothing():
    cohort = cohort_of(3, n=9)
    wide = cohort.replace(X=np.hstack([cohort.X, np.zeros((len(cohort), 90), dtype="f4")]))
    plan = confounded_schedule(cohort, GRAPH, steps=2)
    for a, b in zip(*(probe_sweep(c.X, plan, repeats=1, strengths=FEW) for c in (cohort, wide)), strict=True):
        np.testing.assert_allclose(a.accuracies, b.accuracies)


# --- estimates --------------------------------------------------------------------------------------------------------


def test_a_shortcut_costs_and_pure_biology_does_not():
    found = {}
    for name, site in (("shortcut", 4.0), ("biology", 0.0)):
        estimates = performance_drop(
            cohort_of(0, n=14, sites=4, biology=2.5, site=site), GRAPH, repeats=4, strengths=FEW
        )
        found[name] = {e.name: e for e in estimates}
        assert list(found[name]) == ["apd_id", "nipd_id", "apd_ood", "nipd_ood"]
    for key in ("apd_id", "nipd_id"):
        assert found["shortcut"][key].high < -0.02
        assert found["biology"][key].low < 0.0 < found["biology"][key].high
        assert found["biology"][key].value > -0.05
    estimate = found["shortcut"]["nipd_id"]
    accuracies = np.array(estimate.details["accuracies"])
    v = np.array([step["cramers_v"] for step in estimate.details["curve"]])
    assert estimate.value == pytest.approx(croma.nipd(accuracies, v, 0.5))
    assert found["shortcut"]["apd_ood"].value == pytest.approx(
        croma.apd(np.array(found["shortcut"]["apd_ood"].details["accuracies"]))
    )
    assert (estimate.chance, estimate.unit) == (0.0, "patient")


def test_interval_and_influence_agree():
    cohort = cohort_of(1, n=12, sites=4, biology=1.5)
    first, again = (performance_drop(cohort, GRAPH, repeats=3, strengths=FEW) for _ in range(2))
    for estimate, same in zip(first, again, strict=True):
        assert estimate == same
        variance, _ = variance_of(estimate.influence)
        assert variance == pytest.approx(sum(estimate.details["variance"].values()))
        half = (estimate.high - estimate.low) / 2
        assert half > stats.norm.ppf(0.975) * variance**0.5
        assert estimate.influence.effects.shape == (96,)
        order = np.unique(cohort.factor("patient").codes, return_index=True)[1]
        trained = np.isin(cohort.obs["site"].to_numpy()[order], estimate.details["schedule"]["levels"])
        assert ((estimate.influence.strata >= 0) <= (trained if estimate.name.endswith("_id") else ~trained)).all()


def test_what_cannot_be_told():
    two = performance_drop(cohort_of(0, sites=2, n=12), GRAPH, repeats=3, strengths=FEW)
    for estimate in two[2:]:
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert "no two classes at levels of site that training does not use" in estimate.details["reason"]
        assert estimate.influence is None
    noise = performance_drop(cohort_of(0, sites=2, n=12, biology=0.0, site=0.0), GRAPH, repeats=3, strengths=FEW)
    assert "not above a guess" in noise[1].details["reason"]
    assert np.isnan(noise[1].value)
    assert noise[0].low < 0.0 < noise[0].high
    plan = confounded_schedule(cohort_of(0, n=20), GRAPH)
    with pytest.raises(DataError, match="made for 120 rows"):
        performance_drop(cohort_of(0, n=12), GRAPH, schedule=plan)
    with pytest.raises(DataError, match="repeats=2"):
        performance_drop(cohort_of(0), GRAPH, repeats=2)


def test_intervals_cover_new_cohorts():
    """32 cohorts of 96 patients: the mean over cohorts is the truth."""
    found = []
    for seed in range(32):
        cohort = cohort_of(100 + seed, n=12, sites=4, biology=1.4)
        plan = confounded_schedule(cohort, GRAPH, steps=2)
        estimates = performance_drop(cohort, GRAPH, schedule=plan, repeats=5, strengths=(0.1,))
        found.append([(e.value, e.low, e.high) for e in estimates])
    values = np.array(found)[:, [0, 2]]
    truth = values[:, :, 0].mean(axis=0)
    covered = ((values[:, :, 1] <= truth) & (truth <= values[:, :, 2])).sum()
    assert covered >= stats.binom.ppf(0.001, 64, 0.93)
    spread = values[:, :, 0].std(axis=0)
    assert (np.mean(values[:, :, 2] - values[:, :, 1], axis=0) < 10 * spread).all()


def test_lung_cancer_of_two_hospitals(data_dir):
    cohort = tcga_hipt.load(
        data_dir, cancers=["LUAD", "LUSC"], hospitals=["International Genomics Consortium", "Johns Hopkins", "Asterand"]
    )
    graph = CausalGraph.standard(biology="project_id", technical="center", group="case")
    plan = confounded_schedule(cohort, graph, levels=["International Genomics Consortium", "Johns Hopkins"], steps=3)
    apd_id, nipd_id, apd_ood, _ = performance_drop(cohort, graph, schedule=plan, repeats=3, strengths=(1e-2, 1.0))
    # real-data notes: balanced .67, fully confounded .505 with 12 patients per class
    accuracy = [step["accuracy"] for step in apd_id.details["curve"]]
    assert 0.6 < accuracy[0] < 0.85
    assert 0.45 < accuracy[-1] < 0.6
    assert apd_id.high < 0.0
    assert nipd_id.high < -0.1
    assert apd_ood.n_groups == 84
