"""New levels, numbers that follow, and pairs in one model."""

import numpy as np
import pandas as pd
import pytest

from causalfm import CausalGraph, Cohort, EmbeddingSCM
from causalfm.errors import DataError

GRAPH = CausalGraph(
    "site <-> tumour; site -> {scanner, stain}; {tumour, site, scanner, stain} -> Z",
    biology="tumour",
    technical=["site", "scanner", "stain"],
    group="patient",
)


def cohort_of(sites: str) -> Cohort:
    """Patients with four rows each at the sites named; stain depends on the site."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 4)
    site = np.array(list("ABCD"))[patient % 4]
    tumour = np.array(["x", "y"])[rng.integers(0, 2, 60)][patient]
    stain = np.array([0.0, 1.0, -1.0, 0.5])[patient % 4] + np.repeat(rng.standard_normal(60), 4) * 0.5
    scanner = np.where((rng.random(60) < 0.5)[patient], "S60", "P1000")
    Z = rng.standard_normal((240, 6)) + stain[:, None] * np.arange(6) * 0.3 + (tumour == "y")[:, None]
    obs = pd.DataFrame({"site": site, "tumour": tumour, "stain": stain, "scanner": scanner, "patient": patient})
    return Cohort(Z, obs)[np.flatnonzero(np.isin(site, list(sites)))]


@pytest.mark.parametrize("unseen", ["shrink", "adapt"])
@pytest.mark.parametrize("mechanism", ["additive", "location-scale", "random-effects"])
def test_a_number_that_would_follow_a_new_level_is_to_be_set(mechanism: str, unseen: str) -> None:
    scm = EmbeddingSCM(GRAPH, mechanism, unseen=unseen).fit(cohort_of("ABC"))
    everyone = cohort_of("ABCD")
    with pytest.raises(DataError, match="set 'stain' in do= as well"):
        scm.counterfactual(everyone, do={"site": "A"})
    moved, errors = scm.counterfactual(everyone, do={"site": "A", "stain": 0.0}, return_uncertainty=True)
    assert (moved.obs["site"] == "A").all()
    assert errors.unseen["levels"] == {"site": ["D"]}
    known = (
        EmbeddingSCM(GRAPH, mechanism).fit(cohort_of("ABC")).counterfactual(cohort_of("B"), {"site": "A", "stain": 0.0})
    )
    np.testing.assert_allclose(moved.X[(everyone.obs["site"] == "B").to_numpy()], known.X, atol=1e-9)
    assert (errors.standard_error() > 0).all()
