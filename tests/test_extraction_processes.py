"""Killed, starved and doubled extractions; what is done is in `extraction_processes.py`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    named = Path(os.environ.get("CAUSALFM_DATA", "") or "nowhere").absolute()
    tiles = named / "amibr_midog21_patches_Aperio_CS2.zip"
    paths = os.pathsep.join(map(str, [HERE.parent, HERE]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "extraction_processes.py", tmp_path_factory.mktemp("runs"), tiles]
        if tiles.is_file()
        else [sys.executable, "-W", "ignore", HERE / "extraction_processes.py", tmp_path_factory.mktemp("runs")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return {name: result or {"failed": done.stderr[-3000:]} for name, result in json.loads(done.stdout).items()}


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_kill_before_any_write_loses_and_doubles_nothing(results, kind) -> None:
    assert results[f"every write, {kind}"].get("kills", 0) > 20, results[f"every write, {kind}"]


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_kill_while_a_damaged_shard_is_made_again_loses_nothing(results, kind) -> None:
    assert results[f"repair, {kind}"].get("kills", 0) > 8, results[f"repair, {kind}"]


def test_five_kills_at_random_leave_the_bytes_of_a_whole_run(results, data_dir) -> None:
    found = results["random"]
    assert found.get("ends", []).count(-signal.SIGKILL) == 5, found
    assert set(found["ends"]) <= {-signal.SIGKILL, 0}
    assert found["same"]
    assert found["rows"] == found["names"] == 24
    assert found["shards_before_the_last_run"] >= 1


def test_a_real_limit_of_memory_halves_batches_on_the_cpu(results) -> None:
    assert results["starved"].get("batch_size") in (8, 16, 32), results["starved"]


def test_memory_does_not_grow_with_the_images(results) -> None:
    few, many = results["1500"], results["6000"]  # 12 MB and 49 MB of embeddings
    assert many.get("KiB", 10**9) - few.get("KiB", 0) < 12_000, (few, many)  # 36,000 if rows were kept


def test_the_second_process_on_a_folder_is_refused_and_a_killed_one_does_not_hold_it(results) -> None:
    assert "another extraction is writing" in results["shared"].get("refused", ""), results["shared"]
    assert results["shared"]["seconds"] < 5
    assert results["shared"]["rows"] == 6
