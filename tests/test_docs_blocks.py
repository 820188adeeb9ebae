"""Every command and every block of Python in the README and the documentation runs as it is written."""

import collections
import shutil

import docs_blocks
import numpy as np
import pytest
from docs_blocks import REASONS, ROOT, blocks, pages, run_page
from docs_files import write_files

# Pages whose own test runs them, on data of their own, and then looks at what came out.
OWN_TEST = {
    "docs/correctors.md": "test_correctors_docs.py",
    "docs/effects.md": "test_effect_docs.py",
    "docs/evidence.md": "test_evidence_docs.py",
    "docs/interoperability.md": "test_sklearn_pipelines.py",
    "docs/reports.md": "test_reports_docs.py",
    "docs/scm.md": "test_scm_docs.py",
    "docs/shift.md": "test_shift_docs.py",
    "docs/train_with_interventions.md": "test_train_with_interventions.py",
    "docs/training.md": "test_training_docs.py",
}
RUN_HERE = [page for page in pages() if page not in OWN_TEST and any(not block.reason for block in blocks(page))]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def test_reasons_are_known_and_nothing_is_left_out_unsaid(capsys):
    every = [block for page in pages() for block in blocks(page)]
    said = collections.Counter(block.reason for block in every if block.reason)
    assert set(said) <= set(REASONS), "a reason that nobody agreed on"
    assert len(every) - said.total() > 60
    assert said.total() <= 18, "too much is not run"
    with capsys.disabled():
        print(f"\n{len(every)} blocks; not run: {dict(said) or 'none'}", end=" ")


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_page_runs_as_it_is_written(page, files, tmp_path, monkeypatch):
    folder = shutil.copytree(files, tmp_path / "work")
    names = run_page(page, folder, monkeypatch)
    if page == "docs/extraction.md":
        assert names["cohort"].X.shape == (6, 1280)
        assert isinstance(names["cohort"].X, np.memmap)
        assert names["validation"].X.shape == (12, 8)
    if page == "docs/start.md":  # what it says of its files
        assert names["audit"].verdict == "fail"
        assert (folder / "first-report" / "report.html").is_file()


@pytest.mark.parametrize("page", OWN_TEST)
def test_pages_with_a_test_of_their_own_are_run_by_it(page):
    text = (ROOT / "tests" / OWN_TEST[page]).read_text("utf-8")
    name = page.removeprefix("docs/")
    assert f'run_page("{page}"' in text or (name in text and "exec(compile(" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\nls\n```\n", "name the language"),
        ("```bash\nrm -r mine\n```\n", "no command that a test can run"),
        ("```bash\ncausalfm policy check gone.yaml\n```\n", "ended with 2"),
        ("```python\nassert cfm\n```\n", "cfm"),
    ],
)
def test_a_block_that_does_not_run_is_noticed(text, message, tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr(docs_blocks, "ROOT", tmp_path)
    with pytest.raises((AssertionError, NameError), match=message):
        run_page("page.md", tmp_path, monkeypatch)


def test_a_marked_block_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("<!-- not run: needs a GPU -->\n```python\nraise SystemError\n```\n")
    monkeypatch.setattr(docs_blocks, "ROOT", tmp_path)
    assert [block.reason for block in blocks("page.md")] == ["needs a GPU"]
    run_page("page.md", tmp_path, monkeypatch)
