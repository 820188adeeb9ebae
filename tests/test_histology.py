from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.datasets import histology
from causalfm.datasets.histology import ARTEFACTS, SCANNERS, SITES, STAINS, TISSUES, make_scene, render, sample_traits
from causalfm.errors import DataError

GREY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
PERFECT = histology.ScannerParameters(
    psf_um=0.0,
    um_per_px=0.5,
    electrons=np.inf,
    read_noise=0.0,
    white=(0.96, 0.96, 0.96),
    colour_matrix=GREY,
    gamma=1.0,
    sharpening=0.0,
    sharpening_px=1.0,
    jpeg_quality=None,
)


def traits(seed=0):
    return sample_traits(np.random.default_rng(seed))


def middle(scene):
    margin = (len(scene.eosin) - scene.size) // 2
    inner = slice(margin, margin + scene.size)
    return scene.hematoxylin[inner, inner], scene.eosin[inner, inner]


def readout(features, labels, groups):
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return balanced_accuracy_score(labels, cross_val_predict(probe, features, labels, groups=groups, cv=folds))


@pytest.fixture(scope="module")
def scene():
    return make_scene("glandular", traits(), 3, size=128)


@pytest.fixture(scope="module")
def clean(scene):
    return render(scene, "HE-3", 0, scanner=PERFECT).astype(float)


@pytest.fixture(scope="module")
def same_site():
    """Four patterns under one hospital, stain and scanner: colour may not tell them apart."""
    obs = histology.cohort_table(80, 2, 0.0, 1, tissues=TISSUES)
    obs = histology.intervene(obs, site="Northfield", stain="HE-1", scanner="Argus 2")
    return histology.render_cohort(obs, random_state=1, size=160), obs


def test_render_obeys_beer_lambert(scene, clean):
    stain = np.array(STAINS["HE-3"].vectors) * np.array(STAINS["HE-3"].strength)[:, None]
    density = np.stack(middle(scene), axis=-1) @ stain
    np.testing.assert_allclose(clean, 255 * 0.96 * np.exp(-density), atol=0.51)
    thick = render(scene, "HE-3", 0, scanner=PERFECT, site="Eastbrook")
    np.testing.assert_allclose(thick, 255 * 0.96 * np.exp(-SITES["Eastbrook"].thickness * density), atol=0.51)


def test_gamma_white_point_and_colour_matrix_act_on_every_pixel(scene, clean):
    light = clean / 255
    dark = render(scene, "HE-3", 0, scanner=replace(PERFECT, gamma=1.5))
    np.testing.assert_allclose(dark, 255 * light**1.5, atol=1.3)
    warm = render(scene, "HE-3", 0, scanner=replace(PERFECT, white=(0.96, 0.96, 0.48)))
    np.testing.assert_allclose(warm, clean * [1, 1, 0.5], atol=1)
    matrix = np.array([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]])
    mixed = render(scene, "HE-3", 0, scanner=replace(PERFECT, colour_matrix=tuple(map(tuple, matrix))))
    np.testing.assert_allclose(mixed, clean @ matrix.T, atol=1.1)


def test_blur_lowers_sharpness_and_sharpening_raises_it(scene, clean):
    def sharpness(**change):
        image = render(scene, "HE-3", 0, scanner=replace(PERFECT, **change)).astype(float)
        return np.abs(np.diff(image, axis=1)).mean()

    levels = [sharpness(psf_um=0.6), sharpness(psf_um=0.3), sharpness(), sharpness(sharpening=0.8)]
    assert all(low < 0.95 * high for low, high in pairwise(levels))
    blurred = render(scene, "HE-3", 0, scanner=replace(PERFECT, psf_um=0.5))
    assert blurred.mean() == pytest.approx(clean.mean(), abs=1)


def test_smaller_pixels_magnify_the_middle(scene, clean):
    from PIL import Image

    close = render(scene, "HE-3", 0, scanner=replace(PERFECT, psf_um=0.3, um_per_px=0.4)).astype(float)
    edge = round(0.1 * scene.size)
    wanted = Image.fromarray(clean.astype(np.uint8)).resize(
        (scene.size, scene.size), box=(edge - 0.2, edge - 0.2, 128.2 - edge, 128.2 - edge)
    )
    assert np.corrcoef(close.ravel(), np.asarray(wanted, float).ravel())[0, 1] > 0.97
    assert np.corrcoef(close.ravel(), clean.ravel())[0, 1] < 0.8


def test_noise_grows_with_the_light_and_averages_zero(scene, clean):
    noisy = [
        render(scene, "HE-3", seed, scanner=replace(PERFECT, electrons=400.0, read_noise=0.01)) for seed in range(12)
    ]
    error = np.stack(noisy).astype(float) - clean
    for low, high in ((60, 100), (150, 190), (200, 225)):
        pixels = (clean > low) & (clean < high)
        level = clean[pixels].mean() / 255
        wanted = 255 * np.sqrt(level / 400 + 0.01**2)
        assert error[:, pixels].std() == pytest.approx(wanted, rel=0.05)
        assert abs(error[:, pixels].mean()) < 0.3


def test_jpeg_loses_more_at_lower_quality(scene, clean):
    loss = [
        np.abs(render(scene, "HE-3", 0, scanner=replace(PERFECT, jpeg_quality=q)) - clean).mean() for q in (95, 70, 30)
    ]
    assert 0.2 < loss[0] < loss[1] < loss[2] < 12


def test_tissue_noise_and_stain_have_seeds_and_parameters_of_their_own(scene):
    before = scene.hematoxylin.copy()
    first, again, other = (render(scene, "HE-2", seed, scanner="Helios") for seed in (1, 1, 2))
    assert (first.dtype, first.shape) == (np.uint8, (128, 128, 3))
    np.testing.assert_array_equal(first, again)
    difference = first.astype(float) - other
    assert 0 < np.abs(difference).mean() < 10  # the noise is another, the tissue the same
    assert abs(difference.mean()) < 0.2
    np.testing.assert_array_equal(scene.hematoxylin, before)
    np.testing.assert_array_equal(make_scene("glandular", traits(), 3, size=128).eosin, scene.eosin)
    assert np.corrcoef(make_scene("glandular", traits(), 4, size=128).eosin.ravel(), scene.eosin.ravel())[0, 1] < 0.3


def test_staining_runs_vary_around_their_protocol_and_disturb_every_protocol_alike():
    runs = [histology.stain_run(STAINS["HE-1"], np.random.default_rng(seed)) for seed in range(300)]
    strength = np.log([run.strength for run in runs])
    np.testing.assert_allclose(strength.mean(axis=0), np.log(STAINS["HE-1"].strength), atol=0.01)
    np.testing.assert_allclose(strength.std(axis=0), 0.04, rtol=0.15)
    other = histology.stain_run(STAINS["HE-4"], np.random.default_rng(7))
    np.testing.assert_allclose(other.matrix / STAINS["HE-4"].matrix, runs[7].matrix / STAINS["HE-1"].matrix)


def test_mean_concentrations_do_not_depend_on_the_pattern():
    for seed in range(3):
        scenes = [make_scene(tissue, traits(seed), seed, size=128) for tissue in TISSUES]
        assert len({round(float(s.hematoxylin.mean(dtype=float)), 5) for s in scenes}) == 1
        assert len({round(float(s.eosin.mean(dtype=float)), 5) for s in scenes}) == 1
        assert min(min(s.hematoxylin.min(), s.eosin.min()) for s in scenes) > 0


def test_traits_are_what_the_tissue_shows():
    base = traits()

    def dye(**change):
        return make_scene("solid", replace(base, **change), 5, size=128)

    thick = dye(thickness=2 * base.thickness)
    np.testing.assert_allclose(thick.eosin, 2 * dye().eosin, rtol=1e-5)
    assert (dye(space=0.2).eosin < 0.1).mean() > (dye(space=0.05).eosin < 0.1).mean() + 0.1
    assert dye(crowding=0.42).hematoxylin.mean() > dye(crowding=0.30).hematoxylin.mean()
    assert dye(lymphocytes=0.10).hematoxylin.mean() > dye(lymphocytes=0.01).hematoxylin.mean()


def test_mean_colour_does_not_tell_the_pattern(same_site):
    images, obs = same_site
    colour = images.mean(axis=(1, 2))
    # four patterns, 80 patients: three standard errors above chance
    assert readout(colour, obs["tumour"], obs["patient"]) < 0.25 + 3 * np.sqrt(0.25 * 0.75 / 80)


def test_structure_tells_the_pattern(same_site):
    images, obs = same_site
    grey = images.mean(axis=3)
    power = np.abs(np.fft.rfft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    radius = np.hypot(np.fft.fftfreq(160)[:, None], np.fft.rfftfreq(160)[None]) * 160
    rings = [(radius >= low) & (radius < high) for low, high in pairwise([1, 2, 3, 4, 6, 8, 12, 16, 24, 40])]
    spectrum = np.log(np.stack([power[:, ring].sum(axis=1) for ring in rings], axis=1))
    spectrum -= spectrum.mean(axis=1, keepdims=True)  # shape of the spectrum only, contrast removed
    assert readout(spectrum, obs["tumour"], obs["patient"]) > 0.25 + 3 * np.sqrt(0.25 * 0.75 / 80)


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_artefacts_have_seeds_of_their_own_and_are_off_by_default(scene, kind):
    plain = render(scene, "HE-1", 0).astype(float)
    spoilt, again, other = (render(scene, "HE-1", 0, artefacts=[(kind, seed)]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(spoilt, again)
    assert (spoilt != other).any()
    changed = (np.abs(spoilt - plain) > 12).any(axis=2).mean()
    low, high = {"defocus": (0.3, 1.0), "dust": (0.001, 0.2)}.get(kind, (0.05, 0.95))
    assert low < changed < high


@pytest.mark.parametrize("size", [64, 75, 200])
@pytest.mark.parametrize("tissue", TISSUES)
def test_other_tile_sizes_work(tissue, size):
    tile = render(make_scene(tissue, traits(), 0, size=size), "HE-4", 0, scanner="Meridian")
    assert tile.shape == (size, size, 3)
    assert tile.std() > 15


def test_bad_arguments_name_the_choices(scene):
    with pytest.raises(DataError, match="'glandular', 'cribriform', 'trabecular', 'solid'"):
        make_scene("lobular", traits(), 0)
    with pytest.raises(DataError, match="size=16"):
        make_scene("solid", traits(), 0, size=16)
    with pytest.raises(DataError, match="'HE-1', 'HE-2'"):
        render(scene, "HE-9", 0)
    with pytest.raises(DataError, match="'Northfield', 'Eastbrook'"):
        render(scene, "HE-1", 0, site="Nowhere")
    with pytest.raises(DataError, match=", ".join(map(repr, SCANNERS))):
        render(scene, "HE-1", 0, scanner="Nowhere")
    with pytest.raises(DataError, match="'pen', 'fold'"):
        render(scene, "HE-1", 0, artefacts=[("coffee", 0)])
    with pytest.raises(DataError, match=r"um_per_px=1\.0: a scene has room for pixels up to 0\.52 um"):
        replace(PERFECT, um_per_px=1.0)
    with pytest.raises(DataError, match="jpeg_quality=0"):
        replace(PERFECT, jpeg_quality=0)
    with pytest.raises(DataError, match="must not be negative"):
        replace(PERFECT, gamma=0.0)
