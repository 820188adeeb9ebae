"""Loaders of public sets of radiology, on miniatures in the true layout: what they read, declare, and refuse."""

import miniatures
import numpy as np
import pandas as pd
import pytest
from public_set_samples import fits, seen

from causalfm.datasets import abide, chexpert, mimic_cxr
from causalfm.errors import DataError


@pytest.mark.parametrize("layout", ["Outputs/cpac/nofilt_noglobal/rois_cc200", "cpac/nofilt_noglobal"])
def test_abide_gives_fisher_z_of_all_pairs(tmp_path, layout):
    cohort = abide.load(miniatures.abide(tmp_path, layout=layout))
    assert cohort.X.shape == (6, 10)
    series = np.random.default_rng(0).standard_normal((20, 5)).round(6)
    assert cohort.X[0, 4] == pytest.approx(np.arctanh(np.corrcoef(series[:, 1], series[:, 2])[0, 1]), abs=1e-6)
    assert cohort.obs["diagnosis"].tolist() == ["autism"] * 3 + ["control"] * 3
    assert cohort.info["left_out"] == {"without a preprocessed series": 1}
    fits(abide.graph(), cohort.obs)
    still = abide.load(tmp_path, sites=["NYU"], max_motion=0.4)
    assert still.obs["participant"].tolist() == ["51001", "51003"]
    assert list(still.info["left_out"].values()) == [0, 1]


def test_abide_says_which_series_it_cannot_use(tmp_path):
    miniatures.abide(tmp_path)
    place = tmp_path / "Outputs" / "cpac" / "nofilt_noglobal" / "rois_cc200"
    files = sorted(place.iterdir())
    flat = np.loadtxt(files[0])
    flat[:, 2] = 0
    np.savetxt(files[0], flat)  # NYU_0051001: row 1
    with pytest.raises(DataError, match=r"1 of 5 regions have no signal in some participants \(row 1\)"):
        abide.load(tmp_path)
    dropped = abide.load(tmp_path, flat_regions="drop")
    assert (dropped.X.shape, dropped.info["regions_left_out"]) == ((6, 6), 1)
    np.savetxt(files[0], flat[:, :4])
    with pytest.raises(DataError, match=r"the series of row 1 have another number of regions"):
        abide.load(tmp_path)
    files[0].unlink()
    with pytest.raises(DataError, match=r"1 of 6 participants have no series \(row 1 of those selected\)"):
        abide.load(tmp_path)
    text = (tmp_path / abide.PHENOTYPES).read_text()
    (tmp_path / abide.PHENOTYPES).write_text(text.replace("NYU_0051001", "../NYU_0051001"))
    with pytest.raises(DataError, match=r"column 'FILE_ID' has 1 values that name no file of this set"):
        abide.load(tmp_path)
    (tmp_path / abide.PHENOTYPES).write_text(text.replace("51001,1,51001", "51000,1,51001"))
    with pytest.raises(DataError, match=r"2 rows repeat the SUB_ID of another \(rows 1, 2\)"):
        abide.load(tmp_path)


def test_chest_radiographs_of_two_hospitals_fit_one_graph(tmp_path):
    mimic = mimic_cxr.images(miniatures.mimic_cxr(tmp_path / "m"))
    assert mimic.attrs["left_out"] == {"without CheXpert labels": 1, "not frontal": 1}
    assert mimic[["Atelectasis", "Cardiomegaly", "Consolidation", "Edema"]].iloc[0].tolist() == [
        "positive",
        "negative",
        "uncertain",
        "not mentioned",
    ]
    assert mimic["patient"].tolist() == ["10000032", "10000033"]
    assert mimic["split"].tolist() == ["train", "train"]
    stanford = chexpert.images(miniatures.chexpert(tmp_path / "c"), frontal=False)
    assert stanford["view"].tolist() == ["AP", "lateral"]
    assert stanford["No Finding"].tolist() == ["positive", "positive"]
    both = pd.concat([mimic, stanford], ignore_index=True)
    assert len(seen(both)) == 4
    graph = mimic_cxr.graph("Cardiomegaly", hospitals=True)
    assert graph == chexpert.graph("Cardiomegaly", hospitals=True)
    assert graph.technical == ("hospital", "view")
    assert set(graph.columns) <= set(both.columns)
    assert set(chexpert.graph().columns) <= set(stanford.columns)


def test_chest_tables_that_do_not_fit_are_named(tmp_path):
    miniatures.chexpert(tmp_path)
    text = (tmp_path / "train.csv").read_text()
    for old, new, words in (
        (",Age,", ",Years,", r"'train.csv' has no column 'Age'"),
        ("AP,1.0", "AP,2.0", r"column 'No Finding' has values beside 1, 0, -1 and empty \(row 0\)"),
        ("small/train/patient00001", "small/../patient00001", r"1 paths are not VERSION/train.*\(row 0\)"),
    ):
        (tmp_path / "train.csv").write_text(text.replace(old, new))
        with pytest.raises(DataError, match=words):
            chexpert.images(tmp_path)
    with pytest.raises(DataError, match=r"finding='Flu': choose one of 'Atelectasis'"):
        chexpert.graph("Flu")
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match=r"the folder has no file train.csv"):
        chexpert.images(tmp_path)
    with pytest.raises(DataError, match=r"has no file mimic-cxr-2.0.0-metadata.csv.gz"):
        mimic_cxr.images(tmp_path)
