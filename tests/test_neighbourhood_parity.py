"""The published metrics, run in the same test: croma 1.0.1."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from croma import RI, CRoMa, MaRI
from neighbourhood_cohorts import GRAPH, clustered, codes_of, margins_by_row

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.metrics import croma, mari, robustness_index
from causalfm.metrics.list_ratios import quotient
from causalfm.metrics.typed import OS, SO, neighbour_kinds
from causalfm.metrics.weighted import cosine_distances, typed_temperature
from causalfm.neighbours import knn

pytestmark = pytest.mark.filterwarnings("ignore:.*(support|undefined):RuntimeWarning")
EXACT = {"rel": 0, "abs": 1e-6}
DESIGNS = {
    "balanced 2 x 2": {"counts": [[8, 8], [8, 8]], "biology": 0.5, "site": 0.5, "tiles": 3},
    "incomplete 3 x 4": {"counts": [[9, 4, 6, 0], [3, 8, 5, 5], [6, 0, 4, 7]], "biology": 0.4, "site": 0.6, "tiles": 2},
}


def manifest_of(cohort: Cohort, biology: str = "tumour", site: str = "site", group: str = "patient") -> pd.DataFrame:
    text = {c: cohort.obs[c].astype(object).astype(str).to_numpy() for c in (biology, site, group)}
    rows = [f"row-{i}" for i in range(len(cohort))]
    columns = {"sample_id": rows, "image_path": rows, "label": text[biology], "group_id": text[group]}
    return pd.DataFrame(columns | {"site": text[site]})


def paired(manifest: pd.DataFrame) -> pd.DataFrame:
    """Repeat every row in each complete table of two classes by two sites, as croma wants it; ``index`` is the row."""
    tables = []
    for classes in combinations(sorted(manifest["label"].unique()), 2):
        for sites in combinations(sorted(manifest["site"].unique()), 2):
            rows = manifest[manifest["label"].isin(classes) & manifest["site"].isin(sites)]
            if rows.groupby(["label", "site"]).ngroups == 4:
                tables.append(rows.assign(subset="|".join(classes + sites)))
    return pd.concat(tables)


@pytest.mark.parametrize("name", DESIGNS)
def test_all_rows(name: str) -> None:
    cohort = clustered(np.random.default_rng(1), **DESIGNS[name])
    agree(cohort, GRAPH, cohort.X, manifest_of(cohort), "all", k=7)
    b, s, g = codes_of(cohort)
    lists = knn(cohort.X, 7, exclude=g)
    given = {"confounder_column": "site", "k_candidates": [7]}
    peers = [peer.compute(cohort.X, manifest_of(cohort), **given) for peer in (RI, MaRI)]
    kinds = neighbour_kinds(lists, b, s)
    near = np.exp(-cosine_distances(lists) / typed_temperature(lists, kinds))
    for weights, peer in zip((np.ones_like(near), near), peers, strict=True):
        so, os = ((weights * (kinds == kind)).sum(axis=1) for kind in (SO, OS))
        np.testing.assert_allclose(quotient(so, so + os), peer.sample_values_aligned, atol=1e-6, rtol=0)
    peer = CRoMa.compute(cohort.X, manifest_of(cohort), confounder_column="site")
    np.testing.assert_allclose(margins_by_row(cohort.X, b, s, g), peer.sample_values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", DESIGNS)
def test_paired_tables(name: str) -> None:
    cohort = clustered(np.random.default_rng(2), **DESIGNS[name])
    manifest = paired(manifest_of(cohort))
    rows = manifest.index.to_numpy()
    n_tables = manifest["subset"].nunique()
    assert n_tables == (1 if name == "balanced 2 x 2" else 7)
    assert len(rows) > len(set(rows)) or n_tables == 1
    found = agree(cohort, GRAPH, cohort.X[rows], manifest.reset_index(drop=True), "paired_2x2", k=5)
    assert len(found["ri"].details["tables"]) == n_tables
    assert sum(t["rows"] for t in found["ri"].details["tables"]) == len(rows)
    peer = CRoMa.compute(cohort.X[rows], manifest.reset_index(drop=True), confounder_column="site", m=3,
                         evaluation_design="paired_2x2")  # fmt: skip
    medians = [table["median"] for table in found["croma"].details["tables"]]
    assert np.median(medians) == pytest.approx(peer.value, **EXACT)  # croma's value is the median of the medians
    assert sorted(medians) == pytest.approx(sorted(peer.pair_values), **EXACT)


def agree(cohort: Cohort, graph: CausalGraph, X, manifest, design: str, k: int) -> dict:
    given = {"confounder_column": "site", "evaluation_design": design}
    ours = {"design": design, "standardised": False}
    ri, ri_peer = robustness_index(cohort, graph, k=k, **ours), RI.compute(X, manifest, k_candidates=[k], **given)
    assert ri.value == pytest.approx(ri_peer.value, **EXACT)
    assert ri.details["support"] == pytest.approx(ri_peer.support, **EXACT)
    causes = [getattr(ri_peer, f"{c}_undefined_frac") for c in ("ss_dominated", "oo_dominated", "mixed")]
    assert list(ri.details["undefined"].values()) == pytest.approx(causes, **EXACT)
    weighted, weighted_peer = mari(cohort, graph, k=k, **ours), MaRI.compute(X, manifest, k_candidates=[k], **given)
    assert weighted.value == pytest.approx(weighted_peer.value, **EXACT)
    assert weighted.details["tau"] == pytest.approx(weighted_peer.tau, **EXACT)
    assert mari(cohort, graph, k=k, tau=0.02, **ours).value == pytest.approx(
        MaRI.compute(X, manifest, k_candidates=[k], tau=0.02, warn_tau=False, **given).value, **EXACT
    )
    margin, margin_peer = croma(cohort, graph, m=3, **ours), CRoMa.compute(X, manifest, m=3, **given)
    if design == "all":
        assert margin.value == pytest.approx(margin_peer.value, **EXACT)
    assert margin.details["f0"].value == pytest.approx(margin_peer.f0, **EXACT)
    assert margin.details["ltm"].value == pytest.approx(margin_peer.ltm_alpha, **EXACT)
    assert margin.details["quantile"] == pytest.approx(margin_peer.q_alpha, **EXACT)
    return {"ri": ri, "mari": weighted, "croma": margin}


def test_curve_has_one_temperature() -> None:
    cohort = clustered(np.random.default_rng(3), **DESIGNS["balanced 2 x 2"])
    ours = mari(cohort, GRAPH, k=11, standardised=False)
    ks = [1, 3, 5, 7, 9, 11]
    peer = MaRI.compute_curve(
        cohort.X, manifest_of(cohort), confounder_column="site", k_values=ks, tau=ours.details["tau"]
    )
    assert {one["k"]: one["value"] for one in ours.details["curve"]} == pytest.approx(peer, **EXACT)


def test_real_slides(data_dir) -> None:
    from causalfm.datasets import tcga_hipt

    hospitals = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
    cohort = tcga_hipt.load(data_dir, cancers=["BRCA", "COAD", "LUAD", "STAD"], hospitals=hospitals)
    graph = CausalGraph.standard(biology="project_id", technical=["center"], group="case")
    X = np.asarray(cohort.X, dtype=np.float32)
    manifest = manifest_of(cohort, "project_id", "center", "case")
    given = robustness_index(cohort, graph, k=5, standardised=False)
    assert given.value == pytest.approx(0.1380813953488372, abs=1e-12)  # of the file as shipped
    assert (given.details["counts"]["SO"], given.details["counts"]["OS"]) == (95, 593)
    found = agree(cohort, graph, X, manifest, "all", k=11)
    assert found["croma"].high < found["croma"].chance
    tables = paired(manifest)
    assert len(tables) == 9 * len(X)  # every slide is in 3 x 3 tables
    peer = RI.compute(
        X[tables.index], tables.reset_index(drop=True), confounder_column="site", k_candidates=[7],
        evaluation_design="paired_2x2",
    )  # fmt: skip
    ours = robustness_index(cohort, graph, k=7, design="paired_2x2", standardised=False)
    assert ours.value == pytest.approx(peer.value, **EXACT)
    assert ours.low < ours.value < ours.high < ours.chance
