"""The page on correctors runs as it is written."""

import csv
from pathlib import Path

import numpy as np
from docs_blocks import run_page

import causalfm
from experiments.corrector_limits import AGE_COHORTS, BY_AGE, age_error, page_table

PAGE = Path(__file__).parents[1] / "docs" / "correctors.md"


def test_the_table_of_limits_is_that_of_the_file_and_of_the_script():
    with (PAGE.parent / "corrector_limits.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert page_table(table) in PAGE.read_text(encoding="utf-8")
    found = [age_error(BY_AGE["CausalComBat, matched"](), s, "shifted", "threshold") for s in range(AGE_COHORTS)]
    row = next(r for r in table if (r["method"], r["setting"]) == ("CausalComBat, matched", "shifted, threshold"))
    assert abs(np.mean(found, axis=0)[0] - float(row["mean"])) < 2e-3


def test_the_code_of_the_page_runs_and_does_what_it_says(tmp_path, monkeypatch):
    names = run_page("docs/correctors.md", tmp_path, monkeypatch)
    shown = causalfm.read("corrected.h5ad").info["corrections"]
    assert [record["corrector"] for record in shown] == ["ComBat"]
    assert len(causalfm.read("erased.npz")) == (names["obs"]["site"] == "site3").sum()
    train, obs, cohort = names["train"], names["obs"], names["cohort"]
    assert not set(obs["patient"][train]) & set(obs["patient"][~train])
    again = names["again"].transform(cohort.X[~train], factor=obs["site"][~train])
    np.testing.assert_array_equal(again, names["corrected"])
    site, tumour = (obs[name][~train] for name in ("site", "tumour"))

    def spread(X):
        within = [X[(tumour == c) & (site == s)].mean(axis=0) for c in tumour.unique() for s in sorted(site.unique())]
        means = np.stack(within).reshape(tumour.nunique(), site.nunique(), -1)
        return ((means - means.mean(axis=1, keepdims=True)) ** 2).sum()

    assert spread(names["corrected"]) < 0.8 * spread(cohort.X[~train])
