"""The page on training with interventions: its script gains, its table is its csv, its examples run."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

import causalfm as cfm
from experiments import training_with_interventions as study

pytest.importorskip("efficientnet_lite_pytorch", reason="the pretrained encoder is in causalfm[demo]")
PAGE = study.DOCS / "train_with_interventions.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def gained():
    """The script as the page shows it, on one seed."""
    names = {"__name__": "page"}
    exec(compile(blocks()[0], str(PAGE), "exec"), names)
    return names, names["compare"](0)


def test_the_script_gains_where_the_habit_is_the_opposite(gained):
    _, found = gained
    assert found["interventions"] > found["as it comes"] + 0.2  # training as it comes has learnt the stain
    assert found["interventions"] > 0.75


def test_the_page_shows_the_script_and_its_table_is_the_csv():
    script = (study.DOCS / "train_with_interventions.py").read_text("utf-8")
    assert blocks()[0] == script
    found = pd.read_csv(PAGE.with_suffix(".csv"))
    assert study.tables(found) in PAGE.read_text("utf-8")
    assert found.groupby("arm")["seed"].nunique().min() >= 5
    mixed = (found["shortcut hospital"] + found["opposite hospital"]) / 2
    np.testing.assert_allclose(found["balanced"], mixed, atol=1e-4)


def test_the_study_measures_and_goes_on(gained, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "load_script", lambda: __import__("types").SimpleNamespace(**gained[0]))
    arms = ["HED jitter", "truly stained both ways"]
    first = study.measure(1, arms, tmp_path, 8, 1)
    assert first["arm"].tolist() == arms
    assert first[list(study.MEASURES)].notna().all(axis=None)
    stamps = [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())]
    pd.testing.assert_frame_equal(study.measure(1, arms, tmp_path, 8, 1), first)
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())] == stamps


def test_intervals_are_t_intervals_in_points():
    assert study.interval(np.array([0.4, 0.5, 0.6])) == "50 (25 to 75)"  # 4.303 * 0.1 / sqrt(3) = 0.248


def test_the_examples_of_the_loop_run(gained):
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    script = gained[0]
    obs = script["hospital"](8, 0.75, 0)
    names = {"cfm": cfm, "torch": torch, "v2": v2, "images": script["tiles"](obs, 0), "obs": obs}
    exec(compile(blocks()[1], str(PAGE), "exec"), names)
    assert torch.equal(names["shown"], names["done"].codes[:, 0])
    assert not names["stuck"].any()
    assert names["batch"]["image"].shape == (8, 3, 64, 64)
    assert names["sample"]["image"].dtype == torch.float32
