"""Where sites see different patients: who removes the site, who keeps biology, who destroys it."""

import csv
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from causalfm.estimators import ComBat, MeanAligner, TransportAligner
from experiments.corrector_biology import COHORTS, MEASURES, measured, new_site_left
from experiments.corrector_new_sites import METHODS, PATIENTS

TABLE = Path(__file__).parents[1] / "docs" / "correctors.csv"
KEEP = ("MeanAligner", "ComBat", "TransportAligner", "LinearEraser, oracle", "SCMCorrector")
SEEDS = range(20)


def found(method, confounding, seeds=SEEDS):
    return np.array([measured(method, confounding, seed) for seed in seeds])


@pytest.mark.parametrize("method", KEEP)
@pytest.mark.parametrize("confounding", [0.0, 0.6, 0.9])
def test_methods_given_biology_remove_the_site_and_keep_biology(method, confounding):
    site, within, over, _ = found(method, confounding).T
    # what is left is the error of site means from 40 patients each; where classes hardly overlap it is more
    assert site.mean() < {0.0: 0.1, 0.6: 0.12, 0.9: 0.25}[confounding]
    assert abs(within.mean() - 1.0) < 0.015
    assert abs(over.mean() - 1.0) < 0.015 + 2.0 * over.std(ddof=1) / np.sqrt(len(over))


@pytest.mark.parametrize("method", ["MeanAligner", "ComBat", "NuisanceSubspace", "LinearEraser", "NullspaceProjector"])
def test_without_biology_the_same_methods_destroy_it(method):
    _, _, over, held = found(f"{method}, no biology given", 0.9).T
    assert over.mean() < 0.4
    assert held.mean() <= 0.05


def test_projections_take_biology_with_them_even_where_it_is_given():
    for method, most in (("LinearEraser", 0.98), ("NullspaceProjector", 0.9)):
        assert found(method, 0.3)[:, 1].mean() < most


def test_intervals_that_leave_the_correction_out_are_too_short_where_classes_hardly_overlap():
    held = [found("MeanAligner", c, range(40))[:, 3].mean() for c in (0.3, 0.9)]
    assert held[0] > 0.9
    assert held[1] < 0.8


def test_the_table_is_what_the_script_gives():
    with TABLE.open(encoding="utf-8") as file:
        rows = {(row["method"], float(row["confounding"])): row for row in csv.DictReader(file)}
    for method, confounding in (("ComBat", 0.6), ("LinearEraser", 0.3)):
        mean = found(method, confounding, range(COHORTS)).mean(axis=0)
        expected = [float(rows[method, confounding][name]) for name in MEASURES]
        np.testing.assert_allclose(mean, expected, atol=2e-3)


@pytest.mark.parametrize("make", [MeanAligner, ComBat, TransportAligner])
def test_a_new_site_is_learned_under_the_mix_of_the_fit_and_not_under_another(make):
    def left(policy, patients, **mix):
        return np.mean([new_site_left(lambda: make(unseen=policy), patients, seed, **mix) for seed in SEEDS])

    assert left("shrink", 20) > 0.9
    assert left("adapt", 20) < 0.2
    assert left("adapt", 6) < 0.55
    assert left("adapt", 6, one_class=True) > 0.6  # its class is taken for the site


def test_the_table_of_new_sites_is_what_the_script_gives():
    with TABLE.with_name("corrector_new_sites.csv").open(encoding="utf-8") as file:
        rows = {(row["method"], row["unseen"], row["new site"]): row for row in csv.DictReader(file)}
    assert set(rows) == set(product(METHODS, ("adapt", "shrink"), PATIENTS))
    left = [new_site_left(partial(ComBat, unseen="adapt"), 6, seed, one_class=True) for seed in range(COHORTS)]
    assert float(rows["ComBat", "adapt", "6 patients of one class"]["effect_left"]) == round(np.mean(left), 3)
