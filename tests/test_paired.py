import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import paired_retrieval, paired_similarity
from causalfm.metrics.design import variance_of
from causalfm.metrics.paired import ranked, top_k_hits
from causalfm.unit_vectors import unit_rows

GRAPH = CausalGraph.standard(biology="tumour", technical=["scanner", "stain"], group="patient", specimen="tile")
METRICS = pytest.mark.parametrize("metric", [paired_similarity, paired_retrieval])
SECRET = "PATIENT-4711"


def cohort_of(seed: int, *, patients=10, tiles=3, scanners=2, stains=1, noise=0.6, offset=0.0, d=12) -> Cohort:
    """Tiles seen by every scanner in every stain; the noise grows with the scanner."""
    rng, views = np.random.default_rng(seed), np.random.default_rng(5).standard_normal((scanners, stains, d)) / 2
    rows, X = [], []
    for p in range(patients):
        patient = rng.standard_normal(d) / 2
        for t in range(tiles):
            tissue = patient + rng.standard_normal(d)
            for s, q in np.ndindex(scanners, stains):
                X.append(tissue + views[s, q] + noise * (1 + s) * rng.standard_normal(d) + offset)
                rows.append((f"c{p % 2}", f"S{s}", f"H{q}", f"{SECRET}-{p}", f"{SECRET}-{p}-{t}"))
    return Cohort(
        np.array(X, dtype="f4"), pd.DataFrame(rows, columns=["tumour", "scanner", "stain", "patient", "tile"])
    )


def row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", unit_rows(a), unit_rows(b), dtype=np.float64)


def match_ranks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows are more similar to each row of ``a``, then of ``b``, than its match, and how many as similar."""
    found = [[mask.sum(axis=1) for mask in masks] for masks in ranked(unit_rows(a), unit_rows(b))]
    ahead, tied = (np.concatenate(part) for part in zip(*found, strict=True))
    return ahead, tied


# --- arrays: values of plismbench's tests -----------------------------------------------------------------------------


def test_cosine_of_plismbench():
    a, b = np.array([[0.0, 1], [1, 0], [1, 1], [1, 1]]), np.array([[0.0, 2], [2, 0], [-1, -1], [0, 1]])
    assert row_cosines(a, b).mean() == pytest.approx(0.426776695)


def test_retrieval_of_plismbench():
    a = np.array([[0.0, 1], [1, 0], [0, -1], [-1, 0]])
    b = np.array([[0.1, 1.1], [0.2, 1.1], [0.3, 1.1], [0.4, 1.1]])
    found = match_ranks(a, b)
    assert [top_k_hits(*found, k).mean() for k in (1, 7)] == pytest.approx([0.125, 1.0])
    rng = np.random.default_rng(0)
    assert top_k_hits(*match_ranks(rng.random((5, 100)), rng.random((5, 100))), 9).mean() == 1.0


def test_ranks_by_brute_force():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 30, 4))
    ahead, tied = match_ranks(a, b)
    both = np.concatenate([a, b])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    for query in range(60):
        match = (query + 30) % 60
        order = [j for j in np.argsort(-both @ both[query], kind="stable") if j != query]
        assert order.index(match) == ahead[query]
    assert not tied.any()


def test_half_precision_with_large_norms():
    """In float16 the squares of norms above 256 overflow: plismbench's default gives nan."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20, 100)) * 40  # norms of about 400
    b = a + 10 * rng.standard_normal(a.shape)
    half_a, half_b = a.astype(np.float16), b.astype(np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = [np.sqrt((half**2).sum(axis=1, dtype=np.float16)) for half in (half_a, half_b)]
        theirs = (half_a @ half_b.T).diagonal() / (norms[0] * norms[1])
    assert not np.isfinite(theirs).any() or not np.allclose(theirs, row_cosines(a, b), atol=0.01)
    np.testing.assert_allclose(row_cosines(half_a, half_b), row_cosines(a, b), atol=1e-3)
    np.testing.assert_allclose(row_cosines(a * 1e200, b * 1e-200), row_cosines(a, b), atol=1e-6)


def test_ties_are_broken_in_expectation():
    """All rows at one point: any of the 2 m - 1 others may come first."""
    one = np.ones((8, 3))
    ahead, tied = match_ranks(one, one)
    assert (ahead.max(), set(tied)) == (0, {14})
    assert top_k_hits(ahead, tied, 5).mean() == pytest.approx(5 / 15)


# --- cohort forms -----------------------------------------------------------------------------------------------------


def test_values_chance_and_pairs_by_brute_force():
    cohort = cohort_of(3, scanners=2, stains=2, patients=6, tiles=2)
    X = cohort.X / np.linalg.norm(cohort.X, axis=1, keepdims=True)
    obs = cohort.obs
    cosines, chances, hits = [], [], []
    views = [f"S{s} + H{q}" for s in (0, 1) for q in (0, 1)]
    view = (obs["scanner"] + " + " + obs["stain"]).to_numpy()
    for i, a in enumerate(views):
        for b in views[i + 1 :]:
            left, right = np.flatnonzero(view == a), np.flatnonzero(view == b)
            patient = obs["patient"].to_numpy()[left]
            similarity = X[left] @ X[right].T
            cosines.append(similarity.diagonal().mean())
            chances.append(similarity[patient[:, None] != patient].mean())
            hits.append(top_k_hits(*match_ranks(X[left], X[right]), 2).mean())
    found = paired_similarity(cohort, GRAPH)
    assert (found.value, found.chance) == pytest.approx((np.mean(cosines), np.mean(chances)), abs=1e-6)
    specific = [(v - c) / (1 - c) for v, c in zip(cosines, chances, strict=True)]
    assert found.details["standardised"].value == pytest.approx(np.mean(specific), abs=1e-6)
    worst = found.details["worst"]
    assert worst["value"] == pytest.approx(min(cosines))
    assert f"{worst['a']} {worst['b']}" == "S1 + H0 S1 + H1"  # the noisier scanner twice
    strata = found.details["strata"]
    assert {key: part["pairs"] for key, part in strata.items()} == {"scanner": 2, "stain": 2, "scanner + stain": 2}
    retrieval = paired_retrieval(cohort, GRAPH, k=2)
    assert retrieval.value == pytest.approx(np.mean(hits))
    assert retrieval.chance == pytest.approx(2 / 23)
    alone = paired_similarity(cohort, GRAPH, confounder="stain")
    assert alone.value == pytest.approx(strata["stain"]["value"])
    assert len(alone.details["pairs"]) == 2


@METRICS
def test_effects_are_those_of_leaving_a_patient_out(metric):
    cohort = cohort_of(0, noise=1.2)
    options = {} if metric is paired_similarity else {"k": 3}
    whole = metric(cohort, GRAPH, **options)
    patients = cohort.factor("patient").levels
    without = [metric(cohort[(cohort.obs["patient"] != p).to_numpy()], GRAPH, **options) for p in patients]
    for estimate, others, tolerance in (
        (whole, [w.value for w in without], 1e-12),
        (whole.details["standardised"], [w.details["standardised"].value for w in without], 0.15),
    ):
        exact = 0.9 * (estimate.value - np.array(others))
        exact, found = exact - exact.mean(), estimate.influence.effects - estimate.influence.effects.mean()
        tolerance = tolerance if metric is paired_similarity else 1e-12  # of chance, linear in one direction only
        np.testing.assert_allclose(found, exact, atol=tolerance * np.abs(exact).max())
        assert variance_of(estimate.influence)[0] > 0


def test_collapse_is_seen_beside_the_cosine():
    """One point and a little noise: a cosine of 1 for all tissues, and nothing is recognised."""
    rng = np.random.default_rng(0)
    cohort = cohort_of(0)
    collapsed = cohort.replace(X=np.ones_like(cohort.X))
    similarity, retrieval = paired_similarity(collapsed, GRAPH), paired_retrieval(collapsed, GRAPH, k=3)
    assert (similarity.value, similarity.chance) == (pytest.approx(1.0), pytest.approx(1.0))
    assert np.isnan(similarity.details["standardised"].value)
    assert "one point" in similarity.details["standardised"].details["reason"]
    assert retrieval.value == pytest.approx(retrieval.chance)
    assert retrieval.details["standardised"].value == pytest.approx(0.5)
    near = cohort.replace(X=(100 + rng.standard_normal(cohort.X.shape)).astype("f4"))
    similarity, retrieval = paired_similarity(near, GRAPH), paired_retrieval(near, GRAPH, k=3)
    assert similarity.value > 0.999
    assert abs(similarity.details["standardised"].value) < 0.35
    assert retrieval.details["standardised"].low < 0.5 < retrieval.details["standardised"].high


def test_missing_partners_are_counted():
    cohort = cohort_of(0, scanners=3)
    tile, scanner = cohort.obs["tile"].to_numpy(), cohort.obs["scanner"].to_numpy()
    keep = ~((tile == f"{SECRET}-0-0") & (scanner != "S0")) & ~((tile == f"{SECRET}-1-1") & (scanner == "S2"))
    found = paired_similarity(cohort[keep], GRAPH)
    assert found.details["missing"] == {"specimens": 30, "in_one_view_only": 1, "pairs_of_views_not_scored": 0}
    assert [(p["specimens"], p["missing_partner"]) for p in found.details["pairs"]] == [(29, 1), (28, 2), (28, 1)]
    keep = (scanner != "S1") | (tile == f"{SECRET}-0-0")
    keep &= (scanner == "S1") | (tile != f"{SECRET}-0-0")
    apart = paired_similarity(cohort[keep], GRAPH)  # scanner 1 saw one tile, which no other scanner saw
    assert [p.get("reason") for p in apart.details["pairs"]] == [
        "no specimen in both views",
        None,
        "no specimen in both views",
    ]
    assert apart.details["missing"]["pairs_of_views_not_scored"] == 2
    assert SECRET not in str(apart.to_dict())


@METRICS
def test_nothing_paired_cannot_tell(metric):
    cohort = cohort_of(0, scanners=2)
    one_view = cohort.obs["tile"].str[-1].astype(int) % 2 == (cohort.obs["scanner"] == "S1").astype(int)
    apart = cohort[one_view.to_numpy()]
    with pytest.raises(DataError, match="no specimen is seen at several levels of 'scanner', 'stain'"):
        metric(apart, GRAPH)


def test_one_patient_has_a_value_and_no_interval():
    cohort = cohort_of(0, patients=1, tiles=12)
    for found in (paired_similarity(cohort, GRAPH), paired_retrieval(cohort, GRAPH, k=3)):
        assert 0 < found.value < 1
        assert np.isnan([found.low, found.high]).all()
        assert "one patient" in found.details["interval"]


def test_sampling_of_specimens_is_counted_and_close():
    cohort = cohort_of(0, patients=20, tiles=4, noise=1.0)
    every, some = paired_retrieval(cohort, GRAPH, k=1), paired_retrieval(cohort, GRAPH, k=1, max_specimens=40)
    assert some.details["specimens_not_sampled"] == 40
    assert (every.n, some.n) == (160, 80)  # rows that were looked at
    assert some.chance == pytest.approx(1 / 79)
    assert some.details["standardised"].value == pytest.approx(every.details["standardised"].value, abs=0.05)
    assert paired_retrieval(cohort, GRAPH, k=1, max_specimens=40) == some


def test_refused_input():
    cohort = cohort_of(0)
    twice = Cohort(np.vstack([cohort.X, cohort.X[:1]]), pd.concat([cohort.obs, cohort.obs.iloc[:1]], ignore_index=True))
    astray = cohort.replace(obs=cohort.obs.assign(patient=["x", *cohort.obs["patient"][1:]]))
    plain = CausalGraph.standard(biology="tumour", technical=["scanner", "stain"], group="patient")
    zero = cohort.replace(X=np.where(np.arange(len(cohort))[:, None] == 3, 0, cohort.X))
    for data, graph, options, message in (
        (cohort, plain, {}, "declares no specimen"),
        (cohort, GRAPH, {"confounder": "stain"}, "at several levels of 'stain'"),
        (twice, GRAPH, {}, "1 rows repeat a specimen at the same scanner"),
        (astray, GRAPH, {}, "1 of 30 levels of 'tile' lie in several levels of 'patient'"),
        (zero, GRAPH, {}, "1 zero or non-finite rows"),
    ):
        for metric in (paired_similarity, paired_retrieval):
            with pytest.raises(DataError, match=message) as caught:
                metric(data, graph, **options)
            assert SECRET not in str(caught.value)
    obs = cohort.obs
    together = cohort.replace(obs=obs.assign(stain=obs["scanner"].map({"S0": "H0", "S1": "H1"})))
    for metric in (paired_similarity, paired_retrieval):
        with pytest.raises(DataError, match="differ in 'stain' alone: it changes together with 'scanner'"):
            metric(together, GRAPH, confounder="stain")
    with pytest.raises(DataError, match="k=60 is larger than the candidates: at most 30 specimens"):
        paired_retrieval(cohort, GRAPH, k=60)


def test_a_scanner_that_varies_within_specimens_of_a_few_patients_is_legal():
    """Two of ten patients were scanned again: without the specimen that is a misfiled table."""
    cohort = cohort_of(0, scanners=2, stains=2)
    patient = cohort.obs["patient"].str.split("-").str[-1].astype(int)
    again = cohort[((cohort.obs["scanner"] == "S0") | (patient < 2)).to_numpy()]
    GRAPH.check(again)
    plain = CausalGraph.standard(biology="tumour", technical=["scanner", "stain"], group="patient")
    with pytest.raises(DataError, match="varies within 2 of 10 levels"):
        plain.check(again)
    tile = again.obs["tile"].where(patient.loc[again.obs.index] != 1, again.obs["tile"] + again.obs["scanner"])
    with pytest.raises(DataError, match="varies within 1 of 10 levels"):
        GRAPH.check(again.replace(obs=again.obs.assign(tile=tile)))


def test_intervals_cover_new_patients():
    found = []
    for seed in range(60):
        cohort = cohort_of(200 + seed, patients=12, tiles=2, noise=1.0)
        for estimate in (paired_similarity(cohort, GRAPH), paired_retrieval(cohort, GRAPH, k=1)):
            found.append([(e.value, e.low, e.high) for e in (estimate, estimate.details["standardised"])])
    values = np.array(found).reshape(60, 4, 3)
    truth = values[:, :, 0].mean(axis=0)
    covered = ((values[:, :, 1] <= truth) & (truth <= values[:, :, 2])).sum(axis=0)
    assert (covered >= stats.binom.ppf(0.001 / 4, 60, 0.93)).all()
    half = (values[:, :, 2] - values[:, :, 1]).mean(axis=0) / 2
    assert (half < 3.5 * values[:, :, 0].std(axis=0)).all()


def test_pairs_without_spread_have_no_interval() -> None:
    """Views that are equal: every pair is found whoever is left out. The pairs' intervals read 0 to 1."""
    cohort = cohort_of(0, scanners=3)
    same = cohort.replace(X=np.repeat(np.random.default_rng(1).standard_normal((30, 50)), 3, axis=0).astype("f4"))
    found = paired_retrieval(same, GRAPH, k=3)
    assert found.value == pytest.approx(1.0)
    for part in (*found.details["pairs"], found.details["worst"], *found.details["strata"].values()):
        assert np.isnan([part["low"], part["high"]]).all()
    one = cohort.obs["scanner"].ne("S2") | cohort.obs["patient"].eq(f"{SECRET}-0")  # S2 saw one patient only
    worst = paired_similarity(cohort[one.to_numpy()], GRAPH).details["worst"]
    assert np.isnan([worst["low"], worst["high"]]).all()  # the pair without an interval could be the worst
