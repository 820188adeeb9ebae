"""The command line: exit codes, files written, messages."""

import json
import subprocess
import sys

import command_line
import pytest
from command_line import ROLES, typed

import causalfm as cfm
from causalfm.auditing import load_audit

pytestmark = pytest.mark.usefixtures("without_self_checks")


files = command_line.files  # a fixture


def test_audit_writes_its_reports_and_exits_with_the_verdict(files, tmp_path, monkeypatch, capsys) -> None:
    table = ("--obs", files / "table.csv", "--out", tmp_path / "out")
    roles = ("--biology", "tumour", "--technical", "site,scanner", "--covariates", "age", "--group", "patient")
    code = typed(monkeypatch, "audit", files / "z.npz", *table, *roles, "--junit", tmp_path / "junit.xml")
    assert code == 1
    assert '<failure type="fail"' in (tmp_path / "junit.xml").read_text(encoding="utf-8")
    written = {"report.html", "report.md", "report.json", "model-card.md", "audits.jsonl"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == written
    body = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (body["verdict"], body["exit_code"]) == ("fail", 1)
    assert {f["factor"] for f in body["findings"]} == {"tumour", "site", "scanner"}
    again = load_audit(tmp_path / "out" / "report.json")
    assert again.to_html() == (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert again.to_markdown() == (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    out = capsys.readouterr().out
    assert out.startswith("FAIL: The factor site")
    assert "report.html" in out


def test_rows_can_be_kept_by_level(files, tmp_path, monkeypatch) -> None:
    keep = ("--keep", "site=site0", "--keep", "site=site2")
    assert typed(monkeypatch, "audit", files / "z.npz", *ROLES, *keep, "--out", tmp_path) == 1
    body = json.loads((tmp_path / "report.json").read_text())
    assert body["tables"]["site"]["levels"] == ["site0", "site2"]
    assert body["data"]["info_kept"][0]["rows_left_out"] == 120


def test_a_graph_from_a_file(files, tmp_path, monkeypatch) -> None:
    arrows = tmp_path / "graph.txt"
    arrows.write_text("site <-> tumour\n{site, tumour} -> Z\n")
    assert typed(monkeypatch, "audit", files / "z.npz", *ROLES, "--graph", arrows, "--out", tmp_path) == 1
    assert "site <-> tumour" in json.loads((tmp_path / "report.json").read_text())["graph"]["arrows"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--biology", "tumour", "--technical", "hospital", "--group", "patient"), "hospital"),
        (("--biology", "tumour", "--technical", "site"), "--group"),
        ((*ROLES, "--keep", "site"), "COLUMN=LEVEL"),
        ((*ROLES, "--keep", "site=nowhere"), "no level 'nowhere'"),
        ((*ROLES, "--policy", "nowhere.yaml"), "no policy file"),
        ((*ROLES, "--graph", "site -> tumour -> site; {site, tumour} -> Z"), "cycle"),
        ((*ROLES, "--obs", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_input_exits_with_2(files, tmp_path, monkeypatch, capsys, arguments, message) -> None:
    assert typed(monkeypatch, "audit", files / "z.npz", *arguments, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_internal_error_exits_with_70(files, monkeypatch, capsys) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr("causalfm.io.read", broken)
    assert typed(monkeypatch, "audit", files / "z.npz", *ROLES) == 70
    assert "internal error" in capsys.readouterr().err


def test_doctor_is_content_here(monkeypatch, capsys) -> None:
    assert typed(monkeypatch, "doctor") == 0
    out = capsys.readouterr().out
    assert "torch" in out
    assert "FAIL" not in out


def test_demo_runs_to_the_end_with_the_real_encoder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("causalfm.demo.N_PATIENTS", 48)
    monkeypatch.setattr("causalfm.demo.TILES_PER_PATIENT", 1)
    assert typed(monkeypatch, "demo", "--out", tmp_path) == 0
    body = json.loads((tmp_path / "report.json").read_text())
    assert body["data"]["dimensions"] == 1280
    assert "efficientnet-lite0" in body["data"]["info_encoder"]
    assert len(cfm.read(tmp_path / "embeddings.npz")) == 48


def test_the_command_is_installed() -> None:
    done = subprocess.run([sys.executable, "-m", "causalfm.cli", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("audit", "compare", "demo", "doctor"):
        assert command in done.stdout


def test_awkward_arguments_are_bad_input_and_not_internal_errors(files, tmp_path, monkeypatch, capsys) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"\xff\xfe")
    for extra, message in (
        (("--out", taken), "is a file: name a folder"),
        (("--graph", taken), "of arrows │ │ (UTF-8)"),
        (("--graph", "x" * 400), "of arrows │ │ (UTF-8)"),
        (("--seed", "-1"), "greater than or equal to 0"),
    ):
        assert typed(monkeypatch, "audit", files / "z.npz", *ROLES, *extra) == 2, extra
        said = " ".join(capsys.readouterr().err.split())
        assert message in said
