"""Saved models: the same numbers in another process, and no file that lies is read."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scm_samples import SCANNED, scanned

from causalfm.errors import DataError
from causalfm.io import write
from causalfm.scm import EmbeddingSCM

MECHANISMS = ("additive", "location-scale", "optimal-transport", "interaction-location-scale", "random-effects")

ELSEWHERE = """
import sys
import numpy as np
from causalfm.io import read
from causalfm.scm import EmbeddingSCM

folder = sys.argv[1]
cohort = read(folder + "/cohort.npz")
for name in sys.argv[2:]:
    scm = EmbeddingSCM.load(f"{folder}/{name}.safetensors")
    moved, found = scm.counterfactual(cohort, {"site": "site1"}), scm.contrast({"site": "site1"}, {"site": "site0"})
    np.savez(f"{folder}/{name}.npz", X=moved.X, scanner=moved.obs["scanner"].to_numpy(str), low=found.low,
             score=scm.log_likelihood(cohort), drawn=scm.interventional(50, {"site": "site2"}).X)
"""


@pytest.fixture
def model(tmp_path):
    cohort, _ = scanned()
    path = tmp_path / "model.safetensors"
    EmbeddingSCM(SCANNED, random_state=5).fit(cohort).save(path)
    return cohort, path


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Models of every mechanism, and a folder with what another process has read from their files."""
    folder, (cohort, _) = tmp_path_factory.mktemp("elsewhere"), scanned()
    models = {name: EmbeddingSCM(SCANNED, name, assume="additive", random_state=5).fit(cohort) for name in MECHANISMS}
    for name, scm in models.items():
        scm.save(folder / f"{name}.safetensors")
    write(cohort, folder / "cohort.npz")
    command = [sys.executable, "-c", ELSEWHERE, str(folder), *MECHANISMS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return cohort, models, folder


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_another_process_gives_the_same_numbers(mechanism, elsewhere):
    cohort, models, folder = elsewhere
    scm, there = models[mechanism], np.load(folder / f"{mechanism}.npz")
    moved = scm.counterfactual(cohort, {"site": "site1"})
    np.testing.assert_array_equal(there["X"], moved.X)
    assert there["scanner"].tolist() == moved.obs["scanner"].tolist()
    np.testing.assert_array_equal(there["low"], scm.contrast({"site": "site1"}, {"site": "site0"}).low)
    np.testing.assert_array_equal(there["score"], scm.log_likelihood(cohort))
    np.testing.assert_array_equal(there["drawn"], scm.interventional(50, {"site": "site2"}).X)


def test_the_file_names_its_data_and_no_patient(model):
    cohort, path = model
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["header"])
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert header["schema"] == 1
    assert header["fingerprint"] == cohort.fingerprint(SCANNED.columns)
    assert header["levels"][header["columns"].index("scanner")] == ["scanner0", "scanner1", "scanner2"]
    assert b"patient7" not in path.read_bytes()
    assert all(90 not in shape and 180 not in shape for shape in shapes.values()), "one number per patient or row"


def edit(path, change, *, header=None):
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    change(arrays)
    if header is not None:
        body = json.loads(metadata["header"])
        body.update(header)
        metadata["header"] = json.dumps(body, sort_keys=True)
    save_file(arrays, path, metadata=metadata)


def nudge(arrays):
    arrays["mean/coefficients"][0, 0] += 1e-3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: edit(p, nudge), "changed after it was saved"),
        (lambda p: edit(p, lambda a: a.pop("patients")), "changed after it was saved"),
        (lambda p: edit(p, lambda a: None, header={"mechanism": "location-scale"}), "changed after it was saved"),
        (
            lambda p: edit(p, lambda a: None, header={"schema": 2, "causalfm": "9.9"}),
            "schema 2, written by causalfm 9.9",
        ),
        (lambda p: edit(p, lambda a: None, header={"kind": "other.Model"}), "holds a other.Model"),
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "damaged"),
        (lambda p: p.write_bytes(b"\x80\x04pickle"), "damaged"),
        (lambda p: save_file({"a": np.zeros(2)}, p), "no saved EmbeddingSCM"),
        (lambda p: p.unlink(), "model.safetensors"),
    ],
)
def test_a_file_that_is_not_what_was_saved_is_refused(model, spoil, message):
    _, path = model
    EmbeddingSCM.load(path)
    spoil(path)
    with pytest.raises(DataError, match=message):
        EmbeddingSCM.load(path)


def test_saving_is_whole_or_not_at_all(model, monkeypatch):
    cohort, path = model
    before = path.read_bytes()

    def fail(self, data):  # half of it fits
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(DataError, match="No space left"):
        EmbeddingSCM(SCANNED).fit(cohort).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_other_endings_and_unfitted_models_are_refused(tmp_path):
    cohort, _ = scanned()
    with pytest.raises(DataError, match="not fitted"):
        EmbeddingSCM(SCANNED).save(tmp_path / "m.safetensors")
    with pytest.raises(DataError, match="ends so"):
        EmbeddingSCM(SCANNED).fit(cohort).save(tmp_path / "m.pkl")


def test_equal_models_are_equal_files(tmp_path):
    scm = EmbeddingSCM(SCANNED).fit(scanned()[0])
    files = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for path in files:
        scm.save(path)
    assert len({path.read_bytes() for path in files}) == 1
