"""The page on deployments runs as it is written."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import causalfm as cfm
from causalfm import cli
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.training import train_head

PAGE = (Path(__file__).parents[1] / "docs" / "shift.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_of_the_page_runs():
    names = {}
    for block in blocks("python"):
        exec(compile(block, "docs/shift.md", "exec"), names)
    assert names["audit"].verdict == "fail"
    assert "Z" in names["truth"].moved


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference, new, graph, _ = planted_shift("nothing", n_groups=96, new_groups=30, rows_per_group=1, d=6, n_sites=6)
    for cohort, name in ((reference, "reference"), (new, "new")):
        cfm.write(cohort.replace(obs=cohort.obs.iloc[:, :0]), f"{name}.npz")
        cohort.obs.to_csv(f"{name}.csv", index=False)
    train_head(reference, graph, penalty="erm", steps=20).save("head.safetensors")
    here = np.array(["Northfield" if i < 30 else site for i, site in enumerate(reference.obs["site"])])
    cfm.write(reference.replace(obs=reference.obs.assign(site=here)), "all.npz")
    lines = blocks("bash")[0].replace("\\\n", " ").splitlines()
    assert [shlex.split(line)[:2] for line in lines] == [["causalfm", "shift"]] * 2
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (0, 1, 3), line
        assert (tmp_path / "shift-report" / "report.html").is_file()


def test_every_function_named_is_there():
    named = set(re.findall(r"`cfm\.shift\.(\w+)", PAGE))
    assert {"drift", "attribution", "Monitor", "as_domains"} <= named
    assert named <= set(dir(cfm.shift))
