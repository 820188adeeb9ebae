"""``causalfm monitor``: exit codes, new files only, nothing about patients on the screen."""

import os

import numpy as np
import pytest
from command_line import typed

import causalfm as cfm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.shift import Monitor

SENTINEL = "SENTINEL-PATIENT"
ROLES = ("--biology", "tumour", "--technical", "site,scanner", "--covariates", "age", "--group", "patient")


def run(monkeypatch, *arguments) -> int:
    return typed(monkeypatch, "monitor", *arguments)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """The reference as a file, and ten days."""
    _, _, _, truth = planted_shift("nothing", 0.0, n_groups=12, new_groups=1)
    reference, stream = truth.draw("deployment", 120, 2, 1), truth.draw("deployment", 100, 2, 2)
    with_scores = []
    for k, part in enumerate((reference, stream)):
        p = 1.0 / (1.0 + np.exp(-part.X[:, 0]))
        obs = part.obs.assign(patient=f"{SENTINEL}-{k}-" + part.obs["patient"], low=1.0 - p, high=p)
        with_scores.append(part.replace(obs=obs.set_axis([f"{SENTINEL}-{k}-{i}" for i in range(len(part))])))
    path = tmp_path_factory.mktemp("reference") / "reference.npz"
    cfm.write(with_scores[0], path)
    return path, [with_scores[1][20 * k : 20 * k + 20] for k in range(10)]


def made(monkeypatch, hospital, state, *more):
    return run(monkeypatch, "--state", state, "--reference", hospital[0], *ROLES, *more)


def test_days_are_followed_to_the_alarm_and_beyond(hospital, tmp_path, monkeypatch, capsys):
    _, days = hospital
    state, folder = tmp_path / "m.safetensors", tmp_path / "daily"
    folder.mkdir()
    scores = ("--scores", "class0=low", "--scores", "class1=high", "--given", "age")
    assert made(monkeypatch, hospital, state, *scores) == 3
    for k, ending in enumerate(("npz", "parquet", "h5ad", "npy", "zarr")):
        cfm.write(days[k], folder / f"2026-11-0{k + 1}.{ending}")
    (folder / "notes.txt").write_text("quiet")
    assert run(monkeypatch, folder, "--state", state) in (0, 3)
    said = capsys.readouterr().out
    assert [line.split()[0][:10] for line in said.splitlines() if line.startswith("  ")] == [
        f"2026-11-0{k}" for k in range(1, 6)
    ]
    assert "Left out: 1 entries of 'daily'" in said
    written = state.read_bytes()
    assert run(monkeypatch, folder, "--state", state) in (0, 3)
    assert state.read_bytes() == written
    for k in (5, 6):
        cfm.write(days[k].replace(X=days[k].X + 4.0), folder / f"2026-11-0{k + 1}.npz")
    assert run(monkeypatch, folder, "--state", state) == 1
    said = capsys.readouterr().out
    assert "FAIL: Alarm: embedding" in said
    assert "since batch 6 (2026-11-06.npz)" in said
    assert "at most 1 %" in said
    assert run(monkeypatch, "--state", state) == 1
    assert run(monkeypatch, "--state", state, "--reset") == 3
    status = Monitor.load(state).status()
    assert (status.batch, status.alarm) == (7, None)
    assert {row["stream"] for row in status.tracks} == {"embedding", "scores", "errors"}
    assert SENTINEL not in said


def test_a_day_that_was_written_again_is_read_again(hospital, tmp_path, monkeypatch, capsys):
    _, days = hospital
    state, folder = tmp_path / "m.safetensors", tmp_path / "daily"
    folder.mkdir()
    made(monkeypatch, hospital, state)
    cfm.write(days[0][:10], folder / "a.npz")
    run(monkeypatch, folder, "--state", state)
    os.utime(folder / "a.npz", (1, 1))  # another time, the same rows
    run(monkeypatch, folder, "--state", state)
    assert "seen before, nothing done" in capsys.readouterr().out
    cfm.write(days[0], folder / "a.npz")  # the rest of the day came
    run(monkeypatch, folder, "--state", state)
    assert "10 compared so far, 5 seen before" in capsys.readouterr().out


def test_bad_input_ends_with_2_and_keeps_what_was_done(hospital, tmp_path, monkeypatch, capsys):
    _, days = hospital
    state, folder = tmp_path / "m.safetensors", tmp_path / "daily"
    folder.mkdir()
    assert run(monkeypatch, folder, "--state", state) == 2
    assert made(monkeypatch, hospital, tmp_path / "m.pt") == 2
    assert made(monkeypatch, hospital, state, "--scores", "class0") == 2
    assert made(monkeypatch, hospital, state, "--given", "patient") == 2
    assert not state.exists()
    made(monkeypatch, hospital, state)
    assert made(monkeypatch, hospital, state) == 2
    assert run(monkeypatch, folder, "--state", state, "--given", "age") == 2
    assert run(monkeypatch, tmp_path / "nowhere", "--state", state) == 2
    cfm.write(days[0], folder / "a.npz")
    cfm.write(days[1].replace(X=days[1].X[:, :3]), folder / "b.npz")
    assert run(monkeypatch, folder, "--state", state) == 2
    assert Monitor.load(state).status().batch == 1
    said = capsys.readouterr()
    words = " ".join(said.err.replace("│", " ").split())  # a box is drawn around some
    assert "is there already" in words
    assert "goes with --reference only" in words
    assert "3 dimensions and the reference 16" in said.err
    assert SENTINEL not in said.out + said.err
