"""``causalfm policy``, and runs that must have an announced policy."""

import hashlib
import json

import command_line
import pytest
import yaml
from command_line import ROLES, typed

from causalfm.auditing.policy import DEFAULT, load_policy
from causalfm.auditing.policy_table import change_words, changes, direction, policy_rows

files = command_line.files  # a fixture


def rows(text):
    """Return the table that ``policy check`` prints, key by key."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("key "))
    end = next(i for i, line in enumerate(lines) if line.startswith("stricter:"))
    return {line.split()[0]: line for line in lines[start + 1 : end]}


def test_the_default_is_written_checked_and_taken(tmp_path, monkeypatch, capsys):
    path = tmp_path / "sub" / "mine.yaml"
    assert typed(monkeypatch, "policy", "init", path) == 0
    assert path.read_bytes() == DEFAULT.read_bytes()
    capsys.readouterr()
    assert typed(monkeypatch, "policy", "check", path) == 0
    out = capsys.readouterr().out
    assert set(rows(out)) == set(yaml.safe_load(DEFAULT.read_text())) - {"version"}
    assert all("as default" in line for line in rows(out).values())
    assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    assert "Not declared: intended_use, declared_by, declared_on." in out
    assert "name is still that of the default" in out
    assert "Left out" not in out
    assert typed(monkeypatch, "policy", "show") == 0
    assert capsys.readouterr().out == DEFAULT.read_text()


def test_a_file_is_not_overwritten_unless_asked(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("mine\n")
    assert typed(monkeypatch, "policy", "init", path) == 2
    assert "mine.yaml' is there" in capsys.readouterr().err
    assert path.read_text() == "mine\n"
    assert typed(monkeypatch, "policy", "init", path, "--force") == 0
    assert load_policy(path).name == "causalfm default"


def test_what_differs_is_told_with_its_direction(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nname: mine\neffect_ratio: 0.8\nneighbourhood_minimum: 0.6\nfactors: [site]\n")
    assert typed(monkeypatch, "policy", "check", path) == 0
    out = capsys.readouterr().out
    told = {key: line.split() for key, line in rows(out).items()}
    assert told["effect_ratio"] == ["effect_ratio", "0.8", "0.5", "looser", "lower"]
    assert told["neighbourhood_minimum"][3:] == ["stricter", "higher"]
    assert told["factors"][1:] == ["[site]", "[]", "looser", "more"]
    assert told["flip_rate"][3:5] == ["as", "default"]
    assert "Left out" in out
    assert "alpha" in out.split("Left out")[1]


def test_a_bad_policy_exits_with_2_and_every_problem(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nname: mine\neffect_ratio: 50%\nflip_rte: 1\n")
    assert typed(monkeypatch, "policy", "check", path) == 2
    error = capsys.readouterr().err
    assert "mine.yaml has 2 problems" in error
    assert "effect_ratio: 0.5" in error
    assert "Did you mean 'flip_rate'?" in error


def test_what_changed_since_another_policy_or_a_report(tmp_path, monkeypatch, capsys):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("version: 1\nname: p\nsubgroups: [sex]\n")
    new.write_text("version: 1\nname: p\neffect_ratio: 0.25\nsubgroups: [sex, age]\nalpha: 0.1\n")
    expected = [
        "alpha was 0.05 and is 0.1 (looser)",
        "effect_ratio was 0.5 and is 0.25 (stricter)",
        "subgroups was [sex] and is [sex, age] (stricter)",
    ]
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"policy": load_policy(old).to_dict()}))
    for against in (old, report):
        assert typed(monkeypatch, "policy", "check", new, "--against", against) == 0
        out = capsys.readouterr().out.split(f"Against {against.name}:")[1]
        assert [line.strip() for line in out.splitlines()[1:4]] == expected
    assert typed(monkeypatch, "policy", "check", old, "--against", old) == 0
    assert "Against old.yaml: no key differs." in capsys.readouterr().out
    for text in ("{", "[]", '{"policy": 3}', "{}"):
        report.write_text(text)
        assert typed(monkeypatch, "policy", "check", new, "--against", report) == 2
        assert "'report.json' is no report of an audit" in capsys.readouterr().err
    assert typed(monkeypatch, "policy", "check", new, "--against", tmp_path / "gone.json") == 2
    assert "'gone.json' cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["audit", "shift"])
def test_another_policy_than_the_announced_one_does_not_run(files, tmp_path, monkeypatch, capsys, command):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nname: mine\n")
    table = (files / "z.npz", "--obs", files / "table.csv", *ROLES, "--policy", path, "--out", tmp_path / "out")
    more = () if command == "audit" else ("--at", "site=site0")
    assert typed(monkeypatch, command, *table, *more, "--policy-sha256", "ab" * 32) == 2
    assert "is not the policy asked for" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "before", "after", "way"),
    [
        ("effect_ratio", 0.5, 0.8, "looser"),
        ("effect_ratio", 0.5, 0.4, "stricter"),
        ("neighbourhood_minimum", 0.5, 0.4, "looser"),
        ("biology_excess", 0.0, 0.1, "stricter"),
        ("alpha", 0.05, 0.01, "stricter"),
        ("minimum_groups", 3, 5, "stricter"),
        ("factors", [], ["site"], "looser"),
        ("factors", ["site"], [], "stricter"),
        ("factors", ["site"], ["site", "scanner"], "stricter"),
        ("factors", ["site"], ["scanner"], "other"),
        ("subgroups", [], ["sex"], "stricter"),
        ("subgroups", ["sex", "age"], ["sex"], "looser"),
        ("permutations", 999, 99, "other"),
        ("name", "a", "b", "other"),
        ("effect_ratio", "half", 0.5, "other"),  # a ledger or report that somebody edited
        ("factors", None, ["site"], "other"),
        ("no such key", 1, 2, "other"),
    ],
)
def test_looser_is_what_makes_a_pass_easier(key, before, after, way):
    assert direction(key, before, after) == way


def test_policies_of_other_versions_are_compared_in_what_both_have():
    old = {"name": "p", "effect_ratio": 0.5, "gone": 1, "sha256": "a"}
    new = {**load_policy().to_dict(), "name": "p", "effect_ratio": 0.75}
    found = changes(old, new)
    assert found == [{"key": "effect_ratio", "before": 0.5, "after": 0.75, "direction": "looser"}]
    assert change_words(found[0]) == "effect_ratio was 0.5 and is 0.75 (looser)"
    assert [row["key"] for row in policy_rows(old)] == ["name", "effect_ratio"]
