"""Rendered tissue under four stains: tiles to fit on, others to judge on, and the library of the first."""

from functools import cache

import numpy as np
import pytest
import torch

from causalfm.augment import StainLibrary
from causalfm.datasets import histology

STAINS = ("HE-1", "HE-2", "HE-3", "HE-4")
N = 12  # tiles to fit on, and as many to judge on


def rendered(rows, **causes):
    obs = histology.cohort_table(2 * N, 1, 0.0, 0).iloc[rows].assign(site="Northfield", scanner="Argus 2", **causes)
    return torch.from_numpy(histology.render_cohort(obs, random_state=0, size=128, n_jobs=1)).permute(0, 3, 1, 2)


@cache  # once for all files of tests
def under_each_stain(first, end):
    return {stain: rendered(slice(first, end), stain=stain).contiguous() for stain in STAINS}


@pytest.fixture(scope="module")
def tissue():
    """Tiles of other patients to judge on, under each stain."""
    return under_each_stain(N, 2 * N)


@pytest.fixture(scope="module")
def donors():
    """Tiles to fit on, under each stain."""
    return under_each_stain(0, N)


@pytest.fixture(scope="module")
def library(donors):
    return StainLibrary.fit(torch.cat(list(donors.values())), np.repeat(STAINS, N))
