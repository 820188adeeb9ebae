import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import feature_collapse
from causalfm.metrics.collapse import _random_hits, vote_hits
from causalfm.metrics.nested_variance import nested_shares
from causalfm.neighbours import knn

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group=["slide", "patient"])
PLAIN = CausalGraph.standard(biology="tumour", technical="site", group="patient")
SECRET = "PATIENT-4711"


def cohort_of(
    seed, *, patients=16, slides=2, tiles=4, d=6, biology=0.8, patient=1.0, slide=0.6, site=2.0, mixed=False
) -> Cohort:
    """Patients (variance ``patient ** 2``) with slides (``slide ** 2``) with tiles (1), in 2 x 2 cells."""
    rng = np.random.default_rng(seed)
    rows, X = [], []
    for p in range(patients):
        of_patient = patient * rng.standard_normal(d)
        for q in range(slides):
            of_slide = slide * rng.standard_normal(d)
            for _ in range(tiles):
                y = rng.integers(2) if mixed else p % 2
                s = p // 2 % 2
                X.append(biology * y + site * s + of_patient + of_slide + rng.standard_normal(d))
                rows.append((f"c{y}", f"s{s}", f"{SECRET}-{p}", f"{SECRET}-{p}-{q}"))
    return Cohort(np.array(X, dtype="f4"), pd.DataFrame(rows, columns=["tumour", "site", "patient", "slide"]))


def by_name(cohort, graph=GRAPH, **options):
    return {estimate.name: estimate for estimate in feature_collapse(cohort, graph, **options)}


# --- variance components ----------------------------------------------------------------------------------------------


def nested(seed, components=(1.0, 0.5, 2.0), patients=50):
    """Unequal numbers of slides and rows; cells with means of their own."""
    rng = np.random.default_rng(seed)
    slides = rng.integers(1, 4, patients)
    patient_of = np.repeat(np.arange(patients), slides)
    slide = np.repeat(np.arange(len(patient_of)), rng.integers(1, 6, len(patient_of)))
    patient, cell = patient_of[slide], rng.integers(5, size=patients)[patient_of[slide]]
    X = 4.0 * cell[:, None] + rng.standard_normal((len(slide), 3)) * components[2] ** 0.5
    X += (rng.standard_normal((patients, 3)) * components[0] ** 0.5)[patient]
    X += (rng.standard_normal((len(patient_of), 3)) * components[1] ** 0.5)[slide]
    return X, cell, patient, slide


def test_known_shares_are_found_without_bias():
    found = np.array([nested_shares(X, c, [p, s])[0] for X, c, p, s in map(nested, range(120))])
    error = found.std(axis=0) / 120**0.5
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - np.array([1.0, 0.5, 2.0]) / 3.5), 4 * error)
    none = np.array([nested_shares(X, c, [p, s])[0] for X, c, p, s in (nested(i, (0.0, 0.0, 1.0)) for i in range(60))])
    np.testing.assert_array_less(np.abs(none.mean(axis=0) - [0, 0, 1]), 4 * none.std(axis=0) / 60**0.5)


def test_shares_without_a_patient_are_exact():
    X, cell, patient, slide = nested(3, patients=12)
    shares, without = nested_shares(X, cell, [patient, slide])
    assert shares.sum() == pytest.approx(1.0)
    for p in range(12):
        keep = patient != p
        left, _ = nested_shares(X[keep], cell[keep], [patient[keep], slide[keep]])
        np.testing.assert_allclose(without[p], left, rtol=1e-9)
    np.testing.assert_allclose(nested_shares(1e200 * X + 0.0, cell, [patient, slide])[0], shares)


def test_a_balanced_design_agrees_with_statsmodels():
    """With equal sizes and positive components, restricted maximum likelihood is analysis of variance."""
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(0)
    patient, slide = np.repeat(np.arange(20), 12), np.repeat(np.arange(60), 4)
    y = 2.0 * (patient % 2) + 1.2 * rng.standard_normal(20)[patient] + 0.8 * rng.standard_normal(60)[slide]
    frame = pd.DataFrame({"y": y + rng.standard_normal(240), "cell": patient % 2, "patient": patient, "slide": slide})
    model = smf.mixedlm("y ~ C(cell)", frame, groups="patient", vc_formula={"slide": "0 + C(slide)"}, re_formula="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit()
    theirs = np.array([fit.cov_re.iloc[0, 0], fit.vcomp[0], fit.scale])
    ours, _ = nested_shares(frame[["y"]].to_numpy(), patient % 2, [patient, slide])
    np.testing.assert_allclose(ours, theirs / theirs.sum(), atol=1e-3)


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_gaps_by_brute_force():
    cohort = cohort_of(1, mixed=True)
    found = by_name(cohort, k=5)
    X = cohort.X / np.linalg.norm(cohort.X, axis=1, keepdims=True)
    y, patient = cohort.obs["tumour"].to_numpy(), cohort.obs["patient"].to_numpy()
    accuracy = {}
    for name, unit in (("row", np.arange(len(y))), *((c, cohort.obs[c].to_numpy()) for c in ("slide", "patient"))):
        hit = np.empty(len(y))
        for i in range(len(y)):
            order = [j for j in np.argsort(-X @ X[i], kind="stable") if unit[j] != unit[i]][:5]
            votes = pd.Series(y[order]).value_counts()
            best = votes[votes == votes.max()].index
            hit[i] = (y[i] in best) / len(best)
        weight = 1.0 / pd.Series(patient).map(pd.Series(patient).value_counts()).to_numpy()
        accuracy[name] = np.mean([np.average(hit[y == c], weights=weight[y == c]) for c in ("c0", "c1")])
    assert found["knn_gap_slide"].value == pytest.approx(accuracy["row"] - accuracy["slide"])
    assert found["knn_gap_patient"].value == pytest.approx(accuracy["slide"] - accuracy["patient"])
    assert found["knn_gap_patient"].details["without_own"] == pytest.approx(accuracy["patient"])


def test_own_rows_among_the_neighbours():
    far = by_name(cohort_of(0, patient=0.0, slide=0.0))
    near = by_name(cohort_of(0, patient=6.0, slide=0.0), k=3)
    details = far["knn_gap_patient"].details
    assert details["own_share_chance"] == pytest.approx(7 / 127)
    assert details["own_share"] < 3 * details["own_share_chance"]
    assert near["knn_gap_patient"].details["own_share"] > 0.9


def test_ties_count_by_the_number_of_winners():
    found = knn(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]), 2)
    np.testing.assert_allclose(vote_hits(found, np.array([0, 0, 1, 1]), 2), [0.5, 0.5, 0.5, 0.5])


def test_chance_of_the_gap_on_noise():
    """Own rows share the class: with eight patients noise gains more than ten points from them."""
    noise = {"patients": 8, "biology": 0.0, "patient": 0.0, "slide": 0.0, "site": 0.0}
    found = [by_name(cohort_of(seed, **noise), PLAIN) for seed in range(40)]
    values = np.array([f["knn_gap_patient"].value for f in found])
    chance = found[0]["knn_gap_patient"].chance
    assert chance > 0.1
    assert abs(values.mean() - chance) < 4 * values.std() / 40**0.5 + 0.01


@pytest.mark.parametrize("k", [4, 5])
def test_chance_of_two_classes_is_that_of_many(k):
    """A third class of one row: nearly the same table, drawn instead of summed."""
    rng = np.random.default_rng(0)
    y, codes = rng.integers(2, size=400), np.repeat(np.arange(40), 10)
    exact = _random_hits(y, codes, k, rng)
    drawn = _random_hits(np.append(y, 2), np.append(codes, 40), k, rng)[:400]
    assert exact.mean() == pytest.approx(drawn.mean(), abs=0.02)


# --- estimates --------------------------------------------------------------------------------------------------------


def test_collapse_is_found_where_it_is():
    collapsed, sound = (
        by_name(cohort_of(2, patient=2.5, patients=32)),
        by_name(cohort_of(4, patient=0.0, slide=0.0, patients=32)),
    )
    assert list(collapsed) == ["knn_gap_slide", "knn_gap_patient", "variance_share_slide", "variance_share_patient"]
    assert collapsed["variance_share_patient"].low > 0.6
    for name in ("variance_share_slide", "variance_share_patient"):
        assert sound[name].low < 0.0 < sound[name].high
    assert collapsed["knn_gap_slide"].value + collapsed["knn_gap_patient"].value > 0.2
    for estimate in (*collapsed.values(), *sound.values()):
        assert estimate.influence.effects.shape == (32,)
        assert estimate.low < estimate.value < estimate.high
        assert SECRET not in str(estimate.to_dict())


def test_rows_in_two_cells_of_a_patient():
    found = by_name(cohort_of(0, mixed=True, patients=40))
    truth = np.array([1.0, 0.36]) / 2.36
    for name, share in zip(("variance_share_patient", "variance_share_slide"), truth, strict=True):
        assert found[name].low < share < found[name].high


def test_units_that_cannot_be_told_apart():
    single = by_name(cohort_of(0, slides=1))
    assert single["knn_gap_patient"].details["reason"] == "cannot tell: each patient has one slide"
    assert single["variance_share_slide"].details["reason"] == "cannot tell: no patient has two slides in one cell"
    assert single["variance_share_patient"].low > 0.0
    rows = by_name(cohort_of(0, slides=1, tiles=1, patients=40))
    assert {estimate.details["reason"] for estimate in rows.values()} == {
        "cannot tell: each slide has one row",
        "cannot tell: each patient has one row",
        "cannot tell: no slide has two rows in one cell",
        "cannot tell: no patient has two rows in one cell",
    }
    assert all(np.isnan(estimate.value) for estimate in rows.values())
    alone = by_name(cohort_of(0, patients=4))  # one patient per cell
    assert alone["variance_share_patient"].details["reason"] == "cannot tell: no cell holds two patients"


def test_seeds_and_input():
    cohort = cohort_of(0)
    before = cohort.X.copy()
    assert feature_collapse(cohort, GRAPH) == feature_collapse(cohort, GRAPH)
    np.testing.assert_array_equal(cohort.X, before)
    for options, message in (
        ({"k": 0}, "k=0"),
        ({"k": 125}, "k=125 is larger"),
        ({"confounder": "patient"}, "'patient'"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            feature_collapse(cohort, GRAPH, **options)
        assert SECRET not in str(caught.value)


def test_intervals_cover_new_patients():
    names = ["knn_gap_patient", "variance_share_slide", "variance_share_patient"]
    found = [by_name(cohort_of(50 + seed, patients=20, tiles=3)) for seed in range(40)]
    values = np.array([[(f[n].value, f[n].low, f[n].high) for n in names] for f in found])
    truth = values[:, :, 0].mean(axis=0)
    truth[1:] = np.array([0.36, 1.0]) / 2.36
    covered = ((values[:, :, 1] <= truth) & (truth <= values[:, :, 2])).sum(axis=0)
    assert (covered >= stats.binom.ppf(0.001 / 3, 40, 0.93)).all()
    assert ((values[:, :, 2] - values[:, :, 1]).mean(axis=0) / 2 < 6 * values[:, :, 0].std(axis=0)).all()
