"""The figure and the part of the page on which correctors destroy biology: what they say is in the tables."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.corrector_biology_page import BLIND, MARKS, draw, section, verdicts
from experiments.corrector_intervals import BLOCKS, COHORTS, INTERVALS, blocks_of, held, linear_scm

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def tables():
    return pd.read_csv(DOCS / "correctors.csv"), pd.read_csv(DOCS / "corrector_intervals.csv")


def written():
    page = (DOCS / "correctors.md").read_text(encoding="utf-8")
    return page.partition(MARKS[0])[2].partition(MARKS[1])[0]


def test_the_page_holds_what_the_tables_give(tables):
    assert written() == section(*tables)


def test_the_claims_follow_from_the_tables(tables):
    table, intervals = tables
    text = re.sub(r"\s+", " ", written())
    kept = re.search(r"\*\*Kept, with biology given\*\* \((\d+) of (\d+)\): (.*?)\. Of the site", text)
    names = [re.sub(r" \([\d.]+\)$", "", name) for name in kept.group(3).split("; ")]
    assert len(names) == int(kept.group(1))
    share, error = "biology_over_sites", "biology_over_sites_se"
    for name in names:
        rows = table[table["method"] == name]
        assert len(rows) == 4
        assert (np.abs(rows[share] - 1.0) + stats.t.ppf(0.975, rows["cohorts"] - 1) * rows[error] <= 0.05).all()
    lost = re.search(r"\*\*Lost, with biology given\*\* \((\d+) of", text)
    given = table[~table["method"].str.endswith(BLIND) & (table["method"] != "none")]
    reach = stats.t.ppf(0.975, given["cohorts"] - 1) * given[error]
    below = given[given[share] + reach < 0.95]["method"].nunique()
    assert int(lost.group(1)) == below
    blind = table[table["method"].str.endswith(BLIND) & (table["confounding"] == 0.9)]
    assert f"{blind[share].min():.2f} (" in text
    held_at_most = intervals[intervals["method"].isin(names) & (intervals["confounding"] == 0.9)]
    assert f"{held_at_most['corrector_as_given'].min():.0%}" in text
    assert f"{held_at_most['corrector_fitted_anew'].max():.0%} (standard" in text


def test_verdicts_need_every_confounding_to_be_kept_and_one_to_be_lost():
    def rows(shares, error):
        return [{"method": "m", "biology_over_sites": s, "biology_over_sites_se": error, "cohorts": 40} for s in shares]

    for shares, error, verdict in (
        ([1.0, 1.01], 0.01, "kept"),
        ([1.0, 0.98], 0.03, "cannot tell"),
        ([1.0, 0.8], 0.03, "lost"),
        ([1.0, 1.2], 0.03, "cannot tell"),
    ):
        assert verdicts(pd.DataFrame(rows(shares, error)))["m"] == verdict


def test_blocks_hold_whole_patients_and_are_even_within_cells():
    cohort, _ = linear_scm(n_groups=80, n_sites=2, rows_per_group=3)
    block = pd.Series(blocks_of(cohort, 0), index=cohort.obs.index)
    assert (block.groupby(cohort.obs["patient"]).nunique() == 1).all()
    sizes = cohort.obs.drop_duplicates("patient").assign(block=block).groupby("block").size()
    assert set(sizes) == {80 // BLOCKS}


def test_the_table_of_intervals_is_what_the_script_gives(tables):
    row = tables[1].set_index(["method", "confounding"]).loc[("MeanAligner", 0.9)]
    found = np.array([held("MeanAligner", 0.9, seed) for seed in range(COHORTS)])
    np.testing.assert_allclose(found.mean(axis=0), [row[name] for name in INTERVALS], atol=1e-3)
    assert (found[:, 1] >= found[:, 0]).all()  # the error of the correction only adds


def test_the_figure_is_drawn(tables, tmp_path):
    from PIL import Image

    draw(*tables, tmp_path / "figure.png")
    assert np.asarray(Image.open(tmp_path / "figure.png").convert("L")).min() < 60
