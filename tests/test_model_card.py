"""The model card: what the hub's own classes read of it, what a hostile name must not do, what is never invented."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from report_samples import HOSTILE, hostile_audit, one_finding, sample_audit, sample_findings

from causalfm.auditing import Audit, Board, Comparison, Finding, Standing, model_card
from causalfm.auditing.card_metadata import LEFT_OUT
from causalfm.auditing.formatting import clean, interval
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.results import Estimate

HEADINGS = ["Model details", "Uses", "Bias, risks, and limitations", "How to get started with the model"]
HEADINGS += ["Training details", "Evaluation", "Environment", "Citation, authors, contact"]
INJECTIONS = [
    *HOSTILE,
    "---",
    "\n---\n# a heading\n",
    "a: b",
    "- a: [b, {c: d}]",
    "key: !!python/object/apply:os.system ['true']",
    "&anchor *anchor",
    "{{ 7 * 7 }} {% for x in y %}",
    "1e5",
    "0o17",
    "no",
    "~",
    "2026-01-02",
    "12:30:45",
    "\"double\" 'single' \\x41",
    "# comment",
    "| block",
    "_emphasis_ and __more__",
    "~~struck~~ **bold**",
    "1. item",
    "> quoted",
    "+ item",
    "===",
    "| --- |",
    "&lt;b&gt; &#60;i&#62;",
    "[x]: https://evil.example/x",
    "<https://evil.example/x>",
    "back\\slash\\",
    "\ufeffmark \u0085next \u2029paragraph",
]


def loaded(text: str) -> ModelCard:
    """Read a card as the hub's library does."""
    card = ModelCard(text)
    assert card.data.eval_results
    return card


def metrics(card: ModelCard) -> list[EvalResult]:
    return card.data.eval_results


def audit_with(text: str) -> Audit:
    """An audit with one text wherever a text can stand, names of columns and levels included."""
    texts = dict.fromkeys(("question", "title", "factor", "sentence", "quantity", "target", "advice", "unit"), text)
    finding = dataclasses.replace(one_finding(), **texts, details={"want": "below"})
    rows = [{text: text, "accuracy": 0.5, "low": 0.4, "high": 0.6}]
    shown = Finding("performance", text, text, "cannot tell", text, details={f"by {text}": rows, "by class": rows})
    earlier = {"created": text, "policy_name": text, "verdict": text}
    names = {"info_source": [text, text], "info_encoder": text, "fingerprint": text, "unit": text, "model": text}
    return sample_audit(
        findings=(finding, shown),
        headline=text,
        title=text,
        tables={text: {"biology": [text], "levels": [text], "groups": [[1]]}},
        assumptions=(text,),
        policy={"name": text, "sha256": text, "alpha": 0.05},
        data=names | {"info_missing": {text: text}},
        purpose=dict.fromkeys(("intended_use", "declared_by", "declared_on"), text),
        earlier=(earlier | {"changed": [{"key": text, "before": text, "after": [text]}]},),
        provenance={"created": text, "seed": 0, "versions": {text: text}},
    )


def test_the_hub_reads_what_the_audit_says() -> None:
    audit = sample_audit(data={"fingerprint": "ab" * 32, "info_encoder": "HIPT", "info_source": ["hipt.npz"]})
    card = loaded(audit.to_model_card())
    body = card.data.to_dict()
    assert body["tags"] == ["causalfm", "robustness", "audit"]
    assert not {"license", "library_name", "pipeline_tag"} & set(body)  # facts that an audit does not know
    assert card.data.model_name == "HIPT"
    verdict, *numbers = metrics(card)
    assert (verdict.metric_type, verdict.metric_value) == ("causalfm-verdict", "fail")
    assert {(r.dataset_name, r.dataset_type, r.dataset_revision) for r in metrics(card)} == {
        ("hipt.npz", "fingerprint-abababababababab", "ab" * 32)
    }
    known = [f for f in audit.findings if f.value == f.value]
    assert 0 < len(known) < len(audit.findings)
    assert [r.metric_value for r in numbers] == [interval(f) for f in known]
    assert [r.metric_args["value"] for r in numbers] == [f.value for f in known]
    assert [r.metric_args["verdict"] for r in numbers] == [f.verdict for f in known]
    assert [r.metric_name for r in numbers] == [f"{f.quantity} ({f.factor})" for f in known]
    assert ModelCard(str(card)).data.to_dict() == body  # as the library writes it again


def test_every_section_is_there_and_nothing_is_invented() -> None:
    text = sample_audit().to_model_card()
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert found == HEADINGS
    for line in ("Developed by", "Model type", "License", "Regulatory status", "Intended use"):
        assert re.search(rf"^- {line}: not declared", text, re.MULTILINE), line
    assert LEFT_OUT in text.partition("\n---\n")[0]
    declared = {"intended_use": "triage of biopsies", "declared_by": "Dr A", "declared_on": "2026-01-02"}
    text = sample_audit(purpose=declared).to_model_card()
    assert "Intended use: triage of biopsies" in text
    assert "Declared by: Dr A; on: 2026-01-02" in text


def test_what_failed_or_could_not_be_told_is_a_limitation() -> None:
    audit = sample_audit()
    limits = audit.to_model_card().partition("## Bias, risks")[2].partition("### Recommendations")[0]
    for finding in audit.findings:
        assert (finding.sentence in limits) == (finding.verdict != "pass")
    fine = sample_audit(findings=tuple(f for f in sample_findings() if f.verdict == "pass"), advice=())
    text = fine.to_model_card()
    assert "Nothing that was asked failed" in text
    assert "Every question was answered" in text


def test_numbers_are_those_of_the_report() -> None:
    audit = sample_audit()
    results = audit.to_model_card().partition("### Results")[2]
    rows = [line.split(" | ") for line in results.splitlines() if line.startswith("| ")][1:]
    assert [row[4] for row in rows] == [interval(f) for f in audit.findings]
    assert len(rows) == len(audit.findings)


def test_a_factor_that_is_not_monitored_does_not_count_among_the_failed() -> None:
    findings = [dataclasses.replace(f, details={**f.details, "monitored": False}) for f in sample_findings()]
    text = sample_audit(findings=tuple(findings)).to_model_card()
    assert "Nothing that was asked failed" in text
    assert text.count("(not monitored)") == len(findings)


def test_accuracy_by_level_is_shown() -> None:
    rows = [{"site": "Asterand", "accuracy": 0.75, "low": 0.5, "high": 0.9, "patients": 20, "note": ""}]
    finding = Finding("performance", "t", "site", "fail", "s", 0.75, details={"by site": rows, "worst": "Asterand"})
    text = sample_audit(findings=(finding,)).to_model_card()
    assert "Accuracy by site:\n\n| site | accuracy | low | high | patients | note |" in text
    assert "\n| Asterand | 0.75 | 0.5 | 0.9 | 20 |  |\n" in text
    assert metrics(loaded(text))[1].task_type == "image-classification"


def test_several_audits_are_several_results() -> None:
    first = sample_audit(data={"fingerprint": "aa", "info_encoder": "HIPT"})
    second = sample_audit(data={"fingerprint": "bb", "info_encoder": "HIPT"}, findings=sample_findings()[7:])
    text = model_card(first, second)
    card = loaded(text)
    assert card.data.model_name == "HIPT"
    assert [r.dataset_revision for r in metrics(card) if r.metric_type == "causalfm-verdict"] == ["aa", "bb"]
    assert "#### Audit 1: Do the embeddings" in text
    assert "#### Audit 2: Do the embeddings" in text
    apart = sample_audit(data={"info_encoder": "UNI"})
    assert loaded(model_card(first, apart)).data.model_name == "model without a declared name"
    assert loaded(model_card(first, apart, name="owner/model")).data.model_name == "owner/model"


def test_a_deployment_says_whose_rows_they_are() -> None:
    data = {"rows": 5, "units": 5, "unit": "patient", "reference_fingerprint": "rr", "deployment_fingerprint": "dd"}
    data |= {"reference_info_source": "archive", "deployment_rows": 7, "deployment_rows_labelled": 3, "model": "a head"}
    cost = Finding("cost", "How much?", "site", "fail", "Much.", 0.2, 0.1, 0.3, quantity="drop of accuracy")
    text = sample_audit(data=data, findings=(cost,)).to_model_card()
    verdict, drop = metrics(loaded(text))
    assert drop.task_type == "image-classification"
    assert {verdict.dataset_revision, drop.dataset_revision} == {"dd"}
    for line in ("Rows of the reference: 5", "Rows of the deployment: 7", "model on the embedding: a head"):
        assert line in text
    assert "nor for another deployment than the one that was audited" in text


def comparison(a: str = "UNI", b: str = "Virchow", **data: Any) -> Comparison:
    scores = {
        a: Estimate("x", 0.8, 0.7, 0.9, 0.5, 10, 10, "patient"),
        b: Estimate("x", 0.6, 0.5, 0.7, 0.5, 10, 10, "patient"),
    }
    standings = (Standing(a, 1, 1, (1.0, 0.0)), Standing(b, 2, 2, (0.0, 1.0)))
    board = Board("robustness_index", "robustness index", "site", "higher", scores, (), standings)
    about = {name: {"fingerprint": f"f-{name}", "info_source": "tiles"} for name in (a, b)}
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    rows = {"rows": 10, "units": 10, "unit": "patient", "encoders": about} | data
    return Comparison((a, b), (board,), (f"{a} leads.",), (), ("Nothing is known of other sites.",), graph, rows, {})


def test_a_comparison_gives_the_card_of_one_encoder() -> None:
    text = comparison().to_model_card("Virchow")
    card = loaded(text)
    assert card.data.model_name == "Virchow"
    assert [(r.metric_value, r.dataset_revision) for r in metrics(card)] == [("0.60 [0.50, 0.70]", "f-Virchow")]
    assert "| robustness index | site | higher | 0.60 [0.50, 0.70] | 0.5 | 2 to 2 of 2 |" in text
    with pytest.raises(DataError, match=r"no encoder 'HIPT'.*UNI and Virchow"):
        comparison().to_model_card("HIPT")
    both = model_card(sample_audit(), comparison(), name="owner/uni", encoder="UNI")
    assert [r.metric_type for r in metrics(loaded(both))].count("causalfm-robustness-index") == 1


def test_a_card_needs_a_result() -> None:
    with pytest.raises(DataError, match="at least one"):
        model_card()
    with pytest.raises(DataError, match="audits and comparisons"):
        model_card("report.json")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", INJECTIONS)
def test_hostile_text_stays_text(text: str) -> None:
    plain, hostile = (audit_with(word).to_model_card(name=word) for word in ("word", text))
    expected, card = loaded(plain), loaded(hostile)
    assert skeleton(card.data.to_dict()) == skeleton(expected.data.to_dict())
    assert card.data.model_name == (clean(text) or "model without a declared name")
    assert {r.metric_args["unit"] for r in metrics(card) if r.metric_args} == {clean(text)}
    assert tokens(card.text) == tokens(expected.text)


def test_every_hostile_audit_of_the_report_gives_a_card() -> None:
    card = loaded(hostile_audit().to_model_card())
    assert len(metrics(card)) == len(HOSTILE) + 1


def test_other_readers_of_yaml_see_the_same_words() -> None:
    """Data stand in double quotes: nothing is left to a reader's guess of types (1e5 and 0o17 differ between them)."""
    front = audit_with("1e5").to_model_card(name="0o17").split("\n---\n")[0]
    keys = "tags|model-index|name|results|task|type|dataset|revision|metrics|value|args|low|high|verdict|n_groups|unit"
    for line in front.splitlines()[2:]:
        assert re.fullmatch(rf'[ -]*(({keys}): ?)?(".*"|-?\d+(\.\d+)?)?', line), line
    assert yaml.safe_load(front)["model-index"][0]["name"] == "0o17"


def test_the_same_audit_gives_the_same_card() -> None:
    assert sample_audit().to_model_card() == sample_audit().to_model_card()


def skeleton(body: Any) -> Any:
    """Keys and types, without the words."""
    if isinstance(body, dict):
        return {key: skeleton(value) for key, value in body.items()}
    return [skeleton(value) for value in body] if isinstance(body, list) else type(body)


def tokens(text: str) -> list[list[str]]:
    """What a Markdown reader sees, without the words: headings, items, cells, emphasis, links, HTML, code."""
    from markdown_it import MarkdownIt

    seen = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inside = [[child.type for child in token.children or () if child.type != "text"] for token in seen]
    return [[token.type, *children] for token, children in zip(seen, inside, strict=True)]


def test_the_reader_of_markdown_can_fail() -> None:
    assert tokens("- a word") != tokens("- # a word")
    assert tokens("a word") != tokens("a *word*")
    assert tokens("a word") != tokens("a <b>word")
