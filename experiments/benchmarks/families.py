"""The metric families with intervals from one neighbour pass, beside croma's and scib-metrics' values without."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial
from experiments.benchmarks.neighbours import ONCE, ROWS, search

GRAPH = cohorts.CLASS_AND_SITE
LAYOUT = {"sites": 5, "rows": ROWS, "classes": 4}
MIXING_K = 89  # scib-metrics counts the row itself as the first of 90

JACKKNIFE = (
    "Beside the products, each used for both of its rows, there are the selection of the nearest, the jackknife of "
    "every metric over patients, which is memory traffic, and CRoMa's search among the rows of one class and one site."
)


def lists_of(cohort: Cohort) -> Neighbours:
    """Run the one pass that serves all families."""
    return search(cohort.X, cohort.factor("patient", private=True).codes)


def families(cohort: Cohort, lists: Neighbours) -> dict[str, Callable[[], Estimate]]:
    """Return what measures the seven metrics with intervals; the costliest, CRoMa, first."""
    given: dict[str, Any] = {"neighbours": lists, "standardised": False}
    return {
        "CRoMa": partial(metrics.croma, cohort, GRAPH, **given),
        "robustness index": partial(metrics.robustness_index, cohort, GRAPH, k=61, **given),
        "MaRI": partial(metrics.mari, cohort, GRAPH, k=61, **given),
        "iLISI": partial(metrics.ilisi, cohort, GRAPH, k=90, **given),
        "cLISI": partial(metrics.clisi, cohort, GRAPH, k=90, **given),
        "kBET": partial(metrics.kbet, cohort, GRAPH, k=50, **given),
        "graph connectivity": partial(metrics.graph_connectivity, cohort, GRAPH, k=15, neighbours=lists),
    }


def side_by_side(asked: dict[str, Callable[[], Estimate]]) -> list[Estimate]:
    """Measure all, as many at once as there are threads, each with one."""
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = [job.result() for job in [pool.submit(ask) for ask in asked.values()]]
    torch.set_num_threads(threads)
    return found


def seven(folder: Path, n: int, d: int, strength: float) -> Trial:
    """Measure everything from one pass."""
    cohort = cohorts.cohort(n, d, strength=strength, **LAYOUT)
    return Trial(lambda: side_by_side(families(cohort, lists_of(cohort))), lambda: limits.every_pair_once(cohort.X))


def three(folder: Path, n: int, d: int) -> Trial:
    """Measure croma's three metrics, ours with intervals, each library with its own search."""
    from croma import RI, CRoMa, MaRI

    warnings.simplefilter("ignore")
    cohort = cohorts.cohort(n, d, strength=0.1, **LAYOUT)
    names = {"label": "tumour", "group_id": "patient", "site": "site"}
    columns = {new: cohort.obs[old].to_numpy(str) for new, old in names.items()}
    manifest = pd.DataFrame({"sample_id": np.arange(n).astype(str), "image_path": "", **columns})
    given = {"confounder_column": "site"}

    def ours() -> list[Estimate]:
        asked = families(cohort, lists_of(cohort))
        return [asked[name]() for name in ("robustness index", "MaRI", "CRoMa")]

    def peer() -> list[Any]:
        X = cohort.X
        listed = [one.compute(X, manifest, k_candidates=[61], **given) for one in (RI, MaRI)]
        return [*listed, CRoMa.compute(X, manifest, **given)]

    def values(found: list[Any]) -> np.ndarray:
        return np.array([one.value for one in found], dtype=np.float64)

    return Trial(ours, lambda: limits.every_pair_once(cohort.X), peer, answer=values, peer_answer=values)


def mixing(folder: Path, n: int, d: int) -> Trial:
    """Find the mixing around each row from lists that are there, as scib-metrics does: no intervals."""
    warnings.simplefilter("ignore")
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    from causalfm.metrics.batch_panels import kbet_tests
    from causalfm.metrics.lisi_weights import distances_of, lisi

    cohort = cohorts.cohort(n, d, strength=0.1, **LAYOUT)
    lists, rows = knn(cohort.X, MIXING_K), np.arange(n)
    site, tumour = cohort.factor("site").codes, cohort.factor("tumour").codes
    indices = np.hstack([rows[:, None], lists.indices])
    far = distances_of(lists.similarity)
    far -= far[:, :1]  # changes no weight; else theirs vanish in single precision (tests/test_mixing_parity.py)
    distances = np.hstack([np.zeros((n, 1)), far])
    theirs = NeighborsResults(indices=indices, distances=distances)

    def ours() -> list[np.ndarray]:
        mixed = [lisi(distances, indices, rows, codes) for codes in (site, tumour)]
        return [*mixed, kbet_tests(indices, site)[1]]

    def peer() -> list[np.ndarray]:
        mixed = [np.asarray(scib_metrics.lisi_knn(theirs, codes)) for codes in (site, tumour)]
        return [*mixed, np.asarray(scib_metrics.kbet(theirs, site)[2])]

    def looked_up() -> None:
        np.exp(-distances.astype(np.float64))
        for codes in (site, tumour):
            codes[indices]

    return Trial(ours, looked_up, peer)


ENTRIES = (
    Claim(
        "families.three",
        "robustness index, MaRI and CRoMa, lists included; ours with intervals by patient, the peer's without",
        three,
        {"n": 8000, "d": 1536},
        {"n": 1000, "d": 16},
        ONCE,
        peer="croma",
        differs="largest difference of the three values",
        tolerance=1e-5,
        why=JACKKNIFE,
        peer_repeats=1,
        repeats=3,
    ),
    Claim(
        "families.mixing",
        "LISI of sites and of classes and kBET of sites at each row, from the same lists",
        mixing,
        {"n": 8000, "d": 256},
        {"n": 600, "d": 16},
        "levels of all neighbours looked up and one exponential of each distance",
        peer="scib-metrics",
        differs="largest difference of a row's value",
        tolerance=1e-3,
        why="The bandwidth of every list is searched for, with an exponential of each distance per step; levels are "
        "then counted list by list.",
    ),
    *(
        Claim(
            f"families.seven.{name}",
            f"lists and seven metrics with intervals and chance, {words}",
            seven,
            {"n": 15_000, "d": 1536, "strength": strength},
            {"n": 600, "d": 16, "strength": strength},
            ONCE,
            no_peer="no library has all seven; families.three and families.mixing compare them in parts",
            why=JACKKNIFE,
            repeats=3,
        )
        for name, strength, words in (
            ("mixed", 0.1, "where lists mix classes and sites"),
            ("apart", 0.3, "where a list holds one class and site"),
        )
    ),
)
