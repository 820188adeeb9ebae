"""Technical effects as random effects, shrunken direction by direction."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scm_samples import SCANNED, SITE, scanned

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from causalfm.scm.random_effects import effect_variances, patient_directions


def drawn(seed, *, along, effect=1.0, both=0.0, n_patients=90, d=40, rows=2):
    """Tissue varies along few directions; the site moves ``along`` some of them, the class changes that by ``both``."""
    rng = np.random.default_rng(seed)
    spread = 3.0 / np.arange(1, d + 1)
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    scale = np.zeros(d)
    scale[along] = effect
    main, crossed = rng.standard_normal((3, d)) * scale, both * rng.standard_normal((3, 2, d)) * scale
    row = np.repeat(np.arange(n_patients), rows)
    tissue = (rng.standard_normal((n_patients, d)) * spread)[row] + 0.3 * rng.standard_normal((len(row), d)) * spread
    here, cls = site[row], tumour[row]
    Z = tissue + main[here] + crossed[here, cls] + cls[:, None] * 0.5
    wanted = tissue + main[0] + crossed[0, cls] + cls[:, None] * 0.5
    obs = pd.DataFrame({"patient": row, "site": here, "tumour": cls}).astype(str)
    return Cohort(Z, obs), wanted


def relative(mechanism, cohort, wanted):
    moved = EmbeddingSCM(SITE, mechanism).fit(cohort).counterfactual(cohort, {"site": "0"}).X
    return ((moved - wanted) ** 2).sum() / ((cohort.X - wanted) ** 2).sum()


def test_effects_along_directions_of_little_noise_are_told_from_noise_along_the_others():
    """Least squares lets the tissue's noise in; one ratio for all directions would shrink the effect with it."""
    errors = []
    for seed in range(5):
        cohort, wanted = drawn(seed, along=slice(10, 40), effect=0.15)
        errors.append([relative(m, cohort, wanted) for m in ("random-effects", "additive")])
    shrunken, additive = np.mean(errors, axis=0)
    assert additive > 0.5
    assert shrunken < 0.5 * additive


@pytest.mark.parametrize("both", [0.0, 1.0])
def test_strong_effects_cost_nothing(both):
    errors = []
    for seed in range(5):
        cohort, wanted = drawn(seed, along=slice(0, 40), effect=2.0, both=both)
        errors.append([relative(m, cohort, wanted) for m in ("random-effects", "interaction")])
    shrunken, interaction = np.mean(errors, axis=0)
    assert shrunken < 1.02 * interaction


def test_variances_maximise_the_marginal_likelihood():
    """Along m directions crosses ``S b + e`` of two factors: EM against a search over the likelihood."""
    rng = np.random.default_rng(0)
    design = np.eye(3)[np.arange(60) % 3], np.eye(4)[rng.permutation(60) % 4]
    X = np.hstack(design)
    X = X - X.mean(axis=0)
    S, kind, m = X.T @ X, np.repeat([0, 1], [3, 4]), 25
    b = rng.standard_normal((7, m)) * np.sqrt(np.array([0.3, 0.05]))[kind][:, None]
    Z = X @ b + rng.standard_normal((60, m))
    cross = X.T @ Z

    def deviance(log_tau):
        cov = (X * np.exp(log_tau)[kind]) @ X.T + np.eye(60)
        return m * np.linalg.slogdet(cov)[1] + np.einsum("ij,ij->", Z, np.linalg.solve(cov, Z))

    best = optimize.minimize(deviance, np.log([0.1, 0.1]), method="Nelder-Mead").x
    np.testing.assert_allclose(
        np.log(effect_variances(S, cross @ cross.T / m, m, kind, adjusted=False)), best, atol=0.02
    )


def test_variances_of_directions_are_those_of_other_patients():
    """60 patients in 200 dimensions without any direction: eigenvalues of the sample say there are some."""
    rng = np.random.default_rng(1)
    means = rng.standard_normal((60, 200))
    basis, variance = patient_directions(means, 200.0)
    assert basis.shape == (200, 15)
    np.testing.assert_allclose(basis.T @ basis, np.eye(15), atol=1e-9)
    assert 0.8 < variance.mean() < 1.2
    assert ((means @ basis) ** 2).mean() > 2.5  # on the patients that chose them
    assert patient_directions(means[:19], 1.0)[0].shape == (200, 0)


def test_identity_composition_and_rotation(tmp_path):
    cohort, _ = scanned(n_patients=240)
    scm = EmbeddingSCM(SCANNED, "random-effects").fit(cohort)
    own = (cohort.obs["site"] == "site1").to_numpy()
    np.testing.assert_allclose(scm.counterfactual(cohort[own], {"site": "site1"}).X, cohort.X[own], atol=1e-6)
    once = scm.counterfactual(cohort, {"site": "site2"})
    twice = scm.counterfactual(scm.counterfactual(cohort, {"site": "site0"}), {"site": "site2"})
    np.testing.assert_allclose(twice.X, once.X, atol=1e-6)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    turned = cohort.replace(X=cohort.X @ turn)
    again = EmbeddingSCM(SCANNED, "random-effects").fit(turned).counterfactual(turned, {"site": "site2"})
    np.testing.assert_allclose(again.X, once.X @ turn, atol=1e-6)
    scm.save(tmp_path / "m.safetensors")
    loaded = EmbeddingSCM.load(tmp_path / "m.safetensors")
    a, b = (s.counterfactual(cohort, {"site": "site2"}, return_uncertainty=True) for s in (scm, loaded))
    assert np.array_equal(a[0].X, b[0].X)
    assert np.array_equal(a[1].standard_error(), b[1].standard_error())
    assert scm.log_likelihood(cohort).shape == (480,)


def test_names_of_patients_do_not_matter():
    """Folds taken in the order of the ids moved rows by .06."""
    cohort, _ = scanned()
    ids = {
        name: f"q{i:02d}" for i, name in enumerate(np.random.default_rng(3).permutation(cohort.obs["patient"].unique()))
    }
    renamed = cohort.replace(obs=cohort.obs.assign(patient=cohort.obs["patient"].map(ids)))
    scm = EmbeddingSCM(SCANNED, "random-effects", assume="additive")
    one, two = (scm.fit(c).counterfactual(c, {"site": "site1", "scanner": "scanner1"}).X for c in (cohort, renamed))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-9)


def test_intervals_cover_on_average_over_effects():
    inside = []
    for seed in range(30):
        cohort, wanted = drawn(1_000 + seed, along=slice(0, 8), effect=0.7, both=0.3, d=8)
        scm = EmbeddingSCM(SITE, "random-effects").fit(cohort)
        _, errors = scm.counterfactual(cohort, {"site": "0"}, return_uncertainty=True)
        rows = [2, 8]  # site 1, both classes
        low, high = errors.interval(rows)
        inside.append((low <= wanted[rows]) & (wanted[rows] <= high))
    low, high = stats.binom.ppf([0.0005, 0.9995], 120, 0.95) / 120  # 480 intervals, about four of a cohort independent
    assert low <= np.mean(inside) <= high, np.mean(inside)


def test_without_biology_among_the_causes_it_says_so():
    cohort, _ = drawn(0, along=slice(0, 4))
    graph = CausalGraph("site -> Z; tumour", biology="tumour", technical="site", group="patient")
    with pytest.raises(ValueError, match="'random-effects' cross the biology"):
        EmbeddingSCM(graph, "random-effects").fit(cohort)


@pytest.mark.parametrize("adjusted", [False, True])
def test_effects_without_noise_that_cannot_be_told_apart(adjusted: bool) -> None:
    """Two regressors are one, and a direction has next to no noise: the variance ends at a bound, not in an error."""
    same = np.full((2, 2), 100.0)
    found = effect_variances(same, 1e30 * same, 5, np.zeros(2, dtype=int), adjusted=adjusted)
    assert found == pytest.approx([1e8])
