"""Which factors decide, and columns that a policy names and a table lacks."""

import dataclasses

import numpy as np
import pytest

import causalfm as cfm
from causalfm.auditing import load_policy
from causalfm.auditing.findings import Finding
from causalfm.auditing.headline import headline
from causalfm.auditing.policy_columns import check_columns, mark_monitored, monitored, monitored_note
from causalfm.auditing.shift_findings import column_finding
from causalfm.datasets.linear_scm import linear_scm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.results import worst
from causalfm.shift import as_domains

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner", "a + b"], group="patient")
POLICY = dataclasses.replace(load_policy(), permutations=99)


def policy(*factors, **more):
    return dataclasses.replace(POLICY, factors=factors, **more)


@pytest.mark.parametrize(
    ("factor", "named", "expected"),
    [
        ("site", (), True),
        ("site", ("site",), True),
        ("scanner", ("site",), False),
        ("site + scanner", ("site",), True),
        ("site + scanner", ("scanner",), True),
        ("site + scanner", ("a + b",), False),
        ("a + b", ("a + b",), True),  # a column of that name, and no joint question
        ("a + b", ("site",), False),
        ("tumour", ("site",), True),
        ("declared graph", ("site",), True),
        ("sex", ("site",), True),
    ],
)
def test_a_finding_decides_if_any_of_its_factors_is_named(factor, named, expected):
    assert monitored(factor, GRAPH, policy(*named)) is expected


def finding(factor, verdict, question="effect"):
    return Finding(question, "?", factor, verdict, ".", value=1.5, low=1.2, high=1.8)


def test_what_is_not_monitored_is_shown_and_does_not_decide():
    found = [finding("site", "pass"), finding("scanner", "fail"), finding("tumour", "pass", "biology")]
    marked = mark_monitored(found, GRAPH, policy("site"))
    assert [f.monitored for f in marked] == [True, False, True]
    assert marked[1].details == {"monitored": False}
    assert worst([f.verdict for f in marked if f.monitored]) == "pass"
    told = headline(marked, GRAPH)
    assert "dominates" not in told
    assert told.endswith("The policy does not monitor scanner, where margins are exceeded.")
    assert monitored_note(marked, policy("site")) == [
        "The policy monitors site: findings on scanner are shown and do not decide."
    ]
    everything = mark_monitored(found, GRAPH, policy())
    assert everything == found
    assert monitored_note(everything, policy()) == []
    assert "scanner dominates" in headline(everything, GRAPH)


@pytest.mark.usefixtures("without_self_checks")
def test_an_audit_decides_by_the_factors_named():
    cohort, _ = linear_scm(n_groups=60, rows_per_group=1, d=4, n_sites=2, n_scanners=2, site_effect=3.0, random_state=2)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    found = cfm.audit(cohort, graph, policy=policy("scanner"))
    by = {(f.question, f.factor): f for f in found.findings}
    assert (by["effect", "site"].verdict, by["effect", "site"].monitored) == ("fail", False)
    assert all(f.monitored for f in found.findings if f.factor in ("scanner", "tumour"))
    assert found.verdict == worst([f.verdict for f in found.findings if f.factor != "site"]) != "fail"
    assert "does not monitor site" in found.headline
    assert any("The policy monitors scanner" in text for text in found.assumptions)
    assert found.to_dict()["verdict"] == found.verdict


def test_a_deployment_decides_by_the_columns_named():
    reference, deployment, graph, _ = planted_shift("scanner", 2.5, n_groups=96, new_groups=40, d=4, random_state=1)
    domains = as_domains(reference, deployment, graph, random_state=0)
    every = column_finding(domains, policy())
    assert [row["role"] for row in every.details["columns"]] == ["covariate", "technical"]
    only = column_finding(domains, policy("site"))
    assert [row["role"] for row in only.details["columns"]] == ["covariate", "technical, not monitored"]
    told = {row["column"]: row["verdict"] for row in only.details["columns"]}
    assert only.verdict == told["age"]
    assert "scanner" not in only.sentence
    assert only.monitored
    alone = dataclasses.replace(
        domains, graph=cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    )
    assert not column_finding(alone, policy("site")).monitored


def test_columns_that_are_not_there():
    cohort = cfm.Cohort(np.zeros((2, 2), dtype=np.float32), linear_scm(n_groups=8)[0].obs.iloc[:2])
    for cohorts in ({"cohort": cohort}, {"reference": cohort, "deployment": cohort}):
        name = next(iter(cohorts))
        with pytest.raises(
            DataError, match=f"key 'subgroups' names 'agee', and the {name} has no .*mean 'age'.*Columns: "
        ):
            check_columns(policy(subgroups=("agee",)), GRAPH, cohorts)
    wrong = (
        "key 'factors' names 'scaner', and the graph has no .*Did you mean 'scanner'.*Technical factors: site, scanner"
    )
    with pytest.raises(DataError, match=wrong):
        check_columns(policy("site", "scaner"), GRAPH, {"cohort": cohort})
    with pytest.raises(DataError, match="key 'factors' names 'tumour'"):  # biology is no technical factor
        check_columns(policy("tumour"), GRAPH, {"cohort": cohort})
