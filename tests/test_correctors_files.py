"""Correctors in files: the same rows elsewhere and at new levels; a file that was changed is refused."""

import json
import subprocess
import sys

import corrector_samples
import numpy as np
import pandas as pd
import pytest
from corrector_samples import ALL, SITE_WISE, STREAMS, applied, given, scm, with_ages
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from causalfm.errors import DataError
from causalfm.estimators import ComBat, MeanAligner

rows = corrector_samples.rows  # a fixture


ELSEWHERE = """
import sys
import numpy as np
from causalfm import estimators
cls, folder = getattr(estimators, sys.argv[1]), sys.argv[2]
data = np.load(folder + "/rows.npz")
corrector = cls.load(folder + "/corrector.safetensors")
more = {"factor": data["y"]} if hasattr(corrector, "unseen") else {}
np.save(folder + "/there.npy", corrector.transform(data["X"], **more))
"""


@pytest.mark.parametrize("name", [*ALL, "scm"])
def test_a_saved_corrector_does_the_same_elsewhere(rows, name, tmp_path):
    X, obs = rows
    corrector = (scm() if name == "scm" else with_ages(name)).fit(
        pd.DataFrame(X).add_prefix("z"), obs["site"], **given(obs)
    )
    corrector.save(tmp_path / "corrector.safetensors")
    again = type(corrector).load(tmp_path / "corrector.safetensors")
    here = applied(corrector, pd.DataFrame(X).add_prefix("z"), obs["site"])
    np.testing.assert_array_equal(applied(again, pd.DataFrame(X).add_prefix("z"), obs["site"]), here)
    assert again.get_feature_names_out().tolist() == [f"z{i}" for i in range(12)]
    if name != "scm":
        assert again.report_ == corrector.report_
        assert again.get_params() == corrector.get_params()
        assert hasattr(again, "partial_fit") == (name in STREAMS)
    if name in STREAMS:
        with pytest.raises(DataError, match="read from a file"):
            again.partial_fit(pd.DataFrame(X).add_prefix("z"), obs["site"], **given(obs))
    content = (tmp_path / "corrector.safetensors").read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]  # two bytes of the arrays may spell anything
    assert header.startswith(b"{")
    assert b"p7" not in header
    if name in ("leace", "combat", "scm"):  # a process costs seconds
        bare = (scm() if name == "scm" else with_ages(name)).fit(X, obs["site"], **given(obs))
        bare.save(tmp_path / "corrector.safetensors")
        np.savez(tmp_path / "rows.npz", X=X, y=obs["site"].to_numpy(str))
        code = [sys.executable, "-c", ELSEWHERE, type(bare).__name__, str(tmp_path)]
        done = subprocess.run(code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), applied(bare, X, obs["site"]))


@pytest.mark.parametrize("policy", ["adapt", "shrink"])
@pytest.mark.parametrize("name", SITE_WISE)
def test_a_saved_corrector_does_the_same_at_new_levels(rows, name, policy, tmp_path):
    X, obs = rows
    corrector = with_ages(name, unseen=policy).fit(X, obs["site"], **given(obs))
    corrector.save(tmp_path / "corrector.safetensors")
    again = type(corrector).load(tmp_path / "corrector.safetensors")
    for key, value in corrector.solution_.items():
        assert np.shape(again.solution_[key]) == np.shape(value), key  # a number stays a number
    new = np.full(len(X), "elsewhere")
    np.testing.assert_array_equal(again.transform(X, factor=new), corrector.transform(X, factor=new))


def edit(path, change, header=None):
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    change(arrays)
    if header is not None:
        metadata["header"] = json.dumps({**json.loads(metadata["header"]), **header}, sort_keys=True)
    save_file(arrays, path, metadata=metadata)


def nudge(arrays):
    arrays["shift"][0, 0] += 1e-3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: edit(p, nudge), "changed after it was saved"),
        (lambda p: edit(p, lambda a: None, header={"levels": ["a", "b", "c"]}), "changed after it was saved"),
        (
            lambda p: edit(p, lambda a: None, header={"schema": 9, "causalfm": "9.9"}),
            "schema 9, written by causalfm 9.9",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:-50]), "no saved ComBat, or is damaged"),
        (lambda p: p.write_bytes(b"\x80\x04pickle"), "damaged"),
        (lambda p: MeanAligner().fit(np.eye(4), [0, 0, 1, 1]).save(p), "holds a causalfm.MeanAligner"),
    ],
)
def test_a_file_that_is_not_what_was_saved_is_refused(rows, tmp_path, spoil, message):
    X, obs = rows
    path = tmp_path / "c.safetensors"
    ComBat().fit(X, obs["site"]).save(path)
    ComBat.load(path)
    spoil(path)
    with pytest.raises(DataError, match=message):
        ComBat.load(path)
