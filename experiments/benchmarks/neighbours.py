"""Neighbour search: all lists, lists without the patient's own rows, lists of a sample, lists on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from causalfm.neighbours import Neighbours, knn
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial

ROWS = 50  # of a patient
K, RESERVE = 90, ROWS  # the longest list asked for, and what the absence of one patient can take from it
ONCE = "every pair of rows multiplied once, float32"

SELECTION = (
    "A product serves both of its rows; what comes on top is the selection of the nearest among all similarities, and "
    "a second search for the rows whose lists a sample of columns had judged wrongly."
)


def lists(folder: Path, n: int, d: int, k: int) -> Trial:
    """Search all lists beside scikit-learn's exact search by cosine."""
    from sklearn.neighbors import NearestNeighbors

    X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    peer = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(X)
    return Trial(
        lambda: knn(X, k),
        lambda: limits.every_pair_once(X),
        lambda: peer.kneighbors(return_distance=True),
        answer=lambda found: found.indices,
        peer_answer=lambda found: found[1],
        apart=lambda a, b: float(np.mean([len(np.setdiff1d(x, y)) / k for x, y in zip(a, b, strict=True)])),
    )


def search(X: np.ndarray, patient: np.ndarray, **given: Any) -> Neighbours:
    """Run the one pass that serves all families."""
    return knn(X, K, exclude=patient, reserve=RESERVE, **given)


def without_patients(folder: Path, n: int, d: int) -> Trial:
    """Search all lists, none of which holds rows of the query's patient."""
    X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    patient = np.arange(n) // ROWS
    return Trial(lambda: search(X, patient), lambda: limits.every_pair_once(X))


def of_a_sample(folder: Path, n: int, d: int, queries: int) -> Trial:
    """Search the lists of some rows among all rows of a mapped file."""
    X = cohorts.embeddings(cohorts.table(n, sites=5, rows=ROWS), d, folder / "X.npy")
    patient = np.arange(n) // ROWS
    return Trial(
        lambda: search(X, patient, queries=queries), lambda: limits.rows_with(X, np.ascontiguousarray(X[:queries].T))
    )


def on_a_gpu(folder: Path, n: int, d: int) -> Trial:
    """Search all lists on a GPU; the products there are the limit."""
    import torch

    X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    patient = np.arange(n) // ROWS

    def products() -> None:
        rows = torch.from_numpy(X).cuda()
        for start in range(0, n, limits.BLOCK):
            rows[start : start + limits.BLOCK] @ rows.T
        torch.cuda.synchronize()

    return Trial(lambda: search(X, patient, device="cuda"), products)


ENTRIES = (
    Claim(
        "neighbours.lists",
        "lists of 150 neighbours of every row",
        lists,
        {"n": 10_000, "d": 1536, "k": 150},
        {"n": 300, "d": 16, "k": 10},
        ONCE,
        peer="scikit-learn",
        differs="share of entries of the lists that are not the peer's",
        tolerance=1e-3,
        repeats=3,
        peer_repeats=1,
        why=SELECTION,
    ),
    Claim(
        "neighbours.pass",
        "lists of 90 and 50 more, without rows of the query's patient",
        without_patients,
        {"n": 20_000, "d": 1536},
        {"n": 600, "d": 16},
        ONCE,
        no_peer="searches that leave a patient's own rows out are in croma alone, inside its metrics (families.three)",
        repeats=3,
        why=SELECTION,
    ),
    Claim(
        "neighbours.queries",
        "the same lists of 2,000 sampled rows among the rows of a mapped file",
        of_a_sample,
        {"n": 100_000, "d": 1536, "queries": 2000},
        {"n": 1000, "d": 16, "queries": 50},
        "the sampled rows multiplied with all rows, float32",
        no_peer="none searches for a sample and leaves out the patient's own rows",
        repeats=3,
        why="The file is read and its rows brought to unit length, and every block of products is looked through for "
        "the nearest: there is no second query that a product could serve.",
    ),
    Claim(
        "neighbours.gpu",
        "lists of 90 and 50 more, without rows of the query's patient, on a GPU",
        on_a_gpu,
        {"n": 200_000, "d": 1536},
        {"n": 5000, "d": 64},
        "all products of rows with rows on the GPU, float32",
        no_peer="as neighbours.pass",
        repeats=3,
        needs="cuda",
        absent="this machine has no CUDA device",
        why="Selection of the nearest and the lists' way to the processor come on top of the products.",
    ),
)
