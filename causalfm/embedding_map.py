"""Two dimensions of an embedding, with a caption that keeps the eye honest.

A map shows two of hundreds of dimensions, and the eye finds clusters in anything: the caption says how much is left out
and what the numbers say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.arrows import names
from causalfm.auditing.formatting import beside_chance, clean, listing, number
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, MissingDependencyError
from causalfm.graph_checks import check_inputs
from causalfm.metrics import robustness_index
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

Method = Literal["pca", "umap"]


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Two dimensions of an embedding.

    Attributes
    ----------
    method
        ``"pca"`` or ``"umap"``.
    points
        ``(m, 2)`` coordinates of the rows shown.
    shares
        ``(2,)`` share of the variance of these rows that lies along each axis; None for UMAP.
    columns
        The factors that colour it: codes of the rows shown, levels the most frequent first.
    counts
        Rows of the whole cohort at each level, for each column.
    n, n_groups, unit
        Rows and independent units of the cohort, and what the unit is.
    facts
        What the numbers say, by what they are called.
    """

    method: Method
    points: np.ndarray
    shares: np.ndarray | None
    columns: tuple[Factor, ...]
    counts: tuple[np.ndarray, ...]
    n: int
    n_groups: int
    unit: str
    facts: Mapping[str, Estimate]

    def caption(self) -> str:
        """Say what the map leaves out, and what the numbers say."""
        shown = f"{number(len(self.points))} of {number(self.n)} rows, drawn at random,"
        rows = f"{number(self.n)} rows" if len(self.points) == self.n else shown
        words = [f"{self.method.upper()} of {rows} of {number(self.n_groups)} {self.unit}s; the legends count rows."]
        if self.shares is None:
            words.append(
                "UMAP keeps near neighbours only: distances between clusters, their sizes and their densities mean "
                "nothing, and another seed gives another picture."
            )
        else:
            left = 1.0 - float(self.shares.sum())
            words.append(
                f"The axes hold {self.shares[0]:.0%} and {self.shares[1]:.0%} of the variance; {left:.0%} of it is not "
                "on this map."
            )
        words.append(f"Rows of one {self.unit} lie together: a cluster can be one {self.unit}.")
        words += [f"{name}: {_fact(estimate)}." for name, estimate in self.facts.items()]
        return " ".join(words)


def map_embedding(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    method: Method = "pca",
    color: str | Sequence[str] | None = None,
    max_rows: int = 5000,
    estimates: Mapping[str, Estimate] | None = None,
    random_state: int = 0,
) -> EmbeddingMap:
    """Compute what :func:`causalfm.plot_map` draws; parameters and errors are the same."""
    check_inputs(cohort, graph)
    check_whole(max_rows, "max_rows", 3)
    check_seed(random_state)
    if method not in ("pca", "umap"):
        raise DataError(f"method={method!r} is not known: choose 'pca' or 'umap'.")
    columns = [_column(cohort, graph, name) for name in names(color or (graph.biology, *graph.technical))]
    rng = np.random.default_rng(random_state)
    rows = np.sort(rng.permutation(len(cohort))[:max_rows])
    X = np.asarray(cohort.X[rows], dtype=np.float64)
    if not np.ptp(X, axis=0).any():
        raise DataError("all rows of X are equal: there is nothing to draw.")
    points, shares = _pca(X) if method == "pca" else (_umap(X, random_state), None)
    if estimates is None:
        estimates = {
            f"Robustness index, {name}": robustness_index(
                cohort, graph, confounder=name, standardised=False, random_state=random_state
            )
            for name in graph.technical
        }
    return EmbeddingMap(
        method,
        points,
        shares,
        tuple(Factor(column.name, column.codes[rows], column.levels) for column in columns),
        tuple(column.counts() for column in columns),
        len(cohort),
        cohort.factor(graph.group, private=True).n_levels,
        graph.group,
        estimates,
    )


def _column(cohort: Cohort, graph: CausalGraph, name: str) -> Factor:
    """Return a factor with its levels in order of frequency; of equals in the factor's own order."""
    if name not in graph.measured:
        raise DataError(
            f"color={name!r} is no measured node of the graph: choose {listing(graph.measured)}. Units are not drawn, "
            "because they can identify patients."
        )
    if graph.kind(name, cohort) == "continuous":
        raise DataError(f"color={name!r} is continuous: cut it into a few classes, as a column of its own.")
    factor = cohort.factor(name)
    order = np.argsort(-factor.counts(), kind="stable")
    place = np.argsort(order)
    return Factor(name, place[factor.codes], tuple(clean(factor.levels[i]) for i in order))


def _pca(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores on the two first components ``(m, 2)``, of fixed sign, and their shares of the variance."""
    from scipy.linalg import eigh

    X = X / np.abs(X).max()  # squares of 1e200 would overflow
    X = X - X.mean(axis=0)
    wide = X.shape[1] > len(X)
    square = X @ X.T if wide else X.T @ X
    kept = min(2, len(square))
    values, vectors = eigh(square, subset_by_index=(len(square) - kept, len(square) - 1))
    points = (vectors * np.sqrt(np.maximum(values, 0)) if wide else X @ vectors)[:, ::-1]
    points = points * np.sign(points[np.abs(points).argmax(axis=0), range(kept)])
    shares = np.maximum(values[::-1], 0) / np.trace(square)
    short_of = 2 - kept  # an embedding of one dimension has one component
    return np.pad(points, ((0, 0), (0, short_of))), np.pad(shares, (0, short_of))


def _umap(X: np.ndarray, random_state: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise MissingDependencyError(
            "method='umap' needs umap-learn: pip install 'causalfm[umap]', or choose 'pca'."
        ) from None
    settings = {"n_neighbors": min(15, len(X) - 1), "metric": "cosine", "random_state": random_state, "n_jobs": 1}
    return np.asarray(UMAP(**settings).fit_transform(X), dtype=np.float64)


def _fact(estimate: Estimate) -> str:
    text = beside_chance(estimate)
    if np.isnan(estimate.value):
        return str(estimate.details.get("reason", "cannot tell"))
    return text if np.isnan(estimate.chance) else f"{text}, chance {number(estimate.chance)}"
