"""Does a cohort fit its graph: columns, their kinds, their levels, and what lies within the independent unit."""

import numpy as np
import pandas as pd
import pytest
from graph_samples import standard

from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph

SECRET = "patient-4711"


def table(**changes):
    n = 12
    obs = {
        "tumour": ["luad", "lusc"] * 6,
        "site": np.repeat(["a", "b", "c"], 4),
        "scanner": np.tile([1, 2, 1], 4),
        "stain": pd.Categorical(np.tile(["low", "high"], 6), ["low", "high"], ordered=True),
        "age": np.linspace(40, 80, n),
        "slide": [f"slide-{i}" for i in range(n)],
        "patient": [f"{SECRET}-{i // 2}" for i in range(n)],
    }
    frame = pd.DataFrame({**obs, **changes})
    return Cohort(np.zeros((n, 2), dtype=np.float32), frame)


def test_a_fitting_cohort_passes_and_kinds_are_inferred():
    graph, cohort = (
        standard(group=["slide", "patient"]),
        table(dated=pd.date_range("2020", periods=12), flag=[True, False] * 6),
    )
    graph.check(cohort)
    kinds = {c: graph.kind(c, cohort) for c in ("tumour", "scanner", "stain", "age", "dated", "flag")}
    assert kinds == {
        "tumour": "categorical",
        "scanner": "categorical",
        "stain": "ordinal",
        "age": "continuous",
        "dated": "continuous",
        "flag": "categorical",
    }
    assert graph.kind("count", Cohort(np.zeros((21, 1)), pd.DataFrame({"count": np.arange(21)}))) == "continuous"
    assert graph.kind("count", Cohort(np.zeros((21, 1)), pd.DataFrame({"count": np.arange(21) % 20}))) == "categorical"
    gaps = Cohort(np.zeros((4, 1)), pd.DataFrame({"is_female": [0.0, 1.0, np.nan, 1.0]}))
    assert graph.kind("is_female", gaps) == "categorical"
    assert standard(kinds={"age": "ordinal"}).kind("age", cohort) == "ordinal"
    assert graph.varies_within_group(cohort, "site") == 0
    assert graph.varies_within_group(cohort, "tumour") == 6


@pytest.mark.parametrize(
    ("changes", "roles", "error", "message"),
    [
        ({}, {"covariates": ["sex", "bmi"]}, GraphError, "obs has no column 'sex', 'bmi'. Columns: tumour, site"),
        ({}, {"specimen": "block"}, GraphError, "obs has no column 'block'"),
        (
            {"tumour": ["luad"] * 12},
            {},
            DataError,
            "'tumour' is biology and has one level only ('luad') in all 12 rows",
        ),
        ({"stain": ["x"] * 12}, {}, DataError, "'stain' is a technical factor and has one level only ('x')"),
        ({"tumour": np.linspace(0, 1, 12)}, {}, DataError, "is biology and taken as (12 different numbers) continuous"),
        (
            {},
            {"kinds": {"scanner": "continuous"}},
            DataError,
            "'scanner' is a technical factor and declared continuous",
        ),
        ({}, {"kinds": {"tumour": "multi-label"}}, DataError, "'tumour' is biology and multi-label"),
        ({}, {"kinds": {"age": "multi-label"}}, DataError, "covariate 'age' is multi-label"),
        (
            {"age": ["old"] * 12},
            {"kinds": {"age": "continuous"}},
            DataError,
            "'age' is declared continuous but holds text",
        ),
        ({"age": [np.nan, *range(11)]}, {}, DataError, "column 'age' has 1 missing values of 12 (row 0)"),
        ({"patient": [None, *[SECRET] * 11]}, {}, DataError, "column 'patient' has 1 missing values"),
        (
            {"slide": [f"{SECRET}-{i % 6}" for i in range(12)]},
            {"group": ["slide", "patient"]},
            DataError,
            "6 of 6 levels of 'slide' lie in several levels of 'patient' (rows 0, 1, 2, 3, 4 and 1 more)",
        ),
        ({}, {"group": ["patient", "slide"]}, DataError, "from the finest unit to the coarsest"),
        (
            {"block": [f"{SECRET}-{i // 3}" for i in range(12)]},
            {"specimen": "block"},
            DataError,
            "4 of 4 levels of 'block' lie in several levels of 'patient'",
        ),
        (
            {"site": ["a", "b", *"aabbbbbbba"]},
            {},
            DataError,
            "'site' varies within 2 of 6 levels of the independent unit 'patient' (rows 0, 10)",
        ),
    ],
)
def test_cohorts_that_do_not_fit(changes, roles, error, message):
    with pytest.raises(error) as caught:
        standard(**roles).check(table(**changes))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_number_codes_of_many_sites_can_be_declared():
    n = 63
    obs = pd.DataFrame({"tumour": ["x", "y", "x"] * 21, "site": np.arange(n) // 3 + 0.5, "patient": np.arange(n)})
    cohort = Cohort(np.zeros((n, 1), dtype=np.float32), obs)
    roles = {"biology": "tumour", "technical": "site", "group": "patient"}
    with pytest.raises(DataError, match=r"pass kinds=\{'site': 'categorical'\}"):
        CausalGraph.standard(**roles).check(cohort)
    CausalGraph.standard(**roles, kinds={"site": "categorical"}).check(cohort)


def test_many_integer_site_codes_are_levels_and_many_integer_ages_are_not():
    obs = pd.DataFrame({"site": np.arange(60) % 30, "tumour": np.arange(60) % 2, "age": np.arange(60) + 20})
    cohort = Cohort(np.zeros((60, 1)), obs.assign(patient=np.arange(60)))
    graph = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
    graph.check(cohort)
    assert [graph.kind(c, cohort) for c in ("site", "tumour", "age")] == ["categorical", "categorical", "continuous"]
