"""The page on what hospitals cause in TCGA: numbers of the run, and nothing that points to a patient."""

import numpy as np
import pytest

from causalfm.datasets import tcga_hipt
from experiments.tcga_effects import study
from experiments.tcga_effects.page import page
from experiments.tcga_effects.picture import draw


@pytest.fixture(scope="module")
def case(data_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "N_DRAWS", 40)
        return study.examine(data_dir, "kidney, four hospitals")


def test_shares_and_attempts(case):
    table = study.shares([case]).set_index(["variant", "of"])
    hospital, cancer = (table.loc[("standardised", of)] for of in ("hospital", "cancer type"))
    assert cancer["high"] < hospital["low"]
    assert hospital["patients"] == 377
    aipw = table.loc[("AIPW", "hospital")]
    assert abs(aipw["value"] - hospital["value"]) < 0.01
    assert ("standardised, age and sex too", "hospital") in table.index
    assert case.refutation.verdict == "pass"
    assert [row.name for told, _ in case.controls for row in told.attempts] == [
        f"negative control outcome: {name}" for name in ("age", "is_female", "stage")
    ]


def test_stages_are_read_and_unknown_ones_are_missing(data_dir):
    cohort = study.with_stage(tcga_hipt.load(data_dir))
    stage, raw = cohort.obs["stage"], cohort.obs["tumor_stage"].astype(str).str.lower()
    assert set(stage.dropna()) == {"I", "II", "III", "IV"}
    assert set(raw[stage == "III"]) <= {"stage iii", "stage iiia", "stage iiib", "stage iiic"}
    assert stage[raw == "not reported"].isna().all()


def test_page_and_picture_hold_sums_only(case, data_dir, tmp_path):
    text = page([case])
    cohort = tcga_hipt.load(data_dir)
    assert not any(name in text for name in cohort.obs["case"].unique())
    assert f"{100 * case.main.share.value:.1f} (" in text
    assert "of 7 attempts passed" in text
    draw([case], tmp_path / "figure.png")
    from PIL import Image

    assert np.asarray(Image.open(tmp_path / "figure.png")).std() > 0
