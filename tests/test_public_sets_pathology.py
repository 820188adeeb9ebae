"""Loaders of public sets of tissue, on miniatures in the true layout: what they read, declare, and refuse."""

import json

import h5py
import miniatures
import numpy as np
import pandas as pd
import pytest
from public_set_samples import fits, seen

import causalfm as cfm
from causalfm.datasets import midogpp, pathorob, plism, scorpion, tcga_hipt, tcga_ut, wilds_camelyon17
from causalfm.errors import DataError
from causalfm.extraction import open_images


def test_pathorob_reads_patches_from_parquet_in_any_row_group(tmp_path):
    patches = pathorob.images(miniatures.pathorob(tmp_path), "camelyon")
    assert np.array_equal(np.asarray(patches[7]), miniatures.pixels(7))
    assert patches.obs["patient"].unique().tolist() == ["test_035", "normal_027", "patient_060"]
    source = seen(patches)
    assert np.array_equal(np.asarray(source.read(11)), miniatures.pixels(11))
    assert list(source.obs["medical_center"]) == ["RUMC"] * 6 + ["UMCU"] * 6
    fits(pathorob.graph(), patches.obs)
    some = patches.where(medical_center="UMCU", biological_class=["tumor"])
    assert len(some) == 3
    assert np.array_equal(np.asarray(some[2]), miniatures.pixels(11))
    with pytest.raises(DataError, match=r"'medical_center' has not all of the levels"):
        patches.where(medical_center="RST")


def test_pathorob_goes_straight_into_extract(tmp_path):
    patches = pathorob.images(miniatures.pathorob(tmp_path), "camelyon")
    cohort = cfm.extract(patches, "efficientnet-lite0", weights="random", batch_size=12)
    assert cohort.obs["biological_class"].tolist() == patches.obs["biological_class"].tolist()


def test_where_takes_no_column_or_level_that_is_not_there(tmp_path):
    patches = pathorob.images(miniatures.pathorob(tmp_path), "camelyon")
    with pytest.raises(DataError, match=r"no column 'scanner': choose from subset, slide_id"):
        patches.where(scanner="AT2")
    with pytest.raises(DataError, match=r"no image is left"):
        patches.where(medical_center="RUMC").where(slide_id="test_035", biological_class="normal").where(patch_id=[])


def test_pathorob_designs_and_features(tmp_path):
    table = miniatures.patches_of_pathorob()
    miniatures.write(tmp_path / "m.csv", table.iloc[::-1].assign(subset=["ID"] * 9 + ["OOD"] * 3).to_csv(index=False))
    for centre, part in table.groupby("medical_center"):
        ids = part["slide_id"] + "-" + part["patch_id"]
        np.savez(tmp_path / f"{centre}.npz", **{key: np.full(2, i, np.float32) for i, key in ids.items()})
    cohort = pathorob.load(tmp_path, tmp_path / "m.csv", "camelyon")
    assert cohort.X[:, 0].tolist() == list(range(11, -1, -1))
    part = pathorob.design(cohort, tmp_path / "m.csv", subset="OOD")
    assert part.X[:, 0].tolist() == [2, 1, 0]
    with pytest.raises(DataError, match=r"has no embedding for 9 patches"):
        pathorob.design(part, tmp_path / "m.csv")
    twice = pd.concat([table, table.assign(subset="other")])
    miniatures.write(tmp_path / "twice.csv", twice.to_csv(index=False))
    with pytest.raises(DataError, match=r"the subsets of 'twice.csv' share patches"):
        pathorob.load(tmp_path, tmp_path / "twice.csv", "camelyon")
    (tmp_path / "UMCU.npz").unlink()
    with pytest.raises(DataError, match=r"the folder has no file UMCU.npz"):
        pathorob.load(tmp_path, tmp_path / "m.csv", "camelyon")


def test_pathorob_refuses_copies_and_other_tables(tmp_path):
    table = miniatures.patches_of_pathorob()
    table.loc[1, "patch_id"] = table.loc[0, "patch_id"]
    with pytest.raises(DataError, match=r"2 rows repeat the slide_id and patch_id of another \(rows 0, 1\)"):
        pathorob.images(miniatures.pathorob(tmp_path, table=table), "camelyon")
    with pytest.raises(DataError, match=r"no column 'slide_id'"):
        pathorob.images(miniatures.pathorob(tmp_path / "b", table=table.drop(columns="slide_id")), "camelyon")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no parquet file of tcga"):
        pathorob.images(tmp_path / "empty", "tcga")


def test_tcga_patients_are_barcodes_and_oesophagus_cases_are_told_apart_by_centre():
    slides = pd.DataFrame({"slide_id": ["TCGA-E9-A1R5-01Z-00-DX1", "case_030"], "medical_center": "VALSET2_WNS"})
    assert pathorob._patients(slides, "tcga").iloc[0] == "TCGA-E9-A1R5"
    assert pathorob._patients(slides, "tolkach_esca").iloc[1] == "VALSET2_WNS/case_030"


def test_camelyon17(tmp_path):
    table = wilds_camelyon17.images(miniatures.camelyon17(tmp_path))
    assert table["patient"].tolist() == ["004", "004", "020", "020", "051", "051"]
    assert table["split"].tolist() == ["train", "id_val", "val", "val", "test", "test"]
    assert table["tumor"].tolist() == ["no tumour", "tumour"] * 3
    fits(wilds_camelyon17.graph(), table)
    assert len(seen(table)) == 6
    (tmp_path / "patches" / "patient_051_node_4" / "patch_patient_051_node_4_x_3333_y_21792.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 paths lead to no file \(row 5\)"):
        open_images(table)
    text = (tmp_path / "metadata.csv").read_text()
    for old, new, words in (
        (",tumor,", ",tumour,", r"'metadata.csv' has no column 'tumor'.*Did you mean 'tumour'"),
        ("3329,21792,1", "3328,21792,1", r"2 rows repeat the patient and node and x_coord and y_coord .*rows 0, 1"),
        ("3329,21792,1", "3329,21792,7", r"column 'tumor' has codes beside \[0, 1\] \(row 1\)"),
        ("1,004,", "1,,", r"column 'patient' is empty in 1 rows \(row 1\)"),
        ("1,004,", "1,../../004,", r"column 'patient' has 1 values that name no file of this set \(row 1\)"),
    ):
        (tmp_path / "metadata.csv").write_text(text.replace(old, new))
        with pytest.raises(DataError, match=words):
            wilds_camelyon17.images(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"the folder has no file metadata.csv"):
        wilds_camelyon17.images(tmp_path)


def test_scorpion(tmp_path):
    table = scorpion.images(miniatures.scorpion(tmp_path))
    assert len(table) == 20
    assert table["region"].iloc[5] == "slide_1/sample_2"
    fits(scorpion.graph(), table)
    assert len(seen(table)) == 20
    organs = scorpion.images(tmp_path, tissue={"slide_1": "lung", "slide_2": "breast"})
    assert organs["tissue"].unique().tolist() == ["lung", "breast"]
    with pytest.raises(DataError, match=r"names no tissue for 1 of 2 slides"):
        scorpion.images(tmp_path, tissue={"slide_1": "lung"})
    lost = tmp_path / "SCORPION_dataset" / "slide_2" / "sample_1" / "P1000.jpg"
    lost.rename(lost.with_name("P1000.png"))
    with pytest.raises(DataError, match=r"20 files in slide_\*/sample_\*, 1 of them not named"):
        scorpion.images(tmp_path)
    lost.with_name("P1000.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 regions were not seen by exactly the scanners .* region 2"):
        scorpion.images(tmp_path)


def test_plism_tiles_pair_by_name(tmp_path):
    tiles = plism.images(miniatures.plism(tmp_path))
    assert tiles.obs["tile"].iloc[:3].tolist() == sorted(miniatures.TILES)
    assert set(tiles.obs["stain"] + "_" + tiles.obs["scanner"]) == set(miniatures.CONDITIONS)
    assert tiles.obs["tissue"].iloc[:3].tolist() == ["grid 1,0", "grid 0,2", "grid 0,2"]
    place = tiles.obs.index[(tiles.obs["stain"] == "GIV") & (tiles.obs["tile"] == "tile_16_3_41")][0]
    assert np.array_equal(np.asarray(tiles[place]), miniatures.pixels(202))
    assert len(seen(tiles)) == 9
    fits(plism.graph(), tiles.obs)
    two = plism.images(tmp_path, slides=["GMH_S60", "GMH_AT2"])
    assert two.obs["scanner"].tolist() == ["S60"] * 3 + ["AT2"] * 3
    with pytest.raises(DataError, match=r"has no slide 'GMH_P'. Slides: GIV_S60, GMH_AT2, GMH_S60"):
        plism.images(tmp_path, slides=["GMH_P"])
    with h5py.File(tmp_path / "GMH_S60_to_GMH_S60.tif.h5", "a") as file:
        del file["tile_16_3_41"]
    with pytest.raises(DataError, match=r"'GMH_S60.*' does not hold the same tiles as 'GIV_S60.* \(2 and 3\)"):
        plism.images(tmp_path)


def test_plism_features_and_organs(tmp_path):
    cohort = plism.load(miniatures.plism_features(tmp_path), slides=["GIV_S60", "GMH_S60"])
    assert cohort.X[:, 0].tolist() == [21, 20, 22, 1, 0, 2]  # tiles by name: 20_7, 3_40, 3_41
    organs = pd.DataFrame({"level": 16, "left": [3, 20, 3], "top": [40, 7, 41], "organ": ["lung", "skin", "lung"]})
    named = plism.load(tmp_path, organs=organs)
    assert named.obs["tissue"].iloc[:3].tolist() == ["skin", "lung", "lung"]
    with pytest.raises(DataError, match=r"has no organ for 1 of 3 tiles"):
        plism.load(tmp_path, organs=organs.iloc[1:])


def test_midogpp(tmp_path):
    figures = midogpp.images(miniatures.midogpp(tmp_path), side=32)
    assert figures.obs["label"].tolist() == ["not mitotic figure", "mitotic figure", "mitotic figure"]
    assert figures.obs["scanner"].unique().tolist() == ["Hamamatsu XR"]
    whole = miniatures.pixels(1, 100)
    assert np.array_equal(figures[1], whole[29:61, 19:51])  # centre (35, 45)
    assert np.array_equal(figures[0], whole[9:41, 68:100])  # centre (85.5, 25): moved in from the right edge
    assert figures[2].shape == (32, 32, 3)
    assert len(seen(figures)) == 3
    assert len(midogpp.images(tmp_path, tumours=["human breast cancer"])) == 2
    with pytest.raises(DataError, match=r"parts has no 'canine lymphoma'"):
        midogpp.images(tmp_path, tumours=["canine lymphoma"])
    (tmp_path / "350.tiff").unlink()
    with pytest.raises(DataError, match=r"regions are not in the folder \(1 of human neuroendocrine tumor\)"):
        midogpp.images(tmp_path)
    database = json.loads((tmp_path / "MIDOG++.json").read_text())
    database["images"][0]["file_name"] = "../../etc/passwd"
    (tmp_path / "MIDOG++.json").write_text(json.dumps(database))
    with pytest.raises(DataError, match=r"names files that are not regions of this set"):
        midogpp.images(tmp_path)
    (tmp_path / "datasets_xvalidation.csv").write_text("Slide;Tumor;Scanner;Origin\n1;a;b;c\n")
    with pytest.raises(DataError, match=r"'datasets_xvalidation.csv' has no column 'Species'"):
        midogpp.images(tmp_path)


def test_tcga_ut(tmp_path):
    table = tcga_ut.images(miniatures.tcga_ut(tmp_path))
    assert table["patient"].unique().tolist() == ["TCGA-05-4244", "TCGA-44-2655", "TCGA-18-3406", "TCGA-33-4532"]
    assert table["site"].unique().tolist() == ["05", "44", "18", "33"]
    places = {"05": "A", "44": "B", "18": "A", "33": "B"}
    named = tcga_ut.images(tmp_path, sites=places, cancers=["Lung_adenocarcinoma"])
    assert named["site"].tolist() == ["A", "A", "B", "B"]
    fits(tcga_ut.graph(), table)
    assert len(seen(table)) == 8
    with pytest.raises(DataError, match=r"no institution for the code 18, 33"):
        tcga_ut.images(tmp_path, sites={"05": "A", "44": "B"})
    with pytest.raises(DataError, match=r"resolution=7: choose 0"):
        tcga_ut.images(tmp_path, resolution=7)
    miniatures.write(tmp_path / "Lung_adenocarcinoma" / "0" / "slide1" / "x.jpg", b"x")
    with pytest.raises(DataError, match=r"not named by a TCGA slide \(row 4\)"):
        tcga_ut.images(tmp_path)


def test_codes_of_tcga_meet_one_project_and_have_one_institution(data_dir):
    table = tcga_hipt.load(data_dir).obs.dropna(subset=["center"])
    by_code = table.groupby("tss")[["project_id", "center"]].nunique()
    assert len(by_code) == 543
    assert by_code.max().tolist() == [1, 1]  # what the card says of sites=None, and what it offers as sites=
