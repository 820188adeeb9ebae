"""Loaders of public data sets, on miniatures in the true layout: what they read, declare, and refuse."""

import hashlib
import json
import pickle
import sys

import h5py
import miniatures
import numpy as np
import pandas as pd
import pytest
from file_server import serving

import causalfm as cfm
from causalfm import cli
from causalfm.datasets import (
    abide,
    chexpert,
    fetching,
    midogpp,
    mimic_cxr,
    pathorob,
    plism,
    public_sets,
    scorpion,
    tcga_hipt,
    tcga_ut,
    wilds_camelyon17,
)
from causalfm.datasets.public_set import agree
from causalfm.errors import DataError
from causalfm.extraction import open_images
from experiments import data_page


def seen(images):
    """Open what a loader returned as ``extract`` does, after a trip to a worker; read first and last."""
    source = pickle.loads(pickle.dumps(open_images(images)))
    assert source.read(0).mode == source.read(len(source) - 1).mode == "RGB"
    return source


def fits(graph, obs):
    """Check the declared roles against the table, with embeddings of noise."""
    X = np.random.default_rng(0).standard_normal((len(obs), 3)).astype(np.float32)
    graph.check(cfm.Cohort(X, obs.reset_index(drop=True)))


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


def test_codes_of_tcga_meet_one_project_and_have_one_institution(data_dir):
    table = tcga_hipt.load(data_dir).obs.dropna(subset=["center"])
    by_code = table.groupby("tss")[["project_id", "center"]].nunique()
    assert len(by_code) == 543
    assert by_code.max().tolist() == [1, 1]  # what the card says of sites=None, and what it offers as sites=


def test_terms_are_accepted_in_words():
    for module in (tcga_ut, abide, pathorob):
        with pytest.raises(DataError, match="say so: accept="):
            agree(module.SET, "yes")
        agree(module.SET, module.SET.licence.upper())
    for module in (mimic_cxr, chexpert):
        with pytest.raises(DataError, match=r"credentialed users only: apply at https"):
            module.download("anywhere", accept=module.SET.licence)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    with serving() as site:
        yield site


def zipped(folder, path):
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return path.read_bytes()


def test_archives_of_zenodo_arrive_ready_to_load(site, tmp_path):
    content = zipped(miniatures.scorpion(tmp_path / "s"), tmp_path / "s.zip")
    site.zenodo(scorpion.RECORD, **{scorpion.ARCHIVE: content})
    assert len(scorpion.download(tmp_path / "a", api=site.url)) == 1
    assert scorpion.download(tmp_path / "a", api=site.url) == [], "neither fetched nor unpacked again"
    assert len(scorpion.images(tmp_path / "a")) == 20
    lungs = miniatures.tcga_ut(tmp_path / "t")
    for cancer in ("Lung_adenocarcinoma", "Lung_squamous_cell_carcinoma"):
        (tmp_path / "one").mkdir()
        (lungs / cancer).rename(tmp_path / "one" / cancer)
        site.zenodo(tcga_ut.RECORD, **{f"{cancer}.zip": zipped(tmp_path / "one", tmp_path / "t.zip")})
        tcga_ut.download(tmp_path / "b", accept="cc by-nc-sa 4.0", api=site.url)
        (tmp_path / "one" / cancer).rename(lungs / cancer)
        (tmp_path / "one").rmdir()
    assert tcga_ut.images(tmp_path / "b")["cancer"].nunique() == 2


def test_camelyon17_is_unpacked_and_locked(site, tmp_path, monkeypatch):
    import tarfile

    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(miniatures.camelyon17(tmp_path / "c"), arcname=".")
    content = (tmp_path / "c.tar.gz").read_bytes()
    remote = fetching.RemoteFile(wilds_camelyon17.ARCHIVE.name, site.add("/blob", content), size=len(content))
    monkeypatch.setattr(wilds_camelyon17, "ARCHIVE", remote)
    wilds_camelyon17.download(tmp_path / "a")
    assert len(wilds_camelyon17.images(tmp_path / "a")) == 6


def test_the_hub_sets_arrive_at_pinned_or_locked_commits(site, tmp_path, monkeypatch):
    miniatures.pathorob(tmp_path / "p")
    files = {f"data__{p.name}": p.read_bytes() for p in sorted((tmp_path / "p" / "camelyon" / "data").iterdir())}
    site.hub("bifold-pathomics/PathoROB-camelyon", pathorob.REVISIONS["camelyon"], **files, **{"README.md": b"words"})
    table = miniatures.patches_of_pathorob().to_csv(index=False).encode()
    site.add("/data/metadata/camelyon.csv", table)
    where = {"endpoint": site.url, "raw": site.url}
    with pytest.raises(DataError, match=r"metadata/camelyon.csv: the sha256 of what arrived"):
        pathorob.download(tmp_path / "a", parts=["camelyon"], **where)
    monkeypatch.setitem(pathorob.DESIGNS, "camelyon", ("camelyon.csv", hashlib.sha256(table).hexdigest()))
    pathorob.download(tmp_path / "a", parts=["camelyon"], **where)
    assert len(pathorob.images(tmp_path / "a", "camelyon")) == 12
    with pytest.raises(DataError, match="say so: accept="):
        pathorob.download(tmp_path / "a", endpoint=site.url)
    (tmp_path / "h").mkdir()
    slides = {p.name: p.read_bytes() for p in sorted(miniatures.plism(tmp_path / "h").iterdir())}
    site.hub(plism.REPOSITORY, "cd" * 20, **slides)
    plism.download(tmp_path / "b", parts=["GMH_S60"], endpoint=site.url)
    site.files[f"/api/datasets/{plism.REPOSITORY}"] = json.dumps({"id": "x", "sha": "ef" * 20}).encode()
    plism.download(tmp_path / "b", parts=["GMH_S60", "GMH_AT2"], endpoint=site.url)  # still at the first commit
    assert len(plism.images(tmp_path / "b")) == 6
    with pytest.raises(DataError, match="has no file of these parts"):
        plism.download(tmp_path / "b", parts=["GMH_X"], endpoint=site.url)


def test_regions_of_midogpp_come_by_the_authors_own_list(site, tmp_path):
    whole = miniatures.midogpp(tmp_path / "m")
    listing = json.dumps({"cells": [{"source": ["filename = {'40282099': '001.tiff',\n", " '40283000': '350.tiff'}"]}]})
    tables = [
        fetching.RemoteFile(name, site.add(f"/{name.replace('+', 'p')}", content))
        for name, content in (
            (midogpp.DATABASE, (whole / midogpp.DATABASE).read_bytes()),
            (midogpp.DOMAINS, (whole / midogpp.DOMAINS).read_bytes()),
            (midogpp.LISTING, listing.encode()),
        )
    ]
    site.add("/files/40282099", (whole / "001.tiff").read_bytes())
    midogpp.download(tmp_path / "a", parts=["human breast cancer"], tables=tables, figshare=f"{site.url}/files")
    assert len(midogpp.images(tmp_path / "a", tumours=["human breast cancer"])) == 2


def test_abide_comes_participant_by_participant(site, tmp_path):
    whole = miniatures.abide(tmp_path / "w")
    for path in whole.rglob("*"):
        if path.is_file():
            site.add(f"/{path.relative_to(whole).as_posix()}", path.read_bytes())
    seen, terms = [], {"accept": "non-commercial research use", "base": site.url}
    abide.download(tmp_path / "a", parts=["NYU"], progress=lambda *p: seen.append(p[0]), **terms)
    assert set(seen) == {abide.PHENOTYPES, *(f"series {i} of 3" for i in (1, 2, 3))}, "names of files are participants"
    assert len(abide.load(tmp_path / "a", sites=["NYU"])) == 3


def test_the_command_line_lists_refuses_and_checks(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["causalfm", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    code, text = run("list")
    assert code == 0
    assert all(f"{name}: " in text for name in public_sets.NAMES)
    assert "technical scanner, stain" in text
    assert run("get", "tcga_ut", tmp_path)[0] == 2
    code, text = run("get", "scorpion", tmp_path, "--parts", "slide_1")
    assert (code, "comes as a whole" in text) == (2, True)
    code, text = run("get", "scorpion", tmp_path, "--allow-host", "example.org")
    assert (code, "leave out --allow-host" in text) == (2, True)
    code, text = run("get", "mimic", tmp_path)
    assert (code, "choose from pathorob" in text) == (2, True)
    code, text = run("check", tmp_path)
    assert (code, "nothing was fetched" in text) == (2, True)
    with serving() as site:
        content = zipped(miniatures.scorpion(tmp_path / "s"), tmp_path / "s.zip")
        site.zenodo(scorpion.RECORD, **{scorpion.ARCHIVE: content})
        defaults = {**scorpion.download.__kwdefaults__, "api": site.url}
        monkeypatch.setattr(scorpion.download, "__kwdefaults__", defaults)
        code, text = run("get", "scorpion", tmp_path / "a")
    assert (code, "CC BY 4.0" in text, "Done: " in text) == (0, True, True)
    assert run("check", tmp_path / "a")[0] == 0
    (tmp_path / "a" / scorpion.ARCHIVE).write_bytes(b"")
    code, text = run("check", tmp_path / "a")
    assert (code, "1 of 1 files are missing or not as recorded" in text) == (2, True)


def test_the_page_on_data_is_what_the_loaders_and_cards_say():
    assert data_page.PAGE.read_text("utf-8") == data_page.page()
    for name in public_sets.NAMES:
        card = (data_page.CARDS / f"{name}.md").read_text("utf-8")
        credentialed = public_sets.module_of(name).SET.apply_at
        missing = [title for title in data_page.SECTIONS if f"**{title}.**" not in card]
        assert missing == [], f"{name}.md lacks {missing}"
        assert not credentialed or credentialed.removeprefix("https://") in card
