"""The page on reports: its commands run as they are written, and leave what it says."""

from pathlib import Path

from docs_blocks import run_page

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm

PAGE = (Path(__file__).parents[1] / "docs" / "reports.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    cohort, _ = linear_scm(n_groups=24, d=8, random_state=0)
    cfm.write(cohort.replace(obs=cohort.obs.iloc[:, :0]), tmp_path / "embeddings.npz")
    cohort.obs.to_csv(tmp_path / "table.csv", index=False)
    run_page("docs/reports.md", tmp_path, monkeypatch)
    files = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert files == {"report.html", "report.md", "report.json", "model-card.md", "audits.jsonl"}
    for folder in ("first", "site1"):
        assert files <= {path.name for path in (tmp_path / "reports" / folder).iterdir()}
    assert (tmp_path / "reports" / "site1" / "junit.xml").is_file()
    page = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert all(f"./{folder}/report.html" in page for folder in ("first", "site1"))
    assert "# Model card: owner/model" in (tmp_path / "README.md").read_text(encoding="utf-8")
