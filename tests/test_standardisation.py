import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.standardisation import contrast_levels, standardised_means
from causalfm.units import Units, helmert, patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates=["age", "bmi"], group="patient")


def cohort_of(
    seed: int = 0, *, n: int = 60, d: int = 4, n_sites: int = 3, site: float = 1.0, tumour: float = 2.0
) -> Cohort:
    """One row per patient; sites and classes confounded, age different between sites and acting on Z."""
    rng = np.random.default_rng(seed)
    s = rng.integers(0, n_sites, n)
    b = (rng.random(n) < 0.3 + 0.3 * (s == 0)).astype(int)
    obs = pd.DataFrame({"tumour": np.array(["x", "y"])[b], "site": [f"s{i}" for i in s]})
    obs["patient"] = [f"p{i}" for i in range(n)]
    obs["age"] = 60.0 + 10.0 * rng.standard_normal(n) + 8.0 * s
    obs["bmi"] = 25.0 + 3.0 * rng.standard_normal(n)
    Z = rng.standard_normal((n, d)) + (((obs["age"].to_numpy() - 60.0) / 10.0) ** 2)[:, None]
    Z[:, 0] += site * s
    Z[:, 1] += tumour * b
    return Cohort(Z, obs)


def units_of(cohort: Cohort, graph: CausalGraph = GRAPH, given=("tumour",)) -> Units:
    return patient_units(cohort, graph, ("site",), given)


def numbers(contrasts) -> np.ndarray:
    norms = [contrasts.joint, contrasts.biology, *contrasts.pairs.values()]
    return np.array([(norm.value, *norm.interval()) for norm in norms])


# --- point estimates ------------------------------------------------------------------------------------------------


def test_stratified_difference_by_hand() -> None:
    Z = np.array([[1.0], [2], [3], [10], [20], [30], [0], [1], [2], [3], [4], [5], [6], [7]])
    level = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    stratum = np.array([0] * 6 + [1] * 8)
    weights = standardised_means(level, (0, 1), stratum, (0, 1))
    assert weights.sum(axis=1) == pytest.approx([1.0, 1.0])
    # stratum 0: 6 of 14 patients, means 2 and 20; stratum 1: 8 of 14, means 2 and 6
    assert (weights @ Z).ravel() == pytest.approx([2.0, 6 / 14 * 20 + 8 / 14 * 6])


def test_weights_stay_inside_the_table() -> None:
    rng = np.random.default_rng(0)
    level, stratum = rng.integers(0, 3, 80), rng.integers(0, 4, 80)
    weights = standardised_means(level, (0, 2), stratum, (1, 3))
    outside = (level == 1) | np.isin(stratum, (0, 2))
    assert (weights[:, outside] == 0).all()
    assert weights.sum(axis=1) == pytest.approx([1.0, 1.0])
    shares = [np.array([w[stratum == s].sum() for s in (1, 3)]) for w in weights]
    assert shares[0] == pytest.approx(shares[1])  # the same target population for both levels


def test_helmert() -> None:
    for levels in (2, 3, 5):
        H = helmert(levels)
        assert pytest.approx(np.eye(levels - 1), abs=1e-12) == H @ H.T
        assert H.sum(axis=1) == pytest.approx(np.zeros(levels - 1), abs=1e-12)


def test_joint_is_the_mean_over_pairs() -> None:
    contrasts = contrast_levels(units_of(cohort_of()), "tumour")
    assert list(contrasts.pairs) == [(0, 1), (0, 2), (1, 2)]
    assert contrasts.joint.value == pytest.approx(np.mean([norm.value for norm in contrasts.pairs.values()]))
    assert contrasts.joint.observed == pytest.approx(np.mean([norm.observed for norm in contrasts.pairs.values()]))


@pytest.mark.filterwarnings("default")  # statsmodels' imports
@pytest.mark.parametrize("columns", [("age",), ("age", "bmi")])
def test_covariates_equal_least_squares(columns: tuple[str, ...]) -> None:
    import statsmodels.api as sm

    units = units_of(cohort_of(1, n=90), AGED, ("tumour", *columns))
    assert units.covariates.shape == (90, 3 * len(columns))
    assert units.covariates.mean(axis=0) == pytest.approx(0.0, abs=1e-12)
    contrasts = contrast_levels(units, "tumour")
    cell = units.stratum * 3 + units.level.codes
    dummies = np.eye(6)[cell]
    share = np.bincount(units.stratum) / len(units)
    fits = [sm.OLS(units.Z[:, j], np.column_stack([dummies, units.covariates])).fit() for j in range(4)]
    means = np.stack([share @ fit.params[:6].reshape(2, 3) for fit in fits])  # (d, levels)
    for (a, b), norm in contrasts.pairs.items():
        assert norm.gamma[0] == pytest.approx(means[:, a] - means[:, b], rel=1e-8)
    residual = sum(fit.ssr for fit in fits)
    cells = contrasts.design.cells
    assert (cells.df * cells.trace).sum() == pytest.approx(residual)
    assert cells.df.sum() == pytest.approx(fits[0].df_resid)
    at_sites = np.bincount(units.level.codes) / len(units)  # biology is standardised over the sites
    classes = [at_sites @ (fit.params[:3] - fit.params[3:6]) for fit in fits]
    assert contrasts.biology is not None
    assert contrasts.biology.observed == pytest.approx(np.square(classes).sum())


def test_adjustment_removes_the_bias_of_a_covariate() -> None:
    raw, adjusted = [], []
    for seed in range(40):
        cohort = cohort_of(seed, n=150, site=0.0, n_sites=2)
        raw.append(contrast_levels(units_of(cohort), "tumour").joint.value)
        adjusted.append(contrast_levels(units_of(cohort, AGED, ("tumour", "age")), "tumour").joint.value)
    assert abs(np.mean(adjusted)) < 4 * np.std(adjusted) / np.sqrt(40)
    assert np.mean(raw) > 4 * np.std(raw) / np.sqrt(40)


def test_estimates_are_unbiased_on_the_linear_scm() -> None:
    settings = {
        "n_groups": 64,
        "rows_per_group": (1, 6),
        "d": 8,
        "site_effect": 0.6,
        "biology_effect": 1.2,
        "confounding": 0.5,
    }
    values = []
    for seed in range(200):
        cohort, truth = linear_scm(**settings, random_state=seed)
        contrasts = contrast_levels(units_of(cohort), "tumour")
        assert contrasts.biology is not None
        values.append((contrasts.joint.value, contrasts.biology.value))
    error = np.std(values, axis=0) / np.sqrt(200)
    wanted = [mean_square_distance(truth.site), mean_square_distance(truth.biology)]
    assert (np.abs(np.mean(values, axis=0) - wanted) < 4 * error).all()


# --- what must not matter -------------------------------------------------------------------------------------------


def test_duplicated_rows_of_a_patient_change_nothing() -> None:
    cohort = cohort_of(2)
    copies = np.r_[np.arange(60), np.repeat([0, 7, 31], [4, 1, 9])]
    obs = cohort.obs.iloc[copies].reset_index(drop=True)
    again = Cohort(cohort.X[copies], obs)
    one, two = (numbers(contrast_levels(units_of(c, AGED, ("tumour", "age")), "tumour")) for c in (cohort, again))
    assert two == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_rotation_row_order_and_scale() -> None:
    cohort = cohort_of(2, tumour=6.0)
    one = numbers(contrast_levels(units_of(cohort), "tumour"))
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    order = np.random.default_rng(1).permutation(60)
    turned = numbers(contrast_levels(units_of(cohort[order].replace(X=(cohort.X @ Q + 5.0)[order])), "tumour"))
    assert turned == pytest.approx(one, rel=1e-6, abs=1e-9)
    scaled = contrast_levels(units_of(cohort.replace(X=cohort.X * 100.0)), "tumour")
    assert numbers(scaled) == pytest.approx(1e4 * one, rel=1e-6, abs=1e-6)
    ratio = contrast_levels(units_of(cohort), "tumour").ratio()
    assert np.isfinite(ratio).all()
    assert scaled.ratio() == pytest.approx(ratio)


# --- biology --------------------------------------------------------------------------------------------------------


def test_biology_within_patients_is_measured_within_them() -> None:
    settings = {
        "n_groups": 60,
        "rows_per_group": 8,
        "d": 6,
        "site_effect": 1.0,
        "biology_effect": 1.5,
        "confounding": 0.6,
    }
    values = []
    for seed in range(60):
        cohort, truth = linear_scm(**settings, biology_within_group=True, random_state=seed)
        units = units_of(cohort)
        contrasts = contrast_levels(units, "tumour")
        assert contrasts.biology is not None
        assert contrasts.cells is None
        values.append((contrasts.joint.value, contrasts.biology.value))
    assert units.n_strata == 1
    error = np.std(values, axis=0) / np.sqrt(60)
    wanted = [mean_square_distance(truth.site), mean_square_distance(truth.biology)]
    assert (np.abs(np.mean(values, axis=0) - wanted) < 4 * error).all()
    ratio, low, high = contrasts.ratio()
    assert low < ratio < high


def test_no_biology_to_measure_against() -> None:
    cohort = cohort_of(3)
    contrasts = contrast_levels(units_of(cohort, GRAPH, ()), "tumour")
    assert contrasts.biology is None
    assert contrasts.no_biology == "tumour is not among the conditioning columns"
    assert np.isnan(contrasts.ratio()).all()
    assert np.isnan(contrasts.margin_bounds(1.0)).all()
    one = cohort[(cohort.obs["tumour"] == "x").to_numpy()]
    contrasts = contrast_levels(units_of(one), "tumour")
    assert contrasts.no_biology.startswith("no level of site holds two levels of tumour with 3 patients each")


def test_margin_bounds() -> None:
    units = units_of(cohort_of(4, n=300, site=1.0, tumour=6.0), AGED, ("tumour", "age"))
    contrasts = contrast_levels(units, "tumour")  # largest site gap 2
    low, high = contrasts.margin_bounds(1.0)
    assert high < 0  # 4 - 36
    low_tight, _ = contrasts.margin_bounds(0.2)
    assert low_tight > 0  # 4 - 1.44
    assert low < high
    none = contrast_levels(units_of(cohort_of(4, tumour=0.0)), "tumour")
    assert np.isnan(none.margin_bounds(1.0)).all()  # a margin in units of nothing


# --- designs that do not carry the question -------------------------------------------------------------------------


def test_no_table_and_too_many_covariates() -> None:
    obs = pd.DataFrame({"tumour": list("xxxyyy"), "site": list("aaabbb"), "patient": list("123456")})
    with pytest.raises(DataError, match="no two levels of site can be compared"):
        contrast_levels(units_of(Cohort(np.eye(6), obs)), "tumour")
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"tumour": ["x"] * 7, "site": list("aaaabbb"), "patient": list("1234567")})
    obs["age"], obs["bmi"] = rng.standard_normal((2, 7))
    with pytest.raises(DataError, match="7 patients in 2 cells leave too few degrees of freedom"):
        contrast_levels(units_of(Cohort(rng.standard_normal((7, 3)), obs), AGED, ("tumour", "age", "bmi")), "tumour")


def test_constant_covariate_adds_nothing() -> None:
    cohort = cohort_of(5)
    plain = numbers(contrast_levels(units_of(cohort), "tumour"))
    same = cohort.replace(obs=cohort.obs.assign(age=60.0))
    assert numbers(contrast_levels(units_of(same, AGED, ("tumour", "age")), "tumour")) == pytest.approx(plain)


def test_covariates_that_leave_a_cell_one_degree_of_freedom() -> None:
    rng = np.random.default_rng(1)
    obs = pd.DataFrame({"site": np.repeat(["a", "b", "c"], 6), "tumour": np.tile(np.repeat(["x", "y"], 3), 3)})
    obs = obs.assign(patient=[f"p{i}" for i in range(18)], age=rng.standard_normal(18), bmi=rng.standard_normal(18))
    cohort = Cohort(rng.standard_normal((18, 6)), obs)
    with pytest.raises(DataError, match="too few degrees of freedom"):
        contrast_levels(units_of(cohort, AGED, ("tumour", "age", "bmi")), "tumour")
