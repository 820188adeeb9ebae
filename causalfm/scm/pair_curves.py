"""How many pairs buy how much fidelity: error on patients left out, by the number of patients whose pairs are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from causalfm.arguments import check_seed, check_whole
from causalfm.cohort import Cohort
from causalfm.confidence import level_in_force
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs
from causalfm.positivity import MIN_GROUPS
from causalfm.results import Result
from causalfm.scm.bridges import Bridge, read_bridge
from causalfm.scm.fitted import Fitted, fit_model
from causalfm.scm.mechanisms import Mechanism, mechanism_named
from causalfm.scm.pair_maps import PairMaps, maps_of, residual_directions, task_of

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

USUAL_SIZES = (3, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class PairCurve(Result):
    """Relative error of counterfactual rows by the number of patients whose pairs were learned from.

    Attributes
    ----------
    patients, pairs
        Patients, 0 (the unpaired mechanism) first and all that there are last, and pairs they bring on average.
    value, low, high
        Sum of squared distances of predictions from the truth, over that of doing nothing: 0 is perfect, 1 no better
        than doing nothing. 95 % intervals are for new patients of this design.
    gain, gain_low, gain_high
        What pairs take off the unpaired error. Both ends see the same patients: sharper than two intervals.
    n, n_groups, unit
        Ordered pairs judged, their independent units, and what these are.
    mechanism
        The unpaired mechanism.
    """

    patients: tuple[int, ...]
    pairs: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    gain: tuple[float, ...]
    gain_low: tuple[float, ...]
    gain_high: tuple[float, ...]
    n: int
    n_groups: int
    unit: str
    mechanism: str

    @property
    def unpaired(self) -> float:
        """Relative error without pairs."""
        return self.value[0]

    @property
    def ceiling(self) -> float:
        """Relative error with the pairs of all other patients: what more than these pairs would take."""
        return self.value[-1]

    def rows(self) -> list[dict[str, Any]]:
        """One row per number of patients."""
        names = ("patients", "pairs", "value", "low", "high", "gain", "gain_low", "gain_high")
        columns = zip(*(getattr(self, name) for name in names), strict=True)
        own = {"name": "relative_error", "chance": 1.0, "n": self.n, "n_groups": self.n_groups, "unit": self.unit}
        return [own | dict(zip(names, row, strict=True)) for row in columns]


def pair_curve(
    cohort: Cohort,
    graph: CausalGraph,
    pairs: Cohort,
    *,
    mechanism: str = "additive",
    sizes: Sequence[int] | None = None,
    n_folds: int = 5,
    n_draws: int = 3,
    random_state: int = 0,
) -> PairCurve:
    """Measure how fidelity grows with pairs, on patients that neither the pairs nor the cohort of the fit hold.

    Parameters
    ----------
    cohort, graph
        As for :meth:`causalfm.EmbeddingSCM.fit`.
    pairs
        Rows of the same tissue (``graph.specimen``) at several levels of technical factors.
    mechanism
        The unpaired mechanism.
    sizes
        Numbers of patients whose pairs are used; None: 3, 5, 10, 20, 50, ... as far as there are. 0 and all are added.
    n_folds
        Parts of the patients; each in turn is judged.
    n_draws
        Random choices of patients per size and fold.
    random_state
        Seed of folds and choices.

    Returns
    -------
    PairCurve
        One value per size.

    Raises
    ------
    DataError
        See :meth:`causalfm.EmbeddingSCM.fit`; fewer than six patients with pairs; sizes that cannot be drawn.

    Notes
    -----
    All changes that the pairs show count equally row by row within a patient, and patients equally. The interval is
    for new patients; how much one choice of patients differs from another is averaged over, not part of it.
    """
    check_inputs(cohort, graph)
    check_seed(random_state)
    check_whole(n_folds, "n_folds", 2)
    check_whole(n_draws, "n_draws", 1)
    kind, rng = mechanism_named(mechanism), np.random.default_rng(random_state)
    first = fit_model(cohort, graph, kind)
    bridge = _bridge(cohort, graph, pairs, first)
    G = int(bridge.patient.max()) + 1
    if 2 * MIN_GROUPS > G:
        raise DataError(
            f"{G} {graph.group}s have pairs: some are judged and at least {MIN_GROUPS} others learned from. Add pairs "
            f"of at least {2 * MIN_GROUPS} {graph.group}s."
        )
    fold = rng.permutation(np.arange(G) % min(n_folds, G))
    most = G - int(np.bincount(fold).max())
    wanted = _sizes(sizes, most)
    missed, apart = np.zeros((len(wanted), G)), np.zeros(G)
    counts = np.zeros(len(wanted))
    for part in range(int(fold.max()) + 1):
        tested, others = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        fitted, directions = _fit_without(cohort, graph, first, kind, _patients(bridge, graph, tested))
        own = _bridge(cohort, graph, pairs, fitted)
        judged = own[np.isin(own.patient, tested)]
        apart[tested] = _distances(judged)
        for s, size in enumerate(wanted):
            drawn = list(_draws(others, size, n_draws, rng)) if size else [tested[:0]]
            for chosen in drawn:
                used = own[np.isin(own.patient, chosen)]
                maps = maps_of(used, graph, fitted, directions) if size else None
                missed[s, tested] += _missed(judged, fitted, directions, maps) / len(drawn)
                counts[s] += used.n_specimens() / len(drawn) / (fold.max() + 1) if size else 0.0
    return _curve(wanted, counts, missed, apart, len(bridge), graph.group, mechanism)


def _bridge(cohort: Cohort, graph: CausalGraph, pairs: Cohort, fitted: Fitted) -> Bridge:
    return read_bridge(pairs, graph, fitted.mean.parents, cohort.d)


def _sizes(sizes: Sequence[int] | None, most: int) -> tuple[int, ...]:
    if sizes is None:
        return (0, *(s for s in USUAL_SIZES if s < most), most)
    for size in sizes:
        check_whole(size, "sizes", MIN_GROUPS, most=most, why="of them are left when a fold is judged")
    return tuple(sorted({0, *map(int, sizes), most}))


def _patients(bridge: Bridge, graph: CausalGraph, tested: np.ndarray) -> set[str]:
    names = bridge.cohort.factor(graph.group, private=True)
    return {names.levels[c] for c in names.codes[bridge.source[np.isin(bridge.patient, tested)]]}


def _fit_without(
    cohort: Cohort, graph: CausalGraph, whole: Fitted, kind: Mechanism, judged: set[str]
) -> tuple[Fitted, np.ndarray]:
    """Fit the unpaired mechanism without the patients that are judged; ``whole`` if it never saw them."""
    groups = cohort.factor(graph.group, private=True)
    held = np.array([level in judged for level in groups.levels])[groups.codes]
    rest = cohort[~held] if held.any() else cohort
    fitted = fit_model(rest, graph, kind) if held.any() else whole
    return fitted, residual_directions(rest, graph, fitted)


def _draws(others: np.ndarray, size: int, n_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Choices of patients to learn from; all of them are one choice."""
    for _ in range(1 if size >= len(others) else n_draws):
        yield others if size >= len(others) else rng.choice(others, size, replace=False)


def _distances(bridge: Bridge) -> np.ndarray:
    """Mean squared distance of the tissue's two rows, per patient."""
    X = bridge.cohort.X
    apart = np.asarray(X[bridge.target], dtype=np.float64) - X[bridge.source]
    return np.bincount(bridge.patient, bridge.weights() * (apart**2).sum(axis=1))


def _missed(bridge: Bridge, fitted: Fitted, directions: np.ndarray, maps: PairMaps | None) -> np.ndarray:
    """Mean squared distance of predictions from the truth, per patient."""
    task = task_of(bridge, fitted, directions, maps.biology if maps else -1)
    left = task.missed
    if maps is not None:
        which = maps.find(bridge.change)
        for q in np.unique(which[which >= 0]):
            rows = np.flatnonzero(which == q)
            left[rows] -= maps.forward(int(q), task.classes[rows], task.start[rows])
    return task.per_patient(left)


def _curve(
    sizes: tuple[int, ...],
    counts: np.ndarray,
    missed: np.ndarray,
    apart: np.ndarray,
    n: int,
    unit: str,
    mechanism: str,
) -> PairCurve:
    value, half = _ratios(missed, apart)
    gain, gain_half = _ratios(missed[:1] - missed, apart)
    return PairCurve(
        patients=sizes,
        pairs=_numbers(counts),
        value=_numbers(value),
        low=_numbers(value - half),
        high=_numbers(value + half),
        gain=_numbers(gain),
        gain_low=_numbers(gain - gain_half),
        gain_high=_numbers(gain + gain_half),
        n=n,
        n_groups=missed.shape[1],
        unit=unit,
        mechanism=mechanism,
    )


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _ratios(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of means over patients ``(S, G)`` to ``(G,)``, and half their intervals (delta method, t)."""
    G = len(below)
    ratio = above.sum(axis=1) / below.sum()
    left = above - ratio[:, None] * below
    error = np.sqrt((left**2).sum(axis=1) / (G * (G - 1))) / below.mean()
    return ratio, stats.t.ppf(0.5 + level_in_force() / 2.0, G - 1) * error
