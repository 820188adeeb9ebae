from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.datasets import histology
from causalfm.datasets.histology import SCANNERS, SITES, ScannerParameters, make_scene, render, sample_traits
from causalfm.errors import DataError

PERFECT = ScannerParameters(blur=0.0, gamma=1.0, noise=0.0)


def traits(seed=0):
    return sample_traits(np.random.default_rng(seed))


def readout(features, labels, groups):
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return balanced_accuracy_score(labels, cross_val_predict(probe, features, labels, groups=groups, cv=folds))


@pytest.fixture(scope="module")
def same_site():
    """Both patterns under one hospital and scanner: colour may not tell them apart."""
    obs = histology.cohort_table(60, 2, 0.0, 1).assign(site="Northfield", scanner="Argus 2")
    return histology.render_cohort(obs, random_state=1), obs


def test_render_obeys_beer_lambert():
    scene = make_scene("glandular", traits(), 3)
    image = render(scene, "Southgate", 0, scanner=PERFECT)
    stain = np.array(SITES["Southgate"].stain) * np.array(SITES["Southgate"].strength)[:, None]
    density = np.stack([scene.hematoxylin, scene.eosin], axis=-1) @ stain
    np.testing.assert_allclose(image, 255 * 0.96 * np.exp(-density), atol=0.51)
    dark = render(scene, "Southgate", 0, scanner=ScannerParameters(0.0, 1.5, 0.0))
    np.testing.assert_allclose(dark, 255 * (0.96 * np.exp(-density)) ** 1.5, atol=0.51)


def test_tissue_noise_and_stain_have_seeds_and_parameters_of_their_own():
    scene = make_scene("solid", traits(), 3)
    before = scene.hematoxylin.copy()
    first, again, other = (render(scene, "Eastbrook", seed) for seed in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.shape == (128, 128, 3)
    np.testing.assert_array_equal(first, again)
    difference = first.astype(float) - other
    assert 0 < np.abs(difference).mean() < 10  # the noise is another, the tissue the same
    assert abs(difference.mean()) < 0.2
    np.testing.assert_array_equal(scene.hematoxylin, before)
    np.testing.assert_array_equal(make_scene("solid", traits(), 3).eosin, scene.eosin)
    assert np.corrcoef(make_scene("solid", traits(), 4).eosin.ravel(), scene.eosin.ravel())[0, 1] < 0.3


def test_mean_concentrations_do_not_depend_on_the_pattern():
    for seed in range(5):
        a, b = (make_scene(tissue, traits(seed), seed) for tissue in ("glandular", "solid"))
        assert a.hematoxylin.mean() == pytest.approx(b.hematoxylin.mean(), rel=1e-5)
        assert a.eosin.mean() == pytest.approx(b.eosin.mean(), rel=1e-5)
        assert min(a.hematoxylin.min(), b.eosin.min()) > 0


def test_mean_colour_tells_the_site_but_not_the_pattern(same_site):
    images, obs = same_site
    colour = images.mean(axis=(1, 2))
    # 60 patients: three standard errors above chance
    assert readout(colour, obs["tumour"], obs["patient"]) < 0.5 + 3 * 0.5 / np.sqrt(60)
    images, obs = histology.confounded_cohort(n_patients=60, tiles_per_patient=2, random_state=1)
    assert readout(images.mean(axis=(1, 2)), obs["site"], obs["patient"]) > 0.8


def test_structure_tells_the_pattern(same_site):
    images, obs = same_site
    grey = images.mean(axis=3)
    power = np.abs(np.fft.rfft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None]) * 128
    edges = [1, 2, 3, 4, 6, 8, 12, 16, 24]
    rings = [(radius >= low) & (radius < high) for low, high in pairwise(edges)]
    spectrum = np.log(np.stack([power[:, ring].sum(axis=1) for ring in rings], axis=1))
    spectrum -= spectrum.mean(axis=1, keepdims=True)  # shape of the spectrum only, contrast removed
    assert readout(spectrum, obs["tumour"], obs["patient"]) > 0.75


def test_cohort_is_confounded_and_every_cell_keeps_patients():
    obs = histology.cohort_table(120, 6, 0.6, 0)
    patients = obs.drop_duplicates("patient")
    assert len(obs) == 720
    assert obs.index.is_unique
    assert (obs.groupby("patient")[["site", "scanner", "tumour", "age"]].nunique() == 1).all(axis=None)
    assert (patients["site"].value_counts() == 30).all()
    shares = patients["tumour"].eq("solid").groupby(patients["site"]).mean()
    np.testing.assert_allclose(shares[list(SITES)], [0.8, 0.6, 0.4, 0.2])
    cells = patients.groupby(["site", "tumour", "scanner"]).size()
    assert len(cells) == 16
    assert cells.min() >= 3
    flat = histology.cohort_table(120, 1, 0.0, 0)
    assert (pd.crosstab(flat["site"], flat["tumour"]) == 15).all(axis=None)


def test_age_is_related_to_the_pattern_within_hospitals():
    patients = histology.cohort_table(2000, 1, 0.6, 0)
    means = patients.groupby(["site", "tumour"])["age"].mean().unstack()
    assert (means["solid"] > means["glandular"]).all()
    assert 2.0 < (means["solid"] - means["glandular"]).mean() < 4.5  # years: mild
    assert patients["age"].mean() == pytest.approx(62, abs=1)
    assert patients["age"].std() == pytest.approx(10, abs=1)


def test_same_seed_gives_the_same_bytes_and_another_seed_other_tissue():
    options = {"n_patients": 8, "tiles_per_patient": 1, "size": 64}
    images, obs = histology.confounded_cohort(**options)
    again, same_obs = histology.confounded_cohort(**options)
    assert images.tobytes() == again.tobytes()
    pd.testing.assert_frame_equal(obs, same_obs)
    other, _ = histology.confounded_cohort(**options, random_state=1)
    assert (images != other).any(axis=(1, 2, 3)).all()


def test_same_tissue_can_be_seen_in_another_hospital():
    images, obs = histology.confounded_cohort(n_patients=8, tiles_per_patient=1)
    moved = histology.render_cohort(obs.assign(site="Eastbrook"), random_state=0)
    stayed = (obs["site"] == "Eastbrook").to_numpy()
    np.testing.assert_array_equal(moved[stayed], images[stayed])
    shift = np.abs(moved[~stayed].mean(axis=(1, 2)) - images[~stayed].mean(axis=(1, 2))).max(axis=1)
    assert (shift > 4).all()
    for a, b in zip(images[~stayed], moved[~stayed], strict=True):
        assert np.corrcoef(a.mean(axis=2).ravel(), b.mean(axis=2).ravel())[0, 1] > 0.95
    shuffled = obs.iloc[::-1]
    np.testing.assert_array_equal(histology.render_cohort(shuffled, random_state=0), images[::-1])


@pytest.mark.parametrize("size", [32, 75, 200])
@pytest.mark.parametrize("tissue", histology.TISSUES)
def test_other_tile_sizes_work(tissue, size):
    assert render(make_scene(tissue, traits(), 0, size=size), "Westmoor", 0, scanner="Meridian").shape == (
        size,
        size,
        3,
    )


def test_bad_arguments_name_the_choices():
    with pytest.raises(DataError, match="'glandular' or 'solid'"):
        make_scene("lobular", traits(), 0)
    with pytest.raises(DataError, match="16 px"):
        make_scene("solid", traits(), 0, size=16)
    scene = make_scene("solid", traits(), 0, size=32)
    with pytest.raises(DataError, match="'Northfield', 'Eastbrook'"):
        render(scene, "Nowhere", 0)
    with pytest.raises(DataError, match=", ".join(map(repr, SCANNERS))):
        render(scene, "Westmoor", 0, scanner="Nowhere")
    with pytest.raises(DataError, match=r"confounding=1\.5"):
        histology.confounded_cohort(confounding=1.5)
    with pytest.raises(DataError, match="n_patients=7"):
        histology.confounded_cohort(n_patients=7)
