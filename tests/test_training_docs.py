"""The page on training runs as it is written, names every penalty, and its numbers are those of the study."""

import re
from pathlib import Path

import pandas as pd
from docs_blocks import run_page

import causalfm as cfm
from causalfm.training.head_steps import ADVERSARIES, PENALTIES
from experiments.penalties.page import MARKS, short

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "training.md").read_text("utf-8")


def test_the_code_of_the_page_runs_and_does_what_it_says(capsys, tmp_path, monkeypatch):
    names = run_page("docs/training.md", tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert "conditional ('tumour',)" in printed
    test = names["test"]
    robust, plain = (names[name].score(test.X, test.obs["tumour"]) for name in ("head", "plain"))
    assert robust > plain
    assert names["choice"].penalty.__name__ in names["back"].reason_
    assert 0.0 <= names["found"].robustness_index <= 1.0


def test_the_gains_are_those_of_the_study():
    assert f"{MARKS[0]}\n\n{short(pd.read_csv(DOCS / 'penalties.csv'))}\n\n{MARKS[1]}" in PAGE


def test_the_page_names_every_penalty():
    for name in PENALTIES:
        assert f"`{name}`" in PAGE, name
    for name in ADVERSARIES:
        assert name.upper() in PAGE
    for name in re.findall(r"from causalfm.training import (.*)", PAGE):
        assert all(hasattr(cfm.training, part.strip()) for part in name.split(","))
