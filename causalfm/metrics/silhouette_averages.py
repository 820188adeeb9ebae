"""Averages of silhouette scores over rows or classes, with chance and what each group adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from causalfm.metrics.balanced import Draw
from causalfm.metrics.bundles import bundle_influence
from causalfm.metrics.design import Design, design_cells
from causalfm.metrics.distances import Metric
from causalfm.metrics.mixing import PERMUTATIONS, mixing_estimate, no_estimate
from causalfm.metrics.mixing_reference import DrawScore, mixing_reference, permuted_once
from causalfm.metrics.silhouette_sums import CHANCE_ROWS, SilhouettePass, comparisons_of
from causalfm.metrics.silhouette_widths import Comparison, Widths, silhouette_widths
from causalfm.results import Estimate, Influence


def averaged(
    name: str,
    used: SilhouettePass,
    kind: str,
    *,
    rows_equal: bool = False,
    parts: np.ndarray | None = None,
    details: dict[str, Any] | None = None,
) -> Estimate:
    """Average the scores of a pass over all rows, or over classes.

    Parameters
    ----------
    name
        Of the Estimate.
    used, kind
        The pass, and which of its comparisons.
    rows_equal
        Whether rows weigh equally; else parts (classes within strata), and rows within them.
    parts
        Codes of the parts; all by default.
    details
        More of them.
    """
    design, comparison, widths = used.design, used.comparisons[kind], used.widths[kind]
    part, n_parts = comparison.part, widths.sums.shape[0]
    chosen = np.zeros(n_parts, dtype=bool)
    chosen[np.arange(n_parts) if parts is None else parts] = True
    sums, counts = _part_sums(comparison, widths)
    shift, scale = (0.0, 1.0) if comparison.batch else (0.5, 0.5)  # widths lie between -1 and 1
    value = shift + scale * float(_average(sums, counts, chosen, rows_equal))
    noise_sums, noise_counts = used.noise[kind]
    permuted = shift + scale * _average(noise_sums.T, noise_counts.T, chosen, rows_equal)
    lost = np.isnan(widths.values) & chosen[part]
    details = {**(details or {}), **used.options, "left_out": int(lost.sum())}
    details["weights"] = "rows weigh equally" if rows_equal else "classes weigh equally, rows within them"
    details["labels"] = _labels(used, kind, shift + scale * _means(sums, counts), chosen)
    if np.isnan(value):
        return no_estimate(name, f"no {design.biology_name} has rows that can be compared", design, details)
    details["chance"] = (
        f"mean over {PERMUTATIONS} permutations of the groups' labels on this embedding, at most {CHANCE_ROWS} rows"
    )
    details["chance_error"] = float(np.nanstd(permuted, ddof=1) / len(permuted) ** 0.5)
    without, pairs = without_bundles(comparison, widths, used.bundle[design.groups], chosen, rows_equal)
    influence: Influence | str = f"none: without one {design.unit} nothing is left to compare"
    if not np.isnan(without).any():
        influence = bundle_influence(design_cells(design), used.bundle, value, shift + scale * without, scale * pairs)
    return mixing_estimate(name, value, float(np.nanmean(permuted)), influence, design, details, bundle=used.bundle)


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    empty = np.full(np.shape(sums), np.nan)
    return np.asarray(np.divide(sums, counts, out=empty, where=np.asarray(counts) > 0.5))


def _average(sums: np.ndarray, counts: np.ndarray, chosen: np.ndarray, rows_equal: bool) -> np.ndarray:
    """Average over the chosen parts, the first axis; ``nan`` where none of them has a row."""
    if rows_equal:
        return _means(sums[chosen].sum(axis=0), counts[chosen].sum(axis=0))
    means = _means(sums[chosen], counts[chosen])
    return _means(np.nansum(means, axis=0), (~np.isnan(means)).sum(axis=0))


def without_bundles(
    comparison: Comparison, widths: Widths, bundle: np.ndarray, chosen: np.ndarray, rows_equal: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the average score without each bundle of groups ``(J,)``, and its part from pairs of bundles ``(J, J)``.

    A bundle takes its own rows with it, and changes the scores of the others.
    """
    scores, part = comparison.scores(widths.values), comparison.part
    known = ~np.isnan(scores)
    where = part[known], bundle[known]
    own_sums, own_counts = np.zeros(widths.sums.shape), np.zeros(widths.sums.shape)
    np.add.at(own_sums, where, scores[known])
    np.add.at(own_counts, where, 1.0)
    sums, counts = own_sums.sum(axis=1), own_counts.sum(axis=1)
    left = sums[:, None] - own_sums + widths.sums, counts[:, None] - own_counts + widths.counts
    without = _average(*left, chosen, rows_equal)
    scored = chosen & (counts > 0)
    weight = scored / (counts[scored].sum() if rows_equal else scored.sum() * np.maximum(counts, 1.0))
    pairs = np.zeros((len(without), len(without)))
    np.add.at(pairs, widths.unit_bundle, weight[widths.unit_part][:, None] * widths.pairs)
    return without, pairs


def silhouette_reference(X: np.ndarray, design: Design, kind: str, metric: Metric, random_state: int) -> Estimate:
    """Return the average over balanced draws."""

    def score(draw: Draw, seed: int) -> DrawScore:
        nothing = np.zeros(len(draw.units), dtype=np.int64)
        comparison = comparisons_of(draw.biology, draw.confounder, nothing, (2, 2, 1))[kind]
        options: dict[str, Any] = {"metric": metric, "bundles": draw.units}
        widths = silhouette_widths(draw.X, draw.groups, {kind: comparison}, **options)[kind]
        permuted = replace(comparison, cluster=permuted_once(comparison.cluster, draw, seed, comparison.outer))
        noise = silhouette_widths(draw.X, draw.groups, {kind: permuted}, **options)[kind]
        chosen = np.ones(widths.sums.shape[0], dtype=bool)
        shift, scale = (0.0, 1.0) if comparison.batch else (0.5, 0.5)
        value, chance = (
            float(_average(*_part_sums(c, w), chosen, False)) for c, w in ((comparison, widths), (permuted, noise))
        )
        without, pairs = without_bundles(comparison, widths, draw.units, chosen, False)
        return DrawScore(shift + scale * value, shift + scale * chance, shift + scale * without, scale * pairs)

    return mixing_reference("bras" if kind == "bras" else f"silhouette_{kind}", X, design, score, random_state)


def _part_sums(comparison: Comparison, widths: Widths) -> tuple[np.ndarray, np.ndarray]:
    scores = comparison.scores(widths.values)
    known, n_parts = ~np.isnan(scores), widths.sums.shape[0]
    part = comparison.part[known]
    return np.bincount(part, scores[known], n_parts), np.bincount(part, minlength=n_parts).astype(np.float64)


def _labels(used: SilhouettePass, kind: str, means: np.ndarray, chosen: np.ndarray) -> list[dict[str, Any]]:
    """Return one record per class (and stratum) with its mean, or why it is left out."""
    design, comparison = used.design, used.comparisons[kind]
    records = []
    for code, row in zip(*np.unique(comparison.part, return_index=True), strict=True):
        if not chosen[code]:
            continue
        record: dict[str, Any] = {"label": design.biology_levels[design.biology[row]]}
        if design.within_names:
            record["within"] = design.within_levels[design.within[row]]
        if np.isnan(means[code]):
            single = kind != "label" and len(np.unique(comparison.cluster[comparison.part == code])) == 1
            record["left_out"] = f"one {design.confounder_name} only" if single else f"rows of one {design.unit} only"
        else:
            record["score"] = float(means[code])
        records.append(record)
    return records
