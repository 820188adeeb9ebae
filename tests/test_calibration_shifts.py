"""The calibration of what changed: a rehearsal of the study, and what its committed table says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.calibration.designs import Cell
from experiments.calibration.shifts import DESIGNS, P_VALUES, TABLE, shift_cells, table_of
from experiments.calibration.study import run

NULLS = [name for name in DESIGNS if name.startswith("nothing")]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    found = pd.read_csv(Path(__file__).parents[1] / TABLE)
    assert set(found["design"]) == set(DESIGNS)
    return found.set_index(["design", "quantity"])


def test_a_rehearsal_measures_and_goes_on(tmp_path, monkeypatch):
    cells = [Cell("shift", name, {**shift_cells()[0].design, **DESIGNS[name]}, 1) for name in ("nothing", "fading")]
    monkeypatch.setattr("experiments.calibration.shifts.shift_cells", lambda: cells)
    run(cells, tmp_path, workers=1)
    found = table_of(tmp_path).set_index(["design", "quantity"])
    assert set(found.index.get_level_values(0)) == {"nothing", "fading"}
    assert (found.loc["nothing"]["cohorts"] == 1).all()
    assert {*P_VALUES, "case mix", "black box", "expectation maximisation"} <= set(found.loc["nothing"].index)
    lines = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    run(cells, tmp_path, workers=1)  # measures a record again, finds it the same, and adds nothing
    assert {path.name: path.read_text("utf-8").strip() for path in tmp_path.iterdir()} == {
        name: text.strip() for name, text in lines.items()
    }


def test_hospitals_like_the_others_seldom_alarm(table):
    for name in NULLS:
        for quantity in ("drift, joint", "drift, given biology and age", "drift, within classes", "support"):
            row = table.loc[(name, quantity)]
            assert row["share"] <= stats.binom.ppf(0.999, row["answered"], 0.08) / row["answered"], (name, quantity)
    alike = table.loc[("nothing, hospitals alike", "fit")]
    assert alike["share"] <= stats.binom.ppf(0.999, alike["answered"], 0.05) / alike["answered"]


def test_prevalences_hold_the_truth_where_they_can_be_read(table):
    far = "nothing, hospitals far apart"  # label shift does not hold there, and is seen not to
    assert table.loc[(far, "case mix")]["share"] < 0.1
    for design in (*(name for name in NULLS if name != far), "case mix", "case mix, hospitals alike"):
        for method in ("black box", "expectation maximisation"):
            row = table.loc[(design, f"{method}, where read")]
            assert row["share"] >= stats.binom.ppf(0.001, row["answered"], 0.93) / row["answered"], (design, method)
    for design in ("scanner", "scanner, hospitals alike", "scanner, twice"):
        assert table.loc[(design, "black box")]["mean"] < 0.35  # the truth is one half
        assert table.loc[(design, "case mix")]["share"] < 0.3


def test_what_was_planted_is_seen(table):
    share = table["share"]
    assert share["scanner, twice", "drift, given biology and age"] > 0.9
    assert share["new support", "support"] > 0.95
    assert share["fading", "drift, within classes"] > 2.0 * share["fading", "drift, given biology and age"]
    assert share["covariate", "drift, joint"] > share["covariate", "drift, given biology and age"]
    assert share["case mix", "drift, joint"] > share["case mix", "drift, given biology and age"]
    assert np.isclose(share["concept", "drift, joint"], share["nothing", "drift, joint"], atol=0.2)  # not to be seen
