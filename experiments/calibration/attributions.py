"""Attribution of a drop: pairs of domains in which every mechanism can be swapped, so that its true share is known."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.shift import Domains, as_domains, attribution, support_split

MECHANISMS = ("age", "tumour", "scanner", "Z")  # causes first
GRAPH = CausalGraph(
    "age -> tumour; site -> scanner; {age, tumour, scanner, site} -> Z",
    biology="tumour",
    technical=["site", "scanner"],
    covariates="age",
    group="patient",
    kinds={"age": "continuous"},
)
SLOPE = 2.0  # of the model's log odds in the first dimension
SHARED, NOISE = 0.6, 0.8  # standard deviations between patients and between rows
TRUTH, CHUNKS, TRUTH_SEED = 400_000, 4, 5
BINS = np.linspace(-6.0, 6.0, 241)
# Sizes of the change in each mechanism: of the mean age, of log odds, of embeddings that lose the class.
SHIFTS: dict[str, dict[str, Any]] = {
    "nothing": {"shift": {}},
    "covariate": {"shift": {"age": 0.8}},
    "case mix": {"shift": {"tumour": 1.2}},
    "scanner mix": {"shift": {"scanner": 1.0}},
    "embedding": {"shift": {"Z": 0.6}},
    "case mix and embedding": {"shift": {"tumour": 1.0, "Z": 0.5}},
    "all at once": {"shift": {"age": 0.6, "tumour": -0.8, "scanner": 1.0, "Z": 0.4}},
    "one scanner": {"shift": {"scanner": 50.0, "tumour": 1.0}},
    "unseen scanner in 4 of 10": {"shift": {"tumour": 1.0}, "unseen": 0.4},
    "60 and 40 patients": {"shift": {"Z": 0.6}, "n_groups": 60, "new_groups": 40},
}
Values = dict[str, Any]


def swapped_cohort(
    swapped: Collection[str],
    shift: Mapping[str, float],
    *,
    n_groups: int,
    rows: int = 3,
    unseen: float = 0.0,
    deployment: bool = False,
    random_state: int | np.random.Generator = 0,
) -> Cohort:
    """Draw patients whose mechanisms in ``swapped`` are the deployment's.

    Parameters
    ----------
    swapped
        Of ``MECHANISMS``.
    shift
        Size of the change in each.
    n_groups, rows
        Patients, and rows of each.
    unseen
        Share of patients on a scanner that the reference does not have, which turns the classes round.
    deployment
        Name patients and site as the deployment's.
    random_state
        Seed or generator.
    """
    rng = np.random.default_rng(random_state)
    Z, age, tumour, scanner, site = _drawn(rng, swapped, shift, n_groups, rows, unseen, deployment)
    patient = np.repeat(np.arange(n_groups), rows)
    obs = {
        "patient": [f"{'new' if deployment else 'p'}{g}" for g in patient],
        "site": [f"site{s}" for s in site[patient]],
        "tumour": np.where(tumour, "b", "a")[patient],
        "scanner": [f"scanner{s}" for s in scanner[patient]],
        "age": 60.0 + 10.0 * age[patient],
    }
    return Cohort(Z, pd.DataFrame(obs))


def _drawn(
    rng: np.random.Generator,
    swapped: Collection[str],
    shift: Mapping[str, float],
    n: int,
    rows: int,
    unseen: float,
    deployment: bool,
) -> tuple[np.ndarray, ...]:
    """Embeddings of the rows; age, tumour, scanner and site of the patients."""
    by = {name: shift.get(name, 0.0) * (name in swapped) for name in MECHANISMS}
    age = rng.standard_normal(n) + by["age"]
    tumour = rng.random(n) < 1.0 / (1.0 + np.exp(-(0.5 * age + by["tumour"])))
    scanner = (rng.random(n) < 1.0 / (1.0 + math.exp(-by["scanner"]))).astype(int)
    scanner[rng.random(n) < unseen] = 2
    clear = np.exp(-0.3 * age) * np.array([1.2, 0.6, -0.5])[scanner] * (1.0 - 0.5 * by["Z"])
    first = np.where(tumour, 0.7, -1.3) * clear - 0.5 * by["Z"]  # the model errs more in class b, the old, on scanner1
    mean = np.stack([first, 0.5 * age], axis=1)
    own = (mean + SHARED * rng.standard_normal((n, 2)))[np.repeat(np.arange(n), rows)]
    Z = own + NOISE * rng.standard_normal((n * rows, 2))
    return Z, age, tumour, scanner, np.full(n, 9) if deployment else rng.integers(3, size=n)


def model(X: np.ndarray) -> np.ndarray:
    """Probabilities of the two classes, ``(n, 2)``; fixed."""
    p = 1.0 / (1.0 + np.exp(-SLOPE * X[:, 0]))
    return np.stack([1.0 - p, p], axis=1)


def swapped_domains(
    *, n_groups: int = 300, new_groups: int = 120, random_state: int = 0, **design: Any
) -> tuple[Domains, dict[str, Any]]:
    """Draw a reference of three sites and a deployment, and return them with the design."""
    rng = np.random.default_rng(random_state)
    shift = design["shift"]
    reference = swapped_cohort((), shift, n_groups=n_groups, random_state=rng)
    new = {"n_groups": new_groups, "unseen": design.get("unseen", 0.0), "deployment": True}
    deployment = swapped_cohort(MECHANISMS, shift, **new, random_state=rng)
    return as_domains(reference, deployment, GRAPH, model=model), design


def true_shares(shift: Mapping[str, float], orders: str, unseen: float = 0.0) -> dict[str, float]:
    """Return the true share of each mechanism, and of the unseen scanner, from 400,000 patients for every mixture."""
    active = [name for name in MECHANISMS if shift.get(name)]
    found = dict.fromkeys(MECHANISMS, 0.0)
    paths = list(itertools.permutations(active)) if orders == "all" else [tuple(active)]
    for path in paths:
        for i, name in enumerate(path):
            found[name] += (_accuracy(path[:i], shift) - _accuracy(path[: i + 1], shift)) / len(paths)
    return found | {"new support": _accuracy(active, shift) - _accuracy(active, shift, unseen)}


def _accuracy(swapped: Collection[str], shift: Mapping[str, float], unseen: float = 0.0) -> float:
    return _accuracy_of(tuple(sorted(swapped)), json.dumps(dict(shift), sort_keys=True), unseen)


@functools.cache
def _accuracy_of(swapped: tuple[str, ...], shift: str, unseen: float) -> float:
    hit, _ = _large(swapped, json.loads(shift), unseen)
    return float(hit.mean())


def _large(swapped: Collection[str], shift: Mapping[str, float], unseen: float) -> tuple[np.ndarray, np.ndarray]:
    """Hits and first dimensions of many patients with one row each."""
    rng = np.random.default_rng(TRUTH_SEED)
    hits, firsts = [], []
    for _ in range(CHUNKS):
        Z, _, tumour, _, _ = _drawn(rng, swapped, shift, TRUTH // CHUNKS, 1, unseen, False)
        firsts.append(Z[:, 0])
        hits.append((Z[:, 0] > 0.0) == tumour)
    return np.concatenate(hits), np.concatenate(firsts)


@functools.cache
def true_split(shift: str, unseen: float) -> tuple[float, float, float]:
    """Return the true parts by the model's scores, from a fine histogram; ``shift`` is JSON."""
    sides = [_large((), json.loads(shift), 0.0), _large(MECHANISMS, json.loads(shift), unseen)]
    share, right = [], []
    for hit, first in sides:
        bins = np.digitize(first, BINS)
        count = np.bincount(bins, minlength=len(BINS) + 1)
        share.append(count / count.sum())
        right.append(np.bincount(bins, hit, len(BINS) + 1) / np.maximum(count, 1))
    shared = share[0] * share[1] / np.maximum(share[0] + share[1], 1e-12)
    means = [float(shared @ r / shared.sum()) for r in right]
    pure = [float(hit.mean()) for hit, _ in sides]
    return pure[0] - means[0], means[0] - means[1], means[1] - pure[1]


def attribution_values(domains: Domains, design: dict[str, Any], seed: int, first: bool, _: dict[str, Any]) -> Values:
    """Intervals of the shares and of the parts by scores, with their truths; 0 where an unmoved mechanism is named."""
    found = attribution(domains, random_state=seed)
    truth = true_shares(design["shift"], found.orders, design.get("unseen", 0.0))
    moved = {name for name, value in truth.items() if value != 0.0}
    out: Values = {}
    wrong = False
    for share in found.shares:
        name = "new support" if share.role == "new support" else share.nodes[-1]
        if share.told:
            out[name] = [share.value, share.low, share.high, truth[name]]
            wrong |= share.mechanism in found.named and name not in moved
    out["unmoved mechanism named"] = float(not wrong)
    split = support_split(domains, random_state=seed)
    parts = true_split(json.dumps(design["shift"], sort_keys=True), design.get("unseen", 0.0))
    for part, value in zip(split.parts, parts, strict=False):
        out[part.name] = [part.value, part.low, part.high, value]
    return out


def unanswered_too(values: np.ndarray, cohorts: int) -> np.ndarray:
    """Add a row without interval for every cohort in which a share was not told."""
    if values.ndim == 1:
        return values
    silent = np.full((cohorts - len(values), 4), np.nan)
    silent[:, 3] = values[0, 3]
    return np.concatenate([values, silent])
