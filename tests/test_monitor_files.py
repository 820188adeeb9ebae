"""The monitor on disk: bitwise the same after a restart or a kill, one writer, nothing about patients in clear."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monitor_processes import digest
from safetensors import safe_open
from safetensors.numpy import save_file

from causalfm import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.shift import Monitor

SENTINEL = "SENTINEL-PATIENT"
KEY = b"0123456789abcdef"


@pytest.fixture(scope="module")
def hospital():
    _, _, graph, truth = planted_shift("nothing", 0.0, n_groups=12, new_groups=1)
    reference, stream = truth.draw("deployment", 80, 2, 1), truth.draw("deployment", 60, 2, 2)
    named = [
        part.replace(obs=part.obs.assign(patient=f"{SENTINEL}-{k}-" + part.obs["patient"]))
        for k, part in enumerate((reference, stream))
    ]
    return graph, named[0], [named[1][20 * k : 20 * k + 20] for k in range(6)]


def model(X):
    p = 1.0 / (1.0 + np.exp(-np.asarray(X)[:, 0]))
    return np.stack([1.0 - p, p], axis=1)


def test_killed_monitors_lose_nothing(tmp_path):
    script = Path(__file__).with_name("monitor_processes.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["killed_at_every_write"]["kills"] >= 12
    random = found["killed_at_random"]
    assert (random["lost"], random["same"], random["left over"]) == (0, True, [])
    assert random["kills"] >= 8
    assert random["before the end"] > 3


@pytest.mark.parametrize("options", [{}, {"model": model}, {"given": ["age", "scanner"]}, {"unit": "row"}])
def test_a_restart_after_every_batch_changes_no_bit(hospital, tmp_path, options):
    graph, reference, batches = hospital
    again = {"model": model} if "model" in options else {}
    whole, path = Monitor.fit(reference, graph, key=KEY, noticeable=4.0, **options), tmp_path / "m.safetensors"
    whole.save(tmp_path / "whole.safetensors")
    Monitor.fit(reference, graph, key=KEY, noticeable=4.0, **options).save(path)
    for k, batch in enumerate(batches):
        shifted = batch.replace(X=batch.X + 2.0 * (k > 2))
        status = whole.update(shifted, name=str(k))
        restarted = Monitor.load(path, key=KEY, **again).update(shifted, name=str(k))
        assert restarted.to_dict() == status.to_dict()
    assert digest(path) == digest(tmp_path / "whole.safetensors")
    assert status.verdict == "fail"
    assert whole.reset().to_dict() == Monitor.load(path, key=KEY, **again).reset().to_dict()
    assert digest(path) == digest(tmp_path / "whole.safetensors")


def test_the_file_names_no_patient_and_holds_no_embedding(hospital, tmp_path):
    graph, reference, batches = hospital
    path = tmp_path / "m.safetensors"
    monitor = Monitor.fit(reference, graph)
    monitor.save(path)
    monitor.update(batches[0])
    content = path.read_bytes()
    assert SENTINEL.encode() not in content
    assert SENTINEL not in repr(monitor) + json.dumps(monitor.status().to_dict())
    with safe_open(path, framework="numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        hashes = file.get_tensor("hashes/0")
    assert hashes.shape == (90,)
    rows = {len(reference), 80, 40}
    assert not [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] in rows]
    other = Monitor.fit(reference, graph)
    assert not np.isin(other._state.watches[0].memory.hashes, hashes).any()


def test_a_batch_given_again_changes_no_bit(hospital, tmp_path):
    graph, reference, batches = hospital
    path = tmp_path / "m.safetensors"
    Monitor.fit(reference, graph).save(path)
    Monitor.load(path).update(batches[0], name="monday", stamp="1")
    content = path.read_bytes()
    monitor = Monitor.load(path)
    status = monitor.update(batches[0], name="monday again", stamp="2")
    assert status.repeated
    assert path.read_bytes() == content
    assert monitor.has_seen("monday", "1")
    assert not monitor.has_seen("monday", "2")


def test_a_second_writer_is_refused(hospital, tmp_path):
    graph, reference, batches = hospital
    path = tmp_path / "m.safetensors"
    Monitor.fit(reference, graph).save(path)
    one, two = Monitor.load(path), Monitor.load(path)
    one.update(batches[0])
    content = path.read_bytes()
    with pytest.raises(DataError, match="written by another process since it was loaded"):
        two.update(batches[1])
    assert two.status().batch == 0
    assert path.read_bytes() == content
    path.write_bytes(content[:100])
    with pytest.raises(DataError, match="was damaged since it was loaded"):
        one.update(batches[1])
    path.unlink()
    with pytest.raises(DataError, match="is gone"):
        one.update(batches[1])
    path.parent.joinpath(f".{path.name}.lock").unlink()
    path.parent.joinpath(f".{path.name}.lock").mkdir()
    with pytest.raises(DataError, match="nothing can be written beside"):
        one.update(batches[1])


def test_a_failed_write_leaves_the_monitor_as_it_was(hospital, tmp_path, monkeypatch):
    graph, reference, batches = hospital
    path = tmp_path / "m.safetensors"
    monitor = Monitor.fit(reference, graph)
    monitor.save(path)
    content = path.read_bytes()

    def full(self, data):  # half of it fits
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match="No space left"):
            monitor.update(batches[0])
    assert (monitor.status().batch, path.read_bytes()) == (0, content)
    assert monitor.update(batches[0]).batch == 1


def test_models_and_keys_must_be_those_of_the_fit(hospital, tmp_path):
    graph, reference, _ = hospital
    plain, scored, keyed = (tmp_path / f"{name}.safetensors" for name in ("plain", "scored", "keyed"))
    Monitor.fit(reference, graph).save(plain)
    Monitor.fit(reference, graph, model=model).save(scored)
    Monitor.fit(reference, graph, key=KEY).save(keyed)
    for match, path, options in (
        ("without a model", plain, {"model": model}),
        ("pass it again", scored, {}),
        ("answers otherwise", scored, {"model": lambda X: model(1.5 * X)}),
        ("leave key out", plain, {"key": KEY}),
        ("pass key=", keyed, {}),
        ("another one", keyed, {"key": KEY[::-1]}),
    ):
        with pytest.raises(DataError, match=match):
            Monitor.load(path, **options)
    assert KEY not in keyed.read_bytes()
    assert KEY.hex().encode() not in keyed.read_bytes()


def test_damaged_newer_and_other_files_are_refused(hospital, tmp_path):
    graph, reference, _ = hospital
    path = tmp_path / "m.safetensors"
    Monitor.fit(reference, graph).save(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    (tmp_path / "bit.safetensors").write_bytes(content)
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    header = {**json.loads(metadata["header"]), "schema": 99}
    save_file(tensors, tmp_path / "newer.safetensors", metadata={**metadata, "header": json.dumps(header)})
    header = {**header, "kind": "causalfm.EmbeddingSCM"}
    save_file(tensors, tmp_path / "other.safetensors", metadata={**metadata, "header": json.dumps(header)})
    for name, match in {
        "bit": "changed after",
        "cut": "damaged",
        "newer": "newer causalfm",
        "other": "not a causalfm.Monitor",
        "absent": "no file",
    }.items():
        with pytest.raises(DataError, match=match):
            Monitor.load(tmp_path / f"{name}.safetensors")


def test_the_memory_on_disk_stops_growing(hospital, tmp_path):
    graph, reference, batches = hospital
    path = tmp_path / "m.safetensors"
    monitor = Monitor.fit(reference, graph, capacity=80, key=KEY)
    monitor.save(path)
    sizes = []
    rng = np.random.default_rng(3)
    for k in range(30):
        fresh = batches[0].obs.assign(patient=[f"{k}-{i // 2}" for i in range(20)])
        monitor.update(Cohort(batches[0].X + rng.standard_normal(batches[0].X.shape), fresh))
        sizes.append(path.stat().st_size)
    per_batch = (sizes[-1] - sizes[9]) / 20  # digests of batches, and levels that no patient had before
    assert per_batch < 2000
    assert len(monitor._state.watches[0].memory.hashes) == 80
