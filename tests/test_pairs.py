"""Pairs: the same tissue under several scanners teaches what unpaired rows cannot."""

import json

import numpy as np
import pandas as pd
import pytest
from pair_samples import GRAPH, rescanned, scan, scanners, tissue_of, unpaired, views
from safetensors import safe_open

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.plot import to_svg
from causalfm.scm import EmbeddingSCM, PairedRowErrors, pair_curve
from causalfm.scm.bridges import MOST_PAIRS, Bridge, spread_out
from causalfm.scm.pair_choice import Cells, choose
from causalfm.scm.parents import Values

TO_1 = {"scanner": "scanner1"}
THREE = scanners(3)


def relative(found, source, truth):
    return float(((truth.X - found.X) ** 2).sum() / ((truth.X - source.X) ** 2).sum())


def fitted(seed=0, n_patients=12, rows=2, mechanism="additive", design=THREE):
    return EmbeddingSCM(GRAPH, mechanism).fit(
        unpaired(seed, design=design), rescanned(100 + seed, n_patients, rows, design)
    )


# --- accuracy --------------------------------------------------------------------------------------------------------


def test_error_falls_towards_the_oracle_of_a_linear_scanner():
    """The oracle knows 2,000 patients under both scanners: least squares on the row, its class and site."""
    one, two = views(rescanned(999, 2_000, 2, prefix="o"))

    def design(c: Cohort) -> np.ndarray:
        return np.column_stack([np.ones(len(c)), c.factor("tumour").codes, c.factor("site").codes, c.X])

    best = np.linalg.lstsq(design(one), two.X, rcond=None)[0]
    errors = []
    for seed in range(4):
        cohort, (a, b) = unpaired(seed), views(rescanned(2_000 + seed, 40, 2, prefix="t"))
        row = [relative(EmbeddingSCM(GRAPH).fit(cohort).counterfactual(a, TO_1), a, b)]
        for n in (5, 15, 50):
            scm = EmbeddingSCM(GRAPH).fit(cohort, pairs=rescanned(1_000 + seed, n, 2))
            row.append(relative(scm.counterfactual(a, TO_1), a, b))
        errors.append([*row, relative(Cohort(design(a) @ best, a.obs), a, b)])
    none, five, fifteen, fifty, oracle = np.mean(errors, axis=0)
    assert none > five > fifteen > fifty > oracle
    assert fifteen < 0.5 * none
    assert fifty < 1.5 * oracle


@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_pairs_of_pure_noise_do_not_hurt(sd):
    """Scanner 1 adds noise to what scanner 0 saw: the shift is all there is to learn, and the cohort tells it too."""

    def seen(seed, n_patients, rows, which, prefix):
        tissue = tissue_of(seed, n_patients, rows, prefix=prefix)
        parts = []
        for s in which:
            noise = sd * s * np.random.default_rng([seed, s]).standard_normal(tissue.X.shape) / np.sqrt(tissue.d)
            parts.append(Cohort(tissue.X + 0.3 * s + noise, tissue.obs.assign(scanner=f"scanner{s}")))
        X, obs = np.concatenate([p.X for p in parts]), pd.concat([p.obs for p in parts], ignore_index=True)
        return Cohort(X, obs)

    errors = []
    for seed in range(6):
        both = seen(seed, 80, 3, (0, 1), "u")
        cohort = both[both.factor("patient").codes // 4 % 2 == both.factor("scanner").codes]
        pairs, (a, b) = seen(1_000 + seed, 20, 2, (0, 1), "b"), views(seen(2_000 + seed, 40, 2, (0, 1), "t"))
        alone, paired = EmbeddingSCM(GRAPH).fit(cohort), EmbeddingSCM(GRAPH).fit(cohort, pairs)
        errors.append([relative(scm.counterfactual(a, TO_1), a, b) for scm in (alone, paired)])
    unpaired_error, error = np.sum(errors, axis=0)
    assert error <= 1.05 * unpaired_error


def test_rows_without_pairs_are_predicted_as_without():
    design = scanners(3)
    cohort = unpaired(0, design=design)
    pairs = rescanned(1, 12, 2, design)
    pairs = pairs[(pairs.obs["scanner"] != "scanner2").to_numpy()]
    scm, alone = EmbeddingSCM(GRAPH).fit(cohort, pairs), EmbeddingSCM(GRAPH).fit(cohort)
    for level in ("scanner1", "scanner2"):
        moved, errors = scm.counterfactual(cohort, {"scanner": level}, return_uncertainty=True)
        plain, plain_errors = alone.counterfactual(cohort, {"scanner": level}, return_uncertainty=True)
        assert set(plain_errors.kind) == {"parameter"}
        assert "pairs" in moved.info["counterfactual"][0]["coupling"]
        assert plain.info["counterfactual"][0]["coupling"] == alone.coupling
        scanner = cohort.obs["scanner"].to_numpy()
        paired = (scanner == "scanner0") & (level == "scanner1")
        kinds = np.where(paired, "prediction", np.where(scanner == level, "as seen", "parameter"))
        assert errors.kind.tolist() == kinds.tolist()
        np.testing.assert_allclose(moved.X[~paired], plain.X[~paired], atol=1e-12)
        assert not paired.any() or np.abs(moved.X[paired] - plain.X[paired]).max() > 0.1
        low, high = (end[~paired] for end in errors.interval())
        plain_low, plain_high = (end[~paired] for end in plain_errors.interval())
        np.testing.assert_allclose(low, plain_low, atol=1e-12)
        np.testing.assert_allclose(high, plain_high, atol=1e-12)
        assert np.isfinite(errors.radius()[paired]).all()
        assert np.isnan(errors.radius()[kinds == "parameter"]).all()


def test_a_change_of_two_patients_is_not_learned():
    pairs = rescanned(1, 12, 2, THREE)
    late = ~pairs.obs["patient"].isin(["bp0", "bp1"]).to_numpy() & (pairs.obs["scanner"] == "scanner2").to_numpy()
    scm = EmbeddingSCM(GRAPH).fit(unpaired(0, design=THREE), pairs[~late])
    moved = scm.counterfactual(unpaired(3, design=THREE), {"scanner": "scanner2"}, return_uncertainty=True)
    assert "prediction" not in moved[1].kind
    assert scm.fitted.pairs.patients.tolist() == [12, 12]


# --- composition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["additive", "location-scale", "optimal-transport", "interaction"])
def test_own_level_is_the_identity_and_the_last_intervention_counts(mechanism):
    scm, cohort = fitted(mechanism=mechanism), unpaired(5, design=THREE)
    at_1, at_2 = (scm.counterfactual(cohort, {"scanner": s}) for s in ("scanner1", "scanner2"))
    own = cohort.obs["scanner"].to_numpy() == "scanner1"
    assert np.abs(at_1.X[own] - cohort.X[own]).max() <= 1e-6
    assert np.abs(at_1.X[~own] - cohort.X[~own]).min(axis=1).max() > 1e-6
    by_way = scm.counterfactual(at_2, TO_1)
    np.testing.assert_allclose(by_way.X, at_1.X, atol=1e-9)
    pd.testing.assert_frame_equal(by_way.obs, at_1.obs)
    site_too = scm.counterfactual(at_1, {"site": "site0"})
    np.testing.assert_allclose(site_too.X, scm.counterfactual(cohort, {"site": "site0", **TO_1}).X, atol=1e-9)
    # back to where each was seen
    for s in range(3):
        rows = np.flatnonzero(cohort.factor("scanner").codes == s)
        back, errors = scm.counterfactual(at_1[rows], {"scanner": f"scanner{s}"}, return_uncertainty=True)
        np.testing.assert_allclose(back.X, cohort.X[rows], atol=1e-9)
        assert set(errors.kind) == {"as seen"}
        assert not errors.standard_error().any()
    single = cohort.replace(X=cohort.X.astype(np.float32))
    one, two = (scm.counterfactual(c, TO_1).X for c in (single, scm.counterfactual(single, {"scanner": "scanner2"})))
    np.testing.assert_allclose(one, two, atol=5e-6)  # rounding, grown by what the correction had shrunk


def test_corrections_that_are_not_undone_do_not_compose():
    """Why rows remember: the best prediction shrinks, and by way of a third scanner it would shrink twice."""
    scm, cohort = fitted(), unpaired(5, design=THREE)
    cohort = cohort[np.flatnonzero(cohort.factor("scanner").codes == 0)]
    step = scm.counterfactual(cohort, {"scanner": "scanner2"})
    assert set(step.obs["seen:scanner"]) == {"scanner0"}
    forgotten = step.replace(obs=step.obs.drop(columns=["seen:scanner", "seen:site"]))
    (direct, errors), (twice, other) = (
        scm.counterfactual(c, TO_1, return_uncertainty=True) for c in (cohort, forgotten)
    )
    assert set(errors.kind) == {"prediction"}
    assert set(other.kind) == {"parameter"}, "a row that another model moved was never seen"
    direct, twice = direct.X, twice.X
    assert np.linalg.norm(twice - direct) > 0.1 * np.linalg.norm(direct - cohort.X)


def test_what_else_was_changed_has_no_prediction_interval():
    scm, cohort = fitted(), unpaired(5, design=THREE)
    _, errors = scm.counterfactual(cohort, {"tumour": "class0", **TO_1}, return_uncertainty=True)
    changed = (cohort.obs["tumour"] != "class0").to_numpy()
    assert set(errors.kind[changed]) == {"parameter"}
    earlier = scm.counterfactual(cohort, {"tumour": "class0"})
    assert "prediction" not in scm.counterfactual(earlier, TO_1, return_uncertainty=True)[1].kind


# --- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["additive", "optimal-transport"])
def test_row_order_names_and_rotations_do_not_matter(mechanism):
    cohort, pairs, new = unpaired(0), rescanned(1, 10, 2), unpaired(4)
    moved = EmbeddingSCM(GRAPH, mechanism).fit(cohort, pairs).counterfactual(new, TO_1)
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = EmbeddingSCM(GRAPH, mechanism).fit(cohort, pairs[order]).counterfactual(new, TO_1)
    np.testing.assert_allclose(shuffled.X, moved.X, atol=1e-8)
    names = {"scanner0": "z", "scanner1": "a", "class0": "y", "class1": "x"}
    renamed = [c.replace(obs=c.obs.replace(names)) for c in (cohort, pairs, new)]
    other = EmbeddingSCM(GRAPH, mechanism).fit(*renamed[:2]).counterfactual(renamed[2], {"scanner": "a"})
    np.testing.assert_allclose(other.X, moved.X, atol=1e-8)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    turned = [c.replace(X=c.X @ turn) for c in (cohort, pairs, new)]
    rotated = EmbeddingSCM(GRAPH, mechanism).fit(*turned[:2]).counterfactual(turned[2], TO_1)
    np.testing.assert_allclose(rotated.X, moved.X @ turn, atol=1e-7)


def test_several_pairs_of_columns_change_together():
    """Site and scanner at once: the change that was seen is learned, others are not."""
    graph = CausalGraph("{tumour, site} -> Z; {scanner, site} -> Z", **{**roles(), "technical": ["scanner", "site"]})
    cohort, pairs = unpaired(0), rescanned(1, 12, 2)
    moved = (pairs.obs["scanner"] == "scanner1").to_numpy()
    other = pairs.obs["site"].map({"site0": "site1", "site1": "site0"})
    both = pairs.replace(obs=pairs.obs.assign(site=other.where(moved, pairs.obs["site"])))
    scm = EmbeddingSCM(graph).fit(cohort, both)
    new = unpaired(4)
    new = new[np.flatnonzero(((new.obs["scanner"] == "scanner0") & (new.obs["site"] == "site0")).to_numpy())]
    joint = scm.counterfactual(new, {"scanner": "scanner1", "site": "site1"}, return_uncertainty=True)[1]
    assert set(joint.kind) == {"prediction"}
    assert set(scm.counterfactual(new, TO_1, return_uncertainty=True)[1].kind) == {"parameter"}


def roles():
    return {"biology": "tumour", "technical": ["site", "scanner"], "group": "patient", "specimen": "tile"}


def test_input_is_not_modified_and_memory_maps_are_read(tmp_path):
    cohort, pairs = unpaired(0), rescanned(1, 8, 2)
    np.save(tmp_path / "X.npy", pairs.X)
    mapped = pairs.replace(X=np.load(tmp_path / "X.npy", mmap_mode="r"))
    before = cohort.X.copy(), cohort.obs.copy(), pairs.X.copy()
    scm = EmbeddingSCM(GRAPH).fit(cohort, mapped)
    moved = scm.counterfactual(cohort, TO_1)
    scm.counterfactual(moved, {"scanner": "scanner0"})
    assert np.array_equal(cohort.X, before[0])
    assert np.array_equal(pairs.X, before[2])
    pd.testing.assert_frame_equal(cohort.obs, before[1])
    np.testing.assert_array_equal(moved.X, EmbeddingSCM(GRAPH).fit(cohort, pairs).counterfactual(cohort, TO_1).X)


def test_many_pairs_are_sampled_over_changes_and_patients():
    rng = np.random.default_rng(0)
    n = 20_000
    patient, level = rng.integers(0, 300, n), rng.integers(0, 3, (n, 2))
    keep = level[:, 0] != level[:, 1]
    patient = np.unique(patient[keep], return_inverse=True)[1]
    rows, none = np.arange(keep.sum()), Values(np.zeros((n, 1), dtype=int), np.zeros((n, 0)))
    cohort = Cohort(np.zeros((n, 1)), pd.DataFrame({"a": np.zeros(n)}))
    taken = spread_out(Bridge(cohort, none, rows, rows, patient, level[keep]))
    assert len(taken) == MOST_PAIRS
    counts = np.unique(taken.change, axis=0, return_counts=True)[1]
    assert np.ptp(counts) <= 1
    assert int(taken.patient.max()) + 1 == 300
    assert np.ptp(np.bincount(taken.patient)) <= 4


def test_the_choice_leaves_out_its_own_patient():
    """Option 1 is perfect for patient 0 and bad for the others: nobody else would choose it."""
    cells = Cells(np.zeros(4, dtype=int), np.arange(4), np.ones(4))
    nothing, other = np.ones((4, 1)), np.array([[0.0], [1.1], [1.1], [1.1]])
    option, errors = choose(cells, [nothing, other])
    assert option.tolist() == [1]
    assert errors[0, 0] == 1.0


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_patients", "rows"), [(5, 2), (20, 1)])
def test_prediction_intervals_cover_new_patients(n_patients, rows):
    """30 bridging studies; dimensions and rows of a study share its intervals, so that studies are the unit."""
    inside, near = [], []
    for seed in range(30):
        scm = EmbeddingSCM(GRAPH).fit(unpaired(seed), rescanned(1_000 + seed, n_patients, rows))
        a, b = views(rescanned(2_000 + seed, 30, 1, prefix="t"))
        moved, errors = scm.counterfactual(a, TO_1, return_uncertainty=True)
        assert isinstance(errors, PairedRowErrors)
        (low, high), truth = errors.interval(), b.X
        inside.append(((low <= truth) & (truth <= high)).mean())
        near.append((np.linalg.norm(truth - moved.X, axis=1) <= errors.radius()).mean())
    for found in (inside, near):
        slack = 3.3 * np.std(found) / np.sqrt(len(found))
        assert 0.95 - slack - 0.01 <= np.mean(found)
    assert np.mean(inside) <= 0.95 + 3.3 * np.std(inside) / np.sqrt(len(inside)) + 0.01


# --- files -----------------------------------------------------------------------------------------------------------


def test_saved_pairs_give_the_same_rows_and_name_nobody(tmp_path):
    scm, cohort = fitted(n_patients=11), unpaired(5, design=THREE)
    scm.save(tmp_path / "model.safetensors")
    loaded = EmbeddingSCM.load(tmp_path / "model.safetensors")
    one, two = (m.counterfactual(cohort, TO_1, return_uncertainty=True) for m in (scm, loaded))
    np.testing.assert_array_equal(one[0].X, two[0].X)
    np.testing.assert_array_equal(one[1].interval()[0], two[1].interval()[0])
    np.testing.assert_array_equal(one[1].radius(), two[1].radius())
    assert loaded.fitted.pairs.summary == scm.fitted.pairs.summary
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["header"])
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    assert header["pairs"]["summary"]["patients"] == 11
    assert all(not {11, 22, 66, 132} & set(shape) for shape in shapes), "one number per patient, row or pair"
    assert b"bp1" not in (tmp_path / "model.safetensors").read_bytes()


# --- curve -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve():
    return pair_curve(unpaired(0), GRAPH, rescanned(1, 20, 2), sizes=[4, 8], n_folds=4, n_draws=2)


def test_the_curve_starts_without_pairs_and_falls(curve):
    assert curve.patients == (0, 4, 8, 15)
    assert curve.pairs == (0.0, 8.0, 16.0, 30.0)
    assert curve.value[0] == curve.unpaired
    assert curve.value[0] > curve.value[1] > curve.value[2] > curve.value[3] == curve.ceiling
    assert curve.gain_low[3] > 0
    np.testing.assert_allclose(curve.gain, np.subtract(curve.unpaired, curve.value), atol=1e-12)
    frame = curve.to_frame()
    assert frame.columns[:2].tolist() == ["name", "chance"]
    assert (frame["low"] < frame["value"]).all()
    assert (frame["n_groups"] == 20).all()
    assert "<table>" in curve._repr_html_()


def test_the_unpaired_end_is_that_of_a_model_without_pairs(curve):
    cohort, pairs = unpaired(0), rescanned(1, 20, 2)
    scm, (a, b) = EmbeddingSCM(GRAPH).fit(cohort), views(pairs)
    ends = [(a, b, "scanner1"), (b, a, "scanner0")]
    missed = sum(((t.X - scm.counterfactual(s, {"scanner": to}).X) ** 2).sum() for s, t, to in ends)
    assert curve.unpaired == pytest.approx(missed / sum(((t.X - s.X) ** 2).sum() for s, t, _ in ends), rel=1e-9)


def test_the_cohort_is_fitted_without_the_patients_that_are_judged():
    """The pairs are the cohort: without leaving them out the mean would have seen what it is judged on."""
    every = rescanned(1, 30, 2)
    found = pair_curve(every, GRAPH, every, sizes=[5], n_folds=3, n_draws=1)
    assert found.n_groups == 30
    assert found.value[0] > found.value[-1]
    scm, (a, b) = EmbeddingSCM(GRAPH).fit(every), views(every)
    assert found.unpaired > relative(scm.counterfactual(a, TO_1), a, b) * 0.9


def test_the_curve_is_drawn(curve):
    ax = cfm.plot_pair_curve(curve)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\n0", "4\n8", "8\n16", "15\n30"]
    assert "patients with pairs" in to_svg(ax, label="curve")
    assert ax.get_ylim()[1] > 1.0


def test_scan_adds_noise_of_patients():
    """The sample itself: rows of a patient share what a scanner does to it."""
    maps, shifts = scanners()
    tissue = tissue_of(0, 200, 4)
    seen = scan(tissue, np.ones(len(tissue), dtype=int), maps, shifts, np.random.default_rng(0), patient=1.0, noise=0.0)
    left = seen.X - tissue.X @ maps[1].T - shifts[1]
    np.testing.assert_allclose(left[0], left[1], atol=1e-12)
    assert np.abs(left).mean() > 0.1


def test_changes_that_nobody_shares_are_refused():
    """Patients 0 and 1 show one change, 2 and 3 another: none is shown by three."""
    pairs = rescanned(1, 4, 2, THREE)
    early = pairs.obs["patient"].isin(["bp0", "bp1"])
    kept = np.where(early, pairs.obs["scanner"] != "scanner2", pairs.obs["scanner"] != "scanner1")
    with pytest.raises(DataError, match="no change of levels is shown by 3 patients"):
        EmbeddingSCM(GRAPH).fit(unpaired(0, design=THREE), pairs[kept])
