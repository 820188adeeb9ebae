"""The renderer judges counterfactuals and augmentation: a change of its parameters or pictures must not pass unseen.

Pictures are pinned by statistics, not bytes: another processor rounds the last bit otherwise. If one of these fails,
the renderer has changed, and every number that was measured on it is void.
"""

import hashlib
from dataclasses import astuple

import numpy as np
import pytest

from causalfm.datasets import histology, histology_artefacts, histology_cohort, histology_stain, histology_tissue
from causalfm.datasets.histology import SCANNERS, SITES, STAINS, TISSUES, make_scene, render, sample_traits

TABLES = "032129306907ab5b37c8c2bf7e9acea72069e15ff7c701d81c8f71b89a516472"
COLOURS = {  # mean of red, green, blue; their standard deviations
    "Argus 2": ((184.70, 136.66, 182.61), (40.88, 42.44, 25.22)),
    "Meridian": ((172.10, 130.50, 177.13), (41.23, 43.32, 28.30)),
    "Corvus X": ((196.55, 142.38, 197.85), (41.41, 42.88, 24.81)),
    "Helios": ((173.29, 121.85, 158.41), (45.80, 45.06, 28.91)),
}
THUMBNAILS = {  # green, mean of 4 x 4 blocks of 56 px
    "glandular": "127.4 161.5 125.4 119.8 134.8 125.5 137.7 149.7 130.6 149.5 132.6 139.1 132.4 153.1 131.2 136.3",
    "cribriform": "121.2 154.9 118.6 114.1 142.6 123.2 121.7 127.3 149.8 157.1 142.7 148.3 151.5 155.8 149.0 127.8",
    "trabecular": "155.0 140.7 137.1 126.7 125.5 142.4 156.4 133.2 125.2 171.3 122.7 127.3 133.0 133.1 131.1 141.6",
    "solid": "122.7 131.1 128.7 118.7 127.4 156.9 117.6 139.8 144.2 137.9 158.0 139.0 132.5 123.7 159.9 141.3",
}
SPOILT = {  # mean of red, green, blue
    "pen": (106.64, 116.83, 116.85),
    "fold": (173.52, 121.71, 170.09),
    "defocus": (184.67, 136.69, 182.61),
    "bubble": (180.43, 136.38, 178.41),
    "dust": (184.09, 136.22, 182.01),
}


def scene(tissue="glandular"):
    return make_scene(tissue, sample_traits(np.random.default_rng(0)), 0)


def test_the_parameter_tables_are_frozen():
    named = [[(name, astuple(value)) for name, value in table.items()] for table in (STAINS, SITES, SCANNERS)]
    scalars = (
        histology_stain.RUN_STRENGTH_SD,
        histology_stain.RUN_VECTOR_SD,
        histology_cohort.OWN_STAIN_SHARE,
        sorted(histology_cohort.ARGUS_SHARE.items()),
        histology_tissue.PIXEL_UM,
        histology_tissue.WIDEST_UM,
        histology_artefacts._INKS.tolist(),
        TISSUES,
        histology.GRAPH,
    )
    assert hashlib.sha256(repr((named, scalars)).encode()).hexdigest() == TABLES


def test_the_law_of_the_traits_is_frozen():
    drawn = np.array([astuple(sample_traits(np.random.default_rng(seed))) for seed in range(400)])
    mean = (3.7, 0.12, 0.36, 25.0, 0.27, 0.10, 0.05, 1.0)
    sd = np.array((0.30, 0.03, 0.035, 2.5, 0.04, 0.015, 0.018, 0.05))
    assert (np.abs(drawn.mean(axis=0) - mean) < 4 * sd / 20).all()
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.12)


@pytest.mark.parametrize("scanner", COLOURS)
def test_each_scanner_renders_as_it_did(scanner):
    image = render(scene(), "HE-1", 0, scanner=scanner, site="Northfield").astype(float)
    mean, sd = COLOURS[scanner]
    np.testing.assert_allclose(image.mean(axis=(0, 1)), mean, atol=0.05)
    np.testing.assert_allclose(image.std(axis=(0, 1)), sd, atol=0.05)


@pytest.mark.parametrize("tissue", THUMBNAILS)
def test_each_pattern_grows_as_it_did(tissue):
    green = render(scene(tissue), "HE-1", 0)[..., 1].astype(float)
    blocks = green.reshape(4, 56, 4, 56).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(blocks, [float(word) for word in THUMBNAILS[tissue].split()], atol=0.3)


@pytest.mark.parametrize("kind", SPOILT)
def test_each_artefact_spoils_as_it_did(kind):
    image = render(scene(), "HE-1", 0, artefacts=[(kind, 0)]).astype(float)
    np.testing.assert_allclose(image.mean(axis=(0, 1)), SPOILT[kind], atol=0.2)
