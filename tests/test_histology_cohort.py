import numpy as np
import pandas as pd
import pytest

from causalfm.datasets import histology
from causalfm.datasets.histology import SCANNERS, SITES, STAINS, TISSUES
from causalfm.datasets.histology_cohort import OWN_STAIN_SHARE
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

SMALL = {"random_state": 0, "size": 96}


@pytest.fixture(scope="module")
def obs():
    return histology.cohort_table(8, 1, 0.6, 0)


@pytest.fixture(scope="module")
def images(obs):
    return histology.render_cohort(obs, **SMALL)


def test_cohort_is_confounded_and_every_cell_keeps_patients():
    obs = histology.cohort_table(120, 6, 0.6, 0)
    patients = obs.drop_duplicates("patient")
    assert len(obs) == 720
    assert obs.index.is_unique
    assert (obs.groupby("patient")[["site", "scanner", "stain", "tumour", "age"]].nunique() == 1).all(axis=None)
    assert (patients["site"].value_counts() == 30).all()
    shares = patients["tumour"].eq("solid").groupby(patients["site"]).mean()
    np.testing.assert_allclose(shares[list(SITES)], [0.8, 0.6, 0.4, 0.2])
    cells = patients.groupby(["site", "tumour", "scanner"]).size()
    assert len(cells) == 16
    assert cells.min() >= 3
    stains = pd.crosstab(patients["site"], patients["stain"]).loc[list(SITES), list(STAINS)].to_numpy()
    np.testing.assert_allclose(stains.diagonal(), OWN_STAIN_SHARE * 30, atol=1)
    assert (np.diag(np.roll(stains, -1, axis=1)) >= 4).all()  # the next hospital's protocol
    flat = histology.cohort_table(120, 1, 0.0, 0)
    assert (pd.crosstab(flat["site"], flat["tumour"]) == 15).all(axis=None)


def test_scanner_and_stain_look_at_the_hospital_only():
    patients = histology.cohort_table(4000, 1, 0.6, 0)
    for cause in ("scanner", "stain"):
        shares = pd.crosstab([patients["site"], patients["tumour"]], patients[cause], normalize="index")
        spread = shares.groupby("site").agg(lambda column: column.max() - column.min())
        assert spread.to_numpy().max() < 0.02
    draws = patients[["scanner_draw", "stain_draw", "age"]]
    assert np.abs(draws.corr().to_numpy() - np.eye(3)).max() < 0.06
    assert patients["scanner_draw"].between(0, 1).all()


def test_four_patterns_tilt_between_the_hospitals():
    patients = histology.cohort_table(400, 1, 0.6, 0, tissues=TISSUES)
    counts = pd.crosstab(patients["site"], patients["tumour"]).loc[list(SITES), list(TISSUES)].to_numpy()
    np.testing.assert_array_equal(counts[0], [10, 20, 30, 40])
    np.testing.assert_array_equal(counts[3], [40, 30, 20, 10])
    extreme = histology.cohort_table(400, 1, 1.0, 0, tissues=TISSUES)
    assert "glandular" not in set(extreme.loc[extreme["site"] == "Northfield", "tumour"])


def test_age_is_related_to_the_pattern_within_hospitals():
    patients = histology.cohort_table(2000, 1, 0.6, 0)
    means = patients.groupby(["site", "tumour"])["age"].mean().unstack()
    assert (means["solid"] > means["glandular"]).all()
    assert 2.0 < (means["solid"] - means["glandular"]).mean() < 4.5  # years: mild
    assert patients["age"].mean() == pytest.approx(62, abs=1)
    assert patients["age"].std() == pytest.approx(10, abs=1)


def test_the_graph_can_be_declared_as_it_is_written():
    graph = CausalGraph(histology.GRAPH, biology="tumour", technical=["site", "scanner", "stain"], group="patient")
    assert set(graph.technical) == {"site", "scanner", "stain"}


def test_same_seed_gives_the_same_bytes_whatever_the_threads_and_another_seed_other_tissue(obs, images):
    again, table = histology.confounded_cohort(n_patients=8, tiles_per_patient=1, **SMALL)
    pd.testing.assert_frame_equal(table, obs)
    assert images.tobytes() == again.tobytes()
    for jobs in (1, 3):
        assert histology.render_cohort(obs, n_jobs=jobs, **SMALL).tobytes() == images.tobytes()
    other, _ = histology.confounded_cohort(n_patients=8, tiles_per_patient=1, random_state=1, size=96)
    assert (images != other).any(axis=(1, 2, 3)).all()
    shuffled = obs.iloc[::-1]
    np.testing.assert_array_equal(histology.render_cohort(shuffled, **SMALL), images[::-1])


def test_do_site_moves_scanner_and_stain_along_and_own_site_changes_nothing():
    obs = histology.cohort_table(400, 1, 0.6, 0)
    for site, where in SITES.items():
        moved = histology.intervene(obs, site=site)
        own = (obs["site"] == site).to_numpy()
        pd.testing.assert_frame_equal(moved[own], obs[own])
        assert moved["stain"].eq(where.stain).mean() == pytest.approx(OWN_STAIN_SHARE, abs=0.02)
        back = histology.intervene(histology.intervene(moved, site="Westmoor"), site=site)
        pd.testing.assert_frame_equal(back, moved)  # the patient's draws are stored, so do(a) then do(b) is do(b)
        others = obs.columns.difference(["site", "scanner", "stain"])
        pd.testing.assert_frame_equal(moved[others], obs[others])
    fixed = histology.intervene(obs, site="Eastbrook", scanner="Helios", stain="HE-4")
    assert fixed[["site", "scanner", "stain"]].drop_duplicates().to_numpy().tolist() == [
        ["Eastbrook", "Helios", "HE-4"]
    ]
    assert (histology.intervene(obs, scanner="Helios")["stain"] == obs["stain"]).all()


def test_what_was_set_stays_set(tmp_path):
    obs = histology.cohort_table(40, 1, 0.6, 0)
    both = histology.intervene(obs, scanner="Helios", site="Eastbrook")
    pd.testing.assert_frame_equal(
        histology.intervene(histology.intervene(obs, scanner="Helios"), site="Eastbrook"), both
    )
    pd.testing.assert_frame_equal(
        histology.intervene(histology.intervene(obs, site="Eastbrook"), scanner="Helios"), both
    )
    assert set(both["scanner"]) == {"Helios"}
    pd.testing.assert_series_equal(both["stain"], histology.intervene(obs, site="Eastbrook")["stain"])
    both.to_csv(tmp_path / "table.csv")
    back = pd.read_csv(tmp_path / "table.csv", index_col=0)
    assert set(histology.intervene(back, site="Westmoor")["scanner"]) == {"Helios"}
    assert set(histology.intervene(both, scanner="Argus 2")["scanner"]) == {"Argus 2"}


def test_a_table_with_artefacts_can_go_through_a_csv_file(obs, tmp_path):
    spoilt = obs[:2].assign(artefact=["pen", ""])
    spoilt.to_csv(tmp_path / "table.csv")
    back = pd.read_csv(tmp_path / "table.csv", index_col=0)
    assert back["artefact"].isna().sum() == 1
    np.testing.assert_array_equal(histology.render_cohort(back, **SMALL), histology.render_cohort(spoilt, **SMALL))


@pytest.mark.parametrize(
    ("change", "least"), [({"site": "Eastbrook"}, 0.5), ({"stain": "HE-2"}, 2.0), ({"scanner": "Helios"}, 2.0)]
)
def test_the_same_tissue_can_be_seen_under_any_cause(obs, images, change, least):
    ((column, level),) = change.items()
    moved = histology.render_cohort(obs.assign(**change), **SMALL)  # one column, nothing after it
    stayed = (obs[column] == level).to_numpy()
    np.testing.assert_array_equal(moved[stayed], images[stayed])
    shift = np.abs(moved[~stayed].mean(axis=(1, 2)) - images[~stayed].mean(axis=(1, 2))).max(axis=1)
    assert (shift > least).all()
    if column != "scanner":  # whose pixels have another size
        for a, b in zip(images[~stayed], moved[~stayed], strict=True):
            assert np.corrcoef(a.mean(axis=2).ravel(), b.mean(axis=2).ravel())[0, 1] > 0.95


def test_another_pattern_is_other_tissue_under_the_same_stain_and_scanner(obs, images):
    moved = histology.render_cohort(obs.assign(tumour="trabecular"), **SMALL)
    for a, b in zip(images, moved, strict=True):
        assert abs(np.corrcoef(a.mean(axis=2).ravel(), b.mean(axis=2).ravel())[0, 1]) < 0.5
    assert np.abs(images.mean(axis=(1, 2)) - moved.mean(axis=(1, 2))).max() < 12


def test_a_column_of_artefacts_spoils_the_tiles_it_names(obs, images):
    artefact = ["pen", "", "fold", "", "bubble", "", "defocus", "dust"]
    spoilt = histology.render_cohort(obs.assign(artefact=artefact), **SMALL)
    same = (spoilt == images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, [name == "" for name in artefact])


def test_bad_tables_say_what_is_wrong_and_never_name_a_patient(obs):
    for options, words in (
        ({"confounding": 1.5}, r"confounding=1\.5"),
        ({"n_patients": 7}, "n_patients=7"),
        ({"n_patients": 12, "tissues": TISSUES}, "at least 16 patients"),
        ({"tissues": ("solid", "solid")}, "each once"),
        ({"tissues": ("solid", "lobular")}, "'cribriform'"),
        ({"random_state": -1}, "random_state=-1"),
    ):
        with pytest.raises(DataError, match=words):
            histology.confounded_cohort(**options)
    with pytest.raises(DataError, match="'stain', 'scanner' are missing"):
        histology.render_cohort(obs.drop(columns=["scanner", "stain"]), **SMALL)
    with pytest.raises(DataError, match=r"'patient', row 3: names") as caught:
        histology.render_cohort(obs.assign(patient=[*obs["patient"][:3], "SECRET", *obs["patient"][4:]]), **SMALL)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(DataError, match="'tile' must hold whole numbers"):
        histology.render_cohort(obs.assign(tile=0.5), **SMALL)
    with pytest.raises(DataError, match="stain 'HE-9' is unknown"):
        histology.render_cohort(obs.assign(stain="HE-9"), n_jobs=2, **SMALL)
    with pytest.raises(DataError, match="n_jobs=0"):
        histology.render_cohort(obs, n_jobs=0, **SMALL)
    for options, words in (({"size": -5}, "size=-5"), ({"size": 64.5}, r"size=64\.5"), ({"random_state": -1}, "=-1")):
        with pytest.raises(DataError, match=rf"{words}: choose a whole number of at least"):
            histology.render_cohort(obs, **{**SMALL, **options})
    with pytest.raises(DataError, match=r"'scanner_draw' are missing: cohort_table.*obs\.assign"):
        histology.intervene(obs.drop(columns="scanner_draw"), site="Eastbrook")
    with pytest.raises(DataError, match=", ".join(map(repr, SCANNERS))):
        histology.intervene(obs, scanner="Nowhere")
