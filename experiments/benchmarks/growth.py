"""How time grows with rows, dimensions and sites: what streams over rows, and the search among all pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from causalfm.cohort import Cohort
from causalfm.estimators import ComBat, LinearEraser
from causalfm.invariance import invariance_test
from causalfm.moments import cell_sums
from causalfm.scm import EmbeddingSCM
from causalfm.units import patient_units
from experiments.benchmarks import cohorts
from experiments.benchmarks.claim import Growth
from experiments.benchmarks.effects import estimates
from experiments.benchmarks.neighbours import search

ROWS = 50  # of a patient: patients grow with the rows
QUERIES = 500


def moments(cohort: Cohort) -> Callable[[], Any]:
    """Sum the rows of every patient."""
    codes = cohort.factor("patient", private=True)
    return lambda: cell_sums(cohort.X, codes.codes, codes.n_levels)


def unit_means(cohort: Cohort) -> Callable[[], Any]:
    """Average the rows of every patient, as tests of invariance and effects begin."""
    return lambda: patient_units(cohort, cohorts.GRAPH, ["site"], ["tumour", "age"])


def mean_test(cohort: Cohort) -> Callable[[], Any]:
    """Test equal means of all sites."""
    return lambda: invariance_test(cohort, cohorts.CLASS_AND_SITE, of="site", method="mean", n_permutations=499)


def effects(cohort: Cohort) -> Callable[[], Any]:
    """Estimate the effects of all sites."""
    return lambda: estimates(cohort)


def scm_fit(cohort: Cohort) -> Callable[[], Any]:
    """Fit the additive causal model."""
    return lambda: EmbeddingSCM(cohorts.SCANNED).fit(cohort)


def counterfactual(cohort: Cohort) -> Callable[[], Any]:
    """Move every row to one site."""
    scm = EmbeddingSCM(cohorts.SCANNED).fit(cohort)
    return lambda: scm.counterfactual(cohort, do={"site": "s0"})


def corrector_fit(cohort: Cohort, Corrector: Any) -> Callable[[], Any]:
    """Fit a corrector."""
    return lambda: Corrector().fit(cohort.X, cohort.obs["site"], biology=cohort.obs["tumour"])


def corrector_transform(cohort: Cohort, Corrector: Any) -> Callable[[], Any]:
    """Apply a corrector."""
    fitted = Corrector().fit(cohort.X, cohort.obs["site"], biology=cohort.obs["tumour"])
    return lambda: fitted.transform(cohort.X, cohort.obs["site"])


def lists(cohort: Cohort, **given: Any) -> Callable[[], Any]:
    """Search the lists of all rows, or of some."""
    codes = cohort.factor("patient", private=True).codes
    return lambda: search(cohort.X, codes, **given)


def prepare(
    folder: Path, values: tuple[int, ...], task: Callable[[Cohort], Callable[[], Any]], along: str, **sizes: int
) -> Mapping[int, Callable[[], Any]]:
    """Return the task at each size; cohorts of fewer rows are the first rows of the largest."""
    if along != "n":
        return {value: task(_cohort(**{**sizes, along: value})) for value in values}
    whole = _cohort(n=max(values), **sizes)
    return {value: task(whole[:value]) for value in values}


def _cohort(n: int, d: int, sites: int) -> Cohort:
    return cohorts.cohort(n, d, sites=sites, rows=ROWS, strength=0.1)


LINEAR, QUADRATIC = (0.95, 1.1), (1.9, 2.1)
AT_MOST_LINEAR = (0.0, 1.1)  # much of the time is that of patients, sites and draws
BIG, BIGGER, BIGGEST = (tuple(first * times for times in (1, 2, 4, 8)) for first in (32_000, 64_000, 128_000))
ALL_PAIRS = (6_000, 12_000, 24_000, 48_000)
VALUES = {"d": (192, 384, 768, 1536), "sites": (8, 16, 32, 64)}
FAST_VALUES = {"n": (1000, 2000, 4000, 8000), "d": (4, 8, 16, 32), "sites": (2, 3, 4, 5)}
FIXED = {"n": {"d": 768, "sites": 16}, "d": {"n": 64_000, "sites": 16}, "sites": {"n": 32_000, "d": 768}}
FAST = {"n": {"d": 8, "sites": 2}, "d": {"n": 2000, "sites": 2}, "sites": {"n": 2000, "d": 8}}
NAMES = {"n": "rows", "d": "dimensions", "sites": "sites"}
Task = Callable[[Cohort], Callable[[], Any]]
TASKS: dict[str, tuple[str, Task, tuple[int, ...], tuple[str, ...]]] = {
    "moments": ("sums per patient", moments, BIGGEST, ("n", "d")),
    "units": ("means of patients with strata: the rows' part of tests and effects", unit_means, BIGGER, ("n", "d")),
    "mean": ("`invariance_test`, equal means", mean_test, BIG, ("n", "d", "sites")),
    "effect": ("effects of all sites with standard errors", effects, BIG, ("n", "d", "sites")),
    "scm_fit": ("`EmbeddingSCM.fit`, additive", scm_fit, BIGGEST, ("n", "d", "sites")),
    "scm_move": ("`counterfactual` of every row", counterfactual, BIGGER, ("n", "d")),
    "combat_fit": ("`ComBat.fit`", partial(corrector_fit, Corrector=ComBat), BIGGER, ("n", "d", "sites")),
    "combat_apply": ("`ComBat.transform`", partial(corrector_transform, Corrector=ComBat), BIGGER, ("n", "d")),
    "leace_fit": ("`LinearEraser.fit`", partial(corrector_fit, Corrector=LinearEraser), BIGGER, ("n", "d")),
    "queries": (f"lists of {QUERIES} sampled rows among all", partial(lists, queries=QUERIES), BIGGER, ("n", "d")),
    "pairs": ("lists of all rows", lists, ALL_PAIRS, ("n",)),
}


WANTED = {"pairs": QUADRATIC, "mean": AT_MOST_LINEAR, "effect": AT_MOST_LINEAR}
NEW_MEMORY = (
    "The answer is as large as the rows. The system, and below it the host of a virtual machine, hand out new memory "
    "for it, more slowly where more is asked for; written into memory that is held already, the same rows take linear "
    "time."
)
WHY = {
    "n.scm_move": NEW_MEMORY,
    "n.combat_apply": NEW_MEMORY,
    "n.queries": "Rows in memory are searched in a copy of unit length: new memory, as in `growth.rows.scm_move`.",
    "n.pairs": "Beside the products, which grow with the square, the list of each row is gathered, sorted and merged, "
    "which grows with the rows and takes as long as the products where they are few.",
}


def _growth(key: str, along: str) -> Growth:
    """Return one entry of the book."""
    words, task, rows, _ = TASKS[key]
    return Growth(
        f"growth.{NAMES[along]}.{key}",
        words,
        partial(prepare, task=task, along=along),
        along,
        rows if along == "n" else VALUES[along],
        FAST_VALUES[along],
        {**FIXED[along], **({"d": 256} if key == "pairs" else {})},
        FAST[along],
        wanted=WANTED.get(key, LINEAR) if along == "n" else None,
        why=WHY.get(f"{along}.{key}", ""),
    )


ENTRIES = tuple(_growth(key, along) for along in NAMES for key, task in TASKS.items() if along in task[3])
