"""The page on predicted and real drops at hospitals of TCGA: made from the table, resumable, and no patient in it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalfm.datasets import tcga_hipt
from experiments.shift_across_hospitals import study
from experiments.shift_across_hospitals.page import compared, page, summary
from experiments.shift_across_hospitals.picture import draw

HOSPITAL = "Harvard"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cohort(data_dir):
    return study.cohort_of(data_dir, study.TASKS["kidney"])


@pytest.fixture(scope="module")
def rows(cohort):
    return study.deployed_at(cohort, HOSPITAL)


def test_a_hospital_is_predicted_from_the_others_and_then_measured(cohort, rows):
    assert [row["estimator"] for row in rows][-2:] == ["site level", study.CHOSEN]
    here = cohort.obs["center"] == HOSPITAL
    one = rows[0]
    assert one["patients"] == cohort.obs.loc[here, "case"].nunique() >= study.PATIENTS
    assert one["back_test_sites"] >= 8
    assert 0.5 < one["accuracy"] <= 1.0
    assert one["drop"] == pytest.approx(one["reference"] - one["accuracy"])
    assert rows[-1]["low"] <= rows[-1]["predicted"] <= rows[-1]["high"]


def test_a_run_that_was_cut_goes_on(cohort, rows, tmp_path, data_dir, monkeypatch):
    calls = []
    monkeypatch.setattr(study, "_hospitals", lambda cohort: [HOSPITAL, "Memorial Sloan Kettering Cancer Center"])
    monkeypatch.setattr(study, "deployed_at", lambda cohort, hospital: calls.append(hospital) or rows)
    first = study.study(data_dir, ["kidney"], tmp_path, lambda text: None)
    path = tmp_path / "kidney.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")  # killed while writing the second
    again = study.study(data_dir, ["kidney"], tmp_path, lambda text: None)
    assert len(calls) == 3
    pd.testing.assert_frame_equal(first, again)
    study.study(data_dir, ["kidney"], tmp_path, lambda text: None)
    assert len(calls) == 3
    monkeypatch.setattr(study, "SETTINGS", "others")
    study.study(data_dir, ["kidney"], tmp_path, lambda text: None)
    assert len(calls) == 5


def test_the_committed_page_is_made_from_the_committed_table(data_dir, tmp_path):
    table = pd.read_csv(ROOT / "docs" / "shift_across_hospitals.csv")
    text = (ROOT / "docs" / "shift_across_hospitals.md").read_text(encoding="utf-8")
    assert page(table) == text
    ids = tcga_hipt.load(data_dir).obs["case"].dropna().unique()
    assert not any(name in text for name in ids)
    deployments = table[["task", "hospital"]].drop_duplicates()
    assert table["hospital"].nunique() >= 10
    assert len(table) == 7 * len(deployments)
    draw(table, tmp_path / "figure.png")
    from PIL import Image

    assert np.asarray(Image.open(tmp_path / "figure.png")).std() > 0
    assert (ROOT / "docs" / "images" / "shift_across_hospitals.png").is_file()


def test_the_committed_table_is_what_the_engine_gives(rows):
    table = pd.read_csv(ROOT / "docs" / "shift_across_hospitals.csv")
    part = table[(table["task"] == "kidney") & (table["hospital"] == HOSPITAL)].set_index("estimator")
    for row in rows:
        for name in ("estimate", "predicted", "low", "high", "accuracy", "reference"):
            assert part.loc[row["estimator"], name] == pytest.approx(row[name], abs=2e-3), (row["estimator"], name)


def test_the_summary_counts(rows):
    table = pd.DataFrame([{"task": "t", "hospital": h, **row} for h in "ab" for row in rows])
    table.loc[table["hospital"] == "b", "accuracy"] = table["predicted"] + 0.5
    found = summary(table[table["estimator"] == "DoC"])
    assert found["cover"] == pytest.approx(0.5 * (rows[2]["low"] <= rows[2]["accuracy"] <= rows[2]["high"]))
    first = abs(rows[2]["predicted"] - rows[2]["accuracy"])
    assert found["error"] == pytest.approx((first + 0.5) / 2)
    gain, low, high = compared(table, "site level")
    assert (gain, low, high) == pytest.approx((0.0, 0.0, 0.0))
