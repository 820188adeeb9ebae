"""The mixing metrics beside scib-metrics on the same lists and rows: equal to 1e-4, or theirs is shown wrong."""

import importlib
import warnings

import numpy as np
import pytest
from mixing_samples import GRAPH, clustered, cohort_of
from scipy.optimize import brentq
from sklearn.neighbors import NearestNeighbors

from causalfm.metrics import (
    bras,
    clisi,
    graph_connectivity,
    ilisi,
    isolated_labels,
    kbet,
    kbet_per_label,
    pcr_comparison,
    silhouette_batch,
    silhouette_label,
)
from causalfm.metrics.batch_panels import kbet_tests
from causalfm.metrics.connectivity import connected_shares
from causalfm.metrics.explained import explained_share
from causalfm.metrics.lisi_weights import lisi
from causalfm.neighbours import knn

pytestmark = pytest.mark.filterwarnings("ignore")  # JAX, umap and numba warn of their own affairs
PARITY = {"exclude_groups": False, "standardised": False}
K = 20


@pytest.fixture(scope="module")
def scib():
    """The peer; what it needs of umap and pynndescent in plain Python: they compile for half a minute when imported."""
    numba = pytest.importorskip("numba", reason="the oracle is in the dev extra")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(numba.config, "DISABLE_JIT", True)
        return pytest.importorskip("scib_metrics", reason="the oracle is in the dev extra")


@pytest.fixture(scope="module")
def cohort():
    counts = [[12, 12, 8], [10, 14, 8], [17, 15, 0]]  # classes of equal size: JAX compiles once
    return clustered(np.random.default_rng(0), counts, tiles=3, site=0.25, biology=0.7)


@pytest.fixture(scope="module")
def lists(scib, cohort):
    return lists_of(scib, cohort)


def lists_of(scib, cohort, k: int = K):
    """Neighbours as scib-metrics has them: the row itself first, Euclidean distances between unit rows."""
    found, rows = knn(cohort.X, k - 1), np.arange(len(cohort))
    distances = np.sqrt(np.maximum(2 - 2 * found.similarity, 0))
    return importlib.import_module("scib_metrics.nearest_neighbors").NeighborsResults(
        indices=np.hstack([rows[:, None], found.indices]),
        distances=np.hstack([np.zeros((len(rows), 1)), distances]).astype(np.float32),
    )


@pytest.fixture
def uncompiled(scib, monkeypatch):
    """Spare a minute of compilation: an exact search for their approximate one, and umap's loops in plain Python."""
    module, umap = (importlib.import_module(name) for name in ("scib_metrics.nearest_neighbors", "umap.umap_"))

    def search(X, n_neighbors: int):
        distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(X)
        return module.NeighborsResults(indices=indices, distances=distances)

    monkeypatch.setattr(module, "pynndescent", search)
    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        loops = getattr(umap, name)
        monkeypatch.setattr(umap, name, getattr(loops, "py_func", loops))  # compiled if somebody imported it before


def text(cohort, name: str) -> np.ndarray:
    return cohort.obs[name].to_numpy()


def test_lisi(scib, cohort, lists) -> None:
    codes, rows = cohort.factor("site").codes, np.arange(len(cohort))
    ours = lisi(lists.distances, lists.indices, rows, codes)
    np.testing.assert_allclose(ours, scib.lisi_knn(lists, codes), atol=1e-4)
    np.testing.assert_allclose(
        lisi(lists.distances, lists.indices, rows, codes, perplexity=5), scib.lisi_knn(lists, codes, 5), atol=1e-4
    )
    for metric, peer, column in ((ilisi, scib.ilisi_knn, "site"), (clisi, scib.clisi_knn, "tumour")):
        assert metric(cohort, GRAPH, k=K, **PARITY).value == pytest.approx(peer(lists, text(cohort, column)), abs=1e-4)


def test_lisi_of_ties(scib) -> None:
    results = importlib.import_module("scib_metrics.nearest_neighbors").NeighborsResults
    distances = np.r_[np.zeros(1), np.full(11, 0.5)].astype(np.float32)[None].repeat(12, axis=0)
    indices = np.array([[i, *(j for j in range(12) if j != i)] for i in range(12)])
    ours = lisi(distances, indices, np.arange(12), np.arange(12) % 2)
    np.testing.assert_allclose(ours, 121 / 61)  # five of the own and six of the other level, equally heavy
    theirs = scib.lisi_knn(results(indices=indices, distances=distances), np.arange(12) % 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_lisi_where_all_neighbours_are_about_equally_far(scib) -> None:
    """They take exp(-beta d) in single precision, which is 0 beyond 87: true of most rows in hundreds of dimensions."""
    results = importlib.import_module("scib_metrics.nearest_neighbors").NeighborsResults
    rng, n, k = np.random.default_rng(0), 40, 12
    distances = np.hstack([np.zeros((n, 1)), 0.9 + 0.02 * np.sort(rng.random((n, k - 1)), axis=1)]).astype(np.float32)
    indices = np.array([[i, *rng.permutation([j for j in range(n) if j != i])[: k - 1]] for i in range(n)])
    codes = np.arange(n) % 4

    def exact(near: np.ndarray, found: np.ndarray) -> float:
        def weights(beta: float) -> np.ndarray:
            w = np.exp(-beta * (near - near.min()))
            return w / w.sum()

        def excess(log_beta: float) -> float:
            w = weights(np.exp(log_beta))
            return float(-(w * np.log(np.maximum(w, 1e-300))).sum() - np.log(k // 3))

        beta = np.exp(brentq(excess, 0.0, 12.0, xtol=1e-13))
        assert beta * near.min() > 87
        return float(1 / (np.bincount(codes[found], weights(beta)) ** 2).sum())

    want = [exact(row[1:].astype(np.float64), found[1:]) for row, found in zip(distances, indices, strict=True)]
    np.testing.assert_allclose(lisi(distances, indices, np.arange(n), codes), want, atol=1e-6)
    theirs = np.asarray(scib.lisi_knn(results(indices=indices, distances=distances), codes))
    assert np.abs(theirs - want).max() > 0.3
    nearer = np.hstack([distances[:, :1], distances[:, 1:] - distances[:, 1:2] + 1e-4])  # changes no weight
    again = scib.lisi_knn(results(indices=indices, distances=nearer.astype(np.float32)), codes)
    np.testing.assert_allclose(again, want, atol=1e-2)


def test_kbet(scib, cohort, lists) -> None:
    rate, statistic, p = scib.kbet(lists, text(cohort, "site"))
    ours = kbet_tests(lists.indices, cohort.factor("site").codes)
    np.testing.assert_allclose(ours[0], statistic, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[1], p, atol=1e-4)
    assert kbet(cohort, GRAPH, k=K, **PARITY).value == pytest.approx(float(rate), abs=1e-4)


def test_kbet_per_label(scib, cohort, lists, uncompiled) -> None:
    theirs, by_label = scib.kbet_per_label(lists, text(cohort, "site"), text(cohort, "tumour"), return_df=True)
    ours = kbet_per_label(cohort, GRAPH, k=K, exclude_groups=False)
    assert ours.value == pytest.approx(theirs, abs=1e-4)
    scores = [record["score"] for record in ours.details["labels"]]
    np.testing.assert_allclose(scores, by_label["kBET"], atol=1e-4)


def test_kbet_per_label_of_a_class_in_two_parts(scib, uncompiled) -> None:
    """They search all parts at once, where the eigenvalue of 1 no longer tells them apart: neighbours with no path."""
    rng = np.random.default_rng(1)
    b, s, p = np.repeat([0, 1], 140), np.tile([0, 1], 140), np.arange(280)
    part = np.where(b == 0, 0, 1 + np.arange(280) % 2)
    s[part == 2] = rng.random((part == 2).sum()) < 0.9  # the second part of class 1 comes from one site
    parted = cohort_of(3 * np.eye(9)[part] + rng.standard_normal((280, 9)) * 0.1, b, s, p)
    lists = lists_of(scib, parted)
    theirs = scib.kbet_per_label(lists, text(parted, "site"), text(parted, "tumour"), return_df=True)[1]["kBET"]
    one, two = kbet_per_label(parted, GRAPH, k=K, exclude_groups=False).details["labels"]
    assert one["score"] == pytest.approx(theirs[0], abs=1e-4)
    assert (two["parts"], two["usable"]) == (2, 1)
    inner, k0 = lists.knn_graph_connectivities[140:][:, 140:], two["k0"]
    wrong = importlib.import_module("scib_metrics.utils").diffusion_nn(inner, k=k0).indices
    assert (part[140:][wrong] != part[140:, None]).mean() > 0.05
    codes, scores = parted.factor("site").codes, []
    for number in (1, 2):  # each part for itself, tested against the shares of the class
        rows = np.flatnonzero(part[140:] == number)
        near = importlib.import_module("scib_metrics.utils").diffusion_nn(inner[rows][:, rows], k=k0).indices
        shares = np.bincount(codes[140:]) / 140
        scores.append((kbet_tests(rows[near], codes[140:], shares)[1] >= 0.05).mean())
    assert two["score"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert two["score"] != pytest.approx(theirs[1], abs=1e-4)


def test_silhouettes(scib, cohort) -> None:
    y, c = text(cohort, "tumour"), text(cohort, "site")
    for metric in ("cosine", "euclidean"):
        options, peer = {"metric": metric, **PARITY}, {"metric": metric, "chunk_size": 300}
        pairs = [
            (silhouette_label(cohort, GRAPH, **options), scib.silhouette_label(cohort.X, y, **peer)),
            (silhouette_batch(cohort, GRAPH, **options), scib.silhouette_batch(cohort.X, y, c, **peer)),
            (bras(cohort, GRAPH, **options), scib.bras(cohort.X, y, c, **peer)),
        ]
        for ours, theirs in pairs:
            assert ours.value == pytest.approx(float(theirs), abs=1e-4)
    ours = isolated_labels(cohort, GRAPH, metric="euclidean", exclude_groups=False)
    assert ours.details["isolated"] == ["2"]
    assert ours.value == pytest.approx(float(scib.isolated_labels(cohort.X, y, c)), abs=1e-4)


def test_a_batch_of_one_row_is_well_mixed_there(scib) -> None:
    """They score it 0, so 1 - |0|: perfectly mixed. It has no mean distance to its own, so we leave it out."""
    rng = np.random.default_rng(2)
    b, s = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    s[20:] = 0
    s[20] = 1
    X = rng.standard_normal((40, 3)) + 8 * np.eye(3)[s]
    single = cohort_of(X, b, s, np.arange(40))
    theirs = float(scib.silhouette_batch(single.X, text(single, "tumour"), text(single, "site")))
    ours = silhouette_batch(single, GRAPH, metric="euclidean", **PARITY)
    assert ours.details["left_out"] == 1
    second = ours.details["labels"][1]["score"]
    assert theirs == pytest.approx((ours.details["labels"][0]["score"] + (19 * second + 1) / 20) / 2, abs=1e-4)


def test_connectivity(scib, cohort, lists) -> None:
    for k in (4, K):
        theirs = scib.graph_connectivity(lists.subset_neighbors(k), text(cohort, "tumour"))
        ours = connected_shares(lists.indices[:, :k], np.arange(len(cohort)), cohort.factor("tumour").codes)
        assert ours.mean() == pytest.approx(theirs, abs=1e-12)
        assert graph_connectivity(cohort, GRAPH, k=k, exclude_groups=False).value == pytest.approx(theirs, abs=1e-12)
    assert scib.graph_connectivity(lists.subset_neighbors(4), text(cohort, "tumour")) < 1


def test_pc_regression(scib, cohort) -> None:
    codes = cohort.factor("site").codes
    pcr = importlib.import_module("scib_metrics.utils").principal_component_regression
    assert explained_share(cohort.X, codes) == pytest.approx(pcr(cohort.X, codes, categorical=True), abs=1e-4)
    means = np.stack([cohort.X[codes == level].mean(axis=0) for level in range(3)])
    after = cohort.replace(X=cohort.X - 0.6 * means[codes])
    theirs = scib.pcr_comparison(cohort.X, after.X, codes, categorical=True)
    assert pcr_comparison(cohort, after, GRAPH).value == pytest.approx(theirs, abs=1e-4)
    X, renamed = cohort.X + 3 * (codes == 1)[:, None], np.array([0, 2, 1])[codes]
    assert pcr(X, renamed) > 4 * pcr(X, codes)  # by default they regress on the codes: another name, another value
    assert explained_share(X, renamed) == pytest.approx(explained_share(X, codes), abs=1e-12)
