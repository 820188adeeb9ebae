"""The page on reports: its commands run as they are written, and leave what it says."""

import shlex
import sys
from pathlib import Path

import pytest

import causalfm as cfm
from causalfm import cli
from causalfm.datasets.linear_scm import linear_scm

PAGE = (Path(__file__).parents[1] / "docs" / "reports.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort, _ = linear_scm(n_groups=24, d=8, random_state=0)
    cfm.write(cohort.replace(obs=cohort.obs.iloc[:, :0]), "embeddings.npz")
    cohort.obs.to_csv("table.csv", index=False)
    lines = PAGE.partition("```bash\n")[2].partition("```")[0].splitlines()
    codes = []
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        codes.append(ended.value.code or 0)
    assert [shlex.split(line)[1] for line in lines] == ["audit", "shift", "reports", "card"]
    assert set(codes[:2]) <= {0, 1, 3}
    assert codes[2:] == [0, 0]
    files = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert files == {"report.html", "report.md", "report.json", "model-card.md", "audits.jsonl"}
    for folder in ("first", "site1"):
        assert files <= {path.name for path in (tmp_path / "reports" / folder).iterdir()}
    assert (tmp_path / "reports" / "site1" / "junit.xml").is_file()
    page = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert all(f"./{folder}/report.html" in page for folder in ("first", "site1"))
    assert "# Model card: owner/model" in (tmp_path / "README.md").read_text(encoding="utf-8")
