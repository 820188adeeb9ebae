"""do(a) then do(b) is do(b): through followers, files, subsets, doubled rows and half precision."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scm_samples import SITE

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.io import read, write
from causalfm.scm import EmbeddingSCM

MECHANISMS = ("additive", "location-scale", "optimal-transport", "interaction")
CHAIN = CausalGraph(
    "site -> scanner; {site, scanner} -> stain; {site, scanner, stain, tumour, age} -> Z",
    biology="tumour",
    technical=["site", "scanner", "stain"],
    group="patient",
)


def chained(n_patients=200, d=5, dtype=np.float64):
    """Site decides the scanner, both decide the stain; classes and scanners differ within patients."""
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    site = (np.arange(n_patients) % 3)[row]
    scanner = (rng.random(len(row)) < np.array([0.2, 0.5, 0.8])[site]).astype(int)
    stain = (rng.random(len(row)) < 0.2 + 0.2 * site + 0.2 * scanner).astype(int)
    tumour, age = rng.integers(2, size=len(row)), rng.normal(60.0, 10.0, n_patients)[row]
    columns = {"site": site, "scanner": scanner, "stain": stain, "tumour": tumour}
    Z = sum(rng.standard_normal((3, d))[codes] for codes in columns.values())
    Z = Z + rng.standard_normal((n_patients, d))[row] * (1.0 + site[:, None])
    Z = Z + 0.5 * rng.standard_normal((len(row), d))
    obs = pd.DataFrame({name: [f"{name}{c}" for c in codes] for name, codes in columns.items()})
    return Cohort(Z.astype(dtype), obs.assign(patient=row.astype(str).astype(object), age=age))


def same(one, two, atol):
    np.testing.assert_allclose(one.X, two.X, atol=atol)
    columns = ["site", "scanner", "stain", "noise:scanner", "noise:stain"]
    pd.testing.assert_frame_equal(one.obs[columns], two.obs[columns], check_dtype=False)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-10), (np.float16, 5e-6)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_last_intervention_counts_through_two_followers(mechanism, dtype, atol, tmp_path):
    cohort = chained(dtype=dtype)
    scm = EmbeddingSCM(CHAIN, mechanism, assume="additive", random_state=3).fit(cohort)
    at_b, at_a = (scm.counterfactual(cohort, {"site": s}) for s in ("site2", "site0"))
    assert 0.05 < (at_a.obs["stain"] != at_b.obs["stain"]).mean() < 0.95
    same(scm.counterfactual(at_a, {"site": "site2"}), at_b, atol)
    own = (cohort.obs["site"] == "site2").to_numpy()
    assert np.abs(at_b.X[own] - cohort.X[own]).max() <= 1e-6

    scm.save(tmp_path / "model.safetensors")
    write(at_a, tmp_path / "moved.npz")
    kept = read(tmp_path / "moved.npz")
    order = np.random.default_rng(1).permutation(len(cohort))[:90]
    loaded = EmbeddingSCM.load(tmp_path / "model.safetensors")
    same(loaded.counterfactual(kept[order], {"site": "site2"}), at_b[order], atol)
    twice = Cohort(np.concatenate([at_a.X[:9]] * 2), pd.concat([at_a.obs[:9]] * 2, ignore_index=True))
    doubled = loaded.counterfactual(twice, {"site": "site2"})
    np.testing.assert_array_equal(doubled.X[:9], doubled.X[9:])
    np.testing.assert_allclose(doubled.X[:9], at_b.X[:9], atol=atol)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_scanner_that_was_set_stays_and_the_stain_follows_both(mechanism):
    cohort = chained()
    scm = EmbeddingSCM(CHAIN, mechanism, assume="additive").fit(cohort)
    both = scm.counterfactual(cohort, {"site": "site1", "scanner": "scanner1"})
    for first, second in ((("scanner", "scanner1"), ("site", "site1")), (("site", "site1"), ("scanner", "scanner1"))):
        step = scm.counterfactual(scm.counterfactual(cohort, dict([first])), dict([second]))
        np.testing.assert_allclose(step.X, both.X, atol=1e-10)
        assert step.obs["stain"].equals(both.obs["stain"])
        assert set(step.obs["scanner"]) == {"scanner1"}


def test_contrasts_refuse_classes_hardly_seen_at_a_scanner_that_follows():
    """As counterfactual rows do: the scanner of the second site never saw the second class."""
    rng = np.random.default_rng(0)
    site = np.arange(120) % 2
    scanner = np.where((site == 1) & (np.arange(120) % 4 == 1), 1, 0)
    tumour = np.where(scanner == 1, 0, np.arange(120) // 2 % 2)
    columns = {"patient": np.arange(120), "site": site, "scanner": scanner, "tumour": tumour}
    cohort = Cohort(rng.standard_normal((120, 3)), pd.DataFrame({k: v.astype(str) for k, v in columns.items()}))
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    scm = EmbeddingSCM(graph).fit(cohort)
    with pytest.raises(DataError, match="fewer than 3 patients in the fit"):
        scm.counterfactual(cohort, {"site": "1"})
    with pytest.raises(DataError, match="scanner=1 holds fewer than 3 patients of tumour 1"):
        scm.contrast({"site": "1"}, {"site": "0"})
    set_too = {"scanner": "0"}
    assert np.isfinite(scm.contrast({"site": "1", **set_too}, {"site": "0", **set_too}).low).all()
    assert len(EmbeddingSCM(graph, assume="additive").fit(cohort).contrast({"site": "1"}, {"site": "0"}).low) == 3


def test_a_number_that_one_level_alone_determines_is_refused_row_by_row():
    """Three ages: their spline is a class variable of the middle one, which one row per site need not hold."""
    rng = np.random.default_rng(0)
    age = np.where(np.arange(90) % 3 == 0, 40.0, np.where(np.arange(90) % 3 == 1, 60.0, 80.0))
    obs = pd.DataFrame({"patient": np.arange(90).astype(str), "site": (np.arange(90) // 3 % 2).astype(str)})
    obs = obs.assign(tumour=(np.arange(90) // 6 % 2).astype(str), age=age)
    graph = CausalGraph("{site, tumour, age} -> Z", biology="tumour", technical="site", group="patient")
    cohort = Cohort(rng.standard_normal((90, 3)), obs)
    scm = EmbeddingSCM(graph).fit(cohort)
    assert set(scm.counterfactual(cohort, {"age": 60.0}).obs["age"]) == {60.0}
    with pytest.raises(DataError, match="not identified on this design for 90 rows"):
        scm.counterfactual(cohort, {"age": 65.0})  # never seen between the ages
    new = cohort.replace(obs=obs.assign(age=np.where(np.arange(90) == 7, 65.0, age)))
    with pytest.raises(DataError, match="not identified on this design for 1 rows"):
        scm.counterfactual(new, {"age": 60.0})


def test_many_levels_do_not_need_rows_times_levels(monkeypatch):
    """Neither blocks of rows nor leverages hold a regressor for every row and level."""
    n, block = 6_000, 2**18
    columns = {"patient": np.arange(n), "site": np.arange(n) % 40, "tumour": np.arange(n) // 40 % 4}
    obs = pd.DataFrame({name: codes.astype(str).astype(object) for name, codes in columns.items()})
    cohort = Cohort(np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32), obs)
    for name in ("ordered_blocks", "weighted_products"):
        monkeypatch.setattr(f"causalfm.moments.{name}.__kwdefaults__", {"block_bytes": block})
    scm = EmbeddingSCM(SITE, "interaction")
    tracemalloc.start()
    scm.fit(cohort)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * n * scm.fitted.mean.parents.width
