"""The ledger of a folder: what was run before is said, and nothing can be removed without a trace."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from causalfm.auditing import ledger, report_files
from causalfm.auditing.findings import Audit
from causalfm.auditing.ledger import LEDGER, read_ledger, record
from causalfm.auditing.ledger_words import sentences
from causalfm.auditing.policy import load_policy
from causalfm.auditing.report_files import write_reports
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from tests.killing import child
from tests.report_samples import sample_audit

DATA = {"rows": 785, "fingerprint": "f0", "fingerprint_of_embeddings": "e0"}
GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")


def audit(day: int = 1, seed: int = 0, *, data: dict | None = None, graph: CausalGraph = GRAPH, **policy) -> Audit:
    """An audit of the 1st, 2nd ... of May under the default policy with changes."""
    rules = {**load_policy().to_dict(), **policy}
    provenance = {"created": f"2026-05-{day:02}T08:00:00+00:00", "seed": seed, "versions": {"causalfm": "0.1.0"}}
    purpose = {name: rules[name] for name in ("intended_use", "declared_by", "declared_on")}
    parts = {"data": data or DATA, "graph": graph, "policy": rules, "provenance": provenance, "purpose": purpose}
    return sample_audit(**parts, earlier=())


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


def test_the_first_audit_leaves_a_line_and_nothing_to_say(tmp_path):
    found = record(audit(seed=7), tmp_path / "out")
    (line,) = lines_of(tmp_path / "out")
    assert (line["data"], line["seed"], line["verdict"], line["previous"]) == ("e0", 7, "fail", "")
    assert line["created"] == "2026-05-01T08:00:00+00:00"
    assert line["policy"]["effect_ratio"] == 0.5
    assert line["policy"]["sha256"] == load_policy().sha256
    assert found.provenance["ledger"]["line"] == 1
    assert (found.earlier, sentences(found)) == ((), [])


def test_a_policy_changed_after_results_were_seen_is_said(tmp_path):
    record(audit(1), tmp_path)
    found = record(audit(3, effect_ratio=0.8, name="lax"), tmp_path)
    (before,) = found.earlier
    assert (before["policy_name"], before["verdict"], before["line"]) == ("causalfm default", "fail", 1)
    assert before["changed"] == [
        {"key": "name", "before": "causalfm default", "after": "lax", "direction": "other"},
        {"key": "effect_ratio", "before": 0.5, "after": 0.8, "direction": "looser"},
    ]
    assert sentences(found) == [
        "These data were audited once before with reports in this folder, on 2026-05-01.",
        "On 2026-05-01 it was run with another declaration: name was causalfm default and is lax; effect_ratio was 0.5 "
        "and is 0.8 (looser).",
        "The margins of this report were set after results had been seen.",
    ]


def test_going_back_to_the_first_margins_is_no_excuse_for_those_between(tmp_path):
    for day, ratio in ((1, 0.5), (2, 0.8), (2, 0.7)):
        record(audit(day, effect_ratio=ratio), tmp_path)
    told = sentences(record(audit(4), tmp_path))
    assert (
        told[0] == "These data were audited 3 times before with reports in this folder, from 2026-05-01 to 2026-05-02."
    )
    assert told[1].endswith("effect_ratio was 0.8 and is 0.5 (stricter).")
    assert told[2].endswith("effect_ratio was 0.7 and is 0.5 (stricter).")
    assert told[3] == "The margins of this report were those of the first audit; others were tried in between."
    assert len(told) == 4


def test_another_graph_and_other_seeds_are_said(tmp_path):
    record(audit(1, seed=0), tmp_path)
    other = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    told = " ".join(sentences(record(audit(2, seed=5, graph=other), tmp_path)))
    assert "graph was " in told
    assert "The graph of this report was declared after results had been seen." in told
    assert "Seeds were 0 and 5: a result that was chosen among seeds is too good." in told
    assert "margins" not in told


def test_the_same_declaration_again_is_told_in_one_sentence(tmp_path):
    record(audit(1), tmp_path)
    (told,) = sentences(record(audit(1), tmp_path))
    assert told.endswith("once before with reports in this folder, on 2026-05-01, with the same policy and graph.")


def test_other_data_are_no_earlier_audit(tmp_path):
    record(audit(1, data={**DATA, "fingerprint_of_embeddings": "e1"}, effect_ratio=0.9), tmp_path)
    found = record(audit(2), tmp_path)
    assert (found.earlier, len(lines_of(tmp_path))) == ((), 2)


def test_other_columns_of_the_same_embeddings_are_the_same_data(tmp_path):
    record(audit(1), tmp_path)
    assert len(record(audit(2, data={**DATA, "fingerprint": "f1"}), tmp_path).earlier) == 1
    moved = {"reference_fingerprint_of_embeddings": "r", "deployment_fingerprint_of_embeddings": "e0"}
    assert len(record(audit(3, data=moved), tmp_path).earlier) == 2  # the same rows, as a deployment


@pytest.mark.parametrize(("declared", "said"), [("2026-05-01", 0), ("2026-05-02", 0), ("2026-05-03", 1), ("", 0)])
def test_a_day_of_declaration_after_the_first_run_is_said(tmp_path, declared, said):
    record(audit(1), tmp_path)  # the second of May is a day of grace: the ledger counts in UTC
    told = [
        words for words in sentences(record(audit(9, declared_on=declared), tmp_path)) if "was declared on" in words
    ]
    assert len(told) == said
    if told:
        assert "first audited on 2026-05-01, before that" in told[0]


@pytest.mark.parametrize("tamper", ["edit", "remove the first", "remove one between", "swap", "insert"])
def test_a_changed_ledger_shows(tmp_path, tamper):
    for day in range(1, 5):
        record(audit(day), tmp_path)
    path = tmp_path / LEDGER
    lines = path.read_text().splitlines()
    if tamper == "edit":
        lines[1] = lines[1].replace('"effect_ratio": 0.5', '"effect_ratio": 0.8')
    elif tamper == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif tamper == "insert":
        lines.insert(2, lines[1])
    else:
        del lines[0 if tamper == "remove the first" else 1]
    path.write_text("".join(f"{line}\n" for line in lines))
    before = path.read_text()
    found = record(audit(5), tmp_path)
    assert re.search("do(es)? not follow the lines? before", sentences(found)[0])
    assert path.read_text().startswith(before)  # nothing was mended or lost
    assert "not follow" in sentences(record(audit(6), tmp_path))[0], "and it shows for ever"


@pytest.mark.parametrize("tamper", ["cut", "delete", "rewrite"])
def test_a_ledger_cut_off_at_its_end_shows_beside_the_report(tmp_path, tamper):
    record(audit(1), tmp_path)
    record(audit(2, effect_ratio=0.8), tmp_path).to_json(tmp_path / "report.json")
    path = tmp_path / LEDGER
    first = path.read_text().splitlines(keepends=True)[0]
    path.unlink() if tamper == "delete" else path.write_text(first)
    if tamper == "rewrite":
        record(audit(2), tmp_path)
    assert "lacks the line of the report that was here before" in sentences(record(audit(3), tmp_path))[0]


def test_reports_and_ledger_tie_to_each_other(tmp_path):
    record(audit(1), tmp_path)
    page = write_reports(audit(2, effect_ratio=0.8), tmp_path)
    body = json.loads((tmp_path / "report.json").read_text())
    assert body["provenance"]["ledger"] == {"line": 2, "sha256": read_ledger(tmp_path)[1].sha256}
    assert body["earlier"][0]["changed"][0]["key"] == "effect_ratio"
    assert page.is_file()


def test_an_audit_is_entered_once_in_a_folder(tmp_path):
    found = record(audit(1), tmp_path / "a")
    assert record(found, tmp_path / "a") is found
    assert len(lines_of(tmp_path / "a")) == 1
    record(found, tmp_path / "b")  # another folder has a ledger of its own
    assert len(lines_of(tmp_path / "b")) == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"created": 1}', b"\xff\xfe", b"null", b"[" * 100_000],
    ids=["empty", "cut", "list", "other", "bytes", "null", "deep"],
)
def test_a_line_that_cannot_be_read_is_named_and_nothing_is_lost(tmp_path, damage):
    record(audit(1), tmp_path)
    path = tmp_path / LEDGER
    content = path.read_bytes() + damage + b"\n"
    path.write_bytes(content)
    for attempt in (lambda: record(audit(2), tmp_path), lambda: write_reports(audit(2), tmp_path)):
        with pytest.raises(DataError, match=r"'audits\.jsonl', line 2 cannot be read.*Move 'audits\.jsonl'"):
            attempt()
    assert path.read_bytes() == content
    assert not (tmp_path / "report.html").exists(), "no report without a line"


def test_a_line_cut_short_is_named(tmp_path):
    record(audit(1), tmp_path)
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes() + b'{"created"')
    with pytest.raises(DataError, match="line 2 is cut short"):
        record(audit(2), tmp_path)


def test_edited_values_of_other_kinds_break_nothing(tmp_path):
    record(audit(1), tmp_path)
    path = tmp_path / LEDGER
    line = json.loads(path.read_text())
    line |= {"created": 5, "graph": {"x": []}, "seed": [1], "verdict": None, "previous": []}
    line["policy"] |= {"effect_ratio": "half", "factors": {"a": 1}, "subgroups": [[1]]}
    path.write_text(json.dumps(line) + "\n")
    told = sentences(record(audit(2), tmp_path))
    assert "does not follow" in told[0]
    assert any("effect_ratio was half and is 0.5" in words for words in told)


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    record(audit(1), tmp_path)
    before = (tmp_path / LEDGER).read_bytes()
    real = os.write
    monkeypatch.setattr(ledger.os, "write", lambda fd, text: real(fd, text[:50]))
    with pytest.raises(OSError, match="No space left"):
        write_reports(audit(2), tmp_path)
    monkeypatch.undo()
    assert (tmp_path / LEDGER).read_bytes() == before
    assert not (tmp_path / "report.html").exists()
    record(audit(2), tmp_path)
    assert [line.follows for line in read_ledger(tmp_path)] == [True, True]


def test_a_folder_in_the_place_of_the_ledger(tmp_path):
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(DataError, match="is a folder where the ledger of audits goes: move it away"):
        record(audit(1), tmp_path)


def _many(folder: str, first: int) -> None:
    for seed in range(first, first + 15):
        record(audit(1, seed=seed), folder)


def test_writers_at_once_lose_no_line(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many, args=(str(tmp_path), 100 * i)) for i in range(3)]
    threads = [threading.Thread(target=_many, args=(str(tmp_path), 1000 + 100 * i)) for i in range(2)]
    for worker in (*workers, *threads):
        worker.start()
    for worker in (*workers, *threads):
        worker.join(120)
    lines = read_ledger(tmp_path)
    assert len(lines) == 75
    assert all(line.follows for line in lines)
    assert len({line.body["seed"] for line in lines}) == 75


def _killed(step: str, folder: str) -> None:
    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    where = {
        "before the line": (report_files, "record"),
        "before the page": (Audit, "to_html"),
        "before the data": (Audit, "to_json"),
    }
    setattr(*where[step], die)
    write_reports(audit(2, effect_ratio=0.8), folder)


@pytest.mark.parametrize(("step", "lines"), [("before the line", 1), ("before the page", 2), ("before the data", 2)])
def test_killed_between_two_steps_there_is_no_report_without_a_line(tmp_path, step, lines):
    record(audit(1), tmp_path)
    assert child(_killed, step, str(tmp_path)) == -signal.SIGKILL
    found = read_ledger(tmp_path)
    assert len(found) == lines
    assert all(line.follows for line in found)
    assert not (tmp_path / "report.json").exists()
    later = record(audit(3), tmp_path)
    assert len(later.earlier) == lines


def test_the_ledger_names_no_patient(tmp_path):
    hidden = dataclasses.replace(audit(1), tables={"site": {"rows": [["patient-7f3a"]]}}, assumptions=("patient-7f3a",))
    record(hidden, tmp_path)
    assert "patient-7f3a" not in (tmp_path / LEDGER).read_text()


def test_a_line_that_was_cut_off_is_told_in_every_later_report(tmp_path):
    """The report that shows the cut is overwritten by the next one: two runs may not wash it away."""
    for day in (1, 2):
        write_reports(audit(day, effect_ratio=0.5 + day / 10), tmp_path)
    path = tmp_path / LEDGER
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    write_reports(audit(3), tmp_path)
    told = sentences(record(audit(4), tmp_path))
    assert told[0].startswith("On 2026-05-03 the ledger of this folder lacked the line")
    assert told[1] == "What follows is what the ledger says now."
    assert any("were those of the first audit" in words for words in told) is False


def test_lines_that_do_not_follow_are_named_together(tmp_path):
    for day in (1, 2, 3):
        record(audit(day), tmp_path)
    path = tmp_path / LEDGER
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert "lines 1, 2 and 3 do not follow the lines before" in sentences(record(audit(4), tmp_path))[0]
