import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.learners import fit_logistic
from causalfm.metrics.probes import PROBES, readout
from causalfm.metrics.recall import balanced_accuracy, pair_share
from causalfm.neighbours import knn

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
EVERY = pytest.mark.parametrize("probe", PROBES)


def cohort_of(Z, site, tumour, *, rows: int = 1) -> Cohort:
    """One entry of ``site`` and ``tumour`` per patient, ``rows`` consecutive rows of ``Z`` each."""
    patient = np.repeat(np.arange(len(site)), rows)
    obs = pd.DataFrame({"tumour": np.asarray(tumour)[patient], "site": np.asarray(site)[patient]}).astype(str)
    return Cohort(np.asarray(Z), obs.assign(patient=[f"p{i}" for i in patient]))


def noise_cohort(seed: int, *, n: int = 60, rows: int = 2, d: int = 6, signal: float = 0.0) -> Cohort:
    rng = np.random.default_rng(seed)
    site, tumour = rng.integers(0, 2, n), rng.integers(0, 2, n)
    Z = rng.standard_normal((n * rows, d))
    Z[:, 0] += signal * (np.repeat(site, rows) - 0.5)
    return cohort_of(Z, site, tumour, rows=rows)


# --- limits ---------------------------------------------------------------------------------------------------------


@EVERY
def test_perfect_separation_has_an_interval_of_positive_width(probe: str) -> None:
    found = readout(noise_cohort(0, signal=40.0, d=3), GRAPH, probe=probe)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.8 < found.low < 1.0
    assert set(found.details["recall"].values()) == {1.0}


@EVERY
def test_noise_is_near_chance(probe: str) -> None:
    drawn = [readout(noise_cohort(seed), GRAPH, probe=probe) for seed in range(8)]
    assert abs(np.mean([found.value for found in drawn]) - 0.5) < 4 * 0.5 / np.sqrt(8 * 60)  # patients as units
    assert sum(found.low <= 0.5 <= found.high for found in drawn) >= 6


@EVERY
def test_patients_are_never_split(probe: str) -> None:
    """Every patient has a direction of its own: a row of the same patient in training would give the answer away."""
    rng = np.random.default_rng(0)
    n, rows = 40, 12  # 11 rows of the same patient: all neighbours that vote
    site = rng.permutation(np.repeat([0, 1], n // 2))
    Z = 10.0 * np.repeat(np.eye(n), rows, axis=0) + 0.01 * rng.standard_normal((n * rows, n))
    cohort = cohort_of(Z, site, rng.integers(0, 2, n), rows=rows)
    assert readout(cohort, GRAPH, probe=probe).value < 0.75
    split = cohort.replace(obs=cohort.obs.assign(patient=[f"r{i}" for i in range(n * rows)]))  # every row a patient
    assert readout(split, GRAPH, probe=probe).value > 0.95


# --- chance from the case mix ---------------------------------------------------------------------------------------


def case_mix_chance(cohort: Cohort, of: str, beyond: str) -> float:
    """Best balanced accuracy of all rules that guess a level from the class; patients weigh one."""
    obs = cohort.obs
    weight = 1.0 / obs.groupby("patient")["patient"].transform("size")
    levels, classes = sorted(obs[of].unique()), sorted(obs[beyond].unique())
    best = 0.0
    for rule in itertools.product(levels, repeat=len(classes)):
        hit = obs[beyond].map(dict(zip(classes, rule, strict=True))) == obs[of]
        recalls = [np.average(hit[obs[of] == v], weights=weight[obs[of] == v]) for v in levels]
        best = max(best, float(np.mean(recalls)))
    return best


def case_mix_cohort(*, within: bool) -> Cohort:
    rng = np.random.default_rng(5)
    site = np.repeat([0, 1, 2], [11, 8, 14])
    tumour = (rng.random(33) < np.array([0.15, 0.8, 0.5])[site]).astype(int)
    cohort = cohort_of(rng.standard_normal((99, 3)), site, tumour, rows=3)
    if within:
        mixed = np.where(rng.random(99) < 0.2, "1", cohort.obs["tumour"])
        cohort = cohort.replace(obs=cohort.obs.assign(tumour=mixed))
    return cohort[np.r_[0:40, 42:99]]  # one patient with fewer rows


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(("of", "beyond"), [("site", "tumour"), ("tumour", "site")])
def test_chance_by_brute_force(of: str, beyond: str, within: bool) -> None:
    cohort = case_mix_cohort(within=within)
    found = readout(cohort, GRAPH, of=of, probe="knn")
    assert found.details["beyond"] == [beyond]
    assert found.chance == pytest.approx(case_mix_chance(cohort, of, beyond))
    assert found.details["uniform"] < found.details["chance_low"] < found.chance


def test_chance_of_a_balanced_design_is_guessing() -> None:
    """Leaving patients out would tip every tie against the patient's own level and give 0."""
    site, tumour = np.arange(24) % 2, np.arange(24) // 2 % 2
    found = readout(cohort_of(np.random.default_rng(0).standard_normal((24, 3)), site, tumour), GRAPH, probe="knn")
    assert (found.chance, found.details["chance_low"]) == (0.5, 0.5)


def test_chance_without_association_lies_about_guessing() -> None:
    """Small cohorts look associated: the lower value takes this off, the value itself does not."""
    found = [readout(noise_cohort(seed, n=24, rows=1), GRAPH, probe="knn") for seed in range(30)]
    chance = np.array([(estimate.chance, estimate.details["chance_low"]) for estimate in found])
    assert (chance >= 0.5).all()
    assert chance[:, 0].mean() > 0.55
    assert chance[:, 1].mean() < 0.54


def test_case_mix_that_gives_the_site_away() -> None:
    site = np.repeat([0, 1], 15)
    cohort = cohort_of(np.random.default_rng(0).standard_normal((30, 3)), site, site)
    for of in ("site", "tumour"):
        found = readout(cohort, GRAPH, probe="knn", of=of)
        assert found.chance == 1.0
        assert 0.8 < found.details["chance_low"] <= 1.0


# --- awkward inputs -------------------------------------------------------------------------------------------------


@EVERY
def test_levels_with_one_patient_are_left_out_and_listed(probe: str) -> None:
    cohort = noise_cohort(1, signal=40.0)
    site = cohort.obs["site"].where(cohort.obs["patient"] != "p3", "tiny")
    found = readout(cohort.replace(obs=cohort.obs.assign(site=site)), GRAPH, probe=probe)
    assert found.details["left_out"] == ["tiny: 1 patient"]
    assert found.details["levels"] == ["0", "1"]
    assert (found.n, found.n_groups) == (118, 59)
    assert found.details["uniform"] == 0.5


@EVERY
def test_constant_columns_and_more_dimensions_than_rows(probe: str) -> None:
    rng = np.random.default_rng(2)
    site = np.repeat([0, 1], 15)
    Z = rng.standard_normal((30, 200))
    Z[:, 5:190] = 3.0
    Z[:, :5] += 30.0 * site[:, None]
    found = readout(cohort_of(Z, site, rng.integers(0, 2, 30)), GRAPH, probe=probe)
    assert found.value == 1.0


@EVERY
def test_half_precision_categories_and_row_order(probe: str) -> None:
    cohort = noise_cohort(3, signal=4.0)
    half = readout(cohort.replace(X=cohort.X.astype(np.float16)), GRAPH, probe=probe).value
    full = readout(cohort, GRAPH, probe=probe)
    assert half == pytest.approx(full.value, abs=0.03)
    category = cohort.replace(obs=cohort.obs.astype({"site": pd.CategoricalDtype(["1", "0", "unused"])}))
    again = readout(category, GRAPH, probe=probe)
    assert (again.details["levels"], again.value) == (["1", "0"], pytest.approx(full.value, abs=0.03))


def test_scale_does_not_matter() -> None:
    cohort = noise_cohort(3, signal=1.0)
    stretched = cohort.replace(X=cohort.X * np.array([1.0, 1e3, 1e-3, 1.0, 50.0, 1.0]) + 7.0)
    assert readout(stretched, GRAPH).value == pytest.approx(readout(cohort, GRAPH).value, abs=0.01)  # standardised
    assert (
        readout(cohort.replace(X=cohort.X * 9.0), GRAPH, probe="knn").value == readout(cohort, GRAPH, probe="knn").value
    )


def test_neighbours_are_used_again() -> None:
    cohort = noise_cohort(4, signal=1.5)
    found = knn(cohort.X, 11, exclude=cohort.factor("patient").codes)
    assert readout(cohort, GRAPH, probe="knn", neighbours=found) == readout(cohort, GRAPH, probe="knn")


def test_seed_and_inputs() -> None:
    cohort = noise_cohort(6, signal=0.5)
    X, obs = cohort.X.copy(), cohort.obs.copy()
    first, same, other = (readout(cohort, GRAPH, random_state=s) for s in (0, 0, 1))
    assert first == same
    assert first.value != other.value
    assert np.array_equal(cohort.X, X)
    pd.testing.assert_frame_equal(cohort.obs, obs)


def test_errors() -> None:
    cohort = noise_cohort(7)
    with pytest.raises(DataError, match="probe='svm' is not known: choose logistic, knn or network"):
        readout(cohort, GRAPH, probe="svm")
    lonely = cohort[
        (cohort.obs["site"] == "0").to_numpy()
        | (cohort.obs["patient"] == cohort.obs.query("site == '1'")["patient"].iloc[0]).to_numpy()
    ]
    with pytest.raises(
        DataError, match="column 'site': a read-out needs two levels with two patients each; 1 has them"
    ):
        readout(lonely, GRAPH)


# --- balanced accuracy ----------------------------------------------------------------------------------------------


def test_balanced_accuracy_by_hand() -> None:
    hit = np.array([1, 1, 0, 1, 0, 0, 1, 1], dtype=bool)
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    groups = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    weights = 1.0 / np.bincount(groups)[groups]
    value, recalls, low, high = balanced_accuracy(hit, y, groups, weights)
    assert recalls == pytest.approx([2 / 3, 2 / 3])  # patients 1, 0, 1 and 0, 1, 1
    assert value == pytest.approx(2 / 3)
    # influences are (1, -2, 1) / 18 in each level: variance 12 / 18^2 * 6 / 5 = 2 / 45; 2 / 9 over it is 5 patients,
    # fewer as pairs of patients count twice
    q2 = stats.t.ppf(0.975, 6 - 2) ** 2
    size = 5 / (1 + pair_share(2 / 3, 1 / 2))
    centre = (value + q2 / (2 * size)) / (1 + q2 / size)
    reach = np.sqrt(q2 * (2 / 9 / size + q2 / (4 * size**2))) / (1 + q2 / size)
    assert (low, high) == pytest.approx((centre - reach, centre + reach))


def test_without_an_error_patients_count_once_even_if_they_hold_every_level() -> None:
    hit = np.ones(24, dtype=bool)
    paired = balanced_accuracy(hit, np.tile([0, 1], 12), np.repeat(np.arange(12), 2), np.full(24, 0.5))
    apart = balanced_accuracy(hit[:12], np.tile([0, 1], 6), np.arange(12), np.ones(12))
    assert paired[2:] == pytest.approx(apart[2:])


def test_pairs_count_twice_at_chance_and_not_at_certainty() -> None:
    assert pair_share(0.5, 0.5) == pair_share(0.1, 0.25) == pytest.approx(1.0)
    assert pair_share(1.0, 0.25) == 0.0
    falling = [pair_share(value, 0.25) for value in np.linspace(0.25, 1.0, 20)]
    assert (np.diff(falling) < 0.0).all()
    # sign(margin + z), z normal: the squared correlation of hit and z, over that without margin
    z = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    linear = [np.corrcoef(z > -stats.norm.ppf(u), z)[0, 1] ** 2 for u in (0.5, 0.9)]
    assert pair_share(0.9, 0.5) == pytest.approx(linear[1] / linear[0], rel=1e-3)


def test_interval_counts_patients_not_rows() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    hit = rng.random(40) < 0.7
    alone = balanced_accuracy(hit, y, np.arange(40), np.ones(40))
    groups = np.repeat(np.arange(40), 25)
    many = balanced_accuracy(hit[groups], y[groups], groups, np.full(1000, 1 / 25))
    assert (many[0], many[2], many[3]) == pytest.approx((alone[0], alone[2], alone[3]))


def test_interval_covers() -> None:
    """30 patients of 5 rows, recalls .9 and .6 with a patient effect: 400 draws, coverage within binomial error."""
    rng = np.random.default_rng(1)
    y, groups = np.repeat([0, 1], 75), np.repeat(np.arange(30), 5)
    truth, covered = 0.75, 0
    for _ in range(400):
        p = np.where(np.arange(30) < 15, rng.beta(3.6, 0.4, 30), rng.beta(2.4, 1.6, 30))
        _, _, low, high = balanced_accuracy(rng.random(150) < p[groups], y, groups, np.full(150, 0.2))
        covered += low <= truth <= high
    assert covered / 400 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 400)


def test_many_rows_are_sampled_evenly_and_counted() -> None:
    cohort = noise_cohort(3, n=40, rows=30, signal=6.0)
    sampled = readout(cohort, GRAPH, max_rows=200, random_state=1)
    assert (sampled.n, sampled.n_groups, sampled.details["rows_not_sampled"]) == (200, 40, 1000)
    assert sampled.value == pytest.approx(readout(cohort, GRAPH).value, abs=0.1)
    assert sampled == readout(cohort, GRAPH, max_rows=200, random_state=1)
    assert readout(cohort, GRAPH).details["rows_not_sampled"] == 0


def test_a_training_fold_with_one_class_is_answered() -> None:
    """Patients that hold both classes can leave the training folds of the others with one."""
    patient = np.repeat(np.arange(5), 2)
    tumour = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    obs = pd.DataFrame({"patient": patient, "tumour": tumour, "site": patient % 2}).astype(str)
    for seed in range(12):
        cohort = Cohort(np.random.default_rng(seed).standard_normal((10, 4)), obs)
        assert 0.0 <= readout(cohort, GRAPH, of="tumour", random_state=seed).value <= 1.0
    (only,) = fit_logistic(np.eye(3), np.array([1, 1, 1]), np.ones(3), np.eye(3)[:2], [0.1], 3)
    np.testing.assert_array_equal(only, [[0, 1, 0], [0, 1, 0]])


def test_rows_whose_neighbours_have_no_vote_count_as_wrong() -> None:
    """The last patient of site 0 lies among 12 sites of one patient, which are left out."""
    rng = np.random.default_rng(0)
    site = np.r_[np.zeros(15), np.ones(14), 2 + np.arange(12)].astype(int)
    Z = np.c_[np.where(site == 0, 1.0, -1.0), np.zeros(41)] + 0.05 * rng.standard_normal((41, 2))
    Z[[14, *range(29, 41)]] = [0.0, 1.0] + 0.05 * rng.standard_normal((13, 2))
    found = readout(cohort_of(Z, site, site % 2), GRAPH, probe="knn")
    assert found.details["recall"] == {"0": pytest.approx(14 / 15), "1": 1.0}
    assert found.details["rows_without_votes"] == 1
    assert "rows_without_votes" not in readout(noise_cohort(0), GRAPH, probe="knn").details


def test_a_sample_of_rows_without_a_level_leaves_the_level_out() -> None:
    """Three tiles of 2,000 in three of 40 patients: a sample of two each can lose the class (ValueError)."""
    patient = np.repeat(np.arange(40), 50)
    y = np.where((np.arange(2000) % 50 == 0) & (patient < 3), "rare", (patient % 2).astype(str))
    obs = pd.DataFrame({"tumour": y, "site": patient // 2 % 2, "patient": patient}).astype(str)
    cohort = Cohort(np.random.default_rng(0).standard_normal((2000, 6)).astype("f4"), obs)
    found = readout(cohort, GRAPH, of="tumour", max_rows=80)
    assert found.n == 80
    assert found.details["left_out"] == ["rare: 0 patient among the rows drawn"]
    assert sorted(found.details["recall"]) == ["0", "1"]
    few = readout(cohort, GRAPH, of="tumour", max_rows=25)  # fewer rows than patients
    assert (few.n, few.n_groups) == (25, 25)
    with pytest.raises(DataError, match="among the 2 rows drawn"):
        readout(cohort, GRAPH, of="tumour", max_rows=2)
