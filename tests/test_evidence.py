"""Evidence records: nothing missing, nothing rated, the same bytes, and mappings that are refused with a reason."""

import ast
import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from report_samples import hostile_audit, sample_audit

import causalfm as cfm
from causalfm.auditing import collect_evidence, load_policy, schema_path
from causalfm.auditing.documents import check_schema
from causalfm.auditing.evidence import OUTCOMES
from causalfm.auditing.evidence_behind import CALIBRATION, LEFT_OUT
from causalfm.auditing.evidence_items import ITEMS
from causalfm.auditing.evidence_map import DEFAULT, RATINGS, load_evidence_map
from causalfm.auditing.evidence_sources import of_audit
from causalfm.auditing.reading import biology_finding
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from tests.test_cli import run

FROZEN = Path(__file__).with_name("published") / "reports"
REPORTS = [FROZEN / f"{name}.json" for name in ("audit-1.2", "shift-1.2", "comparison-1.0")]
ANY = r"(\w+\W+){0,8}"
RATED = re.compile(rf"real.?fm\W+{ANY}({'|'.join(RATINGS)})|({'|'.join(RATINGS)})s?\W+{ANY}real.?fm", re.IGNORECASE)


@pytest.fixture(scope="module")
def found():
    return collect_evidence(REPORTS)


def body_of(name: str) -> dict:
    return json.loads((FROZEN / f"{name}.json").read_text(encoding="utf-8"))


def keys(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


# --- nothing is missing ---------------------------------------------------------------------------------------------


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


# --- nothing is rated -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("    items: []", "    items: []\n    level: 3", "frameworks[0].level"),
        ("    items: []", "    items:\n      - {id: a, title: b, Score: 2}", "frameworks[0].items[0].Score"),
        ("    items: []", "    items:\n      - {id: a, title: 'Level 4: validated'}", "'Level 4'"),
        ("    items: []", "    items:\n      - {id: a, title: Robust, maturity_level: x}", "maturity_level"),
        ("name: causalfm default mapping", "name: REAL-FM technical readiness score", "name:"),
        ("version: 1", "version: 1\nrating: high", "rating"),
        ('reason: "Whether a', 'reason: "A high level of REAL-FM. Whether a', "lines[23].reason"),
    ],
)
def test_a_mapping_that_would_rate_is_refused(tmp_path, old, new, where):
    path = mapping(tmp_path, lambda text: replaced(text, old, new))
    with pytest.raises(DataError) as caught:
        load_evidence_map(path)
    assert where in str(caught.value)
    assert "no score of REAL-FM" in str(caught.value)


def test_the_owner_of_the_checklist_can_fill_the_slot(tmp_path):
    def fill(text):
        text = replaced(text, "    items: []", "    items:\n      - {id: causal, title: Causal reasoning is shown}")
        return replaced(text, "maps_to: [future-ai/robustness-1]", "maps_to: [real-fm/causal]")

    found = collect_evidence(REPORTS[:1], mapping=mapping(tmp_path, fill))
    (row,) = [row for row in found.coverage() if row["framework"] == "real-fm"]
    assert (row["item"], row["status"], row["not asked"]) == ("causal", "not asked", 1)
    assert found.mapping.sha256 != load_evidence_map().sha256


# --- mappings and reports that are wrong ----------------------------------------------------------------------------


def mapping(folder: Path, change) -> Path:
    path = folder / "map.yaml"
    text = change(DEFAULT.read_text(encoding="utf-8"))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


BAD_MAPS = {
    "empty": (lambda t: "", "is empty"),
    "a comment": (lambda t: "# nothing\n", "must be an object"),
    "a list": (lambda t: "- 1\n", "must be an object"),
    "no YAML": (lambda t: t + "\n  bad: [", "line", "not valid YAML"),
    "a tab": (lambda t: t + "\n\tx: 1", "not valid YAML"),
    "not UTF-8": (lambda t: t.encode() + b"# \xe9", "not UTF-8"),
    "a control character": (lambda t: t + "# \x07", "not valid YAML"),
    "an alias": (lambda t: "a: &x [1]\nb: *x\n", "line 2, column 4", "alias"),
    "a key twice": (lambda t: t + "\nname: other\n", "the key 'name' is there twice"),
    "code": (lambda t: "a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
    "another version": (lambda t: replaced(t, "version: 1", "version: 2"), "version must be 1"),
    "an unknown key": (lambda t: t + "\nline: []\n", "unknown key 'line'", "'lines'"),
    "a missing key": (lambda t: replaced(t, "name: causalfm default mapping", ""), "lacks 'name'"),
    "an aspect that is none": (
        lambda t: replaced(t, "aspect: causal reasoning", "aspect: causality"),
        "lines[0].aspect must be",
        '"causal reasoning" or',
    ),
    "no reason": (lambda t: re.sub(r'reason: "The declared[^"]*"', 'reason: "so"', t), "lines[0].reason", "minLength"),
    "an unknown question": (
        lambda t: replaced(t, "question: overlap", "question: overlaps"),
        "lines[1].question",
        "no report answers 'overlaps'",
        "Did you mean 'overlap'?",
    ),
    "a question left out": (
        lambda t: re.sub(r"  - question: drift\n(.*\n){3}", "", t),
        "no line for 'drift'",
        "maps_to: []",
    ),
    "a question twice": (
        lambda t: replaced(t, "question: overlap", "question: graph"),
        "question 'graph' is there twice",
    ),
    "an item that no framework has": (
        lambda t: replaced(t, "maps_to: [future-ai/robustness-1]", "maps_to: [future-ai/robustness-4]"),
        "lines[0].maps_to",
        "'future-ai/robustness-4'",
        "Did you mean 'future-ai/robustness-",
    ),
    "an item twice": (lambda t: replaced(t, "id: robustness-2", "id: robustness-1"), "robustness-1' is there twice"),
    "a framework twice": (lambda t: replaced(t, "id: fda-2025", "id: future-ai"), "'future-ai' is there twice"),
    "a bad id": (lambda t: replaced(t, "id: fda-2025", "id: FDA 2025"), "frameworks[2].id breaks the rule pattern"),
    "deep": (lambda t: "a: " + "[" * 3000 + "]" * 3000, "nested too deep"),
    "large": (lambda t: "#" * (2**20 + 1), "more than 1 MiB"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_wrong_mappings_name_key_and_way_out(case, tmp_path):
    change, *words = BAD_MAPS[case]
    with pytest.raises(DataError) as caught:
        load_evidence_map(mapping(tmp_path, change))
    message = str(caught.value)
    assert "'map.yaml'" in message
    assert [word for word in words if word not in message] == [], message


def test_mappings_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"is a folder"):
        load_evidence_map(tmp_path)
    with pytest.raises(DataError, match=r"gone.yaml"):
        load_evidence_map(tmp_path / "gone.yaml")


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


# --- files ----------------------------------------------------------------------------------------------------------


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


def test_numbers_of_all_formats_are_the_same(found):
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    for row, record in zip(rows, json.loads(found.to_json())["records"], strict=True):
        for key in ("estimate", "low", "high", "chance", "margin", "n_groups"):
            assert (None if row[key] == "" else float(row[key])) == record[key]


# --- the command ----------------------------------------------------------------------------------------------------


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
    assert run(monkeypatch, "evidence", "export", *REPORTS, *options, "--out", out) == 0
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
    assert run(monkeypatch, "evidence", "export", *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
