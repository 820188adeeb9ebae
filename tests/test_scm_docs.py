"""The page on the causal model runs as it is written."""

import numpy as np
from docs_blocks import run_page


def test_the_code_of_the_page_runs_and_does_what_it_says(tmp_path, monkeypatch):
    names = run_page("docs/scm.md", tmp_path, monkeypatch)
    cohort, moved = names["cohort"], names["moved"]
    assert set(moved.obs["scanner"]) == {"scanner1"}
    assert moved.obs["patient"].equals(cohort.obs["patient"])
    direct = names["scm"].counterfactual(cohort, do={"site": "site1"})
    np.testing.assert_allclose(names["back"].X, direct.X, atol=1e-10)
    assert (names["low"] <= names["high"]).all()
    assert len(names["found"].to_frame()) == cohort.d
    assert names["best"] == "additive", "linear_scm shifts means and nothing else"
