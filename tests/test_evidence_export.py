"""From reports to files: reports that cannot be taken up, names that stay text, the command."""

import csv
import io
import json
import re
import shutil

import pytest
from command_line import typed
from evidence_samples import RATED, REPORTS, body_of
from report_samples import hostile_audit, sample_audit

from causalfm.auditing import collect_evidence, schema_path
from causalfm.errors import DataError


def test_reports_that_cannot_be_taken_up(tmp_path):
    with pytest.raises(DataError, match="at least one report"):
        collect_evidence([])
    with pytest.raises(DataError, match="in a list"):
        collect_evidence(str(REPORTS[0]))
    shutil.copy(REPORTS[0], tmp_path / "copy.json")
    with pytest.raises(DataError, match=r"'audit-1.2.json' and 'copy.json' are the same report"):
        collect_evidence([REPORTS[0], tmp_path / "copy.json"])
    (tmp_path / "new.json").write_text(json.dumps(body_of("comparison-1.0") | {"schema_version": "1.1"}))
    with pytest.raises(DataError, match="newer causalfm"):
        collect_evidence([tmp_path / "new.json"])
    (tmp_path / "odd.json").write_text(json.dumps(body_of("comparison-1.0") | {"encoders": ["a"]}))
    with pytest.raises(DataError, match="encoders breaks the rule minItems: 2"):
        collect_evidence([tmp_path / "odd.json"])
    other = body_of("audit-1.2")
    other["findings"][0]["question"] = "astrology"
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="answers 'astrology'"):
        collect_evidence([tmp_path / "other.json"])


def test_free_parts_of_a_report_may_hold_anything(tmp_path):
    """What the schema leaves free (settings, tables) must not stop the export, nor end in an internal error."""
    for odd in ("x", -1, [], {}, {"units": -3}, True):
        body = body_of("audit-1.2")
        body["policy"] = {"alpha": odd, "name": odd}
        body["provenance"] = {"versions": odd, "seed": odd, "created": odd}
        body["data"] = {"rows": odd, "units": odd, "fingerprint": odd}
        details = body["findings"][0]["details"]
        for key in details:
            details[key] = [odd]
        body["findings"][1]["details"] = {"nested_in": odd, "want": odd, "target": odd}
        (tmp_path / "odd.json").write_text(json.dumps(body))
        found = collect_evidence([tmp_path / "odd.json"])
        assert found.to_json()
        assert found.to_csv()
        assert found.to_markdown()


def test_hostile_names_stay_text(tmp_path):
    hostile_audit().to_json(tmp_path / "report.json")
    found = collect_evidence([tmp_path / "report.json"])
    page = found.to_markdown()
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"(?<!\\)\|\s*b\W+c (?<!\\)\|", page)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(found.records)
    assert all(row["dimension"] == "technical readiness" for row in rows)


def test_a_name_is_no_formula(tmp_path):
    one = sample_audit().findings[0]
    changed = type(one)(**{**one.__dict__, "factor": '=HYPERLINK("x")', "title": "@SUM(A1)", "sentence": "+1 is\nfine"})
    sample_audit(findings=(changed,)).to_json(tmp_path / "report.json")
    (row,) = [
        r for r in csv.DictReader(io.StringIO(collect_evidence([tmp_path / "report.json"]).to_csv())) if r["source"]
    ][:1]
    assert (row["factor"], row["title"], row["sentence"]) == ('\'=HYPERLINK("x")', "'@SUM(A1)", "'+1 is fine")
    assert float(row["estimate"]) == one.value


@pytest.mark.parametrize(
    ("options", "name", "start"),
    [
        ((), "evidence.json", "{"),
        ((), "evidence.csv", "dimension,"),
        ((), "evidence.md", "# Evidence"),
        (("--format", "csv"), "evidence.txt", "dimension,"),
    ],
)
def test_the_command_writes_a_file_that_fits_its_schema(tmp_path, monkeypatch, capsys, options, name, start):
    out = tmp_path / name
    assert typed(monkeypatch, "evidence", "export", *REPORTS, *options, "--out", out) == 0
    text = out.read_text(encoding="utf-8")
    assert text.startswith(start)
    shown = capsys.readouterr().out
    assert "Robustness 3" in shown
    assert not RATED.search(shown)
    if name.endswith("json"):
        from jsonschema import Draft202012Validator

        schema = json.loads(schema_path("evidence-1.0").read_text(encoding="utf-8"))
        assert list(Draft202012Validator(schema).iter_errors(json.loads(text))) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.json",), "gone.json"),
        (("report.json", "--format", "xml"), "choose one of json, csv, markdown"),
        (("report.json", "--out", "."), "is a folder"),
        (("report.json", "--out", "report.json"), "is one of the reports"),
        (("report.json", "--map", "report.json"), "unknown key 'schema_version'"),
        (("text.json",), "no JSON"),
    ],
)
def test_bad_arguments_exit_with_2_and_leave_files_alone(tmp_path, monkeypatch, capsys, arguments, words):
    shutil.copy(REPORTS[0], tmp_path / "report.json")
    (tmp_path / "text.json").write_text("hello")
    monkeypatch.chdir(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert typed(monkeypatch, "evidence", "export", *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
