import importlib
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.dependence import dcorr, dependence_test, hsic
from causalfm.invariance.kernels import distance_kernel, gaussian_kernel, kernel_units, spread_rows
from causalfm.invariance.level_kernels import level_similarity
from causalfm.invariance.mean import mean_test
from causalfm.resampling import permutations_within
from causalfm.standardisation import contrast_levels

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
METHODS = ("mmd", "energy", "hsic", "dcorr")
KERNELS = ("gaussian", "distance")


def scm(**settings) -> Cohort:
    return linear_scm(**{"n_groups": 32, "d": 4, "n_sites": 2, "rows_per_group": (1, 4), **settings})[0]


def two_sites(seed: int, draw, *, n: int = 40, d: int = 3) -> Cohort:
    """Patients of one row; those of site b are drawn by ``draw(rng, (n, d))``."""
    rng = np.random.default_rng(seed)
    Z = np.concatenate([rng.standard_normal((n, d)), draw(rng, (n, d))])
    obs = pd.DataFrame({"site": ["a"] * n + ["b"] * n, "tumour": ["x", "y"] * n})
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in range(2 * n)]))


def units_of(cohort: Cohort, kernel: str, graph: CausalGraph = GRAPH, given=("tumour",), **settings):
    return kernel_units(cohort, graph, ("site",), given, kernel, **settings)


# --- the statistics of arrays ---------------------------------------------------------------------------------------


def samples(kind: str, n: int = 41):
    rng = np.random.default_rng(3)
    x = 100.0 + 5.0 * rng.standard_normal((n, 6))
    y = {
        "one-hot": np.eye(3)[rng.integers(0, 3, n)],
        "grades": rng.integers(0, 4, n),
        "numbers": x[:, 0] + rng.random(n),
    }
    return x, y[kind]


@pytest.fixture(scope="module")
def hyppo():
    """The peer's tests, their loops in plain Python: compiling them takes longer than all tests of this file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peer's own making
        module = importlib.import_module("hyppo.independence")
    code = importlib.import_module("hyppo.independence.dcorr")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_center_distmat", "_dcov", "_dcorr"):
            patch.setattr(code, name, getattr(code, name).py_func)
        yield module


@pytest.mark.parametrize("kind", ["one-hot", "grades", "numbers"])
@pytest.mark.parametrize("bias", [False, True])
def test_equal_to_hyppo(hyppo, kind: str, bias: bool) -> None:
    x, y = samples(kind)
    columns = y.reshape(len(y), -1).astype(float)
    assert dcorr(x, y, bias=bias) == pytest.approx(hyppo.Dcorr(bias=bias).statistic(x, columns), abs=1e-8)
    shared = np.median(cdist(x, x)[~np.eye(len(x), dtype=bool)])  # hyppo's bandwidth, for both samples
    theirs = hyppo.Hsic(bias=bias).statistic(x, columns)
    assert hsic(x, y, bias=bias, scale_y=shared) == pytest.approx(theirs, abs=1e-8)


def test_correlations_by_hand() -> None:
    x, y = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1])
    for f in (dcorr, hsic):
        assert f(x, x) == pytest.approx(1.0)
        assert f(x, 3.0 - 7.0 * x, bias=True) == pytest.approx(1.0)
        assert f(x, y, bias=True) == 0.0  # every pair of values once
        # corrected: both centred matrices hold 1/3 for the pair alike, -1/6 for the others, 0 on the diagonal
        assert f(x, y) == pytest.approx(-0.5)
        assert f(x, np.ones(4)) == 0.0


@pytest.mark.parametrize("kind", ["one-hot", "grades", "numbers"])
@pytest.mark.parametrize(("kernel", "f"), [("distance", dcorr), ("gaussian", hsic)])
def test_permutation_test_equals_its_definition(kind: str, kernel, f) -> None:
    x, y = samples(kind, 24)
    null = [f(x, y[m]) for m in np.concatenate(list(permutations_within(np.zeros(24), 60, 5)))]
    statistic, p_value = dependence_test(x, y, kernel=kernel, n_permutations=60, random_state=5)
    assert statistic == f(x, y)
    assert p_value == (1 + np.sum(np.array(null) >= statistic - 1e-12)) / 61


def test_bad_arrays() -> None:
    x = np.arange(9.0)
    with pytest.raises(DataError, match="x has 9 rows and y 8"):
        dcorr(x, x[:8])
    with pytest.raises(DataError, match="at least 4"):
        hsic(x[:3], x[:3])
    with pytest.raises(DataError, match="categories as one-hot"):
        dependence_test(x, np.array(list("abcabcabc")))
    with pytest.raises(DataError, match="y is not finite in row 3"):
        dcorr(x, np.where(x == 3, np.nan, x))


# --- kernel features against their definition -----------------------------------------------------------------------


def gram_by_definition(cohort: Cohort, kernel: str) -> np.ndarray:
    """Mean of the kernel over all pairs of rows of two patients."""
    rows = np.asarray(cohort.X, dtype=np.float64)
    apart, patient = cdist(rows, rows), cohort.factor("patient").codes
    alike = cohort.factor("tumour").codes
    pairs = (patient[:, None] != patient) & (alike[:, None] == alike)
    square = apart**2 / np.median(apart[pairs] ** 2)
    K = np.mean([np.exp(-0.5 * square * k) for k in (1, 4, 16)], axis=0) if kernel == "gaussian" else -apart
    A = np.eye(patient.max() + 1)[patient]
    A /= A.sum(axis=0)
    return A.T @ K @ A


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_are_exact_for_few_rows(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = scm(rows_per_group=(1, 5))
    monkeypatch.setattr("causalfm.invariance.kernels.spread_rows", lambda cohort, *_: np.arange(len(cohort)))
    units, features = units_of(cohort, kernel)
    assert features.exact
    centre = np.eye(len(units)) - 1.0 / len(units)  # a kernel of distances is one up to what centring takes off
    wanted = centre @ gram_by_definition(cohort, kernel) @ centre
    found = centre @ units.Z @ units.Z.T @ centre
    assert found == pytest.approx(wanted, abs=1e-7 * np.abs(wanted).max())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_landmarks_come_close(kernel: str, dtype) -> None:
    cohort = scm(n_groups=60, rows_per_group=8, d=16, decay=0.5, site_effect=0.4)
    cohort = cohort.replace(X=cohort.X.astype(dtype))
    exact, full = units_of(cohort, kernel)
    close, few = units_of(cohort, kernel, n_landmarks=128)
    assert (full.exact, few.exact) == (True, False)
    assert 100 < len(few.landmarks) <= 128 < len(full.landmarks)
    centre = np.eye(60) - 1.0 / 60
    a, b = ((centre @ u.Z @ u.Z.T @ centre)[~np.eye(60, dtype=bool)] for u in (exact, close))
    assert np.corrcoef(a, b)[0, 1] > 0.99
    one, other = (mean_test(u, n_permutations=99)[0] for u in (exact, close))
    assert other == pytest.approx(one, rel=0.1)


def test_bandwidth_is_a_median_of_squared_distances_in_any_dimension() -> None:
    for d in (2, 512):
        cohort = scm(d=d, rows_per_group=1, decay=0.0, n_groups=100, biology_effect=0.0)
        _, features = units_of(cohort, "gaussian")
        squares = cdist(cohort.X, cohort.X, "sqeuclidean")[~np.eye(100, dtype=bool)]
        assert features.scale**2 == pytest.approx(np.median(squares), rel=0.05)


def test_biology_within_patients_is_removed_in_the_features() -> None:
    """Classes weigh alike in all patients, who are compared with those that hold the same classes."""
    cohort = scm(biology_within_group=True, rows_per_group=(1, 4), confounding=0.5, biology_effect=5.0)
    units, features = units_of(cohort, "gaussian")
    rows = features(np.asarray(cohort.X)) @ features.root
    patient, tumour = cohort.factor("patient").codes, cohort.factor("tumour").codes
    count = np.zeros((len(units), 2))
    np.add.at(count, (patient, tumour), 1)
    share = (count / count.sum(axis=1, keepdims=True)).mean(axis=0)
    both = (count > 0).all(axis=1)
    assert 5 < both.sum() < 30
    holders = np.flatnonzero(both)
    means = [[rows[(patient == g) & (tumour == c)].mean(axis=0) for c in (0, 1)] for g in holders]
    weighed = np.einsum("c,gcr->gr", share, np.array(means))
    np.testing.assert_allclose(units.Z[holders] - units.Z[holders[0]], weighed - weighed[0], atol=1e-10)
    held = np.where(both, 2, np.where(count[:, 0] > 0, 0, 1))
    assert len(set(zip(held, units.stratum, strict=True))) == units.n_strata == 3
    assert {units.stratum_name(w) for w in range(3)} == {
        "tumour held=class0", "tumour held=class1", "tumour held=class0 and class1",
    }  # fmt: skip


def test_nobody_holds_the_same_classes() -> None:
    cohort = scm(biology_within_group=True, rows_per_group=6, n_groups=12, n_biology=8, d=3)
    with pytest.raises(DataError, match=r"hold the same classes of tumour.*choose method='mean'"):
        invariance_test(cohort, GRAPH, of="site", method="mmd", n_permutations=19)


def test_covariates_are_taken_off_the_rows_before_the_kernel() -> None:
    """A covariate that just moves the embedding leaves features in which no trace of it is found."""
    cohort = scm(n_groups=80, rows_per_group=2, age_effect=0.0, noise=0.3)
    moved = cohort.X + (0.5 * cohort.obs["age"].to_numpy() ** 2)[:, None] * np.array([1.0, -1, 0.5, 2])
    still, _ = units_of(cohort, "gaussian", AGED, ("tumour", "age"))
    after, _ = units_of(cohort.replace(X=moved), "gaussian", AGED, ("tumour", "age"))
    np.testing.assert_allclose(after.Z @ after.Z.T, still.Z @ still.Z.T, atol=0.1)


# --- closed forms ---------------------------------------------------------------------------------------------------


def gaussian(apart: float) -> float:
    return (np.exp(-(apart**2) / 2) + np.exp(-2 * apart**2) + np.exp(-8 * apart**2)) / 3


def copies(points: list[list[float]], sites: str) -> Cohort:
    """Three patients of one row at each point."""
    obs = pd.DataFrame({"site": np.repeat(list(sites), 3), "tumour": "x"})
    return Cohort(np.repeat(np.array(points), 3, axis=0), obs.assign(patient=[f"p{i}" for i in range(len(obs))]))


def test_identical_samples_have_no_distance() -> None:
    cohort = copies([[0.0, 0], [3, 4], [1, 7], [0, 0], [3, 4], [1, 7]], "aaabbb")
    for kernel in KERNELS:
        units, _ = units_of(cohort, kernel)
        assert contrast_levels(units, "tumour").joint.observed == pytest.approx(0.0, abs=1e-12)
        assert mean_test(units, n_permutations=99)[1] > 0.9  # 0 up to rounding, as that of some permutations is


def test_two_points() -> None:
    cohort = copies([[0.0, 0], [3, 4]], "ab")  # 5 apart, which is the median distance between patients... or 0 is
    units, features = units_of(cohort, "gaussian")
    assert contrast_levels(units, "tumour").joint.observed == pytest.approx(2 - 2 * gaussian(5.0 / features.scale))
    units, _ = units_of(cohort, "distance")
    assert contrast_levels(units, "tumour").joint.observed == pytest.approx(2 * 5.0)


def test_kernels_by_hand() -> None:
    a, b = np.array([[3.0, 4]]), np.array([[3.0, 4], [0, 0], [6, 8]])
    assert gaussian_kernel(a / 5, b / 5) == pytest.approx(np.array([[1.0, gaussian(1.0), gaussian(1.0)]]))
    assert distance_kernel(a, b) == pytest.approx(np.array([[10.0, 0, 10]]))


# --- weights of levels ----------------------------------------------------------------------------------------------


def test_hsic_weights_are_those_of_its_definition() -> None:
    """Unstudentised, the statistic is the sum over pairs of patients of the centred similarity of their levels."""
    cohort = scm(n_sites=3, n_groups=40, groups_by_site=2.0, confounding=0.3)
    units, _ = units_of(cohort, "gaussian")
    for L in (np.eye(3), level_similarity(3, "distance", ordinal=True), level_similarity(3, "gaussian", ordinal=True)):
        strata = np.eye(units.n_strata)[units.stratum]
        centre = np.eye(len(units)) - strata @ np.diag(1 / strata.sum(axis=0)) @ strata.T
        wanted = (centre @ L[np.ix_(units.level.codes, units.level.codes)] @ centre * (units.Z @ units.Z.T)).sum()
        found = mean_test(units, similarity=L, n_permutations=1, studentise=False)[0]
        assert found == pytest.approx(wanted)


def test_order_of_levels_is_used() -> None:
    """A small step from level to level: the order makes it one direction instead of four."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(6), 10)
    obs = pd.DataFrame({"site": [f"s{i}" for i in level], "tumour": ["x", "y"] * 30})
    obs["patient"] = [f"p{i}" for i in range(60)]
    cohort = Cohort(rng.standard_normal((60, 3)) + 0.4 * level[:, None] * np.array([1.0, 0, 0]), obs)
    ordered = cohort.replace(obs=obs.assign(site=pd.Categorical(obs["site"], ordered=True)))
    for method in ("hsic", "dcorr"):
        plain, better = (
            invariance_test(c, GRAPH, of="site", method=method, n_permutations=199) for c in (cohort, ordered)
        )
        assert better.statistic > plain.statistic + 1.0
        assert better.p_value <= 0.01


# --- what the tests find, and their size ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_scale_and_shape_that_means_do_not_see(method: str) -> None:
    wider = two_sites(0, lambda rng, size: 2.5 * rng.standard_normal(size))
    bimodal = two_sites(1, lambda rng, size: rng.choice([-1.0, 1.0], size), n=100, d=2)
    for cohort in (wider, bimodal):
        found = invariance_test(cohort, GRAPH, of="site", method=method, n_permutations=199)
        assert found.p_value <= 0.01
        assert found.verdict == "fail"
        assert found.sentence.startswith("The distribution of embeddings depends on site given tumour")
        assert invariance_test(cohort, GRAPH, of="site", method="mean", n_permutations=199).p_value > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_is_found_in_high_dimension(method: str) -> None:
    cohort = scm(d=256, n_groups=60, decay=0.0, site_effect=1.2)
    result = invariance_test(cohort, GRAPH, of="site", method=method, n_permutations=99)
    assert result.p_value == 0.01
    assert result.details["exact"]


def test_margin_is_measured_in_feature_space() -> None:
    cohort = scm(n_groups=120, site_effect=0.1, biology_effect=2.0, rows_per_group=2)
    for method in ("mmd", "energy"):
        result = invariance_test(cohort, GRAPH, of="site", method=method, margin=0.6, n_permutations=99)
        assert result.verdict == "pass"
        assert 0.0 <= result.details["ratio_to_biology"][2] < 0.6


def test_size_on_a_null_with_sizes_by_site() -> None:
    """Last sites bring ten times the tiles: means of features are studentised, and their expectation is the same."""
    draws, p_values = 100, []
    for seed in range(7_100_000, 7_100_000 + draws):
        cohort = scm(
            random_state=seed, n_groups=40, rows_per_group=(1, 2), size_by_site=9.0, noise=3.0, confounding=0.4
        )
        for kernel in KERNELS:
            units, _ = units_of(cohort, kernel, n_landmarks=128)
            p_values.append(
                [mean_test(units, similarity=s, n_permutations=99, random_state=seed)[1] for s in (None, np.eye(2))]
            )
    found = (np.array(p_values).reshape(draws, 4) <= 0.05).sum(axis=0)
    assert (found <= stats.binom.isf(0.001 / 8, draws, 0.05)).all(), found


# --- contract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_landmarks", [1024, 40], ids=["exact", "landmarks"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_statistic_does_not_depend_on_representation(kernel: str, n_landmarks: int) -> None:
    cohort = scm(site_effect=0.4, n_sites=3)
    obs = cohort.obs
    names = {"site0": "zzz", "site1": "aaa", "site2": "mmm"}
    order = np.random.default_rng(1).permutation(len(cohort))
    twice = np.repeat(np.arange(len(cohort)), 2)
    others = {
        "row order": cohort[order],
        "level names": cohort.replace(obs=obs.assign(site=obs["site"].map(names))),
        "patient names": cohort.replace(obs=obs.assign(patient=obs["patient"].str[::-1] + "q")),
        "translation and scale": cohort.replace(X=7.0 * cohort.X + 3.0),
        "every row twice": Cohort(cohort.X[twice], obs.iloc[twice].reset_index(drop=True)),
    }
    if n_landmarks > 40:
        Q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
        others["rotation"] = cohort.replace(X=cohort.X @ Q)
    statistic = mean_test(units_of(cohort, kernel, n_landmarks=n_landmarks)[0], n_permutations=1)[0]
    for name, other in others.items():
        # a rotation changes which rows the bandwidth is taken from, rounding which landmarks come first
        tolerance = {"rotation": 0.02}.get(name, 1e-6 if n_landmarks > 40 else 2e-3)
        found = mean_test(units_of(other, kernel, n_landmarks=n_landmarks)[0], n_permutations=1)[0]
        assert found == pytest.approx(statistic, rel=tolerance), name


def test_landmarks_are_spread_over_the_patients() -> None:
    cohort = scm(rows_per_group=(1, 30))
    patients = cohort.factor("patient").codes
    chosen = spread_rows(cohort, patients, 96, 0)
    assert (np.bincount(patients[chosen], minlength=32) == 3).all()
    assert len(set(spread_rows(cohort, patients, 16, 1))) == 16


def test_other_floats_and_ids(tmp_path) -> None:
    cohort = scm(site_effect=0.4)
    statistic = mean_test(units_of(cohort, "gaussian")[0], n_permutations=1)[0]
    np.save(tmp_path / "x.npy", cohort.X.astype(np.float32))
    mapped = cohort.replace(X=np.load(tmp_path / "x.npy", mmap_mode="r"))
    half = cohort.replace(X=cohort.X.astype(np.float16))
    assert mean_test(units_of(mapped, "gaussian")[0], n_permutations=1)[0] == pytest.approx(statistic, rel=1e-3)
    assert mean_test(units_of(half, "gaussian")[0], n_permutations=1)[0] == pytest.approx(statistic, rel=0.02)
    with pytest.raises(DataError, match="range of floating-point numbers"):
        units_of(cohort.replace(X=cohort.X * 1e90), "gaussian")
