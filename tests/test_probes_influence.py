import numpy as np
import pytest
from scipy import stats
from test_probes import GRAPH, noise_cohort

from causalfm.metrics.calibration import calibration_by_level
from causalfm.metrics.design import interval_of, variance_of
from causalfm.metrics.probes import PROBES, predict, readout
from causalfm.metrics.recall import pair_share


@pytest.mark.parametrize("probe", PROBES)
def test_effects_are_the_residuals_of_every_patient(probe):
    cohort = noise_cohort(3, signal=1.0)
    site = cohort.obs["site"].where(~cohort.obs["patient"].isin(["p7"]), "tiny")  # one patient: not read
    cohort = cohort.replace(obs=cohort.obs.assign(site=site))
    found, prediction = readout(cohort, GRAPH, probe=probe), predict(cohort, GRAPH, probe=probe)
    influence, patients = found.influence, cohort.factor("patient")
    assert influence.effects.shape == influence.strata.shape == (patients.n_levels,)
    left_out = patients.levels.index("p7")
    assert (influence.strata == -1).nonzero()[0].tolist() == [left_out]
    hit, recall = prediction.hits(), found.details["recall"]
    expected = np.zeros(patients.n_levels)
    n = np.bincount(prediction.y, prediction.weights)
    for row, code, y, weight in zip(
        hit, patients.codes[prediction.rows], prediction.y, prediction.weights, strict=True
    ):
        expected[code] += weight * (row - recall[found.details["levels"][y]]) / (2 * n[y])
    np.testing.assert_allclose(influence.effects, expected, atol=1e-12)
    assert influence.inflation == pytest.approx(1 + pair_share(found.value, 0.5))
    variance, _ = variance_of(influence)
    assert variance == pytest.approx(np.sum(expected**2) * 59 / 58 * influence.inflation)
    # Wilson's interval and that of the influence differ by its pseudo-observations only
    low, high, _ = interval_of(found.value, influence, "patient")
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.03)


def test_interval_of_the_brier_score_by_hand():
    rng = np.random.default_rng(0)
    y, n = np.repeat([0, 1], [20, 30]), 50
    p = np.clip(0.3 + 0.4 * y + 0.2 * rng.standard_normal(n), 0.01, 0.99)
    (found,) = calibration_by_level(np.c_[1 - p, p], y, np.zeros(n, dtype=int), np.arange(n))
    loss = 2 * (p - y) ** 2
    parts = np.array([loss[y == c].var(ddof=1) / (y == c).sum() / 4 for c in (0, 1)])
    df = parts.sum() ** 2 / (parts**2 / np.array([19, 29])).sum()
    value, half = np.mean([loss[y == c].mean() for c in (0, 1)]), stats.t.ppf(0.975, df) * parts.sum() ** 0.5
    ends = [found.details[key] for key in ("brier", "brier_low", "brier_high")]
    assert ends == pytest.approx([value, value - half, value + half])
