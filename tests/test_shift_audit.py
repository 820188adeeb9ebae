"""The audit of a deployment, in Python and on the command line."""

import json

import numpy as np
import pandas as pd
import pytest
from command_line import typed

import causalfm as cfm
from causalfm.auditing.policy import load_policy
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from tests.estimands import check_estimands

SIZE = {"n_groups": 160, "new_groups": 60, "rows_per_group": 2, "d": 8, "n_sites": 8}
ROLES = ("--biology", "tumour", "--technical", "site,scanner", "--covariates", "age", "--group", "patient")
SENTINEL = "patient-7f3a"


@pytest.fixture(scope="module")
def scanner():
    """A technical shift of the embedding, nothing else."""
    return planted_shift("scanner", 2.5, random_state=1, **SIZE)


@pytest.fixture(scope="module")
def audit(scanner, tmp_path_factory):
    reference, deployment, graph, _ = scanner
    policy = tmp_path_factory.mktemp("policy") / "p.yaml"
    policy.write_text("version: 1\nname: p\nsubgroups: [age]\npermutations: 199\n")
    return cfm.audit(reference, graph, deployment=deployment, policy=load_policy(policy))


def found(audit):
    return {finding.question: finding for finding in audit.findings}


def test_every_question_is_answered_in_order(audit):
    assert [f.question for f in audit.findings] == [
        "drift",
        "columns",
        "support",
        "case mix",
        "cost",
        "subgroups",
        "why",
        "split",
        "reversal",
    ]
    assert audit.title.startswith("Can the model of tumour go to ")
    assert audit.verdict == "fail"
    assert (audit.data["deployment_units"], audit.data["deployment_rows_labelled"]) == (60, 120)


def test_every_number_says_what_it_is_and_what_it_holds_for(audit):
    check_estimands(audit)


def test_a_technical_shift_is_named_with_its_cost(audit, scanner):
    by = found(audit)
    assert (by["drift"].verdict, by["cost"].verdict) == ("fail", "fail")
    assert by["drift"].low > by["drift"].margin  # beyond what one more site would show
    rows = by["why"].details["mechanisms"]
    embedding = next(row for row in rows if row["role"] == "embedding")
    assert embedding["low"] > 0.0
    assert embedding["share of the drop"] > 0.5 * by["cost"].value
    assert by["why"].details["named"] == [embedding["mechanism"]]
    assert "further away" in audit.headline
    assert embedding["mechanism"] in audit.headline


def test_the_estimates_without_labels_stand_beside_what_was_measured(audit):
    rows = found(audit)["cost"].details["expected without labels"]
    assert {"CBPE", "DoC", "importance weighting", "site level"} <= {row["estimator"] for row in rows}


def test_reports_hold_the_shift(audit):
    page = audit.to_html()
    for words in ("DISDE", "Shapley values", "Measured performance", "Can the model of tumour go to"):
        assert words in page
    assert "each reference site against the others" in page
    assert "Can the model of tumour go to" in audit.to_markdown()
    body = json.loads(audit.to_json())
    assert body["schema_version"] == "1.3"
    assert body["policy"]["subgroups"] == ["age"]
    again = type(audit).from_dict(body)
    assert (again.to_json(), again.to_html()) == (audit.to_json(), page)


def test_nothing_shifted_does_not_fail():
    reference, deployment, graph, _ = planted_shift("nothing", random_state=5, effect_seed=5, **SIZE)
    audit = cfm.audit(reference, graph, deployment=deployment)
    assert [f.question for f in audit.findings if f.verdict == "fail"] == []


def test_without_labels_what_needs_them_is_not_asked(scanner):
    reference, deployment, graph, _ = scanner
    bare = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    audit = cfm.audit(reference, graph, deployment=bare)
    by = found(audit)
    assert {"cost", "why", "split", "reversal"} & set(by) == set()
    assert by["case mix"].verdict == "cannot tell"  # a mixture of the reference's classes does not reproduce it
    assert by["expected cost"].verdict == "cannot tell"
    assert any("No label of the deployment is known" in text for text in audit.assumptions)


def test_a_model_or_predictions_may_be_given(scanner):
    reference, deployment, graph, _ = scanner

    def model(X):
        p = 1.0 / (1.0 + np.exp(-X[:, 0]))
        return np.stack([1.0 - p, p], axis=1)

    names = reference.factor("tumour").levels
    tables = {
        name: pd.DataFrame(model(cohort.X), index=cohort.obs.index, columns=names)
        for name, cohort in (("reference", reference), ("deployment", deployment))
    }
    costs = [
        found(cfm.audit(reference, graph, deployment=deployment, **given))["cost"]
        for given in ({"model": model}, {"predictions": tables})
    ]
    right = np.asarray(deployment.factor("tumour").codes == model(deployment.X).argmax(axis=1))
    assert costs[0].value == costs[1].value
    assert costs[0].details["accuracies"][0]["value"] == pytest.approx(right.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.replace(X=c.X[:, :3]), ("3 dimensions", "8")),
        (lambda c: c.replace(obs=c.obs.assign(tumour="other")), ("other", "does not know")),
        (lambda c: c.replace(obs=c.obs.drop(columns="site")), ("'site'",)),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused(scanner, change, words):
    reference, deployment, graph, _ = scanner
    with pytest.raises(DataError) as caught:
        cfm.audit(reference, graph, deployment=change(deployment))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_patient_of_both_is_refused_and_not_named(scanner):
    reference, deployment, graph, _ = scanner
    first, second = (
        cohort.replace(obs=cohort.obs.assign(patient=[SENTINEL, *cohort.obs["patient"].astype(str)[1:]]))
        for cohort in (reference, deployment)
    )
    with pytest.raises(DataError, match="belong to a patient that the reference has too") as caught:
        cfm.audit(first, graph, deployment=second)
    assert SENTINEL not in str(caught.value)


@pytest.fixture(scope="module")
def files(scanner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift")
    reference, deployment, _, _ = scanner
    cfm.write(reference, folder / "reference.npz")
    cfm.write(deployment, folder / "new.npz")
    X = np.concatenate([reference.X, deployment.X])
    obs = pd.concat([reference.obs, deployment.obs], ignore_index=True)
    cfm.write(cfm.Cohort(X, obs), folder / "all.npz")
    return folder


def test_two_files_and_one_give_the_same_answer(files, scanner, tmp_path, monkeypatch, capsys):
    (level,) = scanner[1].obs["site"].unique()
    two = typed(monkeypatch, "shift", files / "reference.npz", files / "new.npz", *ROLES, "--out", tmp_path / "two")
    one = typed(monkeypatch, "shift", files / "all.npz", "--at", f"site={level}", *ROLES, "--out", tmp_path / "one")
    bodies = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("two", "one")]
    assert (two, one) == (1, 1)
    assert bodies[0]["headline"] == bodies[1]["headline"]
    assert "FAIL: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--at COLUMN=LEVEL"),
        (("new.npz", "--at", "site=x"), "--at COLUMN=LEVEL"),
        (("--at", "site=nowhere"), "no level 'nowhere'"),
        (("--at", "site"), "--at 'site' must read COLUMN=LEVEL"),
        (("new.npz", "--predictions", "p.csv"), "go together"),
        (("gone.npz",), "gone.npz"),
    ],
)
def test_bad_arguments_exit_with_2(files, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(files)
    assert typed(monkeypatch, "shift", "reference.npz", *arguments, *ROLES, "--out", tmp_path) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_question_without_an_answer_keeps_its_key(scanner, monkeypatch):
    """Under the name of its step nobody, neither a template nor a mapping of evidence, would know it."""
    from causalfm.auditing import shift_findings

    def thin(*asked):
        raise DataError("too few patients")

    monkeypatch.setattr(shift_findings, "drift_finding", thin)
    reference, deployment, graph, _ = scanner
    bare = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    finding = cfm.audit(reference, graph, deployment=bare).findings[0]
    assert (finding.question, finding.verdict) == ("drift", "cannot tell")
    assert finding.title == "Drift of the embeddings"
