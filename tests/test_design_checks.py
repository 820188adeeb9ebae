"""What an audit says of its own footing: size and visible distance beside the answer, a graph that the table denies."""

import json

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.auditing import Audit
from causalfm.auditing.design_checks import graph_check
from causalfm.auditing.policy import load_policy
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.invariance import self_check
from experiments.calibration.rescans import rescanned

ONE = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
BOTH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def finding(audit: Audit, question: str, factor: str):
    (found,) = [f for f in audit.findings if (f.question, f.factor) == (question, factor)]
    return found


@pytest.fixture(scope="module")
def scanned() -> Audit:
    """A scanner that varies within patients."""
    cohort, _ = rescanned(n_scanners=3, missing=0.3, scanner_effect=0.4, biology_effect=2.0, d=8, n_groups=40)
    return cfm.audit(cohort, BOTH)


def test_the_self_check_stands_beside_the_answer() -> None:
    cohort, _ = linear_scm(n_groups=64, n_sites=2, d=8, random_state=1)
    audit = cfm.audit(cohort, ONE, random_state=4)
    found, expected = finding(audit, "invariance", "site"), self_check(cohort, ONE, of="site", random_state=4)
    assert found.sentence.endswith(expected.sentence)
    assert "could not have seen less than" in found.sentence
    shown = found.details["self-check"]
    assert shown["size at 5%"]["value"] == expected.size
    assert shown["distance seen with 80% power"]["value"] == expected.detectable
    for text in (audit.to_html(), audit.to_markdown()):
        assert "could not have seen less than" in text
    json.loads(audit.to_json())


def test_a_scanner_within_patients_is_answered_within_them(scanned: Audit) -> None:
    found = finding(scanned, "invariance", "scanner")
    assert found.verdict == "pass"  # .2 of the distance between classes, margin .5
    assert "sign flips of patients" in found.sentence
    assert found.quantity.startswith("p-value of the sign-flip test")
    between = finding(scanned, "invariance", "site").details["self-check"]["distance seen with 80% power"]["value"]
    assert found.details["self-check"]["distance seen with 80% power"]["value"] < between
    assert finding(scanned, "effect", "scanner").n_groups <= 40
    assert "each its own control" in finding(scanned, "overlap", "scanner").sentence


def test_a_p_value_that_does_not_hold_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on TCGA's lung cancers at five hospitals, where 10.4 % of 1,000 null cohorts are rejected."""
    cohort, _ = linear_scm(n_groups=64, n_sites=2, d=8, site_effect=3.0, random_state=1)
    wrong = "causalfm.invariance.self_checks.mean_nulls"
    monkeypatch.setattr(wrong, lambda units, own, n, *rest: lambda *_: np.where(np.arange(n) % 2, 0.01, 0.5))
    found = finding(cfm.audit(cohort, ONE), "invariance", "site")
    assert found.verdict == "fail"  # by the bounds
    assert (
        "cells or levels vary unlike, and it is not valid on this design. Do not rely on its p-value" in found.sentence
    )


def test_no_check_where_it_would_take_too_long_or_nothing_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, _ = linear_scm(n_groups=40, n_sites=2, d=4, random_state=1)
    flat = cohort.replace(X=np.ones_like(cohort.X))
    found = finding(cfm.audit(flat, ONE), "invariance", "site")
    assert "What could be seen is not known: X does not vary between patients of a cell" in found.sentence
    monkeypatch.setattr("causalfm.auditing.design_checks.MOST_WORK", 1.0)
    found = finding(cfm.audit(cohort, ONE), "invariance", "site")
    assert "it would take too long" in found.sentence
    assert "self-check" not in found.details


def leaking(n: int, leak: float) -> Cohort:
    """The scanner follows the site, as declared, and by ``leak`` the tumour, which is not."""
    rng = np.random.default_rng(3)
    site, tumour = rng.integers(0, 2, n), rng.integers(0, 2, n)
    scanner = np.where(rng.random(n) < leak, tumour, rng.random(n) < 0.3 + 0.4 * site).astype(int)
    obs = pd.DataFrame({"site": site, "tumour": tumour, "scanner": scanner})
    return Cohort(rng.standard_normal((n, 6)) + 2.0 * tumour[:, None], obs.assign(patient=[f"S{i}" for i in range(n)]))


def test_a_contradicted_graph_is_a_finding_of_its_own() -> None:
    audit = cfm.audit(leaking(200, 0.6), BOTH)
    found = finding(audit, "graph", "declared graph")
    assert audit.findings[0] is found
    assert found.quantity.startswith("p-value")  # which keeps it out of the figures: no verdict rests on it
    assert "implies tumour independent of scanner given site; the table contradicts it (p = 0.001" in found.sentence
    assert found.verdict == "cannot tell"
    assert "between tumour and scanner" in found.advice
    assert found.details["implied independences"][0]["note"] == "contradicted"
    assert audit.headline.endswith("The table contradicts the declared graph: what was concluded from it is open.")
    assert audit.verdict != "pass"
    for text in (audit.to_html(), audit.to_markdown(), audit.to_json(), audit._repr_html_()):
        assert "Does the table contradict the declared graph?" in text


def test_a_graph_that_survives_is_no_finding() -> None:
    audit = cfm.audit(leaking(200, 0.0), BOTH)
    assert not [f for f in audit.findings if f.question == "graph"]
    assert any("contradicts none of the 1 independences" in sentence for sentence in audit.assumptions)
    saturated, note = graph_check(leaking(60, 0.0), ONE, load_policy(), 0)
    assert saturated == []
    assert note.startswith("The declared graph implies no independence among its columns")
