"""Counterfactual augmentation measured as correctors are: training rows move, new rows do not."""

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.augment import CounterfactualTraining, balanced_counterfactuals
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.measuring import told_sites
from causalfm.estimators.scoring.trial import trial_of

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
COHORT, _ = linear_scm(n_groups=60, rows_per_group=2, d=6, site_effect=3.0, confounding=0.4, random_state=1)


def parts():
    obs = COHORT.obs
    return COHORT.X, obs["site"], {"biology": obs["tumour"], "groups": obs["patient"].to_numpy()}


def test_training_rows_are_the_counterfactual_rows_and_new_rows_stay():
    X, site, more = parts()
    found = CounterfactualTraining(GRAPH, random_state=3).fit(X, site, **more)
    scm = cfm.EmbeddingSCM(GRAPH).fit(COHORT)
    moved = balanced_counterfactuals(scm, COHORT, random_state=3)
    np.testing.assert_allclose(found.training_, moved.X, rtol=1e-6)
    assert np.abs(found.training_ - X).max() > 1.0
    assert found.transform(X) is X


@pytest.mark.parametrize(("group", "specimen"), [(["slide", "patient"], None), ("patient", "tissue")])
def test_units_and_specimens_that_the_graph_names_need_not_be_handed_over(group, specimen):
    """The table of the fit had one column for all units: a graph with a second one, or a specimen, was refused."""
    X, site, more = parts()
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group=group, specimen=specimen)
    found, plain = (CounterfactualTraining(g, random_state=3).fit(X, site, **more) for g in (graph, GRAPH))
    np.testing.assert_array_equal(found.training_, plain.training_)


def test_the_scoreboard_trains_on_moved_rows_and_reads_rows_as_they_are():
    trial = trial_of(COHORT, GRAPH, None, None, 0)
    held = trial.fold == 0
    attempt = Attempt(CounterfactualTraining(GRAPH), ("linear",), False, 0)
    X = corrected(trial, attempt, ~held, [~held, held])
    np.testing.assert_array_equal(X[held], trial.cohort.X[held].astype(X.dtype))
    site, tumour = trial.site.y[~held], trial.biology.y[~held]

    def spread(rows):  # of site means within classes, which the moves take away
        means = pd.DataFrame(rows).groupby([tumour, site]).mean()
        return float(means.groupby(level=0).var().to_numpy().mean())

    assert spread(X[~held]) < 0.3 * spread(trial.cohort.X[~held])


def test_a_graph_is_needed_and_must_fit():
    X, site, more = parts()
    with pytest.raises((DataError, GraphError), match="graph"):
        CounterfactualTraining().fit(X, site, **more)
    wider = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    with pytest.raises((DataError, GraphError), match="scanner"):
        CounterfactualTraining(wider).fit(X, site, **more)


def test_a_new_site_is_told_from_rows_as_they_are_deployed():
    """Moved rows of the other sites were told from those of the new site: the number spoke of the augmentation."""
    trial = trial_of(COHORT, GRAPH, None, None, 0)
    plain, moved = (told_sites(trial, Attempt(c, ("linear",), False, 0)) for c in (None, CounterfactualTraining(GRAPH)))
    assert moved == plain


def test_its_name_in_a_report_is_the_same_in_every_run():
    assert repr(CounterfactualTraining(random_state=3)) == "CounterfactualTraining(target='marginal', random_state=3)"
