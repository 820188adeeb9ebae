"""Noise gives the chance value on every design; the reference versions agree between designs; intervals cover."""

from functools import partial

import numpy as np
import pytest
from neighbourhood_cohorts import GRAPH, NESTED, clustered
from scipy.stats import binom

from causalfm.graph import CausalGraph
from causalfm.metrics import croma, de_jong_ratio, mari, neighbour_scalars, reference_index, robustness_index

RAW = {"standardised": False}
THREE = CausalGraph.standard(biology="tumour", technical=["site", "scanner", "stain"], group="patient")
DESIGNS = {
    "balanced": ([[30, 30], [30, 30]], 0.5),
    "classes 90/10": ([[54, 54], [6, 6]], 0.82),
    "sites 90/10": ([[54, 6], [54, 6]], 0.18),
    "incomplete 6 x 3": ([[9, 9, 0], [9, 0, 9], [0, 9, 9], [9, 9, 9], [9, 9, 0], [9, 9, 9]], None),
    "2 x 10": ([[7] * 10] * 2, 0.9),
    "three factors": ([[12, 20], [20, 12]], None),
}
REPEATS = 6


def noise(name: str, seed: int):
    cohort = clustered(np.random.default_rng([11, seed]), DESIGNS[name][0], patient=0, scanner=0)
    stain = np.random.default_rng(seed).integers(0, 2, len(set(cohort.obs["patient"])))
    return cohort.replace(obs=cohort.obs.assign(stain=stain[cohort.factor("patient").codes].astype(str)))


@pytest.mark.parametrize("name", DESIGNS)
def test_noise_gives_the_chance_value(name: str) -> None:
    given = {"confounder": "stain", "within": ["site", "scanner"]} if name == "three factors" else {}
    measures = {
        "index": partial(robustness_index, k=7, **given, **RAW),
        "mari": partial(mari, k=7, **given, **RAW),
        "ratio": partial(de_jong_ratio, k=7, **given, **RAW),
        "croma": partial(croma, m=3, **given, **RAW),
    }
    cohorts = [noise(name, seed) for seed in range(REPEATS)]
    found = {key: [measure(cohort, THREE) for cohort in cohorts] for key, measure in measures.items()}
    found["weighted"] = [one.details["weighted"] for one in found["index"]]
    found["f0"], found["ltm"] = ([one.details[key] for one in found["croma"]] for key in ("f0", "ltm"))
    for key, estimates in found.items():
        off = np.array([one.value - one.chance for one in estimates])
        assert abs(off.mean()) < 4.5 * off.std(ddof=1) / REPEATS**0.5, key  # t with 7 df: one failure in 150
    closed = DESIGNS[name][1]
    assert np.mean([one.chance for one in found["index"]]) == pytest.approx(closed or 0.5, abs=0.01 if closed else 0.3)
    assert {one.chance for one in found["weighted"]} == {0.5}
    if name.endswith("90/10"):
        assert abs(found["croma"][0].chance) > 0.01  # the sign follows the design
        assert (found["croma"][0].chance > 0) == (closed > 0.5)


@pytest.mark.parametrize("name", DESIGNS)
def test_reference_versions_of_noise_have_their_computed_chance(name: str) -> None:
    estimates = [reference_index(noise(name, seed), GRAPH, draws=2) for seed in range(4)]
    assert [one.chance for one in estimates] == [0.5] * 4
    off = np.array([one.value - 0.5 for one in estimates])
    assert abs(off.mean()) < 4 * np.mean([one.high - one.low for one in estimates]) / 4 / 4**0.5


def test_reference_versions_agree_between_designs() -> None:
    """Equal shifts of biology and site: the raw values follow the design, the reference versions do not."""
    designs = ([[24, 24], [24, 24]], [[60, 60], [12, 12]], [[60, 12], [60, 12]])
    measures = (partial(robustness_index, k=15), partial(mari, k=15), partial(de_jong_ratio, k=15), partial(croma, m=3))
    for measure in measures:
        flat, classes, sites = (
            measure(clustered(np.random.default_rng(3), counts, biology=0.35, site=0.35, tiles=1, patient=0), GRAPH)
            for counts in designs
        )
        assert classes.value - sites.value > 0.3 * (flat.high - flat.low)
        assert classes.value > flat.value > sites.value
        for one in (classes, sites):
            reference = one.details["standardised"]
            assert reference.low < flat.details["standardised"].value < reference.high
            assert reference.low < reference.chance < reference.high  # neither is stronger


# --- coverage -------------------------------------------------------------------------------------------------------


def intervals(cohort) -> dict:
    index = robustness_index(cohort, GRAPH, k=7, **RAW)
    margin = croma(cohort, GRAPH, m=3, **RAW)
    return {
        "weighted index": index.details["weighted"],
        "mari": mari(cohort, GRAPH, k=7, **RAW),
        "croma": margin,
        "croma f0": margin.details["f0"],
        "croma tail": margin.details["ltm"],
        "index within sites": robustness_index(cohort, NESTED, confounder="scanner", k=4, **RAW),
        **neighbour_scalars(cohort, GRAPH, k=5, max_k=20),
    }


def test_intervals_cover() -> None:
    """40 patients in unequal cells; the truth is the mean over the cohorts. Band: 99.9 % over all 13 intervals."""
    counts, n = [[14, 7], [7, 12]], 60
    shifts = {"biology": 0.45, "site": 0.35, "scanner": 0.3, "tiles": 2}
    found = [intervals(clustered(np.random.default_rng([5, i]), counts, **shifts)) for i in range(n)]
    least = binom.ppf(0.001 / len(found[0]), n, 0.95)
    for name in found[0]:
        ends = np.array([(one[name].low, one[name].value, one[name].high) for one in found])
        truth = ends[:, 1].mean()
        covered = (ends[:, 0] <= truth) & (truth <= ends[:, 2])
        assert least <= covered.sum(), name
        width = (ends[:, 2] - ends[:, 0]).mean() / (2 * 2.03 * ends[:, 1].std(ddof=1))
        assert 0.75 < width < (3 if name == "confounder_insensitivity_normalised" else 1.8), (name, width)
