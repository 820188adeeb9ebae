"""The embedding map: coordinates against an oracle, an honest caption, no identities."""

import sys
import types

import numpy as np
import pytest
from sklearn.decomposition import PCA

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.drawing import to_svg
from causalfm.embedding_map import map_embedding
from causalfm.errors import DataError, MissingDependencyError
from causalfm.map_drawing import STYLES
from causalfm.metrics import robustness_index

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")


@pytest.fixture(scope="module")
def cohort() -> cfm.Cohort:
    return linear_scm(n_groups=40, n_sites=3, n_scanners=2, rows_per_group=3, site_effect=2.0, random_state=0)[0]


@pytest.mark.parametrize("d", [32, 300])  # fewer and more dimensions than rows
def test_coordinates_are_principal_components(cohort, d) -> None:
    X = cohort.X @ np.random.default_rng(0).standard_normal((32, d)) + 5.0
    drawn = map_embedding(cohort.replace(X=X), GRAPH, estimates={})
    oracle = PCA(2, svd_solver="full").fit(X)
    np.testing.assert_allclose(drawn.shares, oracle.explained_variance_ratio_, rtol=1e-9)
    scores = oracle.transform(X)
    scale = np.abs(scores).max() / np.abs(drawn.points).max()
    np.testing.assert_allclose(np.abs(drawn.points * scale), np.abs(scores), rtol=1e-6, atol=1e-8)
    assert (drawn.points[np.abs(drawn.points).argmax(axis=0), [0, 1]] > 0).all()  # signs are fixed


def test_the_caption_says_what_the_map_leaves_out_and_the_numbers(cohort) -> None:
    drawn = map_embedding(cohort, GRAPH)
    text = drawn.caption()
    assert text.startswith("PCA of 120 rows of 40 patients; the legends count rows.")
    left = 1 - drawn.shares.sum()
    assert f"{left:.0%} of it is not on this map" in text
    assert "Rows of one patient lie together: a cluster can be one patient." in text
    found = robustness_index(cohort, GRAPH, confounder="scanner", standardised=False)
    assert f"Robustness index, scanner: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}], chance" in text
    own = map_embedding(cohort, GRAPH, estimates={"read-out of site": found}, max_rows=50)
    assert "read-out of site: " in own.caption()
    assert "Robustness" not in own.caption()
    assert own.caption().startswith("PCA of 50 of 120 rows, drawn at random, of 40 patients")
    assert [c.sum() for c in own.counts] == [120, 120, 120]  # the legend counts the cohort, not the sample
    again = map_embedding(cohort, GRAPH, estimates={}, max_rows=50)
    np.testing.assert_array_equal(own.points, again.points)
    assert (map_embedding(cohort, GRAPH, estimates={}, max_rows=50, random_state=1).points != own.points).any()


def test_panels_share_their_coordinates_and_count_their_levels(cohort) -> None:
    ax = cfm.plot_map(cohort, GRAPH, estimates={})
    assert [panel.get_title(loc="left") for panel in ax.child_axes] == ["tumour", "site", "scanner"]

    def points(panel):
        return np.sort(np.concatenate([line.get_xydata() for line in panel.lines]), axis=0)

    first = points(ax.child_axes[0])
    assert len(first) == 120
    for panel in ax.child_axes[1:]:
        np.testing.assert_array_equal(points(panel), first)
    labels = [text.get_text() for text in ax.child_axes[1].get_legend().get_texts()]
    counts = cohort.obs["site"].value_counts()
    assert sorted(labels) == sorted(f"{level} ({count})" for level, count in counts.items())
    assert "not on this map" in ax.texts[0].get_text().replace("\n", " ")
    assert len(cfm.plot_map(cohort, GRAPH, color="site", estimates={}).child_axes) == 1


def test_every_point_lies_at_its_own_level(cohort) -> None:
    drawn = map_embedding(cohort, GRAPH, color="site", estimates={})
    names = np.array(drawn.columns[0].levels)[drawn.columns[0].codes]
    assert names.tolist() == cohort.obs["site"].tolist()
    ax = cfm.plot_map(cohort, GRAPH, color="site", estimates={})
    for level, (colour, marker) in enumerate(STYLES[:3]):
        lines = [line for line in ax.child_axes[0].lines if line.get_marker() == marker]
        assert {line.get_color() for line in lines} == {colour}
        own = drawn.points[drawn.columns[0].codes == level]
        np.testing.assert_array_equal(np.sort(np.concatenate([line.get_xdata() for line in lines])), np.sort(own[:, 0]))


def test_many_levels_keep_the_most_frequent_and_count_the_rest(cohort) -> None:
    sizes = [30, 25, 20, 15, 10, 8, 5, 4, 2, 1]
    obs = cohort.obs.assign(site=np.repeat([f"s{i}" for i in range(10)], sizes))
    ax = cfm.plot_map(cohort.replace(obs=obs), GRAPH, color="site", estimates={})
    labels = [text.get_text() for text in ax.child_axes[0].get_legend().get_texts()]
    assert labels == [f"s{i} ({sizes[i]})" for i in range(7)] + ["3 more levels (7)"]
    assert len({line.get_marker() for line in ax.child_axes[0].lines}) == 8


def test_nothing_identifies_a_patient(cohort) -> None:
    obs = cohort.obs.assign(patient="SENTINEL-" + cohort.obs["patient"].astype(str))
    hidden = cohort.replace(obs=obs.set_index("SENTINEL-" + obs.index.astype(str)))
    assert "SENTINEL" not in to_svg(cfm.plot_map(hidden, GRAPH))
    for color in ("patient", ["site", "patient"], "nothing"):
        with pytest.raises(DataError, match="no measured node") as error:
            cfm.plot_map(hidden, GRAPH, color=color)
        assert "SENTINEL" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color": "age"}, "continuous"),
        ({"method": "tsne"}, "not known"),
        ({"max_rows": 1}, "whole number"),
        ({"random_state": -1}, "whole number"),
    ],
)
def test_bad_arguments(cohort, arguments, message) -> None:
    with pytest.raises(DataError, match=message):
        cfm.plot_map(cohort, GRAPH, **arguments)


def test_flat_and_thin_embeddings(cohort) -> None:
    with pytest.raises(DataError, match="all rows of X are equal"):
        cfm.plot_map(cohort.replace(X=np.ones((120, 3))), GRAPH)
    line = map_embedding(cohort.replace(X=cohort.X[:, :1]), GRAPH, estimates={})
    assert line.points.shape == (120, 2)
    assert line.shares.tolist() == [1, 0]
    huge = map_embedding(cohort.replace(X=cohort.X.astype(float) * 1e200), GRAPH, estimates={})
    np.testing.assert_allclose(huge.shares, map_embedding(cohort, GRAPH, estimates={}).shares, rtol=1e-6)


def test_umap_is_optional(cohort, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependencyError, match=r"causalfm\[umap\]"):
        cfm.plot_map(cohort, GRAPH, method="umap", estimates={})


def test_umap_is_asked_for_cosine_neighbours_of_the_rows_shown(cohort, monkeypatch) -> None:
    asked = []

    class UMAP:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, X):
            asked.append(X)
            return X[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    drawn = map_embedding(cohort, GRAPH, method="umap", estimates={}, max_rows=14, random_state=3)
    assert asked[0] == {"n_neighbors": 13, "metric": "cosine", "random_state": 3, "n_jobs": 1}
    np.testing.assert_array_equal(drawn.points, asked[1][:, :2].astype(np.float32))
    assert drawn.shares is None
    assert "distances between clusters, their sizes and their densities mean nothing" in drawn.caption()
    assert "UMAP" in cfm.plot_map(cohort, GRAPH, method="umap", estimates={}).child_axes[0].get_xlabel()


@pytest.mark.slow
def test_the_real_umap_keeps_near_neighbours(cohort) -> None:
    pytest.importorskip("umap")
    means = 50.0 * np.eye(3)[cohort.factor("site").codes]
    drawn = map_embedding(cohort.replace(X=np.hstack([means, cohort.X])), GRAPH, method="umap", estimates={})
    codes = drawn.columns[1].codes
    distance = ((drawn.points[:, None] - drawn.points) ** 2).sum(axis=2) + 1e9 * np.eye(120)
    assert (codes[distance.argmin(axis=1)] == codes).mean() > 0.95
