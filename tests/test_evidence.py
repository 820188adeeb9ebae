"""Evidence records: nothing missing, nothing rated, and the same bytes."""

import ast
import csv
import io
import json
import re
from dataclasses import replace

import pytest
from evidence_samples import FROZEN, RATED, REPORTS, body_of
from report_samples import one_finding, sample_audit

import causalfm as cfm
from causalfm.auditing import collect_evidence, load_policy
from causalfm.auditing.documents import check_schema
from causalfm.auditing.evidence import OUTCOMES
from causalfm.auditing.evidence_behind import CALIBRATION, LEFT_OUT
from causalfm.auditing.evidence_items import ITEMS
from causalfm.auditing.evidence_map import DEFAULT, RATINGS, load_evidence_map
from causalfm.auditing.evidence_sources import of_audit
from causalfm.auditing.reading import biology_finding
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError


@pytest.fixture(scope="module")
def found():
    return collect_evidence(REPORTS)


def keys(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


# --- nothing is missing ----------------------------------------------------------------------------------------------


def test_every_finding_is_a_record_with_its_own_numbers(found):
    findings = [(name, f) for name in ("audit-1.2", "shift-1.2") for f in body_of(name)["findings"]]
    records = [json.loads(found.to_json())["records"][i] for i, r in enumerate(found.records) if not r.subject]
    told = [
        r for r in records if r["verdict"] != "not asked" and r["question"] not in ("calibration", "levels left out")
    ]
    assert len(told) == len(findings)
    for (_, finding), record in zip(findings, told, strict=True):
        same = (
            "question",
            "title",
            "factor",
            "verdict",
            "sentence",
            "low",
            "high",
            "chance",
            "margin",
            "n",
            "n_groups",
        )
        assert {key: record[key] for key in same} == {key: finding[key] for key in same}
        assert record["estimate"] == finding["value"]
        assert record["confidence"] == (None if finding["low"] is None and finding["high"] is None else 0.95)


def test_every_score_of_a_comparison_is_a_record_without_verdict(found):
    boards = body_of("comparison-1.0")["boards"]
    records = [r for r in found.records if r.question == "comparison"]
    assert len(records) == sum(len(board["scores"]) for board in boards)
    assert {r.verdict for r in records} == {"no verdict", "cannot tell"}
    first = boards[0]["scores"]["a"]
    assert (records[0].subject, records[0].estimate, records[0].n_groups) == ("a", first["value"], first["n_groups"])
    assert "rank 1 to 2 of 2 left open" in records[0].sentence


def test_what_no_report_was_asked_is_a_record_too(found):
    asked = {r.question for r in found.records if r.verdict != "not asked"}
    silent = [r for r in found.records if r.source is None]
    assert {r.question for r in silent} == set(ITEMS) - asked
    assert {"decisions", "performance", "graph"} <= {r.question for r in silent}
    assert all(r.verdict == "not asked" and "causalfm" in r.sentence for r in silent)
    alone = collect_evidence(REPORTS[1:2])
    assert {r.question for r in alone.records if r.verdict == "not asked"} > {"effect", "comparison", "calibration"}
    assert {r.question for r in alone.records} == set(ITEMS)


def test_a_nested_factor_that_was_not_asked_alone_is_told():
    site = ("invariance", "effect", "readout", "neighbourhood", "overlap")
    one = sample_audit().findings[0]

    def finding(question, factor, **details):
        return type(one)(question, question, factor, "fail", "x", details=details)

    findings = [finding(q, "site") for q in site] + [finding("overlap", "scanner", nested_in="site")]
    findings += [finding("neighbourhood", "scanner"), finding("effect", "site + scanner")]
    audit = sample_audit(findings=tuple(findings))
    told = {a["question"]: a["sentence"] for a in of_audit(audit, "0" * 64).answers if a["verdict"] == "not asked"}
    assert told == dict.fromkeys(("readout", "invariance"), "Not asked of scanner: it does not vary within site.")


def test_calibration_and_levels_left_out_stand_behind_the_finding_on_biology():
    """Their keys are those that the audit of this very version writes."""
    cohort, _ = linear_scm(n_groups=80, n_sites=2, site_effect=1.0, d=6, rows_per_group=2, random_state=3)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    finding, _ = biology_finding(cohort, graph, load_policy(), None, 0)
    assert sum(key.startswith(CALIBRATION) for key in finding.details) == 1
    assert sum(key.endswith(LEFT_OUT) for key in finding.details) == 1
    answers = {a["question"]: a for a in of_audit(sample_audit(findings=(finding,), graph=graph), "0" * 64).answers}
    rows = finding.details[f"{CALIBRATION}site"]
    calibration = answers["calibration"]
    assert (calibration["estimate"], calibration["low"]) in [(row["off by"], row["low"]) for row in rows]
    furthest = max(max(row["low"], -row["high"], 0.0) for row in rows)
    assert max(calibration["low"], -calibration["high"], 0.0) == furthest
    assert (calibration["verdict"], calibration["confidence"]) == ("no verdict", 0.95)
    gap = answers["levels left out"]
    assert gap["estimate"] == finding.details[f"tumour at a site{LEFT_OUT}"][0]["gap"]
    assert gap["verdict"] == "no verdict"


def test_every_question_that_the_library_asks_has_a_place():
    """Every literal ``question`` of a Finding in the source; steps that fail carry the key of their question too."""
    folder = DEFAULT.parent
    asked = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                named = [k.value for k in node.keywords if k.arg == "question"]
                asked |= {n.value for n in [*named, *node.args[:1]] if isinstance(n, ast.Constant)}
    assert len(asked) > 12
    assert asked <= set(ITEMS)
    assert set(load_evidence_map().lines) == set(ITEMS)


def test_coverage_counts_what_the_records_say(found):
    rows = found.coverage()
    titles = [row["title"] for row in rows]
    assert [t for t in titles if t.startswith("Robustness")] == [
        t for t in titles if re.match(r"Robustness [123]: ", t)
    ]
    assert len([t for t in titles if t.startswith("Robustness")]) == 3
    for row in rows:
        mine = [r for r in found.records if any(m["item"] == row["item"] for m in r.maps_to)]
        assert {outcome: row[outcome] for outcome in OUTCOMES} == {
            outcome: sum(r.verdict == outcome for r in mine) for outcome in OUTCOMES
        }
    shift = {row["item"]: row for row in collect_evidence([FROZEN / "unlabelled-1.2.json"]).coverage()}
    assert shift["robustness-2"]["status"] == "open"  # asked, not told: not the same as not asked
    assert shift["validation"]["status"] == "open"
    audit = {row["item"]: row for row in collect_evidence([FROZEN / "audit-1.0.json"]).coverage()}
    assert audit["monitoring"]["status"] == "not asked"
    assert audit["input-devices"]["status"] == "evidence"


def test_protected_subgroups_of_a_cohort_are_not_called_unasked():
    """An audit of a cohort asks them under "performance": the record of the subgroups must be that answer."""
    asked = [replace(one_finding(), question="performance", factor=name) for name in ("site", "sex")]
    audit = sample_audit(findings=tuple(asked), policy={**load_policy().to_dict(), "subgroups": ["sex"]})
    answers = of_audit(audit, "0" * 64).answers
    assert [(a["question"], a["factor"]) for a in answers[:2]] == [("performance", "site"), ("subgroups", "sex")]


# --- nothing is rated ------------------------------------------------------------------------------------------------


def test_nothing_is_rated_by_real_fm(found):
    for text in (found.to_json(), found.to_csv(), found.to_markdown()):
        assert "technical" in text
        assert not RATED.search(text)
    assert not {key for key in keys(json.loads(found.to_json())) if set(re.split(r"\W|_", key.lower())) & set(RATINGS)}
    assert "own sub-criteria were not available to us" in found.to_json()
    assert {row["framework"] for row in found.coverage()} == {"future-ai", "fda-2025"}  # the slot is empty
    assert RATED.search("REAL-FM technical readiness level: 3")  # the rule can fail
    assert RATED.search("a score under REAL-FM")


def test_the_schema_has_no_place_for_a_rating(found):
    body = found.to_dict()
    for where in (body, body["records"][0], body["coverage"][0], body["sources"][0]):
        where["level"] = 3
        with pytest.raises(DataError, match="unknown key 'level'"):
            check_schema(body, "evidence-1.0", "it", "")
        del where["level"]
    check_schema(body, "evidence-1.0", "it", "")


# --- the same bytes --------------------------------------------------------------------------------------------------


def test_the_same_reports_give_the_same_bytes(found):
    again = collect_evidence(REPORTS)
    assert again.to_json() == found.to_json()
    assert again.to_csv() == found.to_csv()
    assert again.to_markdown() == found.to_markdown()


def test_sources_say_where_the_numbers_come_from(found):
    body = json.loads(found.to_json())
    audit, shift, comparison = body["sources"]
    assert [s["kind"] for s in body["sources"]] == [
        "audit of a cohort",
        "audit of a deployment",
        "comparison of encoders",
    ]
    written = body_of("audit-1.2")
    assert audit["policy"]["sha256"] == written["policy"]["sha256"]
    assert audit["data"][0]["fingerprint"] == written["data"]["fingerprint"]
    assert audit["graph"] == written["graph"]["arrows"]
    assert (audit["seed"], audit["versions"]) == (7, written["provenance"]["versions"])
    assert [d["name"] for d in shift["data"]] == ["reference", "deployment"]
    assert [d["rows"] for d in shift["data"]] == [160, 60]
    assert [d["name"] for d in comparison["data"]] == ["a", "b"]
    assert all(r["source"] in (*body["sources"], None) for r in body["records"])


def test_a_policy_that_changed_after_results_is_in_the_source():
    earlier = (
        {"created": "2026-01-01", "changed": []},
        {"created": "2026-01-02", "changed": [{"key": "effect_ratio"}]},
    )
    source = of_audit(sample_audit(earlier=earlier), "0" * 64).source
    assert (source["earlier_runs"], source["policy_changed"]) == (2, True)
    assert of_audit(sample_audit(earlier=earlier[:1]), "0" * 64).source["policy_changed"] is False


def test_numbers_of_csv_and_json_are_the_same(found):
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    for row, record in zip(rows, json.loads(found.to_json())["records"], strict=True):
        for key in ("estimate", "low", "high", "chance", "margin", "n_groups"):
            assert (None if row[key] == "" else float(row[key])) == record[key]
