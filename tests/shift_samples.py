"""Planted shifts, and the accuracy that they cost, shared by the tests of what a new hospital costs."""

import numpy as np
import pytest

from causalfm.datasets.planted_shifts import planted_shift
from causalfm.graph import CausalGraph
from causalfm.shift import as_domains

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")

STRONG = {"n_sites": 12, "n_groups": 480, "new_groups": 60, "biology_effect": 1.0, "d": 16, "rows_per_group": 2}


def domains_of(kind, size=1.0, seed=0, **design):
    reference, deployment, graph, _ = planted_shift(kind, size, effect_seed=seed, random_state=seed, **STRONG | design)
    return as_domains(reference, deployment, graph)


@pytest.fixture(scope="module")
def same():
    return domains_of("nothing")


@pytest.fixture(scope="module")
def moved():
    return domains_of("scanner", 1.5)


def true_accuracy(domains):
    """Accuracy over the deployment's patients, by hand."""
    part = domains.deployment
    hit = part.scores.argmax(axis=1) == part.labels
    return np.mean([hit[part.units == g].mean() for g in np.unique(part.units)])
