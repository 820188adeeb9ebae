"""Covariances that differ in direction: the estimate of the excess variance, and the size of the test it mends."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from causalfm import covariances
from causalfm.covariances import squared_products
from causalfm.invariance import unlike_covariances
from causalfm.invariance.mean import mean_design, mean_test
from causalfm.invariance.unlike_covariances import trace_products

LUNG = ((34, 47, 84, 28, 12), (50, 20, 39, 17, 24))  # patients of TCGA by cancer and hospital


def units_of(Z: np.ndarray, sizes: tuple[tuple[int, ...], ...]) -> SimpleNamespace:
    """What the test needs of patients that are sorted by cell, ``sizes[stratum][level]`` of them."""
    counts = np.array(sizes)
    cells = np.repeat(np.arange(counts.size), counts.reshape(-1))
    W, S = counts.shape
    none = np.zeros((len(cells), 0))
    level = SimpleNamespace(codes=cells % S, n_levels=S)
    return SimpleNamespace(
        Z=Z, level=level, stratum=cells // S, n_strata=W, covariates=none, counts=lambda: counts, cells=cells
    )


def cohort_of(seed: int, sizes, roots: list[np.ndarray], *, shift: float = 0.0) -> SimpleNamespace:
    """Patients with the covariance ``root root' + 0.09`` of their level; the first level shifted."""
    rng, units = np.random.default_rng(seed), units_of(np.zeros((0, 0)), sizes)
    d, rank = roots[0].shape
    moved = np.stack(roots)[units.level.codes] @ rng.standard_normal((len(units.cells), rank, 1))
    Z = moved[..., 0] + 0.3 * rng.standard_normal((len(units.cells), d))
    Z[:, 0] += shift * (units.level.codes == 0)
    return units_of(Z, sizes)


def own_directions(levels: int, d: int = 64, rank: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [np.linalg.qr(rng.standard_normal((d, rank)))[0] * [3.0, 2.0, 1.5, 1.2] for _ in range(levels)]


def excess(units: SimpleNamespace) -> float:
    design = mean_design(units)
    return design.excess(design.off(units.Z))


# --- against the definition -------------------------------------------------------------------------------------------


def test_products_are_averages_over_patients_that_are_all_distinct() -> None:
    rng = np.random.default_rng(0)
    cells = [rng.standard_exponential((n, 3)) * scale for n, scale in ((5, 1.0), (6, [1.0, 4.0, 0.1]))]
    residuals = np.concatenate([x - x.mean(axis=0) for x in cells])
    onehot = np.eye(2)[np.repeat([0, 1], [5, 6])]
    trace, product = trace_products(residuals, onehot, np.zeros((11, 0)))
    assert trace == pytest.approx([np.trace(np.cov(x.T)) for x in cells])
    assert product[0, 1] == pytest.approx(np.trace(np.cov(cells[0].T) @ np.cov(cells[1].T)))
    for c, x in enumerate(cells):
        four = [((x[i] - x[j]) @ (x[k] - x[m])) ** 2 / 4 for i, j, k, m in itertools.permutations(range(len(x)), 4)]
        assert product[c, c] == pytest.approx(np.mean(four))


def test_ratio_of_the_variances_of_sums_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the covariances, the ratio is that of ``sum c_gh^2 tr(S_g S_h)`` over pairs of patients, one by one."""
    units = units_of(np.zeros((22, 1)), ((6, 2), (4, 10)))
    strata, levels = np.eye(2)[units.stratum], np.eye(2)[units.level.codes]
    both = np.column_stack([strata, levels])
    H = both @ np.linalg.pinv(both) - strata @ np.linalg.pinv(strata)
    n = np.bincount(units.cells)[units.cells]
    same = units.cells[:, None] == units.cells
    c = np.where(same, H + np.diag(H)[:, None] / (n - 1.0)[:, None], H)  # of Q less its estimated expectation
    np.fill_diagonal(c, 0.0)
    directions = ([9, 1, 1], [2, 18, 2], [5, 1, 1], [1, 1, 9])
    S = [np.diag(loud).astype(float) for loud in directions]

    def products(covariances: list[np.ndarray]) -> np.ndarray:
        return np.array([[np.trace(a @ b) for b in covariances] for a in covariances])

    def relative(covariances: list[np.ndarray]) -> float:
        trace = np.array([np.trace(s) for s in covariances])
        return float((c**2 * products(covariances)).sum() / (c**2 * np.outer(trace, trace)).sum())

    cells = [S[i] for i in units.cells]
    pooled = [np.mean([cells[i] for i in np.flatnonzero(units.stratum == w)], axis=0) for w in (0, 1)]
    expected = relative(cells) / relative([pooled[w] for w in units.stratum])
    assert expected > 1.1
    traces = np.array([np.trace(s) for s in S])
    monkeypatch.setattr(unlike_covariances, "trace_products", lambda *_: (traces, products(S)))
    assert excess(units) == pytest.approx(expected)


@pytest.mark.parametrize(("d", "q"), [(8, 2), (8, 5), (200, 5)])
def test_covariates_leave_products_unbiased(d: int, q: int) -> None:
    """Five among 21 patients: by their degrees of freedom alone products were four times too large."""
    rng, onehot = np.random.default_rng(1), np.eye(2)[np.repeat([0, 1], [9, 12])]
    covariates = rng.standard_normal((21, q))
    basis = np.linalg.qr(covariates - onehot @ ((onehot.T @ covariates) / onehot.sum(axis=0)[:, None]))[0]
    columns = np.column_stack([onehot, covariates])
    off = np.eye(21) - columns @ np.linalg.pinv(columns)
    found = [trace_products(off @ rng.standard_normal((21, d)), onehot, basis)[1] for _ in range(2000)]
    assert np.mean(found, axis=0) == pytest.approx(np.full((2, 2), float(d)), rel=0.06)


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [LUNG, ((8, 3, 4, 3, 3), (10, 5, 3, 3, 2))])
def test_near_one_where_covariances_are_alike_and_above_where_they_are_not(sizes: tuple) -> None:
    own = own_directions(5)
    alike = [excess(cohort_of(seed, sizes, [own[0]] * 5)) for seed in range(60)]
    assert np.mean(alike) < 1.06
    assert np.quantile([excess(cohort_of(seed, sizes, own)) for seed in range(60)], 0.05) > 1.2


def test_a_factor_and_a_shift_are_no_excess() -> None:
    own = own_directions(5)
    scaled = [own[0] * factor for factor in (1.0, 1.5, 2.0, 2.5, 3.0)]
    assert np.mean([excess(cohort_of(seed, LUNG, scaled)) for seed in range(40)]) < 1.06
    for seed in range(3):
        still, moved = (excess(cohort_of(seed, LUNG, own, shift=shift)) for shift in (0.0, 50.0))
        assert moved == pytest.approx(still)


def test_nothing_to_estimate_gives_one() -> None:
    units = cohort_of(0, ((2, 3), (3, 2)), own_directions(2))  # no cell of four: all are given the same products
    assert 1.0 <= excess(units) < 3.0
    assert excess(units_of(np.ones((10, 4)), ((2, 3), (3, 2)))) == 1.0


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    units = cohort_of(0, LUNG, own_directions(5))
    whole = excess(units)
    monkeypatch.setattr(covariances, "GRAM_BLOCK", 7)
    assert excess(units) == pytest.approx(whole)


@pytest.mark.parametrize(("patients", "d"), [(12, 40), (300, 3), (300, 20)])
def test_products_through_patients_and_through_dimensions_are_the_same(
    monkeypatch: pytest.MonkeyPatch, patients: int, d: int
) -> None:
    rng = np.random.default_rng(0)
    residuals, onehot = rng.standard_normal((patients, d)), np.eye(5)[rng.integers(0, 4, patients)]  # the last is empty
    expected = np.zeros((5, 5))
    for g, h in itertools.product(range(patients), repeat=2):
        expected[onehot[g].argmax(), onehot[h].argmax()] += (residuals[g] @ residuals[h]) ** 2
    for block in (7, 2**20):
        monkeypatch.setattr(covariances, "GRAM_BLOCK", block)
        monkeypatch.setattr(covariances, "SQUARE_BYTES", 8 * 5 * d * block)
        np.testing.assert_allclose(squared_products(residuals, onehot), expected, rtol=1e-10)


# --- the test it mends ------------------------------------------------------------------------------------------------


def test_size_where_covariances_differ_in_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """355 patients at five hospitals, each with its own four loud directions: 12-15 % without."""
    own, draws = own_directions(5), 400
    drawn = [cohort_of(5000 + seed, LUNG, own) for seed in range(draws)]
    band = 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / draws)
    assert np.mean([mean_test(units, n_permutations=99)[1] <= 0.05 for units in drawn]) < band
    monkeypatch.setattr("causalfm.invariance.mean.excess_variance", lambda *_: 1.0)
    assert np.mean([mean_test(units, n_permutations=99)[1] <= 0.05 for units in drawn]) > band


def test_the_score_is_never_raised() -> None:
    """With few patients and many covariates scores of permutations lie below zero: fewer dimensions would lift it."""
    for seed in range(20):
        units = cohort_of(seed, ((8, 3, 4), (10, 5, 3)), own_directions(3))
        design = mean_design(units)
        Y = design.off(units.Z)
        squares = design.squares(design.places(np.arange(len(Y))[None]), Y)[0]
        assert design.observed(squares, 9.0, excess(units)) <= design.statistic(squares, 9.0)
