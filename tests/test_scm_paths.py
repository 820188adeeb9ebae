"""An observed gap is the sum of what its paths carry, and each part is what the equations say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scm_samples import AGED, SCANNED, SITE, aged, scanned

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM, gap_paths
from causalfm.scm.gap_split import joined
from causalfm.scm.refits import deal, refitted_ratio
from causalfm.scm.switching import share_out

REFERRAL = CausalGraph(
    "tumour -> site; site -> {scanner, Z}; scanner -> Z; tumour -> Z",
    biology="tumour",
    technical=["site", "scanner"],
    group="patient",
)

INDIRECT = CausalGraph(
    "site -> scanner; {scanner, tumour} -> Z; site <-> tumour",
    biology="tumour",
    technical=["site", "scanner"],
    group="patient",
)


def frame(result, outcome="Z"):
    table = result.to_frame()
    return table[table["outcome"] == outcome].set_index("part")


def mean_gap(cohort, column, a, b):
    """Patients equal, rows equal within a patient."""
    each = pd.DataFrame(cohort.X).groupby(cohort.obs["patient"].to_numpy()).mean()
    level = cohort.obs.groupby("patient")[column].first().loc[each.index].to_numpy()
    return each[level == a].mean().to_numpy() - each[level == b].mean().to_numpy()


def test_parts_add_up_to_the_gap_and_match_least_squares():
    cohort, _ = aged()
    result = gap_paths(EmbeddingSCM(AGED).fit(cohort), cohort, ("site0", "site3"), n_folds=2)
    gap = mean_gap(cohort, "site", "site0", "site3")
    assert np.allclose(result.gap, gap, atol=1e-10)
    assert np.abs(result.vectors.sum(axis=0) - gap).max() < 1e-8
    # oracle: dummies of site, class and the spline of age, rows weighing 1 over the rows of their patient
    obs, age = cohort.obs, cohort.obs["age"].to_numpy()
    low, middle, high = np.quantile(age, (0, 0.5, 1))
    t = (age - middle) / ((high - low) / 2)
    design = pd.get_dummies(obs[["site", "tumour"]]).assign(t=t, square=t**2, up=np.maximum(t, 0) ** 2).astype(float)
    weight = np.sqrt(1.0 / obs.groupby("patient")["site"].transform("size").to_numpy())[:, None]
    beta = pd.DataFrame(np.linalg.lstsq(design * weight, cohort.X * weight, rcond=None)[0], index=design.columns)
    technical = beta.loc["site_site0"] - beta.loc["site_site3"]
    assert np.allclose(result.vectors[result.names.index("site itself")], technical, atol=1e-9)
    table = frame(result)
    assert table["share"][~table["is_sum"]].sum() == pytest.approx(1.0)
    assert table.loc["the gap", "value"] == pytest.approx(table["value"][~table["is_sum"]].sum())


def test_truth_is_recovered_on_a_large_cohort():
    cohort, truth = linear_scm(
        n_groups=3000, rows_per_group=1, d=6, site_effect=1, scanner_effect=1, n_scanners=2, confounding=0.5
    )
    result = gap_paths(EmbeddingSCM(SCANNED).fit(cohort), cohort, ("site0", "site1"), n_folds=2)
    parts = dict(zip(result.names, result.vectors, strict=True))
    assert np.allclose(parts["site itself"], truth.site[0] - truth.site[1], atol=0.12)
    assert np.allclose(parts["case mix"], 0.5 * (truth.biology[0] - truth.biology[1]), atol=0.1)
    assert np.abs(parts["through scanner"]).max() < 0.02  # every site uses both scanners alike


def test_technical_paths_together_are_the_contrast_of_interventions():
    cohort, _ = scanned()
    scm = EmbeddingSCM(SCANNED).fit(cohort)
    result = gap_paths(scm, cohort, ("site0", "site2"), n_folds=2)
    assert result.names == ("site itself", "through scanner", "case mix")
    contrast = scm.contrast({"site": "site0"}, {"site": "site2"}).difference
    assert np.allclose(result.vectors[:2].sum(axis=0), contrast, atol=1e-9)
    shares = pd.crosstab(cohort.obs["site"], cohort.obs["scanner"], normalize="index")
    block = scm.fitted.mean.coefficients[-3:]  # scanner is the last parent
    expected = (shares.loc["site0"] - shares.loc["site2"]).to_numpy() @ block
    assert np.allclose(result.vectors[1], expected, atol=1e-9)
    assert frame(result).loc["all technical paths", "value"] == pytest.approx(frame(result)["value"].iloc[:2].sum())


def test_a_linear_score_splits_like_the_embedding_and_any_score_adds_up():
    cohort, _ = scanned()
    scm, w = EmbeddingSCM(SCANNED).fit(cohort), np.linspace(-1, 1, 8)
    linear = gap_paths(scm, cohort, ("site0", "site2"), model=lambda X: X @ w, n_folds=2)
    rows = frame(linear, "score")
    assert np.allclose(rows.loc[list(linear.names), "value"], linear.vectors @ w, atol=1e-9)

    def curved(X):
        p = 1 / (1 + np.exp(-X @ w))
        return np.stack([1 - p, p], axis=1)

    rows = frame(gap_paths(scm, cohort, ("site0", "site2"), model=curved, n_folds=2), "class 1")
    scored = cohort.replace(X=curved(cohort.X))
    assert rows["value"][~rows["is_sum"]].sum() == pytest.approx(mean_gap(scored, "site", "site0", "site2")[1])


@pytest.mark.parametrize("mechanism", ["location-scale", "optimal-transport", "interaction"])
def test_parts_add_up_under_every_mechanism(mechanism):
    cohort, _ = scanned()
    scm = EmbeddingSCM(SCANNED, mechanism).fit(cohort)
    result = gap_paths(scm, cohort, ("site1", "site0"), n_folds=2, model=lambda X: np.tanh(X[:, 0]))
    assert np.abs(result.vectors.sum(axis=0) - mean_gap(cohort, "site", "site1", "site0")).max() < 1e-8
    scored = cohort.replace(X=np.tanh(cohort.X[:, :1]))
    rows = frame(result, "score")
    assert rows["value"][~rows["is_sum"]].sum() == pytest.approx(mean_gap(scored, "site", "site1", "site0")[0])


def test_the_graph_decides_what_is_technical():
    cohort, _ = scanned()
    scm = EmbeddingSCM(REFERRAL).fit(cohort)
    of_site = frame(gap_paths(scm, cohort, ("site0", "site2"), n_folds=2))
    assert of_site.loc["case mix", "path"] == "site <- tumour"
    of_class = gap_paths(scm, cohort, ("tumour0", "tumour1"), of="tumour", n_folds=2)
    table = frame(of_class)
    assert table.loc["tumour itself", "kind"] == "biology"
    assert table.loc["through site", "kind"] == "technical"  # who is referred where
    assert table.loc["not caused by tumour", "kind"] == "association"
    assert np.abs(of_class.vectors.sum(axis=0) - mean_gap(cohort, "tumour", "tumour0", "tumour1")).max() < 1e-8


def test_what_a_graph_leaves_out_is_named():
    cohort, _ = scanned()
    result = gap_paths(EmbeddingSCM(INDIRECT).fit(cohort), cohort, ("site0", "site2"), n_folds=2)
    assert result.names == ("through scanner", "case mix", "not in the model")
    assert np.abs(result.vectors.sum(axis=0) - mean_gap(cohort, "site", "site0", "site2")).max() < 1e-8
    assert np.linalg.norm(result.vectors[2]) > 1.0  # sites move Z directly in this cohort


def test_paths_that_the_design_cannot_tell_apart_are_one_part_with_the_reason():
    cohort, _ = linear_scm(n_scanners=2, scanner_nested=True, site_effect=1.0, scanner_effect=1.0, d=8)
    result = gap_paths(EmbeddingSCM(SCANNED).fit(cohort), cohort, ("site0", "site1"), n_folds=2)
    assert result.names == ("site itself and through scanner", "case mix")
    assert "cannot tell" in frame(result).loc[result.names[0], "reason"]
    assert frame(result).loc[result.names[0], "kind"] == "technical"


def test_case_mix_that_the_design_cannot_tell_from_the_hospital_is_no_number_of_its_own():
    cohort, _ = linear_scm(n_groups=60, site_effect=1.0, d=6)
    keep = ~((cohort.obs["site"] == "site0") & (cohort.obs["tumour"] == "class0")).to_numpy()
    part = cohort[keep]
    result = gap_paths(EmbeddingSCM(SITE).fit(part), part, ("site0", "site1"), n_folds=2)
    assert result.names == ("case mix and site itself",)
    assert frame(result).loc[result.names[0], "kind"] == "cannot tell"
    assert "fewer than 3" in frame(result).loc[result.names[0], "reason"]
    assumed = gap_paths(EmbeddingSCM(SITE, assume="additive").fit(part), part, ("site0", "site1"), n_folds=2)
    assert assumed.names == ("site itself", "case mix")


def test_an_unmeasured_cause_of_scanner_and_site_leaves_their_share_open():
    cohort, _ = scanned()
    graph = CausalGraph(
        "site -> {scanner, Z}; scanner -> Z; tumour -> Z; site <-> tumour; site <-> scanner",
        biology="tumour",
        technical=["site", "scanner"],
        group="patient",
    )
    result = gap_paths(EmbeddingSCM(graph).fit(cohort), cohort, ("site0", "site2"), n_folds=2)
    assert result.names == ("site itself", "case mix and through scanner")
    assert "unmeasured" in frame(result).loc["case mix and through scanner", "reason"]


def test_a_gap_of_nothing_has_no_shares():
    cohort, _ = linear_scm(n_groups=40, d=8, random_state=3)
    table = frame(gap_paths(EmbeddingSCM(SITE).fit(cohort), cohort, ("site0", "site1")))
    assert table["share"].isna().all()
    assert table["reason"].str.contains("not told from 0").all()


def test_the_order_of_levels_turns_the_sign_and_labels_do_not_matter():
    cohort, _ = scanned()
    scm = EmbeddingSCM(SCANNED).fit(cohort)
    one, other = (gap_paths(scm, cohort, pair, n_folds=2) for pair in (("site0", "site2"), ("site2", "site0")))
    assert np.allclose(one.vectors, -other.vectors, atol=1e-12)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    turned = cohort.replace(X=cohort.X @ turn)
    again = gap_paths(EmbeddingSCM(SCANNED).fit(turned), turned, ("site0", "site2"), n_folds=2)
    assert np.allclose(again.vectors, one.vectors @ turn, atol=1e-9)
    assert np.allclose(frame(again)["low"], frame(one)["low"], atol=1e-8)


def test_results_are_frozen_and_plain():
    cohort, _ = aged()
    result = gap_paths(EmbeddingSCM(AGED).fit(cohort), cohort, ("site0", "site1"), n_folds=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.gap = 0
    assert result.to_dict()["levels"] == ["site0", "site1"]
    assert "case mix" in result._repr_html_()


def test_sharing_out_is_exact_and_fair():
    values = {
        ("a", "b"): {"": 10.0, "x": 7.0, "y": 6.0, "xy": 4.0},
        ("b", "a"): {"": 1.0, "x": 3.0, "y": 4.0, "xy": 7.0},
    }

    def value(level, other, arrows):
        return np.array([values[level, other]["".join(sorted(arrows))]])

    carried, rest = share_out(value, [("x",), ("y",)], "a", "b")
    assert sum(carried)[0] + rest[0] == pytest.approx(9.0)
    # means over orders: from a x carries (3 + 2) / 2 and y (4 + 3) / 2, from b (2 + 3) / 2 and (3 + 4) / 2
    assert [float(c[0]) for c in carried] == pytest.approx([2.5, 3.5])
    assert float(rest[0]) == pytest.approx(3.0)


def test_contrasts_are_joined_until_they_are_determined():
    def undetermined(c):
        return np.abs(c[:, 1:].sum(axis=1)) > 1e-9

    contrasts = np.array([[1.0, 0, 0], [0, 1.0, 0], [2.0, 0, 0], [0, 0, -1.0]])
    assert joined(contrasts, undetermined) == [(0,), (1, 3), (2,)]


def test_folds_hold_whole_patients_and_deal_every_level():
    cohort, _ = aged()
    units, site = cohort.factor("patient"), cohort.factor("site").codes
    folds = deal(units, site, 8, 0)
    assert all(len(set(folds[units.codes == g])) == 1 for g in range(units.n_levels))
    table = pd.crosstab(site, folds) / 5
    assert table.to_numpy().min() >= 2
    assert table.to_numpy().max() <= 3
    assert deal(units, site, 500, 0).max() == units.n_levels - 1


def test_fieller_covers_a_ratio():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        off = rng.standard_normal((2, 400)) / 20
        top, bottom = 1.0 + off[0].sum() / 20, 2.0 + off[1].sum() / 20
        _, low, high = refitted_ratio(top, bottom, off[0] / 20, off[1] / 20, 1.96)
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert np.isnan(refitted_ratio(1.0, 0.01, np.array([0.1]), np.array([0.1]), 1.96)).all()


def test_another_cohort_is_refused():
    cohort, _ = aged()
    scm = EmbeddingSCM(AGED).fit(cohort)
    with pytest.raises(DataError, match="cohort of the fit"):
        gap_paths(scm, Cohort(cohort.X + 1.0, cohort.obs), ("site0", "site1"), n_folds=2)


NUMBERED = CausalGraph(
    "site -> {scanner, Z}; scanner -> stain; {scanner, stain, tumour} -> Z; site <-> tumour",
    biology="tumour",
    technical=["site", "scanner", "stain"],
    group="patient",
)


def test_a_number_that_follows_a_scanner_is_no_case_mix():
    """The stain owes all to the scanner: its share, 82 % of the gap, was called case mix."""
    cohort, _ = scanned()
    stain = 2.0 * cohort.obs["scanner"].str[-1].astype(int) + np.repeat(np.random.default_rng(0).standard_normal(90), 2)
    cohort = Cohort(cohort.X + stain.to_numpy()[:, None], cohort.obs.assign(stain=stain))
    result = gap_paths(EmbeddingSCM(NUMBERED).fit(cohort), cohort, ("site0", "site2"), n_folds=2)
    assert result.names == ("site itself", "case mix and through scanner")
    row = frame(result).loc[result.names[1]]
    assert row["kind"] == "cannot tell"
    assert "stain is a number" in row["reason"]


@pytest.mark.parametrize(
    "arrows", ["{site, age} -> tumour; {site, tumour, age} -> Z", "site -> age; {site, tumour, age} -> Z"]
)
def test_what_a_site_sends_through_numbers_is_not_said_to_be_nothing(arrows):
    """Age, or a class that owes something to age: the part "through" it was 0, with the interval 0 to 0."""
    cohort, _ = scanned()
    graph = CausalGraph(arrows, biology="tumour", technical="site", covariates="age", group="patient")
    result = gap_paths(EmbeddingSCM(graph).fit(cohort), cohort, ("site0", "site2"), n_folds=2)
    assert result.names[1].startswith("case mix and through")
    assert "is a number or follows one" in frame(result)["reason"].iloc[1]


def test_scores_do_not_call_case_mix_what_the_model_leaves_out():
    cohort, _ = scanned()
    w = np.linspace(-1, 1, 8)
    for which, mechanism, word in ((INDIRECT, "additive", "graph"), (SCANNED, "random-effects", "shrinks")):
        scm = EmbeddingSCM(which, mechanism).fit(cohort)
        result = gap_paths(scm, cohort, ("site0", "site2"), n_folds=2, model=lambda X: X @ w)
        assert word in frame(result).loc["not in the model", "reason"]
        row = frame(result, "score").loc["case mix and not in the model"]
        assert row["kind"] == "cannot tell"
        assert row["value"] == pytest.approx(result.vectors[-2:].sum(axis=0) @ w)


def test_the_scale_of_the_embedding_does_not_hide_what_is_left_out():
    cohort, _ = scanned()
    small = cohort.replace(X=cohort.X * 1e-11)
    result = gap_paths(EmbeddingSCM(INDIRECT).fit(small), small, ("site0", "site2"), n_folds=2)
    assert "not in the model" in result.names
