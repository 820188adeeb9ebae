"""What pairs teach: per change of levels an invertible affine map behind the unpaired mechanism, and its errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.positivity import MIN_GROUPS
from causalfm.scm.bridges import Bridge, read_bridge, spread_out, technical_parents
from causalfm.scm.cells import lay_out
from causalfm.scm.counterfactuals import predict_rows
from causalfm.scm.fitted import Fitted
from causalfm.scm.pair_ridge import Task, learn
from causalfm.scm.principal import DIRECTIONS, SAMPLE, directions, residual_sample
from causalfm.scm.regression import regressors

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

LEAST_STRETCH = 0.05  # of any direction: predictions can be undone, to the 20-fold of rounding
_ARRAYS = ("basis", "change", "shift", "matrix", "outside", "variance", "df", "length", "patients")


@dataclass(frozen=True, eq=False)
class PairMaps:
    """Corrections ``z -> z + shift + (M - I)(z - mean)`` of unpaired predictions, one per change of levels.

    Attributes
    ----------
    factors
        Positions of the technical factors among the categorical parents of ``Z``.
    biology
        Position of the biology there; -1 if it is none, and there is one class.
    basis
        ``(d, k)`` orthonormal principal directions.
    change
        ``(Q, 2 T)`` codes before and after of each factor; -1 where it stays.
    shift
        ``(Q, C, d)`` by class of the biology.
    matrix
        ``(Q, k, k)`` ``M`` within the directions.
    outside
        ``(Q,)`` ``M`` outside of them, a number.
    variance, df
        ``(Q, d)`` mean squared error for a new patient, and ``(Q,)`` its degrees of freedom.
    length
        ``(Q, 2)`` mean and standard deviation of the logarithm of the length of an error.
    patients
        ``(Q,)`` independent units behind each change.
    summary
        Counts, and mean squared errors on patients left out.
    """

    factors: tuple[int, ...]
    biology: int
    basis: np.ndarray
    change: np.ndarray
    shift: np.ndarray
    matrix: np.ndarray
    outside: np.ndarray
    variance: np.ndarray
    df: np.ndarray
    length: np.ndarray
    patients: np.ndarray
    summary: Mapping[str, float]

    def find(self, change: np.ndarray) -> np.ndarray:
        """Position of each change ``(n, 2 T)`` among those learned, -1 where there is none."""
        known = {row.tobytes(): q for q, row in enumerate(self.change)}
        distinct, where = np.unique(change, axis=0, return_inverse=True)
        found = np.array([known.get(np.ascontiguousarray(row).tobytes(), -1) for row in distinct], dtype=np.int64)
        return found[where.reshape(-1)]

    def forward(self, q: int, classes: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return what is added to predictions that lie ``start (n, d)`` from the mean of their levels."""
        along = start @ self.basis
        matrix = self.matrix[q] - self.outside[q] * np.eye(len(along.T))
        return np.asarray(self.shift[q][classes] + along @ (matrix.T @ self.basis.T) + (self.outside[q] - 1.0) * start)

    def back(self, q: int, classes: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Undo :meth:`forward`: from the distance of a corrected prediction to that before the correction."""
        left = moved - self.shift[q][classes]
        along = left @ self.basis
        inverse = np.linalg.inv(self.matrix[q]) - np.eye(len(along.T)) / self.outside[q]
        return np.asarray(left / self.outside[q] + along @ (inverse.T @ self.basis.T))

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays that restore it."""
        return {f"pairs/{name}": np.asarray(getattr(self, name)) for name in _ARRAYS}

    def header(self) -> dict[str, Any]:
        """Numbers that restore it."""
        return {"factors": list(self.factors), "biology": self.biology, "summary": dict(self.summary)}

    @classmethod
    def restore(cls, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> PairMaps:
        """Rebuild from a saved file."""
        return cls(
            factors=tuple(header["factors"]),
            biology=int(header["biology"]),
            summary=header["summary"],
            **{name: tensors[f"pairs/{name}"] for name in _ARRAYS},
        )


def learn_pairs(cohort: Cohort, pairs: Cohort, graph: CausalGraph, fitted: Fitted) -> PairMaps:
    """Learn the corrections.

    Parameters
    ----------
    cohort, fitted
        What the unpaired mechanism was fitted on, for principal directions, and the model.
    pairs
        See :func:`causalfm.scm.bridges.read_bridge`.
    graph
        Declared graph.

    Returns
    -------
    PairMaps
        Of the changes that three patients show.

    Raises
    ------
    DataError
        See :func:`causalfm.scm.bridges.read_bridge`.
    """
    parents = fitted.mean.parents
    bridge = read_bridge(pairs, graph, parents, fitted.mean.coefficients.shape[1])
    maps = maps_of(bridge, graph, fitted, residual_directions(cohort, graph, fitted))
    if not len(maps.change):
        raise DataError(
            f"no change of levels is shown by {MIN_GROUPS} {graph.group}s with pairs: add pairs of the same change, or "
            "fit without pairs."
        )
    return maps


def refuse_pairs(fitted: Fitted, what: str) -> None:
    """Refuse models that learned from pairs where a question cannot use them.

    Raises
    ------
    DataError
        Always with pairs.
    """
    if fitted.pairs is not None:
        raise DataError(f"{what}, and this model learned from pairs: pass one that was fitted without pairs=.")


def with_pairs(fitted: Fitted, cohort: Cohort, pairs: Cohort | None, graph: CausalGraph) -> Fitted:
    """Return the model with what pairs teach, if there are any: see :func:`learn_pairs`."""
    return fitted if pairs is None else dataclasses.replace(fitted, pairs=learn_pairs(cohort, pairs, graph, fitted))


def residual_directions(cohort: Cohort, graph: CausalGraph, fitted: Fitted) -> np.ndarray:
    """Principal directions ``(d, k)`` of the residual, at most 64: more than the unpaired mechanism estimates in."""
    values = fitted.mean.parents.read(cohort)
    cells = lay_out(values, cohort.factor(graph.group, private=True), fitted.mean.parents)
    sample = residual_sample(cohort.X, fitted.mean, values, cells)
    k = min(DIRECTIONS, cohort.d, len(sample.rows), SAMPLE)
    return directions(sample.residual, sample.weight, k)[0]


def maps_of(bridge: Bridge, graph: CausalGraph, fitted: Fitted, basis: np.ndarray) -> PairMaps:
    """Fit the ridge on the pairs and read the map of each change off it."""
    parents, total = fitted.mean.parents, bridge.n_specimens()
    bridge = spread_out(bridge)
    biology = parents.categorical.index(graph.biology) if graph.biology in parents.categorical else -1
    task = task_of(bridge, fitted, basis, biology)
    n_classes = parents.sizes[biology] if biology >= 0 else 1
    found = learn(task, n_classes)
    counted = np.unique(np.column_stack([task.change, task.patient]), axis=0)
    patients = np.unique(counted[:, :-1], axis=0, return_counts=True)[1]  # in the order of found.change
    kept = np.flatnonzero(patients >= MIN_GROUPS)
    slopes = np.eye(basis.shape[1]) + found.slope[kept]
    return PairMaps(
        factors=tuple(technical_parents(graph, parents)),
        biology=biology,
        basis=basis,
        change=found.change[kept],
        shift=found.shift[kept],
        matrix=_invertible(slopes),
        outside=np.clip(1.0 + found.outside[kept], LEAST_STRETCH, 1.0 / LEAST_STRETCH),
        **_errors(task, found.left_out, found.change[kept]),
        patients=patients[kept],
        summary={
            "pairs": total,
            "pairs_used": bridge.n_specimens(),
            "patients": int(task.patient.max()) + 1,
            "unpaired_error": float(task.per_patient(task.missed).mean()),
            "error": float(task.per_patient(found.left_out).mean()),
        },
    )


def task_of(bridge: Bridge, fitted: Fitted, basis: np.ndarray, biology: int) -> Task:
    """Predict the pairs by the unpaired mechanism and say what it missed.

    Parameters
    ----------
    bridge, fitted
        Pairs and model.
    basis
        ``(d, k)`` orthonormal.
    biology
        Position of the biology among the categorical parents of ``Z``; -1 if it is none.

    Returns
    -------
    Task
        In float64.
    """
    X = np.asarray(bridge.cohort.X[bridge.source], dtype=np.float64)
    source, target = bridge.values[bridge.source], bridge.values[bridge.target]
    predicted = predict_rows(X, fitted, source, target)
    mean = regressors(fitted.mean.parents, target)(slice(None)) @ fitted.mean.coefficients
    classes = source.levels[:, biology] if biology >= 0 else np.zeros(len(bridge), dtype=np.int64)
    missed = np.asarray(bridge.cohort.X[bridge.target], dtype=np.float64) - predicted
    return Task(missed, predicted - mean, basis, bridge.change, classes, bridge.patient, bridge.weights())


def _invertible(matrices: np.ndarray) -> np.ndarray:
    left, values, right = np.linalg.svd(matrices)
    return np.asarray((left * np.clip(values, LEAST_STRETCH, 1.0 / LEAST_STRETCH)[:, None, :]) @ right)


def _errors(task: Task, left_out: np.ndarray, change: np.ndarray) -> dict[str, np.ndarray]:
    """Size of the errors for a new patient, per change: patients weigh equally.

    The degrees of freedom are those of a mean over patients whose mean squares vary as they are seen to, one relative
    variance for all changes: with many unrelated rows per patient there are more than patients.
    """
    variance, length, apart, patients = [], [], [], []
    for row in change:
        rows = np.flatnonzero((task.change == row).all(axis=1))
        own = np.unique(task.patient[rows], return_inverse=True)[1]
        G, size = int(own.max()) + 1, np.bincount(own)
        squares = np.zeros((G, task.missed.shape[1]))
        np.add.at(squares, own, left_out[rows] ** 2 / size[own, None])
        variance.append(squares.mean(axis=0))
        apart.append(_relative_variance(squares))
        patients.append(G)
        log = np.log(np.maximum(np.linalg.norm(left_out[rows], axis=1), 1e-150))
        centre = float((np.bincount(own, log) / size).mean())
        spread = float((np.bincount(own, (log - centre) ** 2) / size).sum() / (G - 1))
        length.append((centre, spread**0.5))
    units = np.array(patients, dtype=np.float64)
    one = float((np.array(apart) * (units - 1)).sum() / max((units - 1).sum(), 1.0))
    return {
        "variance": np.array(variance).reshape(-1, task.missed.shape[1]),
        "df": np.maximum(2.0 * units / max(one, 1e-9), 1.0),
        "length": np.array(length).reshape(-1, 2),
    }


def _relative_variance(squares: np.ndarray) -> float:
    """Squared coefficient of variation of a patient's mean square ``(G, d)``, one for all dimensions."""
    G = len(squares)
    mean = squares.mean(axis=0)
    total = float((mean**2).sum())
    if total <= 0:
        return 2.0
    of_mean = float(((squares - mean) ** 2).sum()) / (G * (G - 1)) / total
    return G * of_mean / max(1.0 - of_mean, 0.05)


def length_quantile(maps: PairMaps, q: int, level: float) -> float:
    """Length below which an error of a new patient lies with probability ``level``: its logarithm is taken as normal.

    On a Gaussian this is a little too long; patients whose slides differ in kind make errors with a long tail.
    """
    centre, spread = maps.length[q]
    G = float(maps.patients[q])
    return float(np.exp(centre + stats.t.ppf(level, G - 1) * spread * np.sqrt(1.0 + 1.0 / G)))
