"""Decisions that change at another hospital: counted right, with the rows that could not be moved."""

import numpy as np
import pandas as pd
import pytest
from scm_samples import AGED, SITE, aged, scanned, stretched

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.scm import EmbeddingSCM, flips
from causalfm.scm.flip_tables import wilson

W = np.random.default_rng(7).standard_normal(16)


def two(X):
    p = 1.0 / (1.0 + np.exp(-X @ W[: X.shape[1]]))
    return np.stack([1.0 - p, p], axis=1)


def cells(result):
    return {(p.source, p.target): p for p in result.pairs}


def test_rates_and_shifts_are_those_of_the_counterfactual_rows():
    cohort, _ = aged(rows_per_group=(2, 6))
    scm = EmbeddingSCM(AGED).fit(cohort)
    found = cells(flips(scm, cohort, two, n_folds=2))
    assert len(found) == 12
    weight = 1.0 / cohort.obs.groupby("patient")["site"].transform("size").to_numpy()
    for (source, target), rate in found.items():
        here = (cohort.obs["site"] == source).to_numpy()
        before, after = two(cohort.X[here]), two(scm.counterfactual(cohort[here], {"site": target}).X)
        changed = np.average(before.argmax(1) != after.argmax(1), weights=weight[here])
        assert rate.flips == pytest.approx(1000 * changed)
        shift = np.average(after - before, weights=weight[here], axis=0)
        assert [v[0] for v in rate.shift.values()] == pytest.approx(shift, abs=1e-6)
        assert rate.low <= rate.flips <= rate.high
        assert (rate.decisions, rate.patients) == (here.sum(), cohort.obs["patient"][here].nunique())


def test_a_table_of_scores_is_read_by_the_names_of_its_columns():
    cohort, _ = aged()
    scm = EmbeddingSCM(AGED).fit(cohort)
    asked = []

    def tables(X):
        asked.append(len(X))
        table = pd.DataFrame(two(X), columns=["no", "yes"])
        return table if len(asked) % 2 else table[["yes", "no"]]

    expected = [pair.flips for pair in flips(scm, cohort, two, n_folds=2).pairs]
    found = flips(scm, cohort, tables, n_folds=2)
    assert [pair.flips for pair in found.pairs] == expected
    assert set(next(iter(found.pairs)).shift) == {"no", "yes"}
    with pytest.raises(DataError, match="other columns than before"):
        flips(scm, cohort, lambda X: pd.DataFrame(two(X), columns=["no", f"yes{len(X)}"]), n_folds=2)


def test_who_flips_adds_up_and_the_worst_pair_is_the_largest():
    cohort, _ = aged(site_effect=2.0)
    result = flips(EmbeddingSCM(AGED).fit(cohort), cohort, two, n_folds=3)
    worst = max(result.pairs, key=lambda p: p.flips)
    assert (result.worst.source, result.worst.target, result.worst.flips) == (worst.source, worst.target, worst.flips)
    assert result.worst.high > worst.high, "joint over all pairs"
    who = {(w.source, w.biology): w for w in result.who}
    for level in result.levels:
        pairs = [p.flips for p in result.pairs if p.source == level]
        assert who[level, "all"].flips == pytest.approx(np.mean(pairs))  # every row goes to every level
        by_class = [who[level, c] for c in ("class0", "class1")]
        total = sum(w.flips * w.decisions for w in by_class) / sum(w.decisions for w in by_class)
        assert total == pytest.approx(who[level, "all"].flips)
    assert result.worst.low > 0
    assert result.worst.flips > 2 * result.worst.chance


def test_without_an_effect_chance_explains_the_flips():
    value, chance, touched = [], [], []
    for seed in range(4):
        cohort, _ = linear_scm(n_groups=60, rows_per_group=2, d=16, n_sites=2, site_effect=0.0, random_state=seed)
        pairs = flips(EmbeddingSCM(SITE).fit(cohort), cohort, two, n_folds=10).pairs
        value += [p.flips for p in pairs]
        chance += [p.chance for p in pairs]
        touched += [p.low == 0 for p in pairs]
    assert min(chance) > 10
    assert 0.5 < np.mean(value) / np.mean(chance) < 2.0
    assert np.mean(touched) > 0.7


def test_estimators_and_functions_agree_and_a_decision_function_is_cut_at_0():
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    cohort, _ = aged()
    scm = EmbeddingSCM(AGED).fit(cohort)
    model = LogisticRegression().fit(cohort.X, cohort.obs["tumour"])
    one, other = (flips(scm, cohort, m, n_folds=2) for m in (model, model.predict_proba))
    assert [p.flips for p in one.pairs] == [p.flips for p in other.pairs]
    assert list(one.pairs[0].shift) == ["class0", "class1"]
    ridge = RidgeClassifier().fit(cohort.X, cohort.obs["tumour"])
    pair = cells(flips(scm, cohort, ridge, n_folds=2))["site0", "site3"]
    here = (cohort.obs["site"] == "site0").to_numpy()
    moved = scm.counterfactual(cohort[here], {"site": "site3"}).X
    assert pair.flips == pytest.approx(1000 * np.mean(ridge.predict(cohort.X[here]) != ridge.predict(moved)))
    assert list(pair.shift) == ["class1"]


def test_rows_that_cannot_be_moved_are_reported():
    cohort, _ = aged()
    keep = ~((cohort.obs["site"] == "site2") & (cohort.obs["tumour"] == "class1")).to_numpy()
    part = cohort[keep]
    result = flips(EmbeddingSCM(AGED).fit(part), part, two, n_folds=2)
    to_site2 = [r for r in result.not_moved if r["target"] == "site2"]
    ones = (part.obs["tumour"] == "class1") & (part.obs["site"] != "site2")
    assert {r["source"] for r in to_site2} == {"site0", "site1", "site3"}
    assert sum(r["rows"] for r in to_site2) == ones.sum()
    assert all("fewer than 3" in r["reason"] and "row" in r["where"] for r in to_site2)
    assert len(to_site2) == len(result.not_moved)
    class0 = ((part.obs["site"] == "site0") & (part.obs["tumour"] == "class0")).sum()
    assert cells(result)["site0", "site2"].decisions == class0


def test_new_patients_are_judged_with_the_model_taken_as_known():
    cohort, _ = aged()
    other, _ = aged(1)
    stray = other.replace(obs=other.obs.assign(site=other.obs["site"].replace("site3", "siteX")))
    scm = EmbeddingSCM(AGED, unseen="shrink").fit(cohort)
    result = flips(scm, stray, two)
    assert "taken as known" in result.details["intervals"]
    assert all(np.isnan(p.chance) for p in result.pairs)
    assert result.not_moved[0]["source"] == "a level never seen"
    assert result.not_moved[0]["rows"] == (stray.obs["site"] == "siteX").sum()
    assert np.isnan(cells(result)["site3", "site0"].flips)
    assert cells(result)["site0", "site3"].decisions > 0


def test_mechanisms_and_followers_are_moved_as_counterfactual_moves_them():
    cohort, _ = stretched()
    scm = EmbeddingSCM(SITE, "location-scale").fit(cohort)
    result = flips(scm, cohort, two, n_folds=2)
    assert result.coupling == scm.coupling
    here = (cohort.obs["site"] == "s1").to_numpy()
    after = two(scm.counterfactual(cohort, {"site": "s0"}).X[here])
    changed = (after.argmax(1) != two(cohort.X[here]).argmax(1)).mean()
    assert cells(result)["s1", "s0"].flips == pytest.approx(1000 * changed)


def test_another_technical_factor_can_be_asked():
    cohort, _ = scanned()
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    result = flips(EmbeddingSCM(graph).fit(cohort), cohort, two, of="scanner", n_folds=2)
    assert result.levels == ("scanner0", "scanner1", "scanner2")
    table = result.to_frame()
    assert set(table["biology"]) == {"all", "tumour0", "tumour1"}
    pairs = [(pair["source"][-1], pair["target"][-1]) for pair in result.to_dict()["pairs"]]
    assert sorted(pairs) == [("0", "1"), ("0", "2"), ("1", "0"), ("1", "2"), ("2", "0"), ("2", "1")]


@pytest.mark.parametrize("column", ["site", "tumour"])
def test_a_level_of_one_patient_is_reported(column):
    """Without its fold the model does not know the level: flips ended in an error."""
    cohort, _ = aged()
    own = (cohort.obs["patient"] == cohort.obs["patient"].iloc[0]).to_numpy()
    cohort = cohort.replace(obs=cohort.obs.assign(**{column: cohort.obs[column].mask(own, "rare")}))
    result = flips(EmbeddingSCM(AGED, assume="additive").fit(cohort), cohort, two, n_folds=2)
    assert "fitted again" in result.details["intervals"]
    reports = [r for r in result.not_moved if "without a fold" in r["reason"]]
    assert sum(r["rows"] for r in reports) >= own.sum()
    assert not any("(row" in r["reason"] for r in result.not_moved)
    moved = cells(result)["site1", "site2"]
    assert moved.decisions > 0
    assert np.isfinite(moved.chance)


def test_rows_are_decided_in_the_precision_that_they_are_moved_in():
    cohort, _ = aged()
    half = Cohort(cohort.X.astype(np.float16), cohort.obs)
    seen = set()

    def model(X):
        seen.add(X.dtype)
        return two(X) if X.dtype == np.float32 or len(X) <= 5 else two(-X)

    whole = Cohort(half.X.astype(np.float32), half.obs)
    found = [flips(EmbeddingSCM(AGED).fit(c), c, model, n_folds=2).pairs for c in (half, whole)]
    assert np.dtype("float16") in seen
    assert [p.flips for p in found[0]] == pytest.approx([p.flips for p in found[1]])


def test_a_classifier_that_votes_by_pairs_is_refused():
    from sklearn.svm import SVC

    cohort, _ = aged()
    model = SVC(decision_function_shape="ovo").fit(cohort.X, cohort.obs["site"])
    with pytest.raises(DataError, match="6 scores for 4 classes"):
        flips(EmbeddingSCM(AGED).fit(cohort), cohort, model, n_folds=2)


def test_patients_of_one_fold_tell_no_interval_of_shifts():
    cohort, _ = aged()
    first = cohort.obs.groupby("site")["patient"].first()["site0"]
    cohort = cohort.replace(
        obs=cohort.obs.assign(tumour=np.where(cohort.obs["site"] == "site0", "class0", cohort.obs["tumour"]))
    )
    cohort.obs.loc[cohort.obs["patient"] == first, "tumour"] = "class1"
    result = flips(EmbeddingSCM(AGED, assume="additive").fit(cohort), cohort, two, n_folds=4)
    one = next(w for w in result.who if (w.source, w.biology) == ("site0", "class1"))
    assert one.patients == 1
    value, low, high = one.shift["class 1"]
    assert np.isfinite(value)
    assert np.isnan(low)
    assert np.isnan(high)
    assert (one.low, one.high) != (one.flips, one.flips)


@pytest.mark.parametrize(("patients", "rate", "alike"), [(60, 0.0, 1), (60, 0.03, 0.5), (15, 0.1, 0.5), (60, 0.3, 4)])
def test_intervals_of_rates_cover(patients, rate, alike):
    """Few patients whose decisions change together: unguarded, the second and third covered 86 and 84 %."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(400):
        shares = rng.beta(rate * alike, (1 - rate) * alike, patients) if rate else np.zeros(patients)
        each = rng.binomial(10, shares) / 10
        low, high = wilson(each.mean(), each.var(ddof=1) / patients, patients, 10 * patients, 2.1)
        hits += low <= rate <= high
    assert hits / 400 >= 0.92
    assert wilson(0.0, 0.0, 60, 600, 2.0)[1] < 0.08


def test_the_figure_shows_every_pair():
    cohort, _ = aged()
    keep = (cohort.obs["site"] != "site2") | (cohort.obs["tumour"] == "class0")
    part = cohort[keep.to_numpy()]
    result = flips(EmbeddingSCM(AGED).fit(part), part, two, n_folds=2)
    ax = cfm.plot_flips(result)
    texts = [t.get_text() for t in ax.texts]
    assert len(ax.patches) == 12
    assert f"{result.worst.flips:.0f}" in texts
    assert ax.get_yticklabels()[0].get_text() == "site0"
    own = Cohort(part.X, part.obs.assign(site=part.obs["site"].replace("site3", "$x$")))
    again = cfm.plot_flips(flips(EmbeddingSCM(AGED).fit(own), own, two, n_folds=2))
    assert "$x$" in [t.get_text() for t in again.get_xticklabels()]
    with pytest.raises(DataError, match="must be a Flips"):
        cfm.plot_flips(pd.DataFrame())
