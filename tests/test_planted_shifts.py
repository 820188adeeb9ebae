"""The planted shifts are what they say: every truth against many patients."""

import numpy as np
import pytest

from causalfm.datasets.planted_shifts import KINDS, planted_shift
from causalfm.errors import DataError

LARGE = {"n_groups": 12_000, "new_groups": 12_000, "rows_per_group": 1, "d": 6}


def parts(kind: str, **settings):
    reference, deployment, _, truth = planted_shift(kind, **{**LARGE, **settings})
    return reference, deployment, truth


def mean(cohort, column: str, level: str) -> np.ndarray:
    return np.asarray(cohort.X[(cohort.obs[column] == level).to_numpy()].mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_prevalence_is_that_of_many_patients(kind):
    settings = {"age_on_biology": 1.0, "case_mix_spread": 0.3, "n_biology": 3, "random_state": 1}
    reference, deployment, truth = parts(kind, **settings)
    for cohort, share in zip((reference, deployment), truth.prevalence, strict=True):
        seen = [(cohort.obs["tumour"] == f"class{c}").mean() for c in range(3)]
        assert seen == pytest.approx(share, abs=0.017)  # four standard errors are .018 at most
    assert truth.prevalence.sum(axis=1) == pytest.approx(1.0)


def test_what_moves_moves_and_nothing_else():
    means = {}
    for kind in KINDS:
        _, deployment, truth = parts(kind)
        means[kind] = mean(deployment, "tumour", "class0"), mean(deployment, "tumour", "class1"), deployment, truth
    still = means["nothing"]
    apart = np.linalg.norm(still[1] - still[0])
    assert apart == pytest.approx(0.8, abs=0.05)
    # a class mean over 6,000 patients has a standard error of .02 at most in length
    for kind in ("case_mix", "scanner_mix"):
        assert np.linalg.norm(means[kind][0] - still[0]) < (0.06 if kind == "case_mix" else 0.2), kind
    moved = means["scanner"][0] - still[0]
    assert np.linalg.norm(moved) == pytest.approx(0.4, abs=0.05)
    assert moved @ (still[0] - still[1]) / apart == pytest.approx(0.4 * 0.8, abs=0.06)
    assert np.linalg.norm(means["fading"][1] - means["fading"][0]) < 0.06
    assert np.array_equal(means["concept"][2].X, still[2].X)  # the labels alone move
    assert (means["concept"][2].obs["tumour"] != still[2].obs["tumour"]).mean() == pytest.approx(0.4, abs=0.02)
    assert means["covariate"][2].obs["age"].mean() == pytest.approx(70.0, abs=0.5)
    unseen = means["new_support"][2].obs["scanner"] == "unseen"
    assert unseen.mean() == pytest.approx(means["new_support"][3].new_support, abs=0.02)
    assert (means["scanner_mix"][2].obs["scanner"] == "B").all()


def test_the_new_hospital_is_one_more_of_the_population():
    """Its squared distance from another hospital is, on average, that between two of the reference."""
    pairs = []
    for seed in range(60):
        reference, deployment, _, _ = planted_shift(
            "nothing",
            n_groups=600,
            new_groups=200,
            n_sites=3,
            d=6,
            site_spread=1.0,
            scanner_effect=0.0,
            effect_seed=seed,
        )
        centre = [mean(reference, "site", f"site{s}") for s in range(3)] + [deployment.X.mean(axis=0)]
        away = np.array([[((a - b) ** 2).sum() for a in centre] for b in centre])
        pairs.append([away[:3, :3].sum() / 6.0, away[3, :3].mean()])
    among, new = np.mean(pairs, axis=0)
    assert among == pytest.approx(1.0, abs=0.3)
    assert new == pytest.approx(among, abs=3.0 * np.std(np.diff(pairs), ddof=1) / np.sqrt(60))


def test_accuracy_falls_where_the_shift_hurts():
    from sklearn.linear_model import LogisticRegression

    drops = {}
    for kind in ("nothing", "scanner", "concept", "fading", "new_support"):
        reference, deployment, truth = parts(kind, n_groups=2000, new_groups=4000, d=16)
        model = LogisticRegression().fit(reference.X, reference.obs["tumour"]).predict_proba
        values = [truth.accuracy(model, side, n_groups=10_000) for side in ("reference", "deployment")]
        right = model(deployment.X).argmax(axis=1) == [int(name[5:]) for name in deployment.obs["tumour"]]
        assert right.mean() == pytest.approx(values[1], abs=0.035)
        drops[kind] = values[0] - values[1]
    assert abs(drops["nothing"]) < 0.03
    assert min(drops[kind] for kind in ("scanner", "concept", "fading", "new_support")) > 0.05
    assert drops["fading"] > 0.3


def test_seeds_and_refusals():
    first, again = (planted_shift("scanner", effect_seed=3, random_state=4)[1] for _ in range(2))
    assert np.array_equal(first.X, again.X)
    assert not np.array_equal(first.X, planted_shift("scanner", effect_seed=3, random_state=5)[1].X)
    with pytest.raises(DataError, match="no planted shift"):
        planted_shift("stain")
    with pytest.raises(DataError, match="a size of 0 to"):
        planted_shift("case_mix", 2.0)
    assert planted_shift("scanner", 0.0)[3].moved == ()
