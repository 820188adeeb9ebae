"""What the audit advises: correctors measured on the cohort itself, named only where the interval says so."""

import dataclasses
import shlex

import numpy as np
import pytest

import causalfm as cfm
from causalfm.auditing import advice as module
from causalfm.auditing.advice import AUGMENTATION, PLANS, advise, command, failing
from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import load_policy
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, PolicyError
from causalfm.estimators.correctors import NAMES

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")
SITE = cfm.CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")


def finding(question: str, factor: str, verdict: str = "fail") -> Finding:
    return Finding(question, question, factor, verdict, "")


FAILED = [finding("readout", "site")]


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    """Two of the correctors of the quick plan."""
    plan = dataclasses.replace(PLANS["quick"], correctors=PLANS["quick"].correctors[::2])
    monkeypatch.setitem(module.PLANS, "quick", plan)


def moved(strength: float) -> Cohort:
    """Classes on one axis, sites on the same axis: a probe trained on some sites is lost at another."""
    rng = np.random.default_rng(0)
    patients = 96
    site, tumour = np.arange(patients) % 4, np.arange(patients) // 4 % 2
    centre = np.array([-2.0, -0.7, 0.7, 2.0])[site] * strength + 1.6 * tumour
    X = rng.normal(size=(patients, 6)) * 0.6
    X[:, 0] += centre
    base, _ = linear_scm(n_groups=patients, rows_per_group=1, random_state=0)
    obs = base.obs.assign(site=[f"s{i}" for i in site], tumour=[f"c{i}" for i in tumour])
    return Cohort(X, obs)


def test_a_corrector_that_helps_is_named_with_its_gain_and_a_command_that_runs():
    (found,) = advise(moved(1.5), SITE, FAILED, "quick", 0)
    assert found.recommended == "MeanAligner (shrinkage=empirical-bayes, unseen=adapt)"
    none, best = (
        next(r for r in found.tried if r["corrector"] == name) for name in ("no correction", found.recommended)
    )
    gain = best["new_levels"]
    assert gain["low"] > 0.0
    assert gain["change"] == pytest.approx(gain["value"] - none["new_levels"]["value"])
    assert f"rises by {gain['change']:.3f} (joint interval {gain['low']:.3f}" in found.sentence
    assert "levels of site left out" in found.sentence
    assert shlex.split(found.command)[:5] == ["causalfm", "correct", "REFERENCE", "--corrector", "MeanAligner"]
    assert found.board["processor seconds"] > 0.0


def test_no_corrector_helps_is_said_with_the_interval_though_the_read_out_falls():
    cohort, _ = linear_scm(n_groups=96, rows_per_group=1, site_effect=1.5, biology_effect=3.0, random_state=1)
    (found,) = advise(cohort, SITE, FAILED, "quick", 0)
    assert (found.recommended, found.command) == (None, "")
    assert found.sentence.startswith("No corrector helps here: the largest gain")
    assert "does not exclude 0" in found.sentence
    *correctors, augmented = found.tried[1:]
    assert all(row["readout"]["high"] < 0.0 for row in correctors)  # hidden from the reader, and yet no gain
    assert (augmented["corrector"], augmented["readout"]["change"]) == (AUGMENTATION, 0.0)  # new rows stay as they are


def test_a_cohort_that_is_too_thin_abstains_with_the_reason():
    cohort, _ = linear_scm(n_groups=16, n_sites=4, random_state=0)
    (found,) = advise(cohort, SITE, FAILED, "quick", 0)
    assert found.sentence.startswith("Cannot tell whether a corrector helps: no class of 'tumour' is held by")
    assert found.tried == ()


def test_only_factors_that_failed_are_asked_about():
    findings = [
        finding("biology", "tumour"),
        finding("graph", "declared graph"),
        finding("effect", "site", "cannot tell"),
    ]
    assert failing(findings, GRAPH) == []
    assert failing([*findings, finding("effect", "site + scanner")], GRAPH) == ["scanner"]
    assert failing([finding("readout", "scanner"), *FAILED], GRAPH) == ["site", "scanner"]
    (found,) = advise(moved(1.0), SITE, FAILED, "none", 0)
    assert "--corrections quick" in found.sentence


def test_the_command_names_every_column_and_survives_a_shell():
    graph = cfm.CausalGraph.standard(
        biology="the 'class'", technical=["site"], covariates=["a,b", "c"], group="patient"
    )
    words = shlex.split(command(graph, "site", "LinearEraser", {"form": "oracle", "unseen": "adapt"}))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--biology"] == "the 'class'"
    assert (options["--covariates"], options["--set"], options["--unseen"]) == ('"a,b",c', "form=oracle", "adapt")
    assert (options["--factor"], options["--group"]) == ("site", "patient")
    assert {name for plan in PLANS.values() for name, _ in plan.correctors} <= set(NAMES)


def test_the_policy_or_the_argument_decides(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nname: x\ncorrections: full\n")
    assert (load_policy(path).corrections, load_policy().corrections) == ("full", "none")
    path.write_text("version: 1\nname: x\ncorrections: all\n")
    with pytest.raises(PolicyError, match="corrections: 'all'"):
        load_policy(path)
    with pytest.raises(DataError, match="corrections='fast': choose one of 'none', 'quick', 'full'"):
        cfm.audit(moved(1.0), SITE, corrections="fast")  # type: ignore[arg-type]


def test_a_number_that_failed_is_not_passed_over():
    numbers = [finding("invariance", "days")]
    (found,) = advise(moved(1.0), SITE, numbers, "quick", 0, ["days", "dose"])
    assert (found.factor, found.recommended, found.tried) == ("days", None, ())
    assert found.sentence.startswith("days is a number, and correctors remove levels: none was tried.")
    assert advise(moved(1.0), SITE, [finding("invariance", "days", "pass")], "quick", 0, ["days"]) == ()


def test_a_gain_in_the_mean_names_the_levels_that_lose():
    board = cfm.estimators.Scoreboard((), "a", "", 8, 8, "patient", {})
    at = {"no correction": {"s0": 0.5, "s1": 0.9, "s2": 0.8}, "a": {"s0": 0.9, "s1": 0.7, "s2": 0.8}}
    told = module._falls(dataclasses.replace(board, details={"biology_at_new_site": at}))
    assert told == " The accuracy fell at 1 of 3 levels, each by a number without interval: s1 (-0.200)."
    nobody = dataclasses.replace(board, recommended=None, details={"biology_at_new_site": at})
    assert module._falls(nobody) == ""
