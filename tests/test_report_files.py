"""Reports read back from JSON: of every schema version, into the same page, and never from a hostile file."""

import dataclasses
import json
import subprocess
import sys
from math import isnan
from pathlib import Path

import pytest
from command_line import typed
from report_samples import hostile_audit, sample_audit

from causalfm.auditing import Advice, Audit, Finding, load_audit, schema_path
from causalfm.auditing.comparison import Board, Comparison, Contrast, Standing
from causalfm.auditing.documents import MAX_BYTES, check_schema
from causalfm.auditing.findings import SCHEMA_VERSION
from causalfm.auditing.loading import UPGRADES
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.results import Estimate

FROZEN = Path(__file__).with_name("published") / "reports"  # written by the code of their time, on simulated cohorts
AUDITS = ("audit-1.0", "audit-1.1", "audit-1.2", "shift-1.2", "unlabelled-1.2")
MADE = {"sample": sample_audit, "hostile": hostile_audit}


def frozen(name: str) -> dict:
    return json.loads((FROZEN / f"{name}.json").read_text(encoding="utf-8"))


def written(tmp_path: Path, body) -> Path:
    path = tmp_path / "report.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return path


# --- schemas and dataclasses ----------------------------------------------------------------------------------------


def test_every_shipped_schema_is_a_schema():
    from jsonschema import Draft202012Validator

    paths = sorted(schema_path("audit-1.0").parent.glob("*.json"))
    assert {f"audit-{v}" for v in (*UPGRADES, SCHEMA_VERSION)} < {path.stem for path in paths}
    for path in paths:
        schema = json.loads(path.read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"urn:causalfm:schema:{path.stem}"


def test_the_schemas_know_every_field_and_no_other():
    """A new field needs a place in the schema, and a new schema version once a version with the old one is out."""
    names = {cls: {f.name for f in dataclasses.fields(cls)} for cls in (Audit, Finding, Advice, CausalGraph)}
    audit = json.loads(schema_path(f"audit-{SCHEMA_VERSION}").read_text())
    parts = audit["$defs"]
    assert set(audit["properties"]) == names[Audit] | {"schema_version", "verdict", "exit_code"}
    assert set(parts["finding"]["properties"]) == names[Finding]
    assert set(parts["advice"]["properties"]) == names[Advice]
    assert set(parts["graph"]["properties"]) == names[CausalGraph] | {"arrows", "declared_by"}
    comparison = json.loads(schema_path("comparison-1.0").read_text())
    assert set(comparison["properties"]) == {f.name for f in dataclasses.fields(Comparison)} - {"maps"} | {
        "schema_version"
    }
    for cls, part in ((Board, "board"), (Contrast, "contrast"), (Standing, "standing"), (Estimate, "estimate")):
        fields = {f.name for f in dataclasses.fields(cls)} - {"influence"}
        assert set(comparison["$defs"][part]["properties"]) == fields


def test_a_comparison_fits_its_schema():
    check_schema(frozen("comparison-1.0"), "comparison-1.0", "it", "")


def test_a_schema_that_is_not_there():
    with pytest.raises(DataError, match=r"no schema 'audit-1.9'.*Did you mean 'audit-1"):
        schema_path("audit-1.9")


def test_the_example_of_the_page_validates_a_report():
    """``python -m jsonschema`` of the page: any validator will do, no part of causalfm is needed."""
    command = [sys.executable, "-W", "ignore", "-m", "jsonschema", "-i"]
    done = subprocess.run([*command, FROZEN / "audit-1.2.json", schema_path("audit-1.2")], capture_output=True)
    assert done.returncode == 0, done.stderr
    wrong = subprocess.run([*command, FROZEN / "audit-1.2.json", schema_path("audit-1.1")], capture_output=True)
    assert wrong.returncode != 0


# --- the same report ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["audit-1.1", "shift-1.2", "sample", "hostile"])
def test_a_loaded_audit_renders_to_the_same_bytes(name, tmp_path):
    audit = MADE[name]() if name in MADE else Audit.from_dict(frozen(name))
    audit.to_json(tmp_path / "report.json")
    loaded = load_audit(tmp_path / "report.json")
    assert loaded.to_json() == audit.to_json()
    assert loaded.to_markdown() == audit.to_markdown()
    if name != "hostile":  # a page of large figures takes seconds
        assert loaded.to_html() == audit.to_html()
    assert loaded.graph == audit.graph
    assert str(loaded.graph) == str(audit.graph)


def test_what_is_hidden_stays_hidden(tmp_path):
    """A report that hides small counts is read back as it was shown: marks in place of counts, no number more."""
    audit = sample_audit(policy={"name": "small", "suppress_below": 50})
    audit.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert '"<50"' in text
    assert '"hidden"' in text
    loaded = load_audit(tmp_path / "report.json")
    assert (loaded.to_json(), loaded.to_markdown()) == (text, audit.to_markdown())


@pytest.mark.parametrize("name", AUDITS)
def test_every_old_version_loads_and_loses_nothing(name):
    old = frozen(name)
    kept = json.loads(json.dumps(old))
    new = json.loads(Audit.from_dict(old).to_json())
    assert old == kept  # the input stays as it was
    empty = {"advice": [], "title": "", "purpose": {}, "earlier": []}
    expected = {**empty, **old, "schema_version": SCHEMA_VERSION}
    assert set(new) == set(expected)
    for key, value in expected.items():
        shown = {k: v for k, v in new[key].items() if k in value} if key == "graph" else new[key]
        assert shown == value, key


def test_a_step_that_had_no_answer_gets_the_key_of_its_question():
    body = frozen("unlabelled-1.2")
    body["findings"][0] |= {"question": "drift of the embeddings", "verdict": "cannot tell"}
    assert Audit.from_dict(body).findings[0].question == "drift"


def test_upgrades_go_step_by_step_to_the_present():
    steps = [(old, new) for old, (new, _) in UPGRADES.items()]
    assert [new for _, new in steps] == [*[old for old, _ in steps[1:]], SCHEMA_VERSION]


def test_numbers_that_are_not_there_are_not_numbers():
    audit = load_audit(FROZEN / "audit-1.1.json")
    written = frozen("audit-1.1")
    nulls = {(i, k) for i, f in enumerate(written["findings"]) for k in ("value", "low", "margin") if f[k] is None}
    assert nulls
    assert {
        (i, k) for i, f in enumerate(audit.findings) for k in ("value", "low", "margin") if isnan(getattr(f, k))
    } == nulls
    first = audit.advice[0].tried[0]
    assert first["corrector"] == "no correction"
    assert isnan(first["new_levels"]["change"])


def test_the_graph_keeps_the_order_of_its_nodes():
    arrows = "site -> scanner; site <-> tumour; {tumour, scanner, site} -> Z; tumour <-> scanner"
    graph = CausalGraph(arrows, biology="tumour", technical=["scanner", "site"], group=["slide", "patient"])
    again = CausalGraph.from_dict(json.loads(json.dumps(graph.to_dict())))
    assert again == graph
    assert again.to_dict() == graph.to_dict()
    assert again.nodes == graph.nodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [["scanner", "Z"]]}, "it was edited"),
        ({"bidirected": []}, "it was edited"),
        ({"nodes": ["site", "Z"]}, "it was edited"),
        ({"biology": "gone"}, "'gone'"),
    ],
)
def test_a_graph_that_was_edited_is_refused(change, message):
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    with pytest.raises(GraphError, match=message):
        CausalGraph.from_dict(graph.to_dict() | change)


def test_a_graph_without_parts_is_refused():
    with pytest.raises(GraphError, match="lacks 'arrows', 'biology'"):
        CausalGraph.from_dict({})


# --- hostile files --------------------------------------------------------------------------------------------------


def edited(**changes) -> dict:
    return {**frozen("audit-1.2"), **changes}


def with_finding(**changes) -> dict:
    body = frozen("audit-1.2")
    body["findings"][2] |= changes
    return body


BAD = {
    "empty": ("", "is empty"),
    "blank": (" ", "no JSON", "line 1, column 2"),
    "cut": ((FROZEN / "audit-1.2.json").read_text()[:5000], "no JSON", "line", "again"),
    "not a number": ('{"a": NaN}', "holds NaN", "write null"),
    "infinity": ('{"a": [-Infinity]}', "holds -Infinity"),
    "beyond a double": ('{"a": 1e999}', "beyond the range"),
    "thousands of digits": ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
    "a key twice": ('{"verdict": "pass", "verdict": "fail"}', "key verdict twice"),
    "a list": ("[1, 2]", "no JSON object"),
    "half a surrogate": ('{"a": "\\ud800"}', "surrogate"),
    "deep": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "64 deep"),
    "deep enough to parse": ('{"a":' + "[" * 90 + "]" * 90 + "}", "64 deep"),
    "another document": ({"name": "x"}, "no schema_version", "no report of causalfm"),
    "a comparison": ((FROZEN / "comparison-1.0.json").read_text(), "is a comparison"),
    "a newer version": (edited(schema_version="1.10"), "schema_version 1.10", "newer than 1.3", "install"),
    "a newer major version": (edited(schema_version="2.0"), "newer than 1.3"),
    "no version": (edited(schema_version="latest"), "must be one of 1.0, 1.1, 1.2, 1.3"),
    "a version in another type": (edited(schema_version=1.2), "must be one of"),
    "a version that is a list": (edited(schema_version=["1.2"]), "must be one of"),
    "an unknown key": (edited(headlines="x"), "unknown key 'headlines'", "Did you mean 'headline'"),
    "a missing key": ({k: v for k, v in edited().items() if k != "graph"}, "the document lacks 'graph'"),
    "a key of a later version": (edited(purpose={}), "unknown key 'purpose'", "audit-1.2"),
    "findings as text": (edited(findings="none"), "findings must be a list"),
    "an unknown verdict": (with_finding(verdict="passed"), "findings[2].verdict must be", '"pass" or "fail"'),
    "a number as text": (with_finding(value="0.5"), "findings[2].value must be a number or null"),
    "a number as a truth value": (with_finding(value=True), "findings[2].value must be a number or null"),
    "a misspelt key": (with_finding(margins=1.0), "findings[2] has the unknown key 'margins'", "'margin'"),
    "details as a list": (with_finding(details=[]), "findings[2].details must be an object"),
    "half a row": (with_finding(n=1.5), "findings[2].n must be a whole number"),
    "an edited verdict": (edited(verdict="pass"), "verdict is 'pass'", "findings give 'fail'", "edited"),
    "an edited exit code": (edited(exit_code=0), "exit_code is 0", "edited"),
    "an edited finding": (edited(findings=[]), "findings give 'cannot tell'"),
    "an edited graph": (edited(graph={**edited()["graph"], "edges": [["site", "Z"]]}), "graph: the record's arrows"),
    "a cycle": (edited(graph={**edited()["graph"], "arrows": "a -> b; b -> a"}), "graph: "),
    "a policy in another type": (
        json.loads(sample_audit().to_json()) | {"policy": {"suppress_below": "5"}},
        "policy.suppress_below must be a whole number",
    ),
    "a long key": (edited(**{"k" * 10_000: 1}), "unknown key 'kkk", "..."),
}


@pytest.mark.parametrize("case", BAD)
def test_hostile_files_are_refused_with_place_and_way_out(case, tmp_path):
    body, *words = BAD[case]
    with pytest.raises(DataError) as caught:
        load_audit(written(tmp_path, body))
    message = str(caught.value)
    assert "'report.json'" in message
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 700


def test_values_of_a_file_are_not_quoted(tmp_path):
    sentinel = "patient-7f3a"
    for body in (with_finding(value=sentinel), with_finding(verdict=sentinel), edited(graph=[sentinel])):
        with pytest.raises(DataError) as caught:
            load_audit(written(tmp_path, body))
        assert sentinel not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"is a folder: give the report.json"):
        load_audit(tmp_path)
    with pytest.raises(DataError, match=r"gone.json"):
        load_audit(tmp_path / "gone.json")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        load_audit(tmp_path / "latin.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: it takes no disk
    with pytest.raises(DataError, match=r"has 64 MiB, a report at most 64"):
        load_audit(tmp_path / "large.json")


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "report.json").write_bytes(b"\xef\xbb\xbf" + (FROZEN / "audit-1.0.json").read_bytes())
    assert load_audit(tmp_path / "report.json").verdict == "fail"


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_renders_again_and_leaves_the_json(tmp_path, monkeypatch, capsys):
    source = tmp_path / "report.json"
    source.write_bytes((FROZEN / "shift-1.2.json").read_bytes())
    assert typed(monkeypatch, "report", source, "--out", tmp_path / "again") == 0
    assert "FAIL: " in capsys.readouterr().out
    audit = load_audit(source)
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == audit.to_html()
    assert (tmp_path / "again" / "report.md").read_text(encoding="utf-8") == audit.to_markdown()
    assert {p.name for p in (tmp_path / "again").iterdir()} == {"report.html", "report.md"}
    assert source.read_bytes() == (FROZEN / "shift-1.2.json").read_bytes()


def test_tables_of_another_shape_are_bad_input_and_no_crash(tmp_path, monkeypatch, capsys):
    body = json.loads(sample_audit().to_json())
    body["tables"]["site"]["groups"] = [[1]]
    body["data"]["group_counts"] = 7
    assert typed(monkeypatch, "report", written(tmp_path, body), "--out", tmp_path / "out") == 2
    assert "not as causalfm writes them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_what_it_cannot_read(tmp_path, monkeypatch, capsys):
    assert typed(monkeypatch, "report", written(tmp_path, "{}"), "--out", tmp_path) == 2
    assert "no schema_version" in capsys.readouterr().err
    assert typed(monkeypatch, "report", tmp_path / "gone.json") == 2
