"""The study of penalties: its page says what its table holds."""

import csv
from pathlib import Path

import pandas as pd

from causalfm.training.head_steps import NAMES
from experiments.penalties import DESIGNS, page, simulated

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_the_table():
    table = pd.read_csv(DOCS / "penalties.csv")
    written = (DOCS / "penalties.md").read_text("utf-8")
    for title in table["design"].unique():
        assert f"## {title}" in written
    assert set(table["method"]) == set(NAMES)
    assert written.count("\n| erm |") == table["design"].nunique() == len(DESIGNS) + 2
    assert page(table).splitlines()[:4] == written.splitlines()[:4]
    with (DOCS / "penalties.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == len(table)


def test_a_small_run(monkeypatch):
    monkeypatch.setattr("experiments.penalties.SETTINGS", {"steps": 8, "decay": 0.01, "batch": 64})
    rows = simulated("simulated: nine of ten agree", 2)
    assert [row["method"] for row in rows] == list(NAMES)
    assert all(0.0 <= row["worst_site"] <= 1.0 for row in rows)
    assert all(row["gain_low"] <= row["gain"] <= row["gain_high"] for row in rows[1:])
