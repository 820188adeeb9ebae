"""The command that compares encoders: its files, and input that ends it with 2."""

import json

import comparison_samples
import numpy as np
import pytest
from command_line import typed

import causalfm as cfm

encoders = comparison_samples.encoders  # a fixture


def run(monkeypatch, *arguments) -> int:
    return typed(monkeypatch, "compare", *arguments)


ROLES = ("--biology", "tumour", "--technical", "site", "--group", "patient", "--metrics", "robustness_index")


@pytest.fixture(scope="module")
def files(encoders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("plain", "centred"):
        cfm.write(encoders[name], folder / f"{name}.npz")
    np.savez(folder / "both.npz", **{name: encoders[name].X for name in ("plain", "centred")})
    encoders["plain"].obs.to_csv(folder / "table.csv", index=False)
    return folder


def test_command_line(files, tmp_path, monkeypatch, capsys) -> None:
    paths = (files / "plain.npz", files / "centred.npz")
    assert run(monkeypatch, *paths, *ROLES, "--out", tmp_path / "two") == 0
    assert {p.name for p in (tmp_path / "two").iterdir()} == {f"comparison.{kind}" for kind in ("html", "md", "json")}
    out = capsys.readouterr().out
    assert " * centred" in out
    assert "site: centred is shown to be the best" in out
    arrays = ("--key", "plain", "--key", "centred", "--obs", files / "table.csv")
    assert run(monkeypatch, files / "both.npz", *arrays, *ROLES, "--out", tmp_path / "one", "--names", "a,b") == 0
    two, one = (json.loads((tmp_path / n / "comparison.json").read_text())["boards"][0] for n in ("two", "one"))
    assert list(one["scores"]) == ["a", "b"]
    assert one["contrasts"][0]["difference"] == two["contrasts"][0]["difference"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plain.npz",), "nothing to compare"),
        (("plain.npz", "plain.npz"), "--names"),
        (("plain.npz", "centred.npz", "--names", "a"), "2 different names"),
        (("plain.npz", "centred.npz", "--key", "a", "--key", "b", "--key", "c"), "3 arrays for 2 files"),
        (("plain.npz", "centred.npz", "--metrics", "ri"), "no measure 'ri'"),
        (("plain.npz", "nowhere.npz"), "nowhere.npz"),
    ],
)
def test_bad_input_exits_with_2(files, tmp_path, monkeypatch, capsys, arguments, message) -> None:
    given = [files / a if a.endswith(".npz") else a for a in arguments]
    assert run(monkeypatch, *given, *ROLES[: -2 if "--metrics" in arguments else None], "--out", tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
