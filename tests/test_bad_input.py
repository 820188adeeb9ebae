"""What cannot be used is refused at once, in one message: what, where, the way out, and never a patient."""

import io
import json
import re
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import bad_audits
import bad_augment
import bad_calls
import bad_data
import bad_pairs
import bad_scm
import numpy as np
import pytest
from bad_data import SENTINEL, cohort, matrix, table
from command_line import typed

from causalfm.errors import CausalFMError

WAY_OUT = re.compile(
    r"\b(add|ask|bin|bring|choose|convert|copy|correct|declare|drop|export|extract|fill|flatten|give|join|leave|list|"
    r"make|merge|multiply|name|named|needs|pass|pool|read|remove|rename|reshape|restrict|save|search|turn|use|wrap|"
    r"write|check|must|compared level|Known entries|Valid|Columns|Keys|come as)\b",
    re.IGNORECASE,
)
MODULES = (bad_data, bad_calls, bad_scm, bad_augment, bad_pairs, bad_audits)
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}


@cache
def outcome(name):
    """Run one case: its error, what it printed on the way, and its duration."""
    printed = io.StringIO()
    with TemporaryDirectory() as folder, redirect_stdout(printed), redirect_stderr(printed):
        started = time.perf_counter()
        with pytest.raises(CausalFMError) as caught:
            CASES[name][0](SimpleNamespace(folder=Path(folder)))
        return caught.value, printed.getvalue(), time.perf_counter() - started


@pytest.mark.parametrize("name", CASES)
def test_the_message_says_what_where_and_the_way_out(name):
    error, _, seconds = outcome(name)
    message = str(error)
    for part in CASES[name][1:]:
        assert part in message, message
    assert WAY_OUT.search(message), message
    assert error.__cause__ is None, "one error, not a chain"
    assert error.__context__ is None or error.__suppress_context__, "one error, not a chain"
    assert seconds < 20
    assert len(message) < 700, "readable"


@pytest.mark.parametrize("name", CASES)
def test_no_message_names_a_patient(name):
    error, printed, _ = outcome(name)
    assert SENTINEL not in "".join(traceback.format_exception_only(error)) + repr(error.args) + printed


def test_no_case_hides_another_of_the_same_name():
    assert len(CASES) == sum(len(module.CASES) for module in MODULES)


ROLES = ("--biology", "tumour", "--technical", "site", "--group", "patient")
COMMANDS = {
    "infinite value": ({}, (), "1 of 72 rows (row 3)"),
    "missing sites": ({"site": table()["site"].where(bad_data.half)}, (), "36 missing values"),
    "one site": ({"site": "A"}, (), "one level only"),
    "blank patients, read as missing": ({"patient": ""}, (), "72 missing values"),
    "a patient in two hospitals": ({"site": bad_data.varies(2)}, (), "varies within"),
    "an infinite covariate": ({"age": np.inf}, ("--covariates", "age"), "infinite"),
    "a column that is not there": ({}, ("--covariates", "Age"), "Did you mean 'age'?"),
    "an unknown level": ({}, ("--keep", "site=C"), "no level 'C'"),
    "an unknown patient": ({}, ("--keep", f"patient={SENTINEL}"), "lacks 1 of the levels"),
    "an unknown role": ({}, ("--missing", "ignore"), "missing='ignore'"),
    "a cycle": ({}, ("--graph", "site → tumour → site → Z"), "site -> tumour -> site"),
    "a quote in a name": ({}, ("--covariates", "a'\"b"), "double quotes"),
    "a blank after a comma": ({}, ("--technical", "site,", "scanner"), "leave no blank after commas"),
    "a negative seed": ({}, ("--seed", "-1"), "--seed"),
    "a report inside a file": ({}, ("--out", "z.npz/report"), "'z.npz' is a file"),
}


def command(monkeypatch, folder, arguments):
    monkeypatch.chdir(folder)
    return typed(monkeypatch, "audit", "z.npz", "--obs", "t.csv", *ROLES, *arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_exits_with_2_and_one_message(name, tmp_path, monkeypatch, capfd):
    columns, arguments, part = COMMANDS[name]
    X = matrix()
    if name == "infinite value":
        X[3, 1] = np.inf
    np.savez(tmp_path / "z.npz", X=X)
    table().assign(**columns).to_csv(tmp_path / "t.csv", index=False)
    assert command(monkeypatch, tmp_path, arguments) == 2
    out, err = capfd.readouterr()
    said = re.sub(r"[\s│]+", " ", err)  # typer draws a box
    assert part in said
    assert SENTINEL not in out + err
    assert "Traceback" not in err
    assert "Warning" not in err
    assert "internal error" not in err
    assert not out
    assert not (tmp_path / "audit-report").exists()


def test_an_internal_error_shows_where_but_no_value(tmp_path, monkeypatch, capfd):
    def broken(*args, **kwargs):
        raise KeyError(SENTINEL)

    monkeypatch.setattr("causalfm.auditing.audit", broken)
    monkeypatch.setattr("causalfm.audit", broken, raising=False)
    np.savez(tmp_path / "z.npz", X=matrix())
    table().to_csv(tmp_path / "t.csv", index=False)
    assert command(monkeypatch, tmp_path, ()) == 70
    err = capfd.readouterr().err
    assert "KeyError" in err
    assert "broken" in err
    assert SENTINEL not in err


def test_a_full_disk_is_no_internal_error(tmp_path, monkeypatch, capfd):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / SENTINEL / "report.html"))

    monkeypatch.setattr("causalfm.io.read", full)
    assert command(monkeypatch, tmp_path, ()) == 2
    assert (
        capfd.readouterr().err == "causalfm: 'report.html': No space left on device. Check the path and its rights.\n"
    )


def test_a_report_holds_no_patient_however_rows_were_chosen(tmp_path, monkeypatch, capfd):
    np.savez(tmp_path / "z.npz", X=matrix())
    table().to_csv(tmp_path / "t.csv", index=False)
    keep = [x for patient in cohort().obs["patient"].unique()[:20] for x in ("--keep", f"patient={patient}")]
    assert command(monkeypatch, tmp_path, keep) == 3
    shown = "".join(capfd.readouterr()) + "".join(p.read_text() for p in (tmp_path / "audit-report").iterdir())
    assert SENTINEL not in shown
    kept = json.loads((tmp_path / "audit-report" / "report.json").read_text())["data"]["info_kept"][0]
    assert kept == {"columns": ["patient"], "rows_left_out": 12}
