"""``adata.cfm``: the answers of the functions, kept where scanpy and files find them."""

import json
import subprocess
import sys

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import causalfm as cfm
from causalfm import accessor
from causalfm.auditing import Audit
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError, MissingDependencyError

ROLES = {"biology": "tumour", "technical": ["site"], "group": "patient"}


@pytest.fixture(scope="module")
def cohort():
    return linear_scm(n_groups=40, rows_per_group=3, n_sites=2, site_effect=1.0, d=6, random_state=0)[0]


@pytest.fixture
def adata(cohort):
    found = cohort.to_anndata()
    return AnnData(np.ones((len(cohort), 2), "float32"), obs=found.obs, obsm={"X_uni": cohort.X})


@pytest.fixture
def graph():
    return cfm.CausalGraph.standard(**ROLES)


def kept(adata, name):
    return json.loads(adata.uns["causalfm"][name])


def test_answers_are_those_of_the_functions(adata, graph):
    cohort = cfm.Cohort.from_anndata(adata, obsm="X_uni")
    index = adata.cfm.robustness_index(obsm="X_uni", k=5, **ROLES)
    assert index.to_dict() == cfm.metrics.robustness_index(cohort, graph, k=5).to_dict()
    test = adata.cfm.invariance_test("site", obsm="X_uni", n_permutations=19)  # the graph stands declared
    assert test.to_dict() == cfm.invariance_test(cohort, graph, of="site", n_permutations=19).to_dict()
    effect = adata.cfm.effect("site", obsm="X_uni", graph=graph, key_added="of the site")
    assert effect.to_dict() == cfm.effect(cohort, graph, treatment="site").to_dict()
    for name, found in (("robustness_index", index), ("invariance_test", test), ("of the site", effect)):
        assert kept(adata, name) == json.loads(json.dumps(found.to_dict()))
    assert adata.cfm.cohort().d == 2  # without obsm it is X


def test_an_audit_is_kept_in_files_and_names_no_patient(adata, tmp_path):
    adata.obs["patient"] = "SENTINEL-" + adata.obs["patient"].astype(str)
    found = adata.cfm.audit(obsm="X_uni", **ROLES)
    adata.cfm.knn(3, obsm="X_uni")
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert Audit.from_dict(kept(back, "audit")).to_dict() == found.to_dict()
    assert "SENTINEL" not in str(back.uns)
    assert back.cfm.graph == cfm.CausalGraph.standard(**ROLES)
    assert (back.obsp["cfm_distances"] != adata.obsp["cfm_distances"]).nnz == 0


def test_neighbours_lie_as_scanpy_expects_them_and_are_of_other_patients(adata, cohort):
    scanpy = pytest.importorskip("scanpy", reason="scanpy, of the dev extra, is not installed")
    adata.cfm.declare(**ROLES)
    found = adata.cfm.knn(4, obsm="X_uni")
    unit = cohort.X / np.linalg.norm(cohort.X, axis=1, keepdims=True)
    far = 1.0 - unit @ unit.T
    patient = adata.obs["patient"].to_numpy()
    far[patient[:, None] == patient] = np.inf
    np.testing.assert_array_equal(found.indices, np.argsort(far, axis=1, kind="stable")[:, :4])
    read = scanpy.Neighbors(adata, neighbors_key="cfm")
    assert read.n_neighbors == 5  # scanpy counts the row itself
    rows, columns = read.distances.nonzero()
    assert (patient[rows] != patient[columns]).all()
    nearest = np.take_along_axis(far, found.indices, axis=1)
    np.testing.assert_allclose(np.sort(read.distances.data.reshape(-1, 4)), nearest, atol=1e-6)
    listed = read.connectivities.toarray()
    assert (listed == listed.T).all()
    assert listed.max() == 1
    assert ((listed > 0) >= (read.distances.toarray() > 0)).all()
    adata.cfm.knn(4, obsm="X_uni", exclude="site", key_added="elsewhere")
    rows, columns = adata.obsp["elsewhere_distances"].nonzero()
    site = adata.obs["site"].to_numpy()
    assert (site[rows] != site[columns]).all()
    assert adata.uns["elsewhere"]["params"]["exclude"] == "site"


def test_without_a_graph_only_the_row_itself_is_left_out(adata):
    adata.cfm.knn(2, obsm="X_uni")
    assert "exclude" not in adata.uns["cfm"]["params"]
    assert (adata.obsp["cfm_distances"].diagonal() == 0).all()
    assert adata.obsp["cfm_distances"].nnz == 2 * adata.n_obs


def test_what_cannot_be_asked_is_told(adata, graph):
    with pytest.raises(GraphError, match=r"biology, technical, group not declared: pass .* adata.cfm.declare"):
        adata.cfm.audit(obsm="X_uni")
    with pytest.raises(GraphError, match="technical not declared"):
        adata.cfm.declare(biology="tumour", group="patient")
    with pytest.raises(GraphError, match="graph= says everything: leave biology"):
        adata.cfm.effect("site", graph=graph, biology="tumour")
    with pytest.raises(DataError, match=r"obsm has no key 'X_conch'\. Keys: X_uni"):
        adata.cfm.robustness_index(obsm="X_conch", **ROLES)
    adata.X = sparse.csr_matrix(adata.X)
    with pytest.raises(DataError, match="the matrix is sparse"):
        adata.cfm.robustness_index(**ROLES)


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_a_view_is_asked_like_the_whole(adata):
    part = adata[:60]
    np.testing.assert_array_equal(cfm.Cohort.from_anndata(part, obsm="X_uni").X, adata.obsm["X_uni"][:60])
    part.cfm.knn(3, obsm="X_uni")  # which makes it an AnnData of its own, as with scanpy
    assert part.obsp["cfm_distances"].shape == (60, 60)
    assert "cfm" not in adata.uns


def test_an_anndata_without_accessors_is_told(monkeypatch):
    monkeypatch.delattr(anndata, "register_anndata_namespace")
    with pytest.raises(MissingDependencyError, match=r"has no accessors: pip install 'anndata>=0.12'"):
        accessor._register()


def test_nothing_is_registered_before_it_is_asked_for():
    code = "import causalfm, sys; assert 'anndata' not in sys.modules\n"
    code += "import anndata; causalfm.Cohort; assert not hasattr(anndata.AnnData, 'cfm')"
    subprocess.run([sys.executable, "-c", code], check=True)
