"""Refuters that change what should not matter: an irrelevant cause, some patients, one half against the other."""

from __future__ import annotations

import dataclasses

import numpy as np

from causalfm.confidence import alpha_in_force, percent
from causalfm.covariances import CellCovariances
from causalfm.estimators.refuting.placebo_tests import cell_test
from causalfm.estimators.refuting.placebos import halves_within
from causalfm.estimators.refuting.refutation import (
    KEPT,
    MIDDLE,
    NOMINAL,
    RefutationRow,
    rate_verdict,
    rate_words,
    stability_verdict,
)
from causalfm.estimators.refuting.refuted_units import Refuted, part_of
from causalfm.norms import signed_root


def random_cause(refuted: Refuted) -> RefutationRow:
    """Adjust for a made-up common cause, one normal number per patient."""
    units = refuted.units
    rng = np.random.default_rng(refuted.random_state)
    causes = rng.standard_normal((refuted.n_draws, len(units)))
    if refuted.saturated:
        values = _with_causes(refuted, causes)
    else:
        widened = (
            dataclasses.replace(units, covariates=np.column_stack([units.covariates, cause])) for cause in causes
        )
        values = np.array([refuted.answer(changed).value for changed in widened])
    done = f"adjusted for a random number per {units.unit} as well, {refuted.n_draws} times"
    return _row(refuted, "random common cause", done, "an irrelevant cause that is adjusted for", values)


def data_subset(refuted: Refuted) -> RefutationRow:
    """Keep a share of the patients of each cell."""
    units, rng = refuted.units, np.random.default_rng(refuted.random_state)
    cells = refuted.cells
    count = np.bincount(cells)
    kept = np.maximum(np.floor(KEPT * count), np.minimum(count, 3)).astype(int)
    rank = np.argsort(
        np.lexsort((rng.random((refuted.n_draws, len(cells))), np.tile(cells, (refuted.n_draws, 1)))), axis=1
    )
    inside = rank - (np.cumsum(count) - count)[cells] < kept[cells]
    if refuted.saturated:
        C = len(count)
        weights = np.column_stack([refuted.cell_weights() * (count / kept), np.zeros(refuted.n_levels - 1)])
        sizes = np.r_[kept, max(int((count - kept).sum()), 2)].astype(float)
        test = cell_test(weights, sizes, np.arange(C + 1), np.ones((C + 1, C + 1)), sizes - 1.0)
        gamma, noise, _ = test.values(refuted.adjusted, np.where(inside, cells, C))
        values = (gamma**2).sum(axis=(1, 2)) - noise
    else:
        values = np.array([refuted.answer(part_of(units, np.flatnonzero(rows))).value for rows in inside])
    done = f"{KEPT:.0%} of the {units.unit}s of each cell kept, {refuted.n_draws} times"
    return _row(refuted, "data subset", done, f"which {units.unit}s take part", values)


def split_half(refuted: Refuted) -> RefutationRow:
    """Estimate in two halves of the patients of each cell: they must agree, and their product needs no debiasing.

    Whatever the estimator, halves are standardised over the cells.
    """
    units, design = refuted.units, refuted.design
    cells, Z = refuted.cells, refuted.adjusted
    count = np.bincount(cells).astype(float)
    sizes = np.stack([count // 2, count - count // 2], axis=1)
    weights = refuted.cell_weights()
    scaled = weights[:, :, None] * (count[:, None] / sizes)
    difference = (scaled * np.array([1.0, -1.0])).reshape(len(weights), -1)
    pooled = np.repeat(np.arange(len(count)), 2)
    covariances: CellCovariances = design.cells
    test = cell_test(difference, sizes.ravel(), pooled, covariances.product, covariances.df)
    half = np.concatenate(list(halves_within(cells, refuted.n_draws, refuted.random_state)))
    gamma, _, p = test.values(Z, 2 * cells + half)
    of_first = (scaled * np.array([1.0, 0.0])).reshape(len(weights), -1)
    first, _, _ = dataclasses.replace(test, weights=of_first).values(Z, 2 * cells + half)
    products = (first * (first - gamma)).sum(axis=(1, 2))
    low, high = (signed_root(v) for v in np.quantile(products, MIDDLE))
    rejected, draws = int((p <= NOMINAL).sum()), len(products)
    verdict = rate_verdict(rejected, draws)
    said = "agree" if verdict == "pass" else "do not agree"
    before, after = signed_root(refuted.norm.value), signed_root(float(products.mean()))
    sentence = (
        f"Two halves of the {units.unit}s {said}: they are told apart in {rate_words(rejected, draws)}; the product of "
        f"their effects gives a distance of {after:.3g}, the whole {before:.3g}."
    )
    done = f"{units.unit}s of each cell split at random in two halves, standardised over the cells, {draws} times"
    details = {"rejected": rejected, "draws": draws}
    return RefutationRow("split half", done, before, after, low, high, verdict, sentence, details)


def _with_causes(refuted: Refuted, causes: np.ndarray) -> np.ndarray:
    """Joint squared distances ``(B,)`` after one more covariate ``causes (B, G)``: a rank-one change of the weights."""
    design, cells = refuted.design, refuted.cells
    A = design.adjust(refuted.cell_weights()[:, cells])
    count = np.bincount(cells)
    within = causes - (causes @ np.eye(len(count))[cells] / count)[:, cells]
    slopes = within @ design.basis
    residual = within - slopes @ design.basis.T
    length = np.linalg.norm(residual, axis=1, keepdims=True)
    residual /= length
    leaning = (causes - slopes @ design.full_basis.T) / length @ A.T  # (B, J)
    theta, beta = A @ design.Z, residual @ design.Z
    crossed = beta @ theta.T
    along = (leaning**2).sum(axis=1)
    observed = (theta**2).sum() - 2.0 * (leaning * crossed).sum(axis=1) + along * (beta**2).sum(axis=1)
    trace = design.cells.trace[design.cells.codes]
    weight = (A**2).sum(axis=0) - 2.0 * (leaning @ A) * residual + along[:, None] * residual**2
    return np.asarray(observed - weight @ trace)


def _row(refuted: Refuted, name: str, done: str, what: str, values: np.ndarray) -> RefutationRow:
    low, high = (signed_root(v) for v in np.quantile(values, MIDDLE))
    before, after = signed_root(refuted.norm.value), signed_root(float(values.mean()))
    ends = refuted.norm.interval()
    outside = float(((values > ends[1]) | (np.maximum(values, 0.0) < ends[0])).mean())
    verdict = stability_verdict(outside)
    said = {"pass": "does not depend on", "fail": "depends on", "cannot tell": "may depend on"}[verdict]
    sentence = (
        f"The estimate {said} {what}: {before:.3g} becomes {low:.3g} to {high:.3g}, and leaves its own "
        f"{percent(alpha_in_force())} interval "
        f"({np.sqrt(ends[0]):.3g} to {np.sqrt(ends[1]):.3g}) in {outside:.0%} of the draws."
    )
    return RefutationRow(name, done, before, after, low, high, verdict, sentence, {"outside": outside})
