"""Paired designs: whether the same tissue keeps its place when scanner or stain change.

The cosine between two views of a tissue is high for an encoder that maps everything to one point. It therefore never
stands alone: beside it is the cosine of views of different tissues, and retrieval, which a collapse does not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.errors import DataError
from causalfm.metrics.paired_report import Score, paired_estimate
from causalfm.metrics.specimens import Pair, specimens_of
from causalfm.results import Estimate
from causalfm.unit_vectors import unit_rows

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

KS = (1, 3, 5, 10)
TIE = 2.0**-21  # similarities of float32 rows that differ by less are equal
BLOCK = 2**24  # similarities held at once, 64 MiB
COLLAPSED = 1.0 - 2.0**-20  # cosine of different tissues from which they are one point in float32


def paired_similarity(cohort: Cohort, graph: CausalGraph, *, confounder: str | None = None) -> Estimate:
    """Mean cosine similarity between views of the same tissue, beside that of views of different tissues.

    Parameters
    ----------
    cohort, graph
        The data and the roles; ``specimen`` marks the same tissue, one row for each level of the technical factors that
        vary within it.
    confounder
        Only pairs of views that differ in this factor alone; default all pairs.

    Returns
    -------
    Estimate
        Mean over pairs of views, groups (patients) weighing equally within each. ``chance`` is the mean cosine of the
        same two views of tissues of different groups, over all of them exactly: with a collapsed encoder both are 1.
        ``details["standardised"]`` is what is left, (value - chance) / (1 - chance): 1 where views of a tissue are
        equal, 0 where they are no nearer than tissues of other groups. ``details``: ``"pairs"`` with joint intervals
        (all pairs together 95 %, Bonferroni), ``"worst"``, ``"strata"`` by the factors that differ, ``"missing"``.

    Raises
    ------
    DataError
        No ``specimen``, no factor that varies within it, several rows for one view, or rows without a direction.

    Notes
    -----
    Computed in float32 on rows of unit length, whatever the input; in float16 norms above 256 have no square. The
    interval is for new groups (linearised, t with groups less one degrees of freedom).

    References
    ----------
    Filiot, Dop, Tchita et al., Distilling foundation models for robust and efficient models in digital pathology, arXiv
    2501.16239 (2025): plismbench.
    """
    design = specimens_of(cohort, graph, confounder)
    U = unit_rows(cohort.X)
    scores = [_similarity(U, pair, design.n_groups) for pair in design.pairs]
    details = {"biology": graph.biology}
    return paired_estimate("paired_similarity", "paired_specificity", design, scores, details, index=False)


def paired_retrieval(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 10,
    max_specimens: int = 2_000,
    random_state: int = 0,
) -> Estimate:
    """Share of views whose ``k`` nearest rows, among both views of all tissues, hold the other view of the same tissue.

    The query's own slide gives distractors: a tissue's other view must be nearer than other tissues in the same view.

    Parameters
    ----------
    cohort, graph, confounder
        As in :func:`paired_similarity`.
    k
        Rows looked at; ``details["curve"]`` has 1, 3, 5 and 10 too.
    max_specimens
        Tissues of a pair of views at most; beyond it a random sample, the others are counted.
    random_state
        Seed of the sample.

    Returns
    -------
    Estimate
        Mean over pairs of views, groups weighing equally within each. ``chance`` is k / (2 m - 1) with m tissues.
        ``details["standardised"]`` does not depend on m: the share of other rows that are less similar than the other
        view of the same tissue; chance is 1/2. Further details as in :func:`paired_similarity`.

    Raises
    ------
    DataError
        As :func:`paired_similarity`; or no pair of views has ``k`` candidates.

    Notes
    -----
    Equal similarities are broken at random, in expectation: a collapsed encoder scores chance. The interval is for new
    groups: each is left out in turn, as query and as distractor.
    """
    check_whole(k, "k", 1)
    check_whole(max_specimens, "max_specimens", 2)
    check_seed(random_state)
    design = specimens_of(cohort, graph, confounder)
    U, left_out, scores = unit_rows(cohort.X), 0, []
    for number, pair in enumerate(design.pairs):
        m = len(pair.left)
        if m > max_specimens:
            pair = pair.some(np.random.default_rng([random_state, number]).choice(m, max_specimens, replace=False))
            left_out += m - max_specimens
        if m < 2 or 2 * len(pair.left) - 1 < k:
            scores.append(
                Score.none(pair, f"{m} specimens in both views give {max(2 * m - 1, 0)} candidates for k={k}")
            )
            continue
        scores.append(_retrieval(U, pair, k, design.n_groups))
    if all(score.reason for score in scores):
        most = max(len(pair.left) for pair in design.pairs)
        raise DataError(
            f"k={k} is larger than the candidates: at most {most} specimens are in both views of a pair. Choose a "
            "smaller k."
        )
    details = {"biology": graph.biology, "k": k, "specimens_not_sampled": left_out}
    return paired_estimate("paired_retrieval", "paired_rank", design, scores, details, index=True)


def top_k_hits(ahead: np.ndarray, tied: np.ndarray, k: int) -> np.ndarray:
    """Probability that the match is among the first ``k`` when ties are broken at random; arrays of any shape."""
    return np.asarray(np.clip((k - ahead) / (tied + 1.0), 0.0, 1.0))


def ranked(A: np.ndarray, B: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Say which rows are more similar to a query than its match, and which are as similar.

    Parameters
    ----------
    A, B
        ``(m, d)`` unit rows of two views; row i of one matches row i of the other.

    Yields
    ------
    ahead, tied : numpy.ndarray
        Masks ``(block, 2m)``, queries in order: the rows of ``A``, then of ``B``. The query and its match are in none.
    """
    both, m = np.concatenate([A, B]), len(A)
    step = max(1, BLOCK // (2 * m))
    for start in range(0, 2 * m, step):
        query = np.arange(start, min(start + step, 2 * m))
        similarity, at = both[query] @ both.T, np.arange(len(query))
        match = (query + m) % (2 * m)
        difference = similarity - similarity[at, match][:, None]
        ahead, tied = difference > TIE, np.abs(difference) <= TIE
        for own in (query, match):
            ahead[at, own] = tied[at, own] = False
        yield ahead, tied


def _similarity(U: np.ndarray, pair: Pair, n_groups: int) -> Score:
    """Score one pair of views; effects are those of group means, and, for chance, of pairs of groups."""
    used, g = np.unique(pair.groups, return_inverse=True)
    size, n = np.bincount(g), len(used)
    if not n:
        return Score.none(pair, "no specimen in both views")
    A, B = U[pair.left], U[pair.right]
    own = np.bincount(g, np.einsum("ij,ij->i", A, B, dtype=np.float64)) / size
    value, effects = float(own.mean()), (own - own.mean()) / n
    if n < 2:
        return Score.of(pair, n_groups, used, value, effects, float("nan"), float("nan"), np.zeros(n))
    a, b = np.zeros((2, n, U.shape[1]))
    np.add.at(a, g, A)
    np.add.at(b, g, B)
    a, b = a / size[:, None], b / size[:, None]
    same = np.einsum("ij,ij->i", a, b)
    with_others = a @ b.sum(axis=0) + b @ a.sum(axis=0) - 2.0 * same  # each group's sum over the others, both ways
    chance = float(with_others.sum() / (2 * n * (n - 1)))
    if chance >= COLLAPSED:
        return Score.of(pair, n_groups, used, value, effects, chance, float("nan"), np.zeros(n))
    standard = (value - chance) / (1.0 - chance)
    moves = with_others / (n * (n - 1)) - 2.0 * chance / n
    moves = (effects - (1.0 - standard) * moves) / (1.0 - chance)
    return Score.of(pair, n_groups, used, value, effects, chance, standard, moves)


def _retrieval(U: np.ndarray, pair: Pair, k: int, n_groups: int) -> Score:
    """Score one pair of views; effects are those of leaving a group out, its queries and its rows in other lists."""
    used, g = np.unique(pair.groups, return_inverse=True)
    n, owner = len(used), np.tile(g, 2)
    size, candidates = np.bincount(owner), 2.0 * len(pair.left) - 2.0
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(n))
    weight = 1.0 / (size[owner] * n)
    hits, ranks, done = np.zeros((len(KS) + 1, n)), np.zeros(n), 0
    changes = np.zeros((2, n))
    for ahead, tied in ranked(U[pair.left], U[pair.right]):
        by_group = [np.add.reduceat(mask[:, order], starts, axis=1, dtype=np.int64) for mask in (ahead, tied)]
        first, equal = (counts.sum(axis=1) for counts in by_group)
        query = np.arange(done, done + len(first))
        done += len(first)
        for row, length in enumerate((k, *KS)):
            hits[row] += np.bincount(owner[query], weight[query] * top_k_hits(first, equal, length), n)
        ranks += np.bincount(owner[query], weight[query] * _rank(first, equal, candidates), n)
        fewer = first[:, None] - by_group[0], equal[:, None] - by_group[1]
        for row, (after, before) in enumerate(
            (
                (top_k_hits(*fewer, k), top_k_hits(first, equal, k)),
                (_rank(*fewer, np.maximum(candidates - size, 1.0)), _rank(first, equal, candidates)),
            )
        ):
            change = after - before[:, None]
            change[np.arange(len(query)), owner[query]] = 0.0  # goes with its own group
            changes[row] += weight[query] @ change
    value, standard = float(hits[0].sum()), float(ranks.sum())
    effects = hits[0] - value / n - changes[0], ranks - standard / n - changes[1]
    curve = {length: float(hits[row + 1].sum()) for row, length in enumerate(KS)}
    chance = min(k / (candidates + 1.0), 1.0)
    return Score.of(pair, n_groups, used, value, effects[0], chance, standard, effects[1], curve)


def _rank(ahead: np.ndarray, tied: np.ndarray, candidates: float | np.ndarray) -> np.ndarray:
    """Share of the candidates that are less similar than the match, ties counting half."""
    return np.asarray(1.0 - (ahead + tied / 2.0) / candidates)
