"""DoWhy's opinion of a graph: from another process, within a time limit, for graphs it is made for."""

import json
import re
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from causalfm import CausalGraph, Cohort
from causalfm.errors import DataError, GraphError
from causalfm.invariance import dowhy_falsification

ROLES = {"biology": "grade", "technical": ["scanner"], "group": "patient"}
CHAIN = CausalGraph("dose -> grade; grade -> age; age -> scanner; {dose, grade, age, scanner} -> Z", **ROLES)
WRONG = CausalGraph("dose -> age; age -> scanner; scanner -> grade; {dose, grade, age, scanner} -> Z", **ROLES)


def chain(n: int = 60) -> Cohort:
    """Patients with two rows each; every column follows from the one before it, and from it alone."""
    rng = np.random.default_rng(0)
    dose = rng.standard_normal(n)
    grade = np.where(dose + 0.5 * rng.standard_normal(n) > 0, "high", "low")
    age = 60 + 6 * (grade == "high") + 3 * rng.standard_normal(n)
    scanner = np.where(age + 2 * rng.standard_normal(n) > 63, "P1000", "S60")
    patient = [f"secret{i}" for i in range(n)]
    obs = pd.DataFrame({"dose": dose, "grade": grade, "age": age, "scanner": scanner, "patient": patient})
    return Cohort(rng.standard_normal((2 * n, 3)), pd.concat([obs, obs], ignore_index=True))


@pytest.mark.slow
def test_dowhy_tells_a_wrong_graph_from_a_right_one_and_leaves_the_random_state() -> None:
    cohort = chain()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what must stay as it is
    right, wrong = (dowhy_falsification(cohort, graph, seconds=300, n_permutations=20) for graph in (CHAIN, WRONG))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert right.n_groups == 60
    assert right.statistic < 0.2 < wrong.statistic
    assert right.p_value < wrong.p_value
    assert right.verdict == "cannot tell"
    assert wrong.verdict == ("fail" if wrong.details["falsified"] else "cannot tell")
    assert "local Markov conditions" in wrong.sentence


FOUND = {"tests": 4, "violations": 1, "p_value": 0.1, "p_same": 0.05, "falsified": 0.0, "falsifiable": 1.0}


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({}, "cannot tell", "1 of 4 .* are violated; 10% .* does not contradict the graph, which does not confirm it"),
        ({"falsified": 1.0}, "fail", "1 of 4 .*: the declared graph is no better than chance"),
        ({"falsifiable": 0.0}, "cannot tell", "10% .* fare as well; 5% of them imply the same: DoWhy cannot judge"),
        ({"falsified": None}, "cannot tell", "the graph implies no independence among its columns"),
    ],
)
def test_what_dowhy_is_asked_and_how_its_answer_reads(monkeypatch, change: dict, verdict: str, says: str) -> None:
    """The slow test above asks DoWhy itself."""
    asked = []

    def run(command, *, input, **options):
        asked.append(json.loads(input))
        return SimpleNamespace(returncode=0, stdout="a word of DoWhy's\n" + json.dumps({**FOUND, **change}) + "\n")

    monkeypatch.setattr(subprocess, "run", run)
    cohort = chain()
    found = dowhy_falsification(cohort, CHAIN, n_permutations=30, random_state=4)
    assert found.verdict == verdict
    assert re.search(says, found.sentence)
    if change.get("falsified", 0.0) is not None:
        assert (found.statistic, found.p_value, found.n_groups) == (0.25, 0.1, 60)
    (task,) = asked
    assert (task["n_permutations"], task["random_state"]) == (30, 4)
    assert sorted(map(tuple, task["edges"])) == [("age", "scanner"), ("dose", "grade"), ("grade", "age")]
    patients = cohort.obs.drop_duplicates("patient").sort_values("patient")
    assert task["columns"]["dose"] == patients["dose"].tolist()
    assert task["columns"]["grade"] == [f"level {int(grade == 'low')}" for grade in patients["grade"]]
    assert "secret" not in json.dumps(task)


def test_what_stops_dowhy_is_said(monkeypatch) -> None:
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nValueError: too few\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    found = dowhy_falsification(chain(), CHAIN)
    assert (found.verdict, found.sentence) == ("cannot tell", "cannot tell: DoWhy failed: ValueError: too few.")


def test_dowhy_is_stopped_when_its_time_is_up() -> None:
    found = dowhy_falsification(chain(), CHAIN, seconds=0.2)
    assert found.verdict == "cannot tell"
    assert "stopped after 0.2 s with 60 patients" in found.sentence
    assert np.isnan(found.p_value)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (CausalGraph.standard(biology="grade", technical=["scanner"], group="patient"), "unmeasured common cause"),
        (CausalGraph("grade -> dose; {grade, scanner} -> Z", selected="dose", **ROLES), "rows are selected by dose"),
    ],
)
def test_graphs_that_dowhy_would_misjudge_are_refused(graph: CausalGraph, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        dowhy_falsification(chain(20), graph)


def test_bad_arguments_and_columns_that_vary_within_patients() -> None:
    for wrong, says in (
        ({"seconds": 0}, "seconds=0: choose a finite number above 0"),
        ({"n_permutations": 5}, "n_permutations=5: choose a whole number of at least 20"),
        ({"random_state": -1}, "random_state=-1: choose a whole number of at least 0"),
    ):
        with pytest.raises(DataError, match=says):
            dowhy_falsification(chain(20), CHAIN, **wrong)
    cohort = chain(20)
    varying = cohort.replace(obs=cohort.obs.assign(age=np.arange(40.0)))
    assert "age varies within patients" in dowhy_falsification(varying, CHAIN).sentence
