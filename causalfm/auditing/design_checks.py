"""What an audit stands on: whether its test is valid here, what it could see, whether the table denies the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import self_check
from causalfm.invariance.falsification import Falsification, falsify_graph, fewest_permutations
from causalfm.invariance.self_checks import FEWEST, null_work, pairs_work
from causalfm.results import TestResult
from causalfm.strata import stratify

PERMUTATIONS = 39  # of each null cohort
MOST_WORK = 4e11  # multiplications: about a minute on one core


def checked(
    finding: Finding, result: TestResult, cohort: Cohort, graph: CausalGraph, of: Sequence[str], seed: int
) -> Finding:
    """Say beside an answer what size the test has on this design, and which distance it could not have seen.

    Parameters
    ----------
    finding
        The answer on invariance.
    result
        The test behind it.
    cohort, graph, of
        What was asked.
    seed
        Seed of the null cohorts.

    Returns
    -------
    Finding
        With the check in ``details["self-check"]``. The verdict stays, for it rests on bounds: they know the covariance
        of every cell, which the permutation does not.
    """
    overlap = result.details["overlap"]
    if result.effect is None:
        return finding
    if not overlap["paired"]:
        if overlap["continuous"]:
            work = pairs_work(result.n_groups, PERMUTATIONS)
        else:
            work = null_work(stratify(cohort, graph, of, result.given).counts(), cohort.d, PERMUTATIONS)
        if FEWEST * work > MOST_WORK:
            note = "What this design could see was not simulated: it would take too long (causalfm.self_check does it)."
            return dataclasses.replace(finding, sentence=f"{finding.sentence} {note}")
    asked: dict[str, Any] = {"of": of, "given": result.given, "minimum": overlap["minimum"], "random_state": seed}
    try:
        found = self_check(cohort, graph, n_permutations=PERMUTATIONS, **asked)
    except DataError as error:
        return dataclasses.replace(finding, sentence=f"{finding.sentence} What could be seen is not known: {error}")
    low, high = found.size_low, found.size_high
    shown: dict[str, Any] = {
        "size at 5%": {"value": found.size, "low": low, "high": high},
        "null cohorts": found.n_nulls,
        "distance seen with 80% power": {
            "value": found.detectable, "low": found.detectable_low, "high": found.detectable_high
        },
        "in units of": f"the distance between classes of {graph.biology}"
        + f" per standard deviation of {result.of}" * overlap["continuous"],
        "direction": found.details["direction"],
        "permutations of each": PERMUTATIONS,
    }  # fmt: skip
    sentence = f"{finding.sentence} {found.sentence}"
    if found.verdict == "fail":
        sentence += " Do not rely on its p-value; the verdict rests on the bounds of the distances."
    return dataclasses.replace(finding, sentence=sentence, details={**finding.details, "self-check": shown})


def graph_check(cohort: Cohort, graph: CausalGraph, policy: Policy, seed: int) -> tuple[list[Finding], str]:
    """Confront the declared graph with the table.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    policy
        Its permutations are used, or more where many independences are tested together.
    seed
        Seed.

    Returns
    -------
    list of Finding
        One if the table contradicts the graph. Its verdict is "cannot tell": what was concluded from the graph is then
        open, and a p-value decides nothing about the embedding.
    str
        What is to be said if there is none.
    """
    n_permutations = max(policy.permutations, fewest_permutations(graph))
    found = falsify_graph(cohort, graph, n_permutations=n_permutations, random_state=seed)
    if found.verdict != "fail":
        return [], found.sentence
    failed = [test for test in found.tests if test.verdict == "fail"]
    between = "; ".join(test.of.replace(", ", " and ") for test in failed)
    finding = Finding(
        question="graph",
        title="Does the table contradict the declared graph?",
        factor="declared graph",
        verdict="cannot tell",
        sentence=f"{found.sentence} What this report concludes from the graph is open until it is mended.",
        value=float(np.min([test.details["p_holm"] for test in failed])),
        quantity="p-value after Holm's correction, the smallest of the implied independences",
        n=len(cohort),
        n_groups=failed[0].n_groups,
        unit=graph.group,
        target=f"one value for each {graph.group} of this cohort",
        advice=f"Add the missing arrow or common cause ('<->') between {between}, or declare what rows were selected "
        "by (selected=), and audit again.",
        details={"implied independences": _rows(found), "n_permutations": n_permutations},
    )
    return [finding], ""


def _rows(found: Falsification) -> list[dict[str, Any]]:
    return [
        {
            "independent": test.of,
            "given": ", ".join(test.given),
            "p after Holm": test.details["p_holm"],
            "variance in common": test.details["association"],
            "note": "contradicted" if test.verdict == "fail" else test.details["reason"] or "not contradicted",
        }
        for test in found.tests
    ]
