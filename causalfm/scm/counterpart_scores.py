"""Scores of predicted rows against their true counterparts, with intervals for new patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from causalfm.metrics.list_ratios import Ratio, quotient, ratio_interval
from causalfm.metrics.paired import TIE, top_k_hits
from causalfm.results import Estimate, Influence
from causalfm.scm.counterparts import Counterparts
from causalfm.unit_vectors import unit_rows

BLOCK = 2**24  # similarities held at once, 64 MiB
LACKS = "no distance between source and truth"
TARGET = "new units of this design, the fitted model as it is"


@dataclass(frozen=True, eq=False)
class RowScores:
    """What each row adds.

    Attributes
    ----------
    error, distance
        ``(n,)`` squared distance of the truth from the prediction and from the row as seen.
    hit
        ``(n,)`` probability that the own counterpart is the nearest, ties broken at random.
    change
        ``(n, G)`` sparse: change of ``hit`` without the candidates of one unit; 0 for the row's own.
    candidates
        ``(n,)``.
    """

    error: np.ndarray
    distance: np.ndarray
    hit: np.ndarray
    change: sparse.csr_array
    candidates: np.ndarray


def row_scores(predicted: np.ndarray, truth: np.ndarray, source: np.ndarray, rows: Counterparts) -> RowScores:
    """Compare rows.

    Parameters
    ----------
    predicted, truth, source
        ``(n, d)``.
    rows
        Who they are.

    Returns
    -------
    RowScores
        Retrieval is among all tissues that ``truth`` holds at the target level, by cosine.
    """
    n, G = len(truth), len(rows.strata)
    error, distance = _squares(predicted, truth), _squares(source, truth)
    hit, candidates, changes = np.zeros(n), np.zeros(n), []
    mine, theirs = unit_rows(predicted), unit_rows(truth)
    for level in range(len(rows.targets)):
        at = np.flatnonzero((rows.target == level) & rows.moved)
        pool = np.flatnonzero(rows.target == level)
        pool = pool[np.unique(rows.specimen[pool], return_index=True)[1]]  # each tissue once
        candidates[at] = len(pool)
        own = np.searchsorted(rows.specimen[pool], rows.specimen[at])  # pool is sorted by specimen
        order = np.argsort(rows.group[pool], kind="stable")
        units, starts = np.unique(rows.group[pool][order], return_index=True)
        step = max(1, BLOCK // max(len(pool), 1))
        for start in range(0, len(at), step):
            part, match = at[start : start + step], own[start : start + step]
            similarity = mine[part] @ theirs[pool].T
            apart = similarity - similarity[np.arange(len(part)), match][:, None]
            masks = [apart > TIE, np.abs(apart) <= TIE]
            masks[1][np.arange(len(part)), match] = False
            ahead, tied = (np.add.reduceat(m[:, order], starts, axis=1, dtype=np.int64) for m in masks)
            a, t = ahead.sum(axis=1), tied.sum(axis=1)
            hit[part] = top_k_hits(a, t, 1)
            fewer = top_k_hits(a[:, None] - ahead, t[:, None] - tied, 1) - hit[part][:, None]
            fewer[units == rows.group[part][:, None]] = 0.0
            i, j = np.nonzero(fewer)
            changes.append((fewer[i, j], part[i], units[j]))
    value, i, j = (np.concatenate(part) for part in zip(*changes, strict=True))
    return RowScores(error, distance, hit, sparse.csr_array((value, (i, j)), shape=(n, G)), candidates)


def relative_error(scores: RowScores, rows: Counterparts, chosen: np.ndarray) -> Estimate:
    """Estimate the squared error over that of leaving rows as they were seen."""
    value = np.stack([scores.error, scores.distance], axis=1)
    ratio = Ratio("relative_error", lambda s: quotient(s[..., 0], s[..., 1]), (1,), "ratio", LACKS)
    details = {"target": TARGET, "weights": f"{rows.unit}s equal, rows equal within"}
    return _ratio_of_means(ratio, value, None, rows, chosen, 1.0, details)


def retrieval(scores: RowScores, rows: Counterparts, chosen: np.ndarray) -> Estimate:
    """Estimate the share of rows whose nearest true row is their own tissue."""
    value = np.stack([scores.hit, np.ones(len(scores.hit))], axis=1)
    ratio = Ratio("retrieval", lambda s: quotient(s[..., 0], s[..., 1]), (1,), "index", "no row")
    weight = row_weights(rows, chosen)
    chance = float(weight[chosen] @ (1.0 / scores.candidates[chosen])) if chosen.any() else float("nan")
    most = int(scores.candidates[chosen].max()) if chosen.any() else 0
    details = {"target": TARGET, "weights": f"{rows.unit}s equal, rows equal within", "candidates_at_most": most}
    return _ratio_of_means(ratio, value, scores.change, rows, chosen, chance, details)


def share_within(inside: np.ndarray, rows: Counterparts, chosen: np.ndarray, nominal: float) -> Estimate:
    """Estimate the mean of a share per row ``(n,)``, such as the dimensions within their intervals."""
    ratio = Ratio("coverage", lambda s: quotient(s[..., 0], s[..., 1]), (1,), "index", "no row")
    value = np.stack([inside, np.ones(len(inside))], axis=1)
    details = {"target": TARGET, "nominal": nominal}
    return _ratio_of_means(ratio, value, None, rows, chosen, float("nan"), details)


def row_weights(rows: Counterparts, chosen: np.ndarray) -> np.ndarray:
    """Weights ``(n,)`` of the chosen rows: units equal, rows equal within a unit, sum 1."""
    size = np.bincount(rows.group[chosen], minlength=len(rows.strata))
    present = int((size > 0).sum())
    weight = np.zeros(len(rows.group))
    weight[chosen] = 1.0 / (size[rows.group[chosen]] * max(present, 1))
    return weight


def _ratio_of_means(
    ratio: Ratio,
    value: np.ndarray,
    change: sparse.csr_array | None,
    rows: Counterparts,
    chosen: np.ndarray,
    chance: float,
    details: dict[str, Any],
) -> Estimate:
    """Ratio of two means over units; ``change (n, G)``: what the absence of a unit does to the others' numerators."""
    G, weight = len(rows.strata), row_weights(rows, chosen)
    own = np.stack([np.bincount(rows.group, weight * column, G) for column in value.T], axis=1)
    present = np.bincount(rows.group[chosen], minlength=G) > 0
    strata, totals = np.where(present, rows.strata, -1), own.sum(axis=0)
    without = totals - own
    if change is not None:
        without[:, 0] += change.T @ weight
    estimate, n = float(ratio.of(totals)), int(present.sum())
    left: Influence | str = f"none: a single {rows.unit}" if n < 2 else f"none: {ratio.lacks}"
    if n > 1 and np.isfinite(estimate):
        each = ratio.of(without)
        left = Influence(np.where(present, (n - 1) / n * (estimate - each), 0.0), strata)
        if not np.isfinite(each[present]).all():
            left = f"none: without one {rows.unit} there is {ratio.lacks}"

    def largest(_: Sequence[int]) -> float:
        return 2.0 / n  # met as query and as candidate

    low, high, note = ratio_interval(estimate, left, ratio, largest, rows.unit)
    influence = None if isinstance(left, str) else left
    return Estimate(
        ratio.name, estimate, low, high, chance, int(chosen.sum()), n, rows.unit,
        {**details, "interval": note.replace(", pairs counted once", "")}, influence,
    )  # fmt: skip


def _squares(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Squared distances of rows, in float64, block by block."""
    out, step = np.empty(len(A)), max(1, 2**22 // A.shape[1])
    for start in range(0, len(A), step):
        part = slice(start, start + step)
        out[part] = np.square(np.asarray(A[part], dtype=np.float64) - B[part]).sum(axis=1)
    return out
