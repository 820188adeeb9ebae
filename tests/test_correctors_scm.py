"""The causal model as a corrector: what it cannot compare, its patients, and the paths that it moves rows along."""

import corrector_samples
import numpy as np
import pytest
from corrector_samples import GRAPH, gaps, given, sample

from causalfm.errors import DataError
from causalfm.estimators import SCMCorrector
from causalfm.graph import CausalGraph

rows = corrector_samples.rows  # a fixture


def test_the_causal_model_refuses_and_trims_too():
    X, obs, _ = sample(n_groups=120, n_sites=4, confounding=0.0)
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    alone = obs["site"].isin(["site0", "site1"]).to_numpy()
    more = {
        "biology": obs["tumour"].where(alone, np.where(obs["site"] == "site2", "class2", "class3")),
        "groups": obs["patient"],
    }
    with pytest.raises(DataError, match="site2"):
        SCMCorrector(graph).fit(X, obs["site"], **more)
    corrector = SCMCorrector(graph, on_violation="trim").fit(X, obs["site"], **more)
    assert corrector.targets_ == [{"site": "site0"}, {"site": "site1"}]
    assert "60 of 120 patients" in corrector.trimmed_


@pytest.mark.parametrize(("group", "specimen"), [("patient", "patient"), (["slide", "patient"], "tissue")])
def test_the_causal_model_counts_patients_whatever_else_the_graph_names_of_them(rows, group, specimen):
    """A specimen that is the unit was numbered row by row, and so was the unit."""
    X, obs = rows
    graph = CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group=group, specimen=specimen)
    found, plain = (SCMCorrector(g).fit(X, obs["site"], **given(obs)) for g in (graph, GRAPH))
    assert found.scm_.fitted.n_groups == plain.scm_.fitted.n_groups == obs["patient"].nunique()
    np.testing.assert_array_equal(found.transform(X, obs["site"]), plain.transform(X, obs["site"]))


def test_the_causal_model_moves_technical_paths_only():
    X, obs, _ = sample(n_groups=240, n_scanners=2, scanner_effect=1.0, confounding=0.4)
    more = {"biology": obs["tumour"], "groups": obs["patient"]}
    factor, arrows = obs[["site", "scanner"]], "site -> scanner; {site, scanner, tumour} -> Z; "
    roles = {"biology": "tumour", "technical": ["site", "scanner"], "group": "patient"}
    causal, referral = (CausalGraph(arrows + a, **roles) for a in ("site -> tumour", "site <-> tumour"))
    out = [SCMCorrector(g).fit_transform(X, factor, **more) for g in (causal, referral)]
    np.testing.assert_allclose(out[0], out[1], atol=1e-12)  # case mix is no technical path
    for name in ("site", "scanner"):
        assert (
            np.abs(gaps(out[0], obs[name], obs["tumour"])).max() < 0.5 * np.abs(gaps(X, obs[name], obs["tumour"])).max()
        )
    held = SCMCorrector(referral, reference={"site": "site1", "scanner": "scanner0"}).fit(X, factor, **more)
    at_home = ((obs["site"] == "site1") & (obs["scanner"] == "scanner0")).to_numpy()
    moved = held.transform(X, factor=factor)
    np.testing.assert_allclose(moved[at_home], X[at_home], atol=1e-12)
    np.testing.assert_allclose(
        moved, held.scm_.counterfactual(held._cohort(X, factor, **more, covariates=None), held.targets_[0]).X
    )
    new = factor.assign(site=factor["site"].replace("site2", "elsewhere"))
    account = held.set_params(unseen="adapt").account(new).to_frame().set_index("level")
    assert account.loc["elsewhere + scanner1", "done"].startswith("new level: learned")
    assert account.loc["site0 + scanner1", "done"] == "moved to site=site1, scanner=scanner0"
    assert account["rows"].sum() == len(X)
    stretched = SCMCorrector(referral, mechanism="location-scale").fit(X, factor, **more)
    with pytest.raises(DataError, match="use transform_given"):
        stretched.transform(X, factor=factor)
    assert stretched.transform_given(X, factor, **more).shape == X.shape
