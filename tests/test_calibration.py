"""Short calibration: size of the test and coverage of the intervals on clustered cohorts, beside iid versions.

Every cell has its seeds fixed beforehand (0, 1, 2, ...). The bands are binomial at 99.9 %, corrected for the number of
cells (statistics rule 10); the full study with thousands of replicates is the slow version of the same cells.
"""

import numpy as np
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import mean_test
from causalfm.metrics import robustness_index
from causalfm.standardisation import contrast_levels
from causalfm.units import patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
ALPHA = 0.05

# The null designs of statistics rule 3: nothing differs between sites but what the name says.
NULLS = {
    "balanced": {},
    "factor depends on biology": {"confounding": 0.6},
    "few patients per level": {"n_groups": 24, "confounding": 0.3},
    "unequal tiles": {"rows_per_group": (1, 20)},
    "size by site": {"rows_per_group": (1, 4), "size_by_site": 9.0, "noise": 3.0},
    "variance by site": {"variance_by_site": 3.0, "confounding": 0.5},
    "variance by site, high dimension": {"variance_by_site": 3.0, "confounding": 0.5, "d": 256, "decay": 0.5},
    "biology within patient": {
        "biology_within_group": True,
        "confounding": 0.6,
        "rows_per_group": (4, 12),
        "biology_effect": 3.0,
    },
    "continuous covariate": {"age_effect": 1.5, "age_by_site": 2.0, "confounding": 0.4},
}
COVERAGE = {
    "no effect": {"site_effect": 0.0, "confounding": 0.4},
    "small effect": {"site_effect": 0.4, "confounding": 0.4},
    "large effect": {"site_effect": 1.0, "confounding": 0.4},
    "variance by site": {"site_effect": 0.6, "variance_by_site": 2.0, "confounding": 0.4},
    "few patients": {"site_effect": 0.6, "n_groups": 20, "n_sites": 2, "confounding": 0.2},
    "continuous covariate": {"site_effect": 0.6, "age_effect": 0.7, "age_by_site": 1.5, "confounding": 0.4},
}
REPLICATES = [
    pytest.param(150, id="short"),
    pytest.param(2000, id="long", marks=pytest.mark.slow),
]


def band(n: int, probability: float, cells: int) -> tuple[int, int]:
    tail = 0.001 / (2 * cells)
    return int(stats.binom.ppf(tail, n, probability)), int(stats.binom.ppf(1 - tail, n, probability))


def given(design: dict) -> list[str]:
    return ["tumour", "age"] if "age_effect" in design else ["tumour"]


def rows_as_units(cohort: Cohort) -> Cohort:
    return cohort.replace(obs=cohort.obs.assign(patient=np.arange(len(cohort)).astype(str)))


@pytest.mark.parametrize("n", REPLICATES)
@pytest.mark.parametrize("name", NULLS)
def test_size_of_the_mean_test(name: str, n: int) -> None:
    design = NULLS[name]
    rejected = np.zeros(2, dtype=int)
    for seed in range(n):
        cohort, _ = linear_scm(**{"n_groups": 64, "random_state": seed, **design})
        for i, sample in enumerate((cohort, rows_as_units(cohort))):
            units = patient_units(sample, GRAPH, ["site"], given(design))
            permutations = 199 if i == 0 or n < 1000 else 99
            rejected[i] += mean_test(units, n_permutations=permutations, random_state=seed)[1] <= ALPHA
    clustered, iid = rejected / n
    print(f"\nsize, {name}: patients {clustered:.3f}, rows as if independent {iid:.3f} (n = {n})")
    low, high = band(n, ALPHA, len(NULLS))
    assert rejected[0] <= high, f"rejects too often: {clustered:.3f}"
    if n >= 1000:
        assert rejected[0] >= low, f"rejects too rarely: {clustered:.3f}"
    assert iid > 0.2  # the same test with rows as units is wrong here: the clusters matter


@pytest.mark.parametrize("n", REPLICATES)
@pytest.mark.parametrize("name", COVERAGE)
def test_coverage_of_the_effect(name: str, n: int) -> None:
    design = COVERAGE[name]
    hits: dict[str, list[bool]] = {"site": [], "pair": [], "biology": [], "ratio": [], "iid site": []}
    abstained = 0
    for seed in range(n):
        cohort, truth = linear_scm(**{"n_groups": 64, "random_state": seed, **design})
        found = contrast_levels(patient_units(cohort, GRAPH, ["site"], given(design)), "tumour")
        site, biology = mean_square_distance(truth.site), mean_square_distance(truth.biology)
        assert len(found.levels) == len(truth.site)
        hits["site"].append(inside(found.joint.interval(), site))
        a, b = next(iter(found.pairs))
        hits["pair"].append(inside(found.pairs[a, b].interval(), ((truth.site[a] - truth.site[b]) ** 2).sum()))
        hits["biology"].append(inside(found.biology.interval(), biology))
        ratio = found.ratio()
        abstained += np.isnan(ratio[0])
        if not np.isnan(ratio[0]):
            hits["ratio"].append(inside(ratio[1:], site / biology))
        if seed < 150:
            rows = contrast_levels(patient_units(rows_as_units(cohort), GRAPH, ["site"], given(design)), "tumour")
            hits["iid site"].append(inside(rows.joint.interval(), site))
    print(
        f"\ncoverage, {name}: "
        + ", ".join(f"{k} {np.mean(v):.3f}" for k, v in hits.items())
        + f"; {abstained / n:.1%} abstained"
    )
    for quantity in ("site", "pair", "biology", "ratio"):
        answered = len(hits[quantity])
        assert answered > 0.5 * n
        nominal = 0.93 if n >= 1000 else 0.95
        low = band(answered, nominal, 4 * len(COVERAGE))[0]
        assert sum(hits[quantity]) >= low, f"{quantity} covers {np.mean(hits[quantity]):.3f}"
    assert np.mean(hits["iid site"]) < 0.9  # rows as units: the interval is too short, or off zero


def inside(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] - 1e-12 <= truth <= interval[1] + 1e-12


@pytest.mark.parametrize("n", [pytest.param(100, id="short"), pytest.param(1000, id="long", marks=pytest.mark.slow)])
@pytest.mark.parametrize("site_effect", [0.0, 0.8])
def test_coverage_of_the_robustness_index(site_effect: float, n: int) -> None:
    found: dict[str, list[tuple[float, float, float]]] = {"raw": [], "2 x 2 reference": []}
    for seed in range(n):
        cohort, _ = linear_scm(
            n_groups=48,
            rows_per_group=4,
            site_effect=site_effect,
            biology_effect=0.8,
            confounding=0.4,
            random_state=seed,
        )
        estimate = robustness_index(cohort, GRAPH, k=9, random_state=seed)
        for name, e in zip(found, (estimate, estimate.details["standardised"]), strict=True):
            found[name].append((e.value, e.low, e.high))
    for name, values in found.items():
        table = np.array(values)
        truth = table[:, 0].mean()  # the mean over independent cohorts of the same design (statistics rule 4)
        covered = int(((table[:, 1] <= truth) & (truth <= table[:, 2])).sum())
        print(f"\ncoverage of the index, site effect {site_effect}, {name}: {covered / n:.3f} around {truth:.3f}")
        assert covered >= band(n, 0.93 if n >= 1000 else 0.95, 4)[0]
