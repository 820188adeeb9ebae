"""The experiments on scale: cohorts that go on where they were cut, numbers that are compared, a page without gaps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from experiments.scale import cohorts, page
from experiments.scale.equality import difference
from experiments.scale.paper import PARTS, on_paper
from experiments.scale.watching import watched


def test_a_cohort_that_was_cut_is_written_to_its_end(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cohorts, "CHUNK_ROWS", 100)
    monkeypatch.setattr(cohorts, "CHUNK_BYTES", 1)
    monkeypatch.setattr(cohorts, "PATIENTS", 20)
    path = cohorts.write_cohort(tmp_path, 4 * 8 * 400 / 2**30, d=8)
    whole = zarr.open_array(path)[:]
    table = cohorts.table_of(400)
    assert whole.shape == (len(table), 8)
    (path / "c" / "2" / "0").unlink()
    kept = (path / "c" / "1" / "0").stat().st_mtime_ns
    np.testing.assert_array_equal(zarr.open_array(cohorts.write_cohort(tmp_path, 4 * 8 * 400 / 2**30, d=8))[:], whole)
    assert (path / "c" / "1" / "0").stat().st_mtime_ns == kept
    assert (table.groupby("patient", observed=True)[["site", "tumour"]].nunique() == 1).all(axis=None)


def test_differences_are_seen_wherever_they_are() -> None:
    answer = {"value": 2.0, "details": {"levels": ["a", "b"], "curve": [0.5, float("nan")]}, "p": 0.25}
    assert difference(answer, json.loads(json.dumps(answer))) == 0.0
    assert difference(answer, {**answer, "p": 0.25 * (1 + 1e-6)}) == pytest.approx(1e-6, rel=1e-3)
    assert difference(answer, {**answer, "details": {"levels": ["a", "c"], "curve": [0.5, float("nan")]}}) == np.inf
    assert difference(answer, {**answer, "details": {"levels": ["a", "b"], "curve": [0.5, 1.0]}}) == np.inf
    assert difference(np.array([1e-9, 4.0]), np.array([2e-9, 4.0])) == pytest.approx(1e-9 / 4)
    assert difference(np.ones(2), np.ones(3)) == np.inf
    assert difference("one text", "another") == np.inf


def test_a_cohort_on_paper() -> None:
    """By hand: of 13 passes 4 are shared (check, sums, queries, their search); the four of the model are one part."""
    found = on_paper(10**8, {name: 1.0 for name, _ in PARTS.values()}, 100.0)
    gib = 10**8 * 1536 * 4 / 2**30
    assert found.read_bytes == pytest.approx(13 * gib * 2**30)
    assert found.shared_hours == pytest.approx(4 * gib / 3600)
    assert found.alone_hours == pytest.approx((1 + 1 + 2 + 1 + 1) * gib / 3600)
    assert found.table_bytes == 10**10
    assert found.sums_bytes == 10**4 * 1536 * 8 * 3


def test_a_command_is_watched(tmp_path: Path) -> None:
    """From a small process: the system counts for a command what its parent held when it started it."""
    code = (
        "import json; from pathlib import Path; from experiments.scale.watching import watched; print(json.dumps("
        "watched(['timeit', '-n', '1', '-r', '1', 'x = [0] * 25_000_000; sum(range(2_000_000))'], "
        "Path('log')).to_dict()))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    took = json.loads(done.stdout)
    assert took["status"] == 0
    assert 0.18 < took["peak_gib"] <= took["all_gib"] < 1.0
    assert took["processor_seconds"] <= 1.5 * took["seconds"] + 0.5
    assert watched(["no_such_module"], tmp_path / "log").status == 1


def test_the_committed_page_is_the_page_of_its_numbers() -> None:
    docs = Path(__file__).parents[1] / "docs"
    body = json.loads((docs / "scale.json").read_text("utf-8"))
    assert (docs / "scale_measured.md").read_text("utf-8") == page.page(body)
    assert set(body) <= set(page.SECTIONS)
    assert {"sizes", "equality", "draws"} <= set(body)  # the page names what else is not measured
    assert all(run["peak_gib"] < run["limit_gib"] for run in body["sizes"]["found"])
    assert max(body["equality"]["found"]["differences"].values()) < 1e-6
