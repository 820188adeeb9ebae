import numpy as np
import pandas as pd
import pytest

from causalfm.datasets import amibr
from causalfm.errors import DataError


@pytest.fixture
def small(tmp_path):
    """Six made-up patches in the files of the three encoders."""
    parts = np.arange(12, dtype=np.float16).reshape(6, 2)
    for i, name in enumerate(amibr.ENCODERS["lite0"][0]):
        np.savez(tmp_path / name, emb=parts[2 * i : 2 * i + 2])
    np.savez(tmp_path / "amibr_shell256_color6_f16.npz", shell=parts + 1, color=parts.astype(np.float32) + 2)
    table = pd.DataFrame(
        {
            "file": [f"SENTINEL-{i}" for i in range(6)],
            "dataset": ["MIDOG21"] * 4 + ["TUPAC16"] * 2,
            "domain": ["CS2", "CS2", "XR", "XR", "A", "A"],
            "patient": ["007", "7", "8", "8", "9", "9"],
            "label": ["normal", "atypical"] * 3,
        }
    )
    table.to_csv(tmp_path / amibr.METADATA, index=False)
    return tmp_path


def test_encoders_see_the_same_rows(small):
    cohorts = {name: amibr.load(small, name) for name in amibr.ENCODERS}
    np.testing.assert_array_equal(cohorts["lite0"].X, np.arange(8.0).reshape(4, 2))
    np.testing.assert_array_equal(cohorts["shell"].X, cohorts["lite0"].X + 1)
    np.testing.assert_array_equal(cohorts["color"].X, cohorts["lite0"].X + 2)
    for cohort in cohorts.values():
        pd.testing.assert_frame_equal(cohort.obs, cohorts["lite0"].obs)
        assert cohort.obs["patient"].tolist() == ["007", "7", "8", "8"]
        assert cohort.X.dtype == np.float32
        assert cohort.obs["scanner"].equals(cohort.obs["domain"])
    assert len(amibr.load(small, "color", dataset=None)) == 6
    assert len({cohort.info["encoder"] for cohort in cohorts.values()}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: amibr.load(f, "uni"), "choose lite0, shell, color"),
        (lambda f: amibr.load(f, "color", dataset="MIDOG"), "choose MIDOG21, TUPAC16"),
        (lambda f: amibr.load(f / "missing", "color"), "has no file amibr_metadata.csv.gz"),
    ],
)
def test_errors_say_what_to_choose(small, call, words):
    with pytest.raises(DataError, match=words) as caught:
        call(small)
    assert "SENTINEL" not in str(caught.value)


def test_damaged_and_unequal_files(small):
    (small / amibr.ENCODERS["lite0"][0][1]).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"part1\.npz does not hold"):
        amibr.load(small, "lite0")
    np.savez(small / "amibr_shell256_color6_f16.npz", color=np.zeros((5, 6)))
    with pytest.raises(DataError, match=r"color has 5 rows and amibr_metadata\.csv\.gz has 6"):
        amibr.load(small, "color")


def test_real_files(data_dir):
    cohort = amibr.load(data_dir, "lite0")
    assert cohort.X.shape == (1721, 1280)
    assert cohort.obs["scanner"].value_counts().to_dict() == {
        "Aperio CS2": 688,
        "Hamamatsu S360": 582,
        "Hamamatsu XR": 451,
    }
    assert cohort.obs["patient"].nunique() == 135
    assert amibr.load(data_dir, "color", dataset=None).X.shape == (3720, 6)
