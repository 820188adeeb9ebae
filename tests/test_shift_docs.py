"""The page on deployments runs as it is written."""

import re
from pathlib import Path

import numpy as np
from docs_blocks import run_page

import causalfm as cfm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.training import train_head

PAGE = (Path(__file__).parents[1] / "docs" / "shift.md").read_text(encoding="utf-8")


def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch):
    reference, new, graph, _ = planted_shift("nothing", n_groups=96, new_groups=30, rows_per_group=1, d=6, n_sites=6)
    for cohort, name in ((reference, "reference"), (new, "new")):
        cfm.write(cohort.replace(obs=cohort.obs.iloc[:, :0]), tmp_path / f"{name}.npz")
        cohort.obs.to_csv(tmp_path / f"{name}.csv", index=False)
    train_head(reference, graph, penalty="erm", steps=20).save(tmp_path / "head.safetensors")
    here = np.array(["Northfield" if i < 30 else site for i, site in enumerate(reference.obs["site"])])
    cfm.write(reference.replace(obs=reference.obs.assign(site=here)), tmp_path / "all.npz")
    names = run_page("docs/shift.md", tmp_path, monkeypatch)
    assert (tmp_path / "shift-report" / "report.html").is_file()
    assert names["audit"].verdict == "fail"
    assert "Z" in names["truth"].moved


def test_every_function_named_is_there():
    named = set(re.findall(r"`cfm\.shift\.(\w+)", PAGE))
    assert {"drift", "attribution", "Monitor", "as_domains"} <= named
    assert named <= set(dir(cfm.shift))
