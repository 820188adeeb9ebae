"""The page on the causal model runs as it is written."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "scm.md"


def test_the_code_of_the_page_runs_and_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    cohort, moved = names["cohort"], names["moved"]
    assert set(moved.obs["scanner"]) == {"scanner1"}
    assert moved.obs["patient"].equals(cohort.obs["patient"])
    direct = names["scm"].counterfactual(cohort, do={"site": "site1"})
    np.testing.assert_allclose(names["back"].X, direct.X, atol=1e-10)
    assert (names["low"] <= names["high"]).all()
    assert len(names["found"].to_frame()) == cohort.d
    assert names["best"] == "additive", "linear_scm shifts means and nothing else"
