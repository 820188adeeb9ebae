"""A reference of several hospitals and a new one, with a shift of known kind and size planted between them.

``Z = site + biology + scanner + age + patient + noise``, as in :mod:`causalfm.datasets.linear_scm`. The new hospital is
one more draw from the population of hospitals, so that it differs from the others as they do among themselves; then the
planted shift comes on top. Effects depend on ``effect_seed`` only, patients on ``random_state``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import mean_square_distance
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

TOWARDS = 0.8  # cosine between the displacement by the scanner and the way from the last class to the first
FAR = 6.0  # an unseen scanner's displacement, in distances between the classes
SIDES = ("reference", "deployment")
# kind: (the mechanisms of the graph that move, most size)
KINDS: dict[str, tuple[tuple[str, ...], float]] = {
    "nothing": ((), np.inf),
    "case_mix": (("tumour",), 1.6),
    "scanner": (("Z",), np.inf),
    "scanner_mix": (("scanner",), 1.0),
    "covariate": (("age",), np.inf),
    "concept": (("Z",), 2.5),
    "fading": (("Z",), np.inf),
    "mixture": (("tumour", "Z"), 1.6),
    "new_support": (("new support",), 2.0),
}


@dataclass(frozen=True, eq=False)
class PlantedShift:
    """What was planted.

    Attributes
    ----------
    kind, size
        As asked.
    moved
        Mechanisms of the graph that differ beyond what two hospitals of the reference differ: columns, ``"Z"`` for the
        embedding given its parents, ``"new support"`` for an unseen level.
    prevalence
        ``(2, classes)`` shares of the patients in reference (mean of its hospitals) and deployment, in the population.
    new_support
        Share of the deployment's patients on a scanner that the reference does not have.
    draw
        ``(side, n_groups, rows_per_group, random_state) -> Cohort``: more patients of ``"reference"`` or
        ``"deployment"``.
    """

    kind: str
    size: float
    moved: tuple[str, ...]
    prevalence: np.ndarray
    new_support: float
    draw: Callable[..., Cohort]

    def accuracy(
        self, model: Callable[[np.ndarray], np.ndarray], side: str, *, n_groups: int = 100_000, random_state: int = 0
    ) -> float:
        """Accuracy of ``model (n, d) -> (n, classes)`` in the population, from ``n_groups`` patients of one row each.

        The expected accuracy over patients, whatever their number of rows: its standard error is below
        ``.5 / sqrt(n_groups)``.
        """
        cohort = self.draw(side, n_groups, 1, random_state)
        right = np.asarray(model(cohort.X)).argmax(axis=1) == [int(name[5:]) for name in cohort.obs["tumour"]]
        return float(right.mean())


@dataclass(frozen=True, eq=False)
class _World:
    """Everything that ``effect_seed`` and the arguments fix; arrays by level, the new hospital last."""

    sites: np.ndarray
    biology: np.ndarray
    scanners: np.ndarray
    ages: np.ndarray
    moved: np.ndarray
    logits: np.ndarray
    scale: np.ndarray
    slope: float
    spread: tuple[float, float]
    changes: dict[str, float]


def planted_shift(
    kind: str,
    size: float = 1.0,
    *,
    n_groups: int = 180,
    new_groups: int = 60,
    rows_per_group: int | tuple[int, int] = 4,
    d: int = 16,
    n_sites: int = 6,
    n_biology: int = 2,
    site_spread: float = 0.3,
    case_mix_spread: float = 0.0,
    biology_effect: float = 0.8,
    scanner_effect: float = 0.3,
    age_effect: float = 0.3,
    age_on_biology: float = 0.0,
    group_effect: float = 1.0,
    noise: float = 1.0,
    decay: float = 1.0,
    effect_seed: int = 0,
    random_state: int = 0,
) -> tuple[Cohort, Cohort, CausalGraph, PlantedShift]:
    """Draw a reference and a deployment.

    Parameters
    ----------
    kind
        ``"nothing"``: the new hospital is one more of the reference's kind. ``"case_mix"``: the last class has
        ``.5 + .3 size`` of the patients (of two classes). ``"scanner"``: every row is displaced by ``.5 size`` class
        distances, mostly from the last class to the first. ``"scanner_mix"``: the second scanner takes
        ``.5 + .5 size`` of the patients. ``"covariate"``: patients are ``size`` standard deviations older.
        ``"concept"``: the labels of ``.4 size`` of the patients are those of the next class; their embeddings stay as
        they are. ``"fading"``: the classes differ by ``1 - size`` of what they did. ``"mixture"``: case mix and
        scanner together. ``"new_support"``: ``.5 size`` of the patients come from an unseen scanner, far away.
    size
        How far; 0 is no shift.
    n_groups, new_groups, rows_per_group
        Patients of the reference and of the deployment, and rows each; a pair draws the number uniformly.
    d, n_sites, n_biology
        Dimensions, reference hospitals, classes.
    site_spread
        Root mean square distance between two hospitals.
    case_mix_spread
        Standard deviation between hospitals of the log share of a class.
    biology_effect, scanner_effect
        Root mean square distance between two classes, and between the two scanners that every hospital has.
    age_effect, age_on_biology
        Change in ``Z`` per standard deviation of age, and in the log odds of the last class against the first.
    group_effect, noise, decay
        Root of the trace of the patient and of the row covariance, and the decay of their eigenvalues.
    effect_seed, random_state
        Seeds of the effects, hospitals included, and of the patients. Over repetitions of both, the new hospital of
        ``"nothing"`` is exchangeable with those of the reference.

    Returns
    -------
    reference, deployment : Cohort
        ``obs`` has ``patient``, ``site``, ``tumour``, ``age`` and ``scanner``; the deployment's site is ``"new"``.
    graph : CausalGraph
        The graph that made them.
    truth : PlantedShift
        What moved, true prevalence, true accuracy of a model.

    Raises
    ------
    DataError
        An unknown kind, or a size that the kind cannot have.
    """
    if kind not in KINDS:
        raise DataError(f"{kind!r} is no planted shift: use one of {', '.join(KINDS)}.")
    moved, most = KINDS[kind]
    if not 0.0 <= size <= most or min(n_sites, n_biology, d) < 2 or min(n_groups // n_sites, new_groups) < 1:
        raise DataError(
            f"{kind} takes a size of 0 to {most:g}; two sites, classes and dimensions; a patient at each site."
        )
    changes = dict.fromkeys(
        ("case_mix", "scanner", "scanner_mix", "covariate", "concept", "fading", "new_support"), 0.0
    )
    changes.update({"case_mix": size, "scanner": size} if kind == "mixture" else {kind: size})
    world = _world(
        np.random.default_rng(effect_seed),
        (np.arange(d) + 1.0) ** (-decay / 2),
        (n_sites, n_biology),
        (site_spread, biology_effect, scanner_effect, age_effect, case_mix_spread),
        (age_on_biology, (group_effect, noise), changes),
    )

    def draw(side: str, n_groups: int, rows_per_group: int | tuple[int, int] = 4, random_state: int = 0) -> Cohort:
        rng = np.random.default_rng([random_state, SIDES.index(side)])
        return _draw(world, rng, side == "deployment", n_groups, rows_per_group)

    truth = PlantedShift(
        kind,
        size,
        moved if size > 0.0 else (),
        np.stack([_prevalence(world, new=False), _prevalence(world, new=True)]),
        0.5 * changes["new_support"],
        draw,
    )
    cohorts = [
        draw(side, n, rows_per_group, random_state) for side, n in zip(SIDES, (n_groups, new_groups), strict=True)
    ]
    return cohorts[0], cohorts[1], _graph(), truth


def _graph() -> CausalGraph:
    return CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates="age", group="patient", kinds={"age": "continuous"}
    )


def _world(
    rng: np.random.Generator,
    scale: np.ndarray,
    levels: tuple[int, int],
    sizes: tuple[float, float, float, float, float],
    rest: tuple[float, tuple[float, float], dict[str, float]],
) -> _World:
    scale = scale / np.sqrt((scale**2).sum())
    (n_sites, n_biology), (spread, distance, between, per_age, mix) = levels, sizes
    slope, spreads, changes = rest
    biology = rng.standard_normal((n_biology, len(scale))) * scale
    biology -= biology.mean(axis=0)
    biology *= distance / np.sqrt(mean_square_distance(biology))
    axis = biology[0] - biology[-1]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-300)
    scanner, ages, aside = (rng.standard_normal(len(scale)) * scale for _ in range(3))
    aside -= (aside @ axis) * axis
    # towards the first class for a whitening classifier too: a displacement aside could else offset the one along
    aside *= (np.sign((aside / scale) @ (axis / scale)) or 1.0) / np.linalg.norm(aside)
    sites = rng.standard_normal((n_sites + 1, len(scale))) * scale * spread / np.sqrt(2.0)
    logits = mix * rng.standard_normal((n_sites + 1, n_biology))
    scanners = np.array([[-0.5], [0.5], [0.0]]) * between * scanner / np.linalg.norm(scanner)
    scanners[2] = FAR * distance * aside
    displaced = 0.5 * changes["scanner"] * distance * (TOWARDS * axis + np.sqrt(1.0 - TOWARDS**2) * aside)
    return _World(
        sites,
        biology,
        scanners,
        per_age * ages / np.linalg.norm(ages),
        displaced,
        logits,
        scale,
        slope,
        spreads,
        changes,
    )


def _shares(world: _World, site: np.ndarray, age: np.ndarray) -> np.ndarray:
    """``(n, classes)`` probabilities of the classes at hospitals and ages (in standard deviations)."""
    K = world.logits.shape[1]
    shares = np.exp(world.logits[site] + world.slope * age[:, None] * np.linspace(-0.5, 0.5, K))
    shares /= shares.sum(axis=1, keepdims=True)
    tilt = np.where(site == len(world.sites) - 1, 0.6 * world.changes["case_mix"], 0.0)[:, None]
    return np.asarray((1.0 - tilt) * shares + tilt * np.eye(K)[-1])


def _prevalence(world: _World, *, new: bool) -> np.ndarray:
    """``(classes,)`` shares in the population, by Gauss-Hermite quadrature over age."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    sites = [len(world.sites) - 1] if new else range(len(world.sites) - 1)
    ages = nodes + (world.changes["covariate"] if new else 0.0)
    by_site = [weights / weights.sum() @ _shares(world, np.full(len(nodes), site), ages) for site in sites]
    share = np.mean(by_site, axis=0)
    flipped = 0.4 * world.changes["concept"] if new else 0.0
    return np.asarray((1.0 - flipped) * share + flipped * np.roll(share, 1))


def _draw(
    world: _World, rng: np.random.Generator, new: bool, n_groups: int, rows_per_group: int | tuple[int, int]
) -> Cohort:
    low, high = (rows_per_group, rows_per_group) if isinstance(rows_per_group, int) else rows_per_group
    last, changes = len(world.sites) - 1, world.changes
    site = np.full(n_groups, last) if new else np.arange(n_groups) % last
    age = rng.standard_normal(n_groups) + (changes["covariate"] if new else 0.0)
    shares = _shares(world, site, age).cumsum(axis=1)
    tumour = (rng.random(n_groups)[:, None] > shares).sum(axis=1).clip(max=shares.shape[1] - 1)
    scanner = (rng.random(n_groups) < 0.5 + (0.5 * changes["scanner_mix"] if new else 0.0)).astype(np.int64)
    far, flipped = rng.random(n_groups), rng.random(n_groups)
    group, row = world.spread[0] * world.scale, world.spread[1] * world.scale
    means = world.biology[tumour] * (1.0 - changes["fading"] if new else 1.0) + age[:, None] * world.ages
    if new:
        scanner[far < 0.5 * changes["new_support"]] = 2
        means = means + world.moved
        tumour = np.where(flipped < 0.4 * changes["concept"], (tumour + 1) % shares.shape[1], tumour)
    means = means + world.sites[site] + world.scanners[scanner] + rng.standard_normal((n_groups, len(group))) * group
    rows = np.repeat(np.arange(n_groups), rng.integers(low, high, size=n_groups, endpoint=True))
    Z = means[rows] + rng.standard_normal((len(rows), len(row))) * row
    names = np.array([*(f"site{s}" for s in range(last)), "new"])
    obs = pd.DataFrame(
        {
            "patient": [f"{'new' if new else 'p'}{g}" for g in rows],
            "site": names[site[rows]],
            "tumour": [f"class{b}" for b in tumour[rows]],
            "age": 60.0 + 10.0 * age[rows],
            "scanner": [("A", "B", "unseen")[s] for s in scanner[rows]],
        },
        index=[f"{'d' if new else 'r'}{i}" for i in range(len(rows))],
    )
    return Cohort(Z, obs, {"source": "planted_shift"})
