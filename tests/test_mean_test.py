import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative, mean_test
from causalfm.invariance.unlike_covariances import excess_variance
from causalfm.resampling import permutation_p_value, permutations_within
from causalfm.units import Units, patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")


def cohort_of(seed: int, counts, *, d: int = 3, shift: float = 0.0, spread: float = 1.0) -> Cohort:
    """``counts[class][site]`` patients of one row; the last site shifted and with another spread."""
    rng = np.random.default_rng(seed)
    cells = [(b, s) for b, row in enumerate(counts) for s, n in enumerate(row) for _ in range(n)]
    b, s = np.array(cells).T
    obs = pd.DataFrame({"tumour": [f"t{i}" for i in b], "site": [f"s{i}" for i in s]})
    obs["patient"] = [f"p{i}" for i in range(len(b))]
    obs["age"] = 60.0 + 10.0 * rng.standard_normal(len(b)) + 3.0 * s
    last = (s == s.max())[:, None]
    Z = (
        rng.standard_normal((len(b), d)) * np.where(last, spread, 1.0)
        + 2.0 * b[:, None]
        + 0.05 * obs["age"].to_numpy()[:, None]
    )
    Z[:, :1] += shift * last
    return Cohort(Z, obs)


def units_of(cohort: Cohort, given=("tumour",)) -> Units:
    return patient_units(cohort, GRAPH, ("site",), given)


# --- against the definition -----------------------------------------------------------------------------------------


def hat(columns: np.ndarray) -> np.ndarray:
    return columns @ np.linalg.pinv(columns)


def slow_statistic(
    Y: np.ndarray, level: np.ndarray, stratum: np.ndarray, covariates: np.ndarray, filled: float | None
) -> float:
    """Everything from its definition, with projections on the patients instead of sums over cells."""
    strata, levels = np.eye(stratum.max() + 1)[stratum], np.eye(level.max() + 1)[level]
    R = Y - hat(np.column_stack([strata, covariates])) @ Y
    between = hat(np.column_stack([strata, levels])) - hat(strata)
    cells = sorted(set(zip(stratum, level, strict=True)))
    D = np.stack([(stratum == w) & (level == s) for w, s in cells], axis=1).astype(float)
    means = (D.T @ R) / D.sum(axis=0)[:, None]
    smooth = D @ means
    Q = float(np.trace(smooth.T @ between @ smooth))
    if filled is None:
        return Q
    n = D.sum(axis=0)
    t = np.array([((R[D[:, c] > 0] - means[c]) ** 2).sum() for c in range(len(cells))]) / (n * (n - 1))
    P = D.T @ between @ D
    expected = np.diag(P) @ t
    f1, f2 = filled * expected**2 / (t @ P**2 @ t), filled * expected**2 / (np.diag(P) ** 2 * t**2 @ (1 / (n - 1)))
    root = (Q / expected) ** (1 / 3)
    return (root * (1 - 2 / (9 * f2)) - (1 - 2 / (9 * f1))) / np.sqrt(2 / (9 * f1) + root**2 * 2 / (9 * f2))


def dimensions_filled(R: np.ndarray) -> float:
    values = np.linalg.eigvalsh(np.cov(R.T, bias=True))
    return values.sum() ** 2 / (values**2).sum()


def excess(R: np.ndarray, level: np.ndarray, stratum: np.ndarray, covariates: np.ndarray) -> float:
    """What the observed score has fewer dimensions by; the estimate itself: tests/test_unlike_covariances.py."""
    strata, levels = np.eye(stratum.max() + 1)[stratum], np.eye(level.max() + 1)[level]
    cell = np.unique(stratum * 9 + level, return_inverse=True)[1]
    D = np.eye(cell.max() + 1)[cell]
    P = D.T @ (hat(np.column_stack([strata, levels])) - hat(strata)) @ D
    columns = np.column_stack([D, covariates])
    basis = np.linalg.svd(hat(columns) - hat(D))[0][:, : np.linalg.matrix_rank(columns) - D.shape[1]]
    return excess_variance(R - hat(columns) @ R, D, strata, P, basis)


def test_the_statistic_is_the_normal_score_of_an_f_value() -> None:
    """Two sites, no strata: F is Welch's t squared, with one and Satterthwaite's degrees of freedom."""
    cohort = cohort_of(1, [[6, 9]], d=1, shift=5.0, spread=3.0)
    units = units_of(cohort, ())
    a, b = (units.Z[units.level.codes == s, 0] for s in (0, 1))
    welch = stats.ttest_ind(a, b, equal_var=False)
    score = stats.norm.isf(stats.f.sf(welch.statistic**2, 1, welch.df))
    assert mean_test(units, n_permutations=9)[0] == pytest.approx(score, abs=0.06)  # the approximation's own error


@pytest.mark.parametrize("given", [(), ("tumour",), ("tumour", "age")])
@pytest.mark.parametrize("studentise", [True, False])
def test_equals_the_definition(given: tuple[str, ...], studentise: bool) -> None:
    units = units_of(cohort_of(0, [[4, 3, 5], [3, 6, 0]], shift=1.0), given)
    level, stratum = units.level.codes, units.stratum
    strata = np.eye(units.n_strata)[stratum]
    design = np.column_stack([strata, units.covariates])
    R = units.Z - hat(design) @ units.Z  # Freedman and Lane: residuals are permuted, then lose the covariates again
    filled = dimensions_filled(R) if studentise else None
    observed = slow_statistic(R, level, stratum, units.covariates, filled)
    if studentise:
        fewer = filled / excess(R, level, stratum, units.covariates)
        observed = min(observed, slow_statistic(R, level, stratum, units.covariates, fewer))
    null = []
    for moved in np.concatenate(list(permutations_within(stratum, 99, 5))):
        permuted = np.empty_like(R)
        permuted[moved] = R
        null.append(slow_statistic(permuted, level, stratum, units.covariates, filled))
    statistic, p_value = mean_test(units, n_permutations=99, random_state=5, studentise=studentise)
    assert statistic == pytest.approx(observed, rel=1e-9)
    assert p_value == (1 + np.sum(np.array(null) >= observed * (1 - 1e-12 * np.sign(observed)))) / 100
    assert 0.01 <= p_value < 1


def test_agrees_with_full_enumeration() -> None:
    units = units_of(cohort_of(3, [[4, 4]], shift=1.0), ())
    level, stratum, none = units.level.codes, np.zeros(8, dtype=int), np.zeros((8, 0))
    filled = dimensions_filled(units.Z)
    observed = slow_statistic(units.Z, level, stratum, none, filled)
    every = []
    for chosen in itertools.combinations(range(8), 4):
        relabelled = np.zeros(8, dtype=int)
        relabelled[list(chosen)] = 1
        every.append(slow_statistic(units.Z, relabelled, stratum, none, filled))
    exact = np.mean(np.array(every) >= observed - 1e-9)
    assert 0.02 < exact < 0.9
    p_value = mean_test(units, n_permutations=3999)[1]
    assert abs(p_value - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


# --- properties -----------------------------------------------------------------------------------------------------

COUNTS = [[6, 5, 7], [5, 8, 4]]


@pytest.mark.parametrize("given", [("tumour",), ("tumour", "age")])
def test_statistic_does_not_depend_on_representation(given: tuple[str, ...]) -> None:
    cohort = cohort_of(1, COUNTS, shift=0.5)
    statistic = mean_test(units_of(cohort, given), n_permutations=1)[0]
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    order = np.random.default_rng(1).permutation(len(cohort))
    copies = np.r_[np.arange(len(cohort)), [0, 0, 0, 9, 20, 20]]
    obs = cohort.obs
    names = {"s0": "zzz", "s1": "aaa", "s2": "mmm"}
    others = {
        "rotation": cohort.replace(X=cohort.X @ Q + 3.0),
        "scale": cohort.replace(X=cohort.X * 50.0),
        "row order": cohort[order],
        "level names": cohort.replace(obs=obs.assign(site=obs["site"].map(names))),
        "duplicated rows": Cohort(cohort.X[copies], obs.iloc[copies].reset_index(drop=True)),
        "stratum shift": cohort.replace(X=cohort.X + 9.0 * (obs["tumour"] == "t1").to_numpy()[:, None]),
    }
    for name, other in others.items():
        assert mean_test(units_of(other, given), n_permutations=1)[0] == pytest.approx(statistic, rel=1e-7), name


def test_exact_p_value_is_invariant_to_rotation_and_duplicated_rows() -> None:
    cohort = cohort_of(1, COUNTS, shift=0.5)
    p_value = mean_test(units_of(cohort), n_permutations=199)[1]
    copies = np.r_[np.arange(len(cohort)), [0, 0, 0, 9, 20, 20]]
    again = Cohort(cohort.X[copies][:, [2, 0, 1]], cohort.obs.iloc[copies].reset_index(drop=True))
    assert mean_test(units_of(again), n_permutations=199)[1] == p_value


def test_detects_a_shift_and_cannot_go_below_its_resolution() -> None:
    assert mean_test(units_of(cohort_of(2, COUNTS, shift=4.0)), n_permutations=99)[1] == 0.01
    assert mean_test(units_of(cohort_of(2, COUNTS)), n_permutations=99)[1] > 0.05


def test_size_with_unequal_spread_needs_studentising() -> None:
    """Few patients of one site vary three times as much: unstudentised permutation rejects far too often."""
    draws = 200
    drawn = [units_of(cohort_of(seed, [[40, 8]], d=4, spread=3.0), ("age",)) for seed in range(draws)]
    p_values = np.array(
        [[mean_test(units, n_permutations=99, studentise=s)[1] for s in (True, False)] for units in drawn]
    )
    size = (p_values <= 0.05).mean(axis=0)
    assert size[0] < 0.05 + 4 * np.sqrt(0.05 * 0.95 / draws)
    assert size[1] > 0.2


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    units = units_of(cohort_of(1, COUNTS, shift=0.3), ("tumour", "age"))
    whole = mean_test(units, n_permutations=50)
    monkeypatch.setattr("causalfm.invariance.mean.BATCH_BYTES", 1)
    single = mean_test(units, n_permutations=50)
    assert single == pytest.approx(whole, rel=1e-9)


# --- which patients can speak ---------------------------------------------------------------------------------------


def test_cells_of_one_patient_and_strata_of_one_level_are_left_out() -> None:
    cohort = cohort_of(4, [[5, 5, 1], [0, 4, 0]])
    units = units_of(cohort)
    mask = informative(units)
    assert mask.sum() == 10
    assert not mask[(units.level.codes == 2) | (units.stratum == 1)].any()
    alone = mean_test(units_of(cohort[mask[np.argsort(np.argsort(cohort.obs["patient"]))]]), n_permutations=99)
    assert mean_test(units, n_permutations=99)[0] == pytest.approx(alone[0])


def test_permutations_stay_within_strata() -> None:
    strata = np.array([0, 2, 1, 0, 0, 2, 1, 0])
    moved = np.concatenate(list(permutations_within(strata, 500, 0, batch=64)))
    assert moved.shape == (500, 8)
    assert (strata[moved] == strata).all()
    assert (np.sort(moved, axis=1) == np.arange(8)).all()
    first = np.bincount(moved[:, 0], minlength=8)[[0, 3, 4, 7]]
    assert np.abs(first - 125).max() < 4 * np.sqrt(500 * 0.25 * 0.75)


def test_permutation_p_value() -> None:
    assert permutation_p_value(2.0, np.array([1.0, 2.0, 3.0])) == 0.75
    assert permutation_p_value(2.0 + 1e-14, np.array([1.0, 2.0, 1.0])) == 0.5  # a tie up to rounding is a tie
    assert permutation_p_value(9.0, np.zeros(99)) == 0.01
