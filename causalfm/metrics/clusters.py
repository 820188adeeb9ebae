"""Clustering score: whether clusters found without labels follow the biology or the hospital."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_flag, check_seed, check_whole
from causalfm.metrics.balanced import Table, complete_tables
from causalfm.metrics.bundles import bundle_influence, bundle_note, cell_bundles
from causalfm.metrics.design import Design, design_cells, design_of, interval_of, variance_of
from causalfm.metrics.distances import prepared
from causalfm.metrics.mixing import PERMUTATIONS, mixing_estimate, no_estimate, permuted_codes
from causalfm.metrics.scopes import table_record
from causalfm.metrics.silhouette_widths import sides_of, width_of
from causalfm.metrics.typed_lists import Within
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

CAP = 30
SEED = 1337  # of the published score
BUNDLES = 20
BUNDLE_RUNS = 5
CHANCE_RUNS = 10


def number_of_clusters(X: np.ndarray, *, cap: int = CAP) -> tuple[int, np.ndarray]:
    """Choose the number of clusters with the largest cosine silhouette of k-means.

    Parameters
    ----------
    X
        ``(n, d)`` rows of unit length.
    cap
        Largest number tried; at most ``n - 1``.

    Returns
    -------
    K : int
        The smallest of equals, from 2.
    silhouettes : numpy.ndarray
        Mean silhouettes of 2, 3, ... clusters.
    """
    distances = 1.0 - X @ X.T
    np.fill_diagonal(distances, 0.0)
    tried = range(2, min(cap, len(X) - 1) + 1)
    means = np.array([_silhouette(distances, _clusters(X, k, 20, SEED)) for k in tried])
    return int(np.argmax(means)) + 2, means


def cluster_labels(X: np.ndarray, n_clusters: int, *, runs: int = 50) -> np.ndarray:
    """Cluster rows ``(n, d)`` by k-means in several runs, the best of 5 random starts each; labels ``(runs, n)``."""
    return np.stack([_clusters(X, n_clusters, 5, SEED + run) for run in range(runs)])


def _clusters(X: np.ndarray, n_clusters: int, n_init: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        found = KMeans(n_clusters, init="random", n_init=n_init, random_state=seed).fit(X)
    return np.asarray(found.labels_)


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    onehot = (labels[:, None] == np.arange(labels.max() + 1)).astype(distances.dtype)
    totals, counts = distances @ onehot, onehot.sum(axis=0) - onehot
    sides = sides_of(totals, counts.astype(np.float64), labels, np.ones(totals.shape, dtype=bool), "nearest")
    return float(np.nan_to_num(width_of(sides.own, sides.other)).mean())  # alone in its cluster: 0, by definition


def agreement(labels: np.ndarray, biology: np.ndarray, confounder: np.ndarray) -> np.ndarray:
    """Return, for each run of ``labels (runs, n)``, the adjusted Rand index with the biology less the confounder's."""
    return np.asarray(_adjusted_rand(labels, biology) - _adjusted_rand(labels, confounder))


def _adjusted_rand(labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the adjusted Rand index of each run with the codes (Hubert and Arabie 1985)."""
    runs, n = labels.shape
    shape = runs, int(labels.max()) + 1, int(codes.max()) + 1
    cell = (np.arange(runs)[:, None] * shape[1] + labels) * shape[2] + codes
    counts = np.bincount(cell.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)

    def pairs(held: np.ndarray) -> np.ndarray:
        return np.asarray((held * (held - 1) / 2).reshape(runs, -1).sum(axis=1))

    both, one, other = pairs(counts), pairs(counts.sum(axis=2)), pairs(counts.sum(axis=1))
    expected = one * other / (n * (n - 1) / 2)
    most = (one + other) / 2
    return np.asarray(np.divide(both - expected, most - expected, out=np.ones(runs), where=most > expected))


def clustering_score(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    runs: int = 50,
    cap: int = CAP,
    balanced: bool = True,
    min_groups: int = 3,
    max_rows: int = 100,
    max_tables: int | None = None,
    random_state: int = 0,
) -> Estimate:
    """Measure whether clusters found without labels follow the biology or the confounder: PathoROB's clustering score.

    For every table of two classes by two levels: k-means on rows of unit length, the number of clusters by the largest
    cosine silhouette, then ``runs`` runs. The score of a run is its adjusted Rand index (ARI) with the biology less
    that with the confounder; the value is the mean over runs and tables. 1: clusters are the classes; -1: the levels.
    An ARI may be as low as -1/2, so that small tables can reach beyond.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    within
        Columns within whose joint levels tables are made; ``"auto"``: the technical causes of the confounder.
    runs
        Runs per table, the best of 5 random starts each.
    cap
        Largest number of clusters tried.
    balanced
        Draw as many groups and rows per group in each cell, so that scores can be compared between designs. False takes
        every row of the four cells, as published.
    min_groups
        Groups that every cell of a table must have.
    max_rows
        Rows per cell of a balanced table at most, for cost.
    max_tables
        Tables at most; beyond it a random sample, the others are counted. None: all of them.
    random_state
        Seed of the tables sampled, of draws and permutations. The seeds of k-means are those of the published score.

    Returns
    -------
    Estimate
        ``details["tables"]``: ARIs, number of clusters and whether it is the cap, for each table; ``details["at_cap"]``
        counts them: there the number was not chosen but cut. ``chance`` is the mean over 20 permutations of the groups'
        cells on 10 runs: near 0, as ARI is corrected for chance. The 95 % interval is for new groups of the same
        design: a jackknife over about 20 bundles of groups of one cell, 5 runs each, the number of clusters held fixed,
        less the variance that so few runs add, half of it at most. ``nan`` and ``details["reason"]`` if no table is
        complete.

    Raises
    ------
    DataError
        Missing columns or values, one level only, settings out of range.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026).
    """
    check_seed(random_state)
    check_flag(balanced, "balanced")
    check_whole(runs, "runs", 2)
    check_whole(cap, "cap", 2)
    check_whole(min_groups, "min_groups", 2)
    check_whole(max_rows, "max_rows", min_groups)
    if max_tables is not None:
        check_whole(max_tables, "max_tables", 1)
    design = design_of(cohort, graph, confounder, within)
    tables, dropped = complete_tables(design, 1.0, min_groups, max_rows)
    drawn, complete = [], len(tables)
    if max_tables is not None and complete > max_tables:
        chosen = np.random.default_rng(random_state).choice(complete, max_tables, replace=False)
        tables = [tables[i] for i in np.sort(chosen)]
    for number, table in enumerate(tables):
        rng = np.random.default_rng([random_state, number])
        drawn.append(np.sort(table.draw(rng) if balanced else _all_rows(design, table)))
    cells = np.full(int(design.groups.max()) + 1, -1)
    used = design.groups[np.concatenate(drawn)] if drawn else np.zeros(0, dtype=np.int64)
    cells[used] = design_cells(design)[used]
    bundle = cell_bundles(cells, BUNDLES)
    scored = [
        _score(cohort.X, design, table, rows, runs, cap, bundle, random_state)
        for table, rows in zip(tables, drawn, strict=True)
    ]
    details: dict[str, Any] = {"runs": runs, "cap": cap, "balanced": balanced, "dropped": dropped}
    details |= {"tables": [one.record for one in scored], "at_cap": sum(one.record["at_cap"] for one in scored)}
    details |= {"weights": "tables weigh equally, rows within them", "tables_not_sampled": complete - len(tables)}
    if not scored:
        reason = f"no two levels of {design.biology_name} and two of {design.confounder_name} have {min_groups} "
        reason += f"{design.unit} units in each of their four cells"
        return no_estimate("clustering_score", reason, design, details)
    value = float(np.mean([one.record["value"] for one in scored]))
    chance = float(np.mean([one.chance for one in scored]))
    details["chance"] = f"mean over {PERMUTATIONS} permutations of the groups' cells on {CHANCE_RUNS} runs"
    influence = _influence(cells, bundle, value, scored)
    low, high, note = interval_of(value, influence, design.unit, index=False)
    low, high = np.clip((low, high), -1.5, 1.5).tolist()  # ARI lies between -1/2 and 1
    if low == low:
        note = f"{bundle_note(note, design.unit, bundle)}, {BUNDLE_RUNS} runs each, number of clusters fixed"
    return mixing_estimate("clustering_score", value, chance, influence, design, details, interval=(low, high, note))


@dataclass(frozen=True, eq=False)
class _Scored:
    record: dict[str, Any]
    chance: float
    without: np.ndarray  # (J,) score without each bundle
    noise: np.ndarray  # (J,) variance that few runs add to each
    own: float  # variance that the runs add to the score itself


def _all_rows(design: Design, table: Table) -> np.ndarray:
    inside = np.isin(design.biology, table.classes) & np.isin(design.confounder, table.levels)
    return np.flatnonzero(inside & (design.within == table.within))


def _score(
    X: np.ndarray,
    design: Design,
    table: Table,
    rows: np.ndarray,
    runs: int,
    cap: int,
    bundle: np.ndarray,
    random_state: int,
) -> _Scored:
    """Score one table, and the same without each bundle that has rows in it."""
    biology, confounder = design.biology[rows] == table.classes[1], design.confounder[rows] == table.levels[1]
    codes = biology.astype(np.int64), confounder.astype(np.int64)
    unit = _rotated(prepared(X[rows], "cosine"))
    k, silhouettes = number_of_clusters(unit, cap=cap)
    labels = cluster_labels(unit, k, runs=runs)
    score = agreement(labels, *codes)
    record = table_record(design, table.classes, table.levels, table.within)
    record |= {"value": float(score.mean()), "clusters": k, "at_cap": k == len(silhouettes) + 1, "rows": len(rows)}
    record |= {"ari_biology": float(_adjusted_rand(labels, codes[0]).mean())}
    cells = permuted_codes(2 * codes[0] + codes[1], design.groups[rows], np.zeros_like(rows), random_state)
    chance = float(np.mean([agreement(labels[:CHANCE_RUNS], cell // 2, cell % 2).mean() for cell in cells]))
    without, noise = np.full(int(bundle.max()) + 1, score.mean()), np.zeros(int(bundle.max()) + 1)
    for gone in np.unique(bundle[design.groups[rows]]):
        left = bundle[design.groups[rows]] != gone
        if left.sum() > k:
            again = agreement(cluster_labels(unit[left], k, runs=BUNDLE_RUNS), codes[0][left], codes[1][left])
            without[gone], noise[gone] = again.mean(), again.var(ddof=1) / BUNDLE_RUNS
    return _Scored(record, chance, without, noise, float(score.var(ddof=1) / runs))


def _rotated(unit: np.ndarray) -> np.ndarray:
    """Return the same rows in at most as many dimensions as there are rows: distances stay."""
    return unit if len(unit) >= unit.shape[1] else np.ascontiguousarray(np.linalg.qr(unit.T)[1].T)


def _influence(cells: np.ndarray, bundle: np.ndarray, value: float, scored: list[_Scored]) -> Influence:
    """Return the effects of bundles on the mean over tables; the variance of few runs is taken off as a factor."""
    without = np.mean([one.without for one in scored], axis=0)
    influence = bundle_influence(cells, bundle, value, without)
    variance = variance_of(influence)[0]
    if not variance > 0:
        return influence
    few = sum(one.noise.sum() for one in scored) / len(scored) ** 2 * ((len(without) - 1) / len(without)) ** 2
    own = sum(one.own for one in scored) / len(scored) ** 2
    return replace(influence, inflation=float(max(1.0 - few / variance, 0.5) + own / variance))
