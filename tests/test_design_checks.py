"""What an audit says of its own footing: size and visible distance beside the answer, a graph that the table denies."""

import json

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.auditing import Audit
from causalfm.auditing.continuous import without
from causalfm.auditing.design_checks import graph_check
from causalfm.auditing.policy import load_policy
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
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


def thick(slope: float) -> Cohort:
    """A continuous factor beside the site."""
    cohort, _ = linear_scm(n_groups=72, n_sites=2, d=6, biology_effect=2.0, random_state=1)
    dose = np.random.default_rng(0).standard_normal(72)[cohort.factor("patient").codes]
    X = cohort.X + slope * dose[:, None]
    return cohort.replace(X=X.astype(np.float32), obs=cohort.obs.assign(thickness=dose))


def test_a_continuous_factor_is_answered_with_its_self_check() -> None:
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "thickness"], group="patient")
    audit = cfm.audit(thick(0.0), graph, random_state=3)
    found = finding(audit, "invariance", "thickness")
    expected = self_check(thick(0.0), graph, of="thickness", random_state=3)
    assert found.sentence.endswith(expected.sentence)
    assert "per standard deviation of thickness with 80% power." in found.sentence
    assert found.verdict == "pass"
    shown = found.details["self-check"]
    assert shown["size at 5%"]["value"] == expected.size
    assert shown["in units of"] == "the distance between classes of tumour per standard deviation of thickness"
    assert "are compared over site=site0" in finding(audit, "overlap", "thickness").sentence
    asked = [f.question for f in audit.findings if f.factor == "thickness"]
    assert asked == ["overlap", "invariance", "effect", "performance"]
    assert list(audit.tables) == ["site"]
    assert audit.graph is graph
    assert any(sentence.startswith("thickness is continuous: of it the audit asks") for sentence in audit.assumptions)
    alone = cfm.audit(thick(0.0), ONE, random_state=3)  # the other answers are those without it
    assert finding(audit, "effect", "site") == finding(alone, "effect", "site")
    for text in (audit.to_html(), audit.to_markdown(), audit.to_json()):
        assert "Can values of thickness be compared within" in text


def test_a_continuous_factor_that_moves_the_embedding_fails() -> None:
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "thickness"], group="patient")
    audit = cfm.audit(thick(2.0), graph)
    assert finding(audit, "invariance", "thickness").verdict == "fail"
    assert (
        "thickness exceeds the policy's margin for how far the embedding moves with it; one standard" in audit.headline
    )
    assert audit.verdict == "fail"


def test_continuous_factors_are_refused_where_the_rest_cannot_be_asked() -> None:
    alone = cfm.CausalGraph.standard(biology="tumour", technical="thickness", group="patient")
    roles = {"biology": "tumour", "technical": ["site", "thickness"], "group": "patient"}
    hidden = cfm.CausalGraph("thickness -> site; {tumour, site, thickness} -> Z", **roles)
    for graph in (alone, hidden):
        with pytest.raises(DataError, match=r"'thickness' is a technical factor and taken as .* beside a factor with"):
            cfm.audit(thick(0.0), graph)
    coded = thick(0.0)
    coded = coded.replace(obs=coded.obs.assign(codes=coded.factor("patient").codes % 4 + 0.0))
    floats = cfm.CausalGraph.standard(biology="tumour", technical=["site", "codes"], group="patient")
    with pytest.raises(DataError, match=r"4 different values in 72 patients, whole numbers stored as floats.*kinds="):
        cfm.audit(coded, floats)


@pytest.mark.parametrize(
    ("arrows", "left"),
    [
        ("site -> t -> Z; b -> Z", "site -> Z; b -> Z"),
        ("site -> t; {site, t} -> {u, Z}; b -> Z", "u <-> Z; site -> {u, Z}; b -> Z"),
        ("site <-> t; t -> Z; {site, b} -> Z", "site <-> Z; {site, b} -> Z"),
        ("site -> t; {site, b} -> Z", "{site, b} -> Z"),
    ],
)
def test_a_factor_taken_out_leaves_what_it_carried(arrows: str, left: str) -> None:
    roles = {"biology": "b", "group": "patient"}
    technical = ["site", "u"] if "u" in arrows else ["site"]
    graph = cfm.CausalGraph(arrows, technical=[*technical, "t"], kinds={"t": "continuous"}, **roles)
    assert without(graph, "t") == cfm.CausalGraph(left, technical=technical, **roles)


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
