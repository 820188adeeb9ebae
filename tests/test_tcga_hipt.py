import gzip

import numpy as np
import pandas as pd
import pytest

from causalfm.datasets import tcga_hipt
from causalfm.errors import DataError

CANCERS = ["BRCA", "COAD", "LUAD", "STAD"]
HOSPITALS = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]


@pytest.fixture
def small(tmp_path):
    """Six made-up slides in the two files, the last without project and centre."""
    X = np.arange(12, dtype=np.float16).reshape(6, 2)
    np.savez(tmp_path / tcga_hipt.EMBEDDINGS, embeddings=X)
    table = pd.DataFrame(
        {
            "slide": [f"SENTINEL-{i}" for i in range(6)],
            "case": [f"SENTINEL-{i // 2}" for i in range(6)],
            "tss": ["02"] * 6,
            "center": ["Indivumed", "Asterand", "Indivumed", "Yale University", "Asterand", None],
            "project_id": ["TCGA-BRCA", "TCGA-BRCA", "TCGA-COAD", "TCGA-BRCA", "TCGA-COAD", None],
            "age": [50.0, 61.0, np.nan, 44.0, 70.0, 39.0],
        }
    )
    table.to_csv(tmp_path / tcga_hipt.METADATA, index=False)
    return tmp_path


def test_reference_selection_of_real_slides(data_dir):
    cohort = tcga_hipt.load(data_dir, cancers=CANCERS, hospitals=HOSPITALS)
    assert cohort.X.shape == (785, 192)
    assert cohort.X.dtype == np.float32
    assert cohort.obs["case"].nunique() == 771
    cells = pd.crosstab(cohort.obs["project_id"], cohort.obs["center"])
    assert cells.loc["TCGA-STAD", "Christiana Healthcare"] == 2
    assert cells.loc["TCGA-COAD", "Indivumed"] == 153
    assert cohort.info["selection"]["rows_without_center_left_out"] == 759


def test_everything_comes_back_without_filters_in_file_order(data_dir):
    cohort = tcga_hipt.load(data_dir)
    assert len(cohort) == 10678
    assert cohort.obs["case"].nunique() == 8814
    assert cohort.obs["center"].isna().sum() == 759
    assert cohort.obs["project_id"].isna().equals(cohort.obs["center"].isna())
    assert (cohort.obs.index == cohort.obs["slide"]).all()
    chosen = tcga_hipt.load(data_dir, cancers=["ACC"])
    rows = cohort.obs.index.get_indexer(chosen.obs.index)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(chosen.X, cohort.X[rows])


def test_filters_select_rows_and_count_what_they_cannot_place(small):
    cohort = tcga_hipt.load(small, cancers=["brca", "TCGA-COAD"], hospitals=["Indivumed"])
    np.testing.assert_array_equal(cohort.X, [[0.0, 1.0], [4.0, 5.0]])
    assert cohort.obs["tss"].tolist() == ["02", "02"]
    assert cohort.obs["center"].dtype == object
    assert cohort.info["selection"] == {
        "rows_in_file": 6,
        "project_id": ["TCGA-BRCA", "TCGA-COAD"],
        "rows_without_project_id_left_out": 1,
        "center": ["Indivumed"],
        "rows_without_center_left_out": 1,
        "rows": 2,
    }
    assert "Commons Clause" in cohort.info["licence"]
    assert "pretrained on TCGA" in cohort.info["warning"]
    assert len(tcga_hipt.load(small)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cancers": ["XXXX"]}, "'TCGA-XXXX'.*TCGA-BRCA, TCGA-COAD"),
        ({"hospitals": ["Nowhere"]}, "'Nowhere'.*Asterand"),
        ({"hospitals": "Asterand"}, "list of names"),
        ({"cancers": []}, "at least one"),
        ({"cancers": ["COAD"], "hospitals": ["Yale University"]}, "no slide is both"),
    ],
)
def test_bad_selection_names_the_fault_and_no_patient(small, options, message):
    with pytest.raises(DataError, match=message) as caught:
        tcga_hipt.load(small, **options)
    assert "SENTINEL" not in str(caught.value)


def test_missing_broken_or_unequal_files_are_refused(small):
    with pytest.raises(DataError, match=tcga_hipt.EMBEDDINGS):
        tcga_hipt.load(small / "nowhere")
    with gzip.open(small / tcga_hipt.METADATA, "at") as table:
        table.write("SENTINEL-7,SENTINEL-7,02,Asterand,TCGA-BRCA,50\n")
    with pytest.raises(DataError, match=r"6 rows .* 7") as caught:
        tcga_hipt.load(small)
    assert "SENTINEL" not in str(caught.value)
    np.savez(small / tcga_hipt.EMBEDDINGS, embeddings=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="plain array"):
        tcga_hipt.load(small)
    (small / tcga_hipt.METADATA).unlink()
    with pytest.raises(DataError, match=tcga_hipt.METADATA):
        tcga_hipt.load(small)
