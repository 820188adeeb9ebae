"""Calibration of scoreboards: what is measured of a cohort, and how its shares are read."""

import numpy as np
import pytest

from experiments.calibration.designs import cells
from experiments.calibration.measures import measure
from experiments.calibration.scoreboards import RECOMMENDED, judged, readable
from experiments.calibration.summary import COVERAGE, summarise_cell

CELLS = {cell.name: cell for cell in cells() if cell.measure == "scoreboard"}


def test_a_small_design_has_intervals_of_the_site_alone():
    cell = CELLS["40 patients, confounding 0.3"]
    found = measure(cell.measure, dict(cell.design), dict(cell.options), 0, False)
    rows = {row["quantity"]: row for row in summarise_cell(cell, {0: found})}
    assert set(rows) == {"site_linear, none", "site_linear, aligned", "site_linear, aligned less none"}
    assert all(row["answered"] == 1 for row in rows.values())


def test_the_truth_of_the_worst_site_is_the_least_of_the_true_accuracies():
    rng = np.random.default_rng(0)
    nan = np.full(200, np.nan)
    one, two, old = (mean + 0.1 * rng.standard_normal(200) for mean in (0.7, 0.75, 0.5))

    def row(values, low=nan, high=nan):
        return np.stack([values, low, high, nan], axis=1)

    found = {
        RECOMMENDED: np.ones(200),
        "at site0, aligned": row(one),
        "at site1, aligned": row(two),
        "at site0, none": row(old),
        "worst_new_site, aligned": row(np.minimum(one, two), one - 1, one + 1),
        "worst_new_site, aligned less none": row(np.minimum(one, two) - old, one - 1, one + 1),
        "biology_new_site, aligned less none": row(one - 0.7, one - 0.8, one - 0.6),
    }
    out, about = readable(found)
    assert set(out) == {name for name in found if not name.startswith("at ")} | {
        "biology_new_site, aligned less none, low above the truth"
    }
    assert out["worst_new_site, aligned"][0, 3] == one.mean() > np.minimum(one, two).mean() + 0.02
    assert out["worst_new_site, aligned less none"][0, 3] == pytest.approx(one.mean() - old.mean())
    wrong = (out["biology_new_site, aligned less none, low above the truth"] == 0.0).mean()
    assert wrong == np.mean(one - 0.8 > (one - 0.7).mean())
    gains = one.mean() > 0.7
    assert about[RECOMMENDED]["kind"] == ("power" if gains else "error")


def test_shares_of_few_cohorts_are_read_with_their_error():
    def read(share, answered, kind="coverage"):
        return judged({"kind": kind, "share": share, "answered": answered}, COVERAGE)

    assert read(0.91, 100) == read(1.0, 40) == "within"
    assert read(0.91, 1000) == read(0.87, 100) == "too short"
    assert read(1.0, 400) == "conservative"
    assert (read(0.04, 100, "error"), read(0.06, 100, "error")) == ("within", "too often")
    assert read(0.4, 100, "power") == "power"
