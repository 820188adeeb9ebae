"""The study of penalties runs, and its page holds every penalty; the published page is not there yet."""

import pandas as pd

from causalfm.training.head_steps import NAMES
from experiments.penalties import page, simulated


def test_a_small_run_and_its_page(monkeypatch):
    monkeypatch.setattr("experiments.penalties.SETTINGS", {"steps": 8, "decay": 0.01, "batch": 64})
    rows = simulated("simulated: nine of ten agree", 2)
    assert [row["method"] for row in rows] == list(NAMES)
    assert all(0.0 <= row["worst_site"] <= 1.0 for row in rows)
    assert all(row["gain_low"] <= row["gain"] <= row["gain_high"] for row in rows[1:])
    written = page(pd.DataFrame(rows))
    assert all(f"\n| {name} | " in written for name in NAMES)
