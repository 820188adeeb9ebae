import numpy as np
import pytest
from scipy import optimize, stats

from causalfm import moments
from causalfm.covariances import CellCovariances, cell_covariances
from causalfm.norm_contrasts import covariance, fieller, linear_bounds
from causalfm.norms import SquaredNorm, signed_root, squared_norm


def centred(Z: np.ndarray, codes: np.ndarray) -> np.ndarray:
    means = np.stack([Z[codes == c].mean(axis=0) for c in range(codes.max() + 1)])
    return Z - means[codes]


def cells_of(Z: np.ndarray, codes: np.ndarray) -> CellCovariances:
    return cell_covariances(centred(Z, codes), codes, int(codes.max()) + 1)


def difference(codes: np.ndarray, plus: int = 0, minus: int = 1) -> np.ndarray:
    return np.where(codes == plus, 1.0 / (codes == plus).sum(), 0) - np.where(
        codes == minus, 1.0 / (codes == minus).sum(), 0
    )


def two_samples(seed: int, n=(9, 16), d=6, shift=0.0, spread=(1.0, 1.7)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1], n)
    Z = rng.standard_normal((len(codes), d)) * (np.arange(d) + 1.0) ** -0.5 * np.asarray(spread)[codes][:, None]
    Z[codes == 0, 0] += shift
    return Z, codes


def norm_of(Z: np.ndarray, codes: np.ndarray) -> SquaredNorm:
    return squared_norm(Z, difference(codes), cells_of(Z, codes))


# --- limits in which the interval is known --------------------------------------------------------------------------


def folded_t_ends(distance: float, error: float, df: float) -> tuple[float, float]:
    """95 % interval of theta = delta^2 from |T| with T = (D - delta) / error."""

    def excess(theta: float, p: float) -> float:
        ends = (np.array([-1, 1]) * distance - np.sqrt(theta)) / error
        return float(np.diff(stats.t.cdf(ends, df))[0]) - p

    top = (distance + 100 * error) ** 2
    return tuple(
        optimize.brentq(excess, 0.0, top, args=(p,), xtol=1e-14) if excess(0.0, p) > 0 else 0.0 for p in (0.975, 0.025)
    )


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0, 30.0])
def test_one_dimension_is_welchs_t_interval(shift: float) -> None:
    Z, codes = two_samples(1, d=1, shift=shift)
    a, b = Z[codes == 0, 0], Z[codes == 1, 0]
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    df = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum()
    distance, error = abs(a.mean() - b.mean()), np.sqrt(parts.sum())
    norm = norm_of(Z, codes)
    assert norm.df_directional == pytest.approx(df, rel=1e-9)
    assert norm.value == pytest.approx(distance**2 - parts.sum(), rel=1e-9)
    assert norm.interval() == pytest.approx(folded_t_ends(distance, error, df), rel=1e-6, abs=1e-9)
    if shift == 30.0:  # far from zero the fold is gone: the textbook interval of the difference
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        assert np.sqrt(norm.interval()) == pytest.approx([welch.low, welch.high], rel=1e-6)


@pytest.mark.parametrize("length", [0.2, 0.45, 2.0])
def test_isotropic_noise_is_the_noncentral_f(length: float) -> None:
    rng = np.random.default_rng(0)
    n, d = 200, 30
    columns = np.column_stack([np.ones(n), rng.standard_normal((n, d))])
    residuals = np.linalg.qr(columns)[0][:, 1:] * np.sqrt(n - 1.0)  # cell covariance = identity, exactly
    codes = np.zeros(n, dtype=np.int64)
    gamma = length * np.eye(d)[3]
    norm = squared_norm(residuals + gamma, np.full(n, 1.0 / n), cell_covariances(residuals, codes, 1))
    V, df = 1.0 / n, d * (n - 1)
    assert (norm.noise, norm.noise_square) == pytest.approx((d * V, d * V**2))

    def excess(theta: float, p: float) -> float:
        return float(stats.ncf.cdf(length**2 / (d * V), d, df, theta / V)) - p

    top = (length + 1.0) ** 2
    expected = [optimize.brentq(excess, 1e-12, top, args=(p,)) if excess(1e-12, p) > 0 else 0.0 for p in (0.975, 0.025)]
    assert norm.interval() == pytest.approx(expected, rel=0.01, abs=2e-3 * V)


def test_interval_is_truncated_at_zero_and_ordered() -> None:
    ends = [norm_of(*two_samples(seed)) for seed in range(30)]
    assert any(norm.value < 0 for norm in ends)
    for norm in ends:
        low, high = norm.interval()
        assert 0.0 <= low <= high
        assert norm.interval(0.99)[1] >= high
    assert norm_of(*two_samples(0, shift=5.0)).interval()[0] > 0


# --- moments --------------------------------------------------------------------------------------------------------


def test_value_is_unbiased_and_its_variance_is_right() -> None:
    shift, draws = 0.8, 400
    norms = [norm_of(*two_samples(seed, shift=shift)) for seed in range(draws)]
    values = np.array([norm.value for norm in norms])
    assert abs(values.mean() - shift**2) < 4 * values.std() / np.sqrt(draws)
    assert np.mean([norm.observed for norm in norms]) > shift**2 + 10 * values.std() / np.sqrt(draws)
    # sd of a sample variance over 400 draws is 7 %, more with a heavy tail
    assert np.mean([norm.variance for norm in norms]) == pytest.approx(values.var(), rel=0.3)


def test_null_is_unbiased() -> None:
    values = np.array([norm_of(*two_samples(seed)).value for seed in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20


def test_cell_products() -> None:
    Z, codes = two_samples(3)
    cells = cells_of(Z, codes)
    S = [np.cov(Z[codes == c].T) for c in (0, 1)]
    assert cells.df.tolist() == [8.0, 15.0]
    assert cells.trace == pytest.approx([np.trace(s) for s in S])
    assert cells.product[[0, 1], [1, 0]] == pytest.approx(np.trace(S[0] @ S[1]))


def test_trace_of_the_squared_covariance_is_unbiased() -> None:
    scale = np.array([2.0, 1.0, 0.5, 0.5])
    truth, draws = (scale**4).sum(), 600
    codes = np.zeros(12, dtype=np.int64)
    rng = np.random.default_rng(4)
    values, raw = np.empty(draws), np.empty(draws)
    for i in range(draws):
        Z = rng.standard_normal((12, 4)) * scale
        values[i] = cells_of(Z, codes).product[0, 0]
        raw[i] = (np.cov(Z.T) ** 2).sum()
    error = values.std() / np.sqrt(draws)
    assert abs(values.mean() - truth) < 4 * error
    assert raw.mean() > truth + 4 * error  # what the correction is for


def test_covariates_take_degrees_of_freedom_in_proportion() -> None:
    Z, codes = two_samples(3)
    residuals = centred(Z, codes)
    cells = cell_covariances(residuals, codes, 2, n_covariates=3)
    assert cells.df == pytest.approx(np.array([8.0, 15.0]) * 20 / 23)
    assert cells.trace == pytest.approx(cell_covariances(residuals, codes, 2).trace * 23 / 20)


def test_several_contrasts_against_the_explicit_covariance() -> None:
    rng = np.random.default_rng(5)
    codes = np.repeat([0, 1, 2], [6, 9, 14])
    Z = rng.standard_normal((29, 4)) * np.array([1.0, 0.5, 2.0])[codes][:, None]
    A = np.stack([difference(codes, 0, 1), difference(codes, 1, 2)])
    cells = cells_of(Z, codes)
    norm = squared_norm(Z, A, cells, scale=1.5)
    B = np.sqrt(1.5) * A
    Gamma = sum(np.kron(B[:, codes == c] @ B[:, codes == c].T, np.cov(Z[codes == c].T)) for c in range(3))
    gamma = (B @ Z).reshape(-1)
    assert norm.observed == pytest.approx(gamma @ gamma)
    assert norm.noise == pytest.approx(np.trace(Gamma))
    assert norm.along == pytest.approx(gamma @ Gamma @ gamma)
    assert norm.value == pytest.approx(gamma @ gamma - np.trace(Gamma))


def test_rotation_and_scaling() -> None:
    Z, codes = two_samples(6, shift=1.0)
    norm = norm_of(Z, codes)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    turned, scaled = norm_of(Z @ Q + 7.0, codes), norm_of(10.0 * Z, codes)
    assert (turned.value, *turned.interval()) == pytest.approx((norm.value, *norm.interval()), rel=1e-7)
    assert (scaled.value, *scaled.interval()) == pytest.approx([100 * v for v in (norm.value, *norm.interval())])


# --- two norms at once ----------------------------------------------------------------------------------------------


def four_cells(seed: int, site: float, biology: float, n: int = 15) -> tuple[SquaredNorm, SquaredNorm, CellCovariances]:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(4), n)
    Z = rng.standard_normal((4 * n, 5))
    Z[:, 0] += site * (codes // 2)
    Z[:, 1] += biology * (codes % 2)
    Z[:, 0] += 0.5 * biology * (codes % 2)
    cells = cells_of(Z, codes)
    halves = (np.where(codes // 2, 1, -1) / (2 * n), np.where(codes % 2, 1, -1) / (2 * n))
    return (*(squared_norm(Z, w, cells) for w in halves), cells)


def test_covariance_of_a_norm_with_itself_is_its_variance() -> None:
    a, _, cells = four_cells(0, 2.0, 2.0)
    assert covariance(a, a, cells) == pytest.approx(a.variance, rel=1e-9)


def test_covariance_of_two_norms_over_draws() -> None:
    drawn = [four_cells(seed, 1.0, 1.0, n=8) for seed in range(500)]
    seen = np.cov([a.value for a, _, _ in drawn], [b.value for _, b, _ in drawn])
    told = np.mean([covariance(*entry) for entry in drawn])
    error = np.sqrt((seen[0, 0] * seen[1, 1] + seen[0, 1] ** 2) / 500)
    assert abs(told - seen[0, 1]) < 4 * error


@pytest.mark.parametrize(("site", "biology"), [(1.0, 3.0), (4.0, 3.0), (0.0, 3.0)])
def test_fieller_against_direct_inversion(site: float, biology: float) -> None:
    a, b, cells = four_cells(1, site, biology)
    ratio, low, high = fieller(a, b, cells)
    q = stats.t.ppf(0.975, min(a.df_directional, b.df_directional))

    def excess(r: float) -> float:
        error = a.variance - 2 * r * covariance(a, b, cells) + r**2 * b.variance
        return abs(a.value - r * b.value) - q * np.sqrt(error)

    assert ratio == pytest.approx(a.value / b.value)
    assert excess(ratio) < 0
    assert high == pytest.approx(optimize.brentq(excess, ratio, ratio + 100), rel=1e-6)
    below = optimize.brentq(excess, ratio - 100, ratio)
    assert low == pytest.approx(max(below, 0.0), rel=1e-6, abs=1e-9)


def test_fieller_abstains_without_biology() -> None:
    a, b, cells = four_cells(2, 2.0, 0.0)
    assert np.isnan(fieller(a, b, cells)).all()
    a, b, cells = four_cells(0, 1.0, 0.6)
    assert b.interval()[0] > 0  # the skewed interval tells it from 0, Fieller's symmetric criterion does not
    assert np.isnan(fieller(a, b, cells)).all()


def test_linear_bounds() -> None:
    a, b, cells = four_cells(3, 1.5, 2.0)
    value, low, high = linear_bounds(a, b, 0.5, cells, 0.95)
    assert value == pytest.approx(a.value - 0.5 * b.value)
    assert low < value < high
    _, wide_low, wide_high = linear_bounds(a, b, 0.5, None, 0.95)
    assert wide_low < low
    assert wide_high > high
    alone = linear_bounds(a, b, 0.0, cells, 0.95)
    assert alone == pytest.approx((a.value, a.bound(0.95), a.bound(0.05)), rel=1e-6)
    assert linear_bounds(a, b, 0.5, cells, 0.99)[1] < low


def test_linear_bound_holds_its_level() -> None:
    """At |a|^2 = m^2 |b|^2 exactly, the one-sided bounds err in 5 %: 100 draws, four binomial standard errors."""
    margin2 = 1.0 / 1.25  # |site|^2 = 1, |biology|^2 = 1.25
    drawn = (four_cells(seed, 1.0, 1.0) for seed in range(100))
    sides = np.array([linear_bounds(a, b, margin2, cells, 0.95)[1:] for a, b, cells in drawn])
    wrong = ((sides[:, 0] > 0).mean(), (sides[:, 1] < 0).mean())
    assert max(wrong) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 100)


def test_a_negative_square_keeps_its_sign_as_a_distance() -> None:
    assert [signed_root(square) for square in (4.0, -4.0, 0.0)] == [2.0, -2.0, 0.0]


def test_rows_about_the_mean_of_their_cell() -> None:
    rng = np.random.default_rng(0)
    Z, codes = rng.standard_normal((12, 3)), np.repeat([0, 1, 3], 4)  # nobody is in cell 2
    rows = moments.centred(Z, codes, 4)
    np.testing.assert_allclose(rows, Z - np.repeat(Z.reshape(3, 4, 3).mean(axis=1), 4, axis=0), atol=1e-12)
    assert moments.centred(Z[:, :0], codes, 4).shape == (12, 0)
