"""The study of penalties: it runs, goes on where it was stopped, and its published page is that of its table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalfm.training.head_steps import NAMES
from experiments.penalties import cells
from experiments.penalties.__main__ import main
from experiments.penalties.designs import DESIGNS, MARKER, NEW, TCGA, TRAINING, Rows, training_set
from experiments.penalties.designs import test_set as drawn_test_set
from experiments.penalties.page import text

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def pool(monkeypatch):
    """Made-up patients of eight hospitals in place of TCGA's."""
    rng = np.random.default_rng(0)
    site, y = np.repeat(np.arange(8), 40), np.tile([0, 1], 160)
    X = rng.standard_normal((320, 6)) + y[:, None] * np.eye(6)[0] * 2 + site[:, None] * np.eye(6)[1]
    rows = Rows(X, y, site)
    monkeypatch.setattr(cells, "_pool", lambda folder: rows)
    return rows


def test_it_runs_and_goes_on(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.penalties.__main__.METHODS", ("erm", "vrex"))
    monkeypatch.setattr("experiments.penalties.__main__.DESIGNS", {"marker": DESIGNS["marker"]})
    call = [str(tmp_path), "--fast", "--out", str(tmp_path / "out"), "--state", str(tmp_path / "state")]
    main(call)
    kept = sorted((tmp_path / "state").iterdir())
    assert len(kept) == 4
    stamps, page = [f.stat().st_mtime_ns for f in kept], (tmp_path / "out" / "penalties.md").read_text()
    kept[0].unlink()
    main(call)
    again = [f.stat().st_mtime_ns for f in kept]
    assert again[1:] == stamps[1:]
    assert again[0] != stamps[0]
    assert (tmp_path / "out" / "penalties.md").read_text() == page
    table = pd.read_csv(tmp_path / "out" / "penalties.csv")
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert not table[["value", "low", "high"]].isna().any().any()
    assert "vrex" in (tmp_path / "out" / "images" / "penalties.svg").read_text()


def test_bounds_of_the_worst_hospital_hold_for_all(pool):
    """By the definition: every hospital's interval at a quarter of the error, then the least of the ends."""
    rng, splits = np.random.default_rng(1), 40
    right = (rng.random((splits, 320)) < 0.7).astype(int)
    for b in range(splits):
        right[b, rng.permutation(np.flatnonzero(pool.site < 4))[:64]] = -1
    erm = np.where(right < 0, -1, (rng.random((splits, 320)) < 0.6).astype(int))
    rows = {r["measure"]: r for r in cells._real({"right": right}, {"right": erm}, Path())}
    one = cells.interval(
        np.where(right < 0, np.nan, right.astype(float)),
        right < 0,
        2 * pool.site + pool.y,
        cells._weights([4]),
        error=0.0125,
    )
    found = rows["worst new"]
    assert found["value"] <= one.value
    assert found["low"] <= one.low
    assert found["high"] <= one.high
    gain = rows["gain: worst new"]
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["high"] - gain["low"] > rows["gain: mean new"]["high"] - rows["gain: mean new"]["low"]


def test_designs_are_as_declared():
    shortcut = training_set("shortcut", 0, 60)
    assert np.bincount(2 * shortcut.site + shortcut.y).tolist() == [48, 12, 12, 48, 48, 12]
    even = drawn_test_set("shortcut", 0, 60)
    assert np.bincount(2 * even.site + even.y).tolist() == [30] * 12
    marker = drawn_test_set("marker", 0, 2000)
    agrees = (marker.X[:, -1] > 1) == marker.y
    for site, share in enumerate(MARKER):  # the reading of the marker errs in 2 %
        assert agrees[marker.site == site].mean() == pytest.approx(0.02 + 0.96 * share, abs=0.03)
    assert set(cells.METHODS) == set(NAMES)
    assert len(TRAINING) == len(NEW) == 4


def test_the_published_page_is_that_of_its_table():
    table = pd.read_csv(DOCS / "penalties.csv")
    assert (DOCS / "penalties.md").read_text("utf-8") == text(table, cells.Plan())
    assert set(table["design"]) == {*DESIGNS, TCGA}
    assert (table.groupby("design")["method"].unique().map(set) == set(NAMES)).all()
