"""An audit of a downstream model: one that reads the biology, and one that reads the hospital."""

import json

import numpy as np
import pandas as pd
import pytest
from command_line import typed

import causalfm as cfm
from causalfm.auditing.downstream import downstream
from causalfm.auditing.model_questions import model_questions
from causalfm.auditing.policy import load_policy
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.training import RobustHead

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
POLICY = load_policy()
N = 200
ROLES = ("--biology", "tumour", "--technical", "site", "--group", "patient")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Axis 0 tells the tumour, axis 1 the site; four of five tumours are at site b. Two rows per patient."""
    rng = np.random.default_rng(0)
    tumour = np.arange(N) % 2
    site = np.where(np.arange(N) // 2 % 5 < 4, tumour, 1 - tumour)
    X = rng.normal(size=(N, 4)) * 0.5
    X[:, 0] += 3.0 * tumour
    X[:, 1] += 3.0 * site
    X = np.repeat(X, 2, axis=0) + rng.normal(size=(2 * N, 4)) * 0.1
    names = {"tumour": np.array(["no", "yes"])[tumour], "site": np.array(["a", "b"])[site], "patient": np.arange(N)}
    return Cohort(X, pd.DataFrame({name: np.repeat(values, 2) for name, values in names.items()}))


def reads(axis: int):
    def model(X: np.ndarray) -> np.ndarray:
        p = 1.0 / (1.0 + np.exp(-4.0 * (X[:, axis] - 1.5)))
        return np.stack([1.0 - p, p], axis=1)

    return model


def asked(cohort, **given):
    out = model_questions(cohort, GRAPH, ["site"], POLICY, downstream(cohort, GRAPH, *values(**given)), 0)
    return {finding.question: finding for _, ask in out for finding in ask()}


def values(predictions=None, model=None):
    return predictions, model


def test_a_model_that_reads_the_biology_passes(cohort):
    found = asked(cohort, model=reads(0))
    assert {key: f.verdict for key, f in found.items()} == dict.fromkeys(
        ("shortcut", "predictions", "decisions"), "pass"
    )
    assert abs(found["shortcut"].value) < 0.01
    assert found["decisions"].high < POLICY.flip_rate


def test_a_model_that_reads_the_site_fails_every_question(cohort):
    found = asked(cohort, model=reads(1))
    assert {f.verdict for f in found.values()} == {"fail"}
    # 80 % right as found; 50 % where tumour and site are independent
    assert found["shortcut"].value == pytest.approx(0.3, abs=0.02)
    assert found["decisions"].value > 0.9


def test_predictions_answer_all_but_the_decisions(cohort):
    table = pd.DataFrame(reads(1)(cohort.X)[:, ::-1], index=cohort.obs.index, columns=["yes", "no"])
    found = asked(cohort, predictions=table.sample(frac=1.0, random_state=0))
    by_model = asked(cohort, model=reads(1))
    assert set(found) == {"shortcut", "predictions"}
    assert all(found[key].value == by_model[key].value for key in found)


def test_too_few_patients_are_told(cohort):
    few = cohort[np.r_[0:4, 10:14]]
    assert {f.verdict for f in asked(few, model=reads(0)).values()} == {"cannot tell"}


def test_both_kinds_and_scores_that_are_no_probabilities_are_refused(cohort):
    table = pd.DataFrame(reads(0)(cohort.X), index=cohort.obs.index, columns=["no", "yes"])
    with pytest.raises(DataError, match="not both"):
        downstream(cohort, GRAPH, table, reads(0))
    with pytest.raises(DataError, match="add up to one"):
        downstream(cohort, GRAPH, None, lambda X: X[:, :2])
    with pytest.raises(DataError, match="3 scores and tumour has 2"):
        downstream(cohort, GRAPH, None, lambda X: np.full((len(X), 3), 1 / 3))


@pytest.fixture(scope="module")
def files(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    cfm.write(cohort, folder / "z.npz")
    head = RobustHead(steps=50).fit(cohort.X, cohort.obs["tumour"].to_numpy(), groups=cohort.obs["patient"].to_numpy())
    head.save(folder / "head.safetensors")
    table = pd.DataFrame(head.predict_proba(cohort.X), columns=head.classes_)
    table.insert(0, "patient", cohort.obs["patient"].to_numpy())
    table.to_csv(folder / "p.csv", index=False)
    table[::-1].to_csv(folder / "reversed.csv", index=False)
    table[:9].to_csv(folder / "short.csv", index=False)
    return folder


def test_the_command_line_audits_a_head(files, tmp_path, monkeypatch):
    typed(monkeypatch, "audit", files / "z.npz", *ROLES, "--head", files / "head.safetensors", "--out", tmp_path)
    body = json.loads((tmp_path / "report.json").read_text())
    questions = [f["question"] for f in body["findings"]]
    assert {"shortcut", "predictions", "decisions"} < set(questions)
    assert any("not trained on these patients" in text for text in body["assumptions"])
    page = (tmp_path / "report.html").read_text()
    assert "Would the model decide otherwise at another site?" in page
    assert "Accuracy of the model as found" in page


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("reversed.csv", ("'patient'", "rows 0", "one order")),
        ("short.csv", ("9 rows", "400")),
        ("gone.csv", ("gone.csv", "check the path")),
    ],
)
def test_predictions_in_another_order_are_refused(files, tmp_path, monkeypatch, capsys, file, words):
    code = typed(monkeypatch, "audit", files / "z.npz", *ROLES, "--predictions", files / file, "--out", tmp_path)
    said = capsys.readouterr().err
    assert code == 2
    assert all(word in said for word in words), said


def test_heads_of_other_classes_or_dimensions_are_refused(cohort):
    """Classes of other names were taken for the cohort's, in the order of the alphabet."""
    other = np.where(cohort.obs["tumour"] == "yes", "case", "tumour-free")
    with pytest.raises(DataError, match="no class: case, tumour-free"):
        downstream(cohort, GRAPH, None, RobustHead(steps=3).fit(cohort.X, other))
    numbered = RobustHead(steps=3).fit(cohort.X, (cohort.obs["tumour"] == "yes").astype(int).to_numpy())
    assert list(downstream(cohort, GRAPH, None, numbered).predictions.columns) == ["no", "yes"]
    narrow = RobustHead(steps=3).fit(cohort.X[:, :2], cohort.obs["tumour"].to_numpy())
    with pytest.raises(DataError, match="X has 4 columns and the head was fitted on 2"):
        downstream(cohort, GRAPH, None, narrow)
