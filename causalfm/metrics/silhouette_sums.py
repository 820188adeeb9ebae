"""One pass over all pairs of rows of a cohort for every silhouette metric, and what permuted labels give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_flag, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.metrics.bundles import cell_bundles
from causalfm.metrics.design import Design, design_cells, design_of
from causalfm.metrics.distances import METRICS, Metric, distance_blocks, prepared
from causalfm.metrics.mixing import PERMUTATIONS, permuted_codes
from causalfm.metrics.silhouette_widths import Comparison, Widths, sides_of, silhouette_widths, width_of
from causalfm.metrics.typed_lists import Within

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

KINDS = ("label", "batch", "bras")
CHANCE_ROWS = 500  # scored under each permutation; distances are to all rows
MOST_BUNDLES = 1500
MAX_ROWS = 20_000
MARKED = 256  # rows in a fingerprint


@dataclass(frozen=True, eq=False)
class SilhouettePass:
    """One pass over all pairs of rows, for every silhouette metric.

    Attributes
    ----------
    design
        Codes of the rows that were scored; group codes are those of the whole cohort.
    bundle
        ``(G,)`` what is taken away in turn: single groups, or a few of one design cell where there are over 1,500.
    comparisons, widths
        By kind: ``"label"``, ``"batch"``, ``"bras"``; see :mod:`causalfm.metrics.silhouette_widths`.
    noise
        By kind: sums of scores and numbers of rows per part under permuted labels, ``(2, permutations, P)``.
    options
        Metric, exclusion, rows left out by sampling.
    mark
        Fingerprint of the embeddings and the roles that it was made from.
    """

    design: Design
    bundle: np.ndarray
    comparisons: dict[str, Comparison]
    widths: dict[str, Widths]
    noise: dict[str, np.ndarray]
    options: dict[str, Any]
    mark: str


def silhouette_pass(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    within: Within = "auto",
    kinds: Sequence[str] = KINDS,
    max_rows: int = MAX_ROWS,
    random_state: int = 0,
) -> SilhouettePass:
    """Compute the distances behind all silhouette metrics once.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    metric
        ``"cosine"``, as for every metric here, or ``"euclidean"`` on the embeddings as they are, scib-metrics' default
        for ASW.
    exclude_groups
        Leave rows of the own group out of all mean distances. False as in scib-metrics, where a patient's own rows make
        every cluster look tight.
    within
        Columns within whose joint levels rows are compared; ``"auto"``: the technical causes of the confounder.
    kinds
        Which of ``"label"``, ``"batch"`` and ``"bras"``.
    max_rows
        Beyond it a random sample is scored, the same share of every group; the others are counted.
    random_state
        Seed of the sample and of the permutations behind ``chance``.

    Returns
    -------
    SilhouettePass
        To be given to the silhouette metrics, so that they need no pass of their own.

    Raises
    ------
    DataError
        Missing columns or values, one level only, unknown options, rows of zeros under ``"cosine"``.
    """
    check_seed(random_state)
    check_flag(exclude_groups, "exclude_groups")
    check_whole(max_rows, "max_rows", 3)
    if isinstance(kinds, str) or not kinds or not set(kinds) <= set(KINDS):
        raise DataError(f"kinds={kinds!r}: choose a list of some of {', '.join(KINDS)}.")
    if metric not in METRICS:
        raise DataError(f"metric={metric!r} is not known: choose 'cosine' or 'euclidean'.")
    design = design_of(cohort, graph, confounder, within)
    rows = _sample(design.groups, max_rows, random_state)
    codes = {name: getattr(design, name)[rows] for name in ("biology", "confounder", "groups", "within")}
    part = replace(design, **codes)
    levels = len(design.biology_levels), len(design.confounder_levels), int(design.within.max()) + 1
    known = comparisons_of(part.biology, part.confounder, part.within, levels)
    chosen = {kind: known[kind] for kind in kinds}
    X = cohort.X[rows] if len(rows) < len(cohort) else cohort.X
    bundle = cell_bundles(design_cells(part), MOST_BUNDLES)
    widths = silhouette_widths(
        X, part.groups, chosen, metric=metric, exclude_groups=exclude_groups, bundles=bundle[part.groups]
    )
    noise = _noise(prepared(X, metric), part, chosen, metric, exclude_groups, random_state)
    options = {"metric": metric, "exclude_groups": exclude_groups, "rows_not_sampled": len(cohort) - len(rows)}
    return SilhouettePass(part, bundle, chosen, widths, noise, options, mark_of(cohort.X, design))


def mark_of(X: np.ndarray, design: Design) -> str:
    """Return a fingerprint of some rows and all roles."""
    rows = np.linspace(0, len(X) - 1, min(len(X), MARKED)).astype(np.int64)
    digest = hashlib.sha256(np.ascontiguousarray(X[rows], dtype=np.float64).tobytes())
    for codes in (design.biology, design.confounder, design.groups, design.within):
        digest.update(codes.astype(np.int64).tobytes())
    return digest.hexdigest()


def comparisons_of(
    biology: np.ndarray, confounder: np.ndarray, within: np.ndarray, levels: tuple[int, int, int]
) -> dict[str, Comparison]:
    """Return the comparisons of each kind from codes ``(n,)`` and their numbers of levels."""
    inside = biology * levels[2] + within
    return {
        "label": Comparison(within, biology, levels[0]),
        "batch": Comparison(inside, confounder, levels[1], batch=True),
        "bras": Comparison(inside, confounder, levels[1], "mean_other", batch=True),
    }


def _sample(groups: np.ndarray, max_rows: int, random_state: int) -> np.ndarray:
    """Return row positions: all, or the same share of every group, at least one row; ascending."""
    n = len(groups)
    if n <= max_rows:
        return np.arange(n)
    order = np.lexsort((np.random.default_rng(random_state).random(n), groups))
    size = np.bincount(groups)
    rank = np.arange(n) - (np.cumsum(size) - size)[groups[order]]
    return np.asarray(np.sort(order[rank < np.maximum(1, size * max_rows // n)[groups[order]]]))


def _noise(
    table: np.ndarray,
    design: Design,
    comparisons: dict[str, Comparison],
    metric: Metric,
    exclude_groups: bool,
    random_state: int,
) -> dict[str, np.ndarray]:
    """Score a sample of rows under permuted clusters: sums and numbers of rows per part, ``(2, permutations, P)``."""
    n = len(table)
    rows = np.sort(np.random.default_rng(random_state).permutation(n)[:CHANCE_ROWS])
    own = design.groups if exclude_groups else np.arange(n)
    distances = np.concatenate([block for _, block in distance_blocks(table, metric, rows)])
    distances[own[rows, None] == own] = 0.0
    out = {}
    for kind, comparison in comparisons.items():
        out[kind] = np.zeros((2, PERMUTATIONS, int(comparison.part.max()) + 1))
        codes = permuted_codes(comparison.cluster, design.groups, comparison.outer, random_state)
        for number, cluster in enumerate(codes):
            permuted = replace(comparison, cluster=cluster)
            scores, part = _scores_at(distances, rows, own, permuted), permuted.part[rows]
            known = ~np.isnan(scores)
            for total, weight in zip(out[kind], (scores[known], None), strict=True):
                total[number] = np.bincount(part[known], weight, total.shape[1])
    return out


def _scores_at(distances: np.ndarray, rows: np.ndarray, own: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Score some rows from their distances ``(b, n)``, which are 0 to rows that do not count."""
    first, cluster = np.unique(comparison.joint, return_index=True, return_inverse=True)[1:]
    onehot = (cluster[:, None] == np.arange(len(first))).astype(np.float32)
    excluded = np.zeros((int(own.max()) + 1, len(first)))
    np.add.at(excluded, (own, cluster), 1.0)
    counts = np.bincount(cluster) - excluded[own[rows]]
    compared = comparison.outer[rows, None] == comparison.outer[first]
    totals = (distances @ onehot).astype(np.float64)
    sides = sides_of(totals, counts, cluster[rows], compared, comparison.between)
    return comparison.scores(width_of(sides.own, sides.other))
