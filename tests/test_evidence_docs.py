"""The page on evidence: its commands run, its tables are those of the mapping, its record is one."""

import json
import re
import shutil
from pathlib import Path

from docs_blocks import run_page

from causalfm.auditing import collect_evidence, schema_path
from causalfm.auditing.evidence_map import DEFAULT
from experiments import evidence_page

FROZEN = Path(__file__).with_name("published") / "reports"
PAGE = (Path(__file__).parents[1] / "docs" / "evidence.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    for folder, name, frozen in (
        ("audit-report", "report", "audit-1.0"),
        ("shift-report", "report", "shift-1.2"),
        ("comparison", "comparison", "comparison-1.0"),
    ):
        (tmp_path / folder).mkdir()
        shutil.copy(FROZEN / f"{frozen}.json", tmp_path / folder / f"{name}.json")
    shutil.copy(DEFAULT, tmp_path / "my_map.yaml")
    run_page("docs/evidence.md", tmp_path, monkeypatch)
    assert Path("evidence-1.0.json").read_text().strip() == schema_path("evidence-1.0").read_text().strip()
    assert Path("again/report.html").exists()


def test_the_tables_and_the_example_are_those_of_now():
    """After a change: ``python -m experiments.evidence_page``."""
    assert evidence_page.written() == PAGE
    assert "(empty slot)" in PAGE


def test_the_record_of_the_page_has_the_fields_of_one():
    (record,) = [json.loads(block) for block in blocks("json")]
    schema = json.loads(schema_path("evidence-1.0").read_text())["$defs"]
    assert set(record) == set(schema["record"]["properties"])
    assert set(record["source"]) == set(schema["source"]["properties"])
    told = [
        field for row in re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE) for field in re.findall(r"`(\w+)`", row)
    ]
    assert set(record) <= set(told)


def test_the_slot_of_the_page_can_be_pasted(tmp_path):
    text = DEFAULT.read_text(encoding="utf-8")
    (slot,) = blocks("yaml")
    path = tmp_path / "map.yaml"
    path.write_text(re.sub(r"  - id: real-fm\n(.*\n)*?    items: \[\]\n", slot, text), encoding="utf-8")
    found = collect_evidence([FROZEN / "audit-1.0.json"], mapping=path)
    assert "real-fm" in {row["framework"] for row in found.coverage()}
