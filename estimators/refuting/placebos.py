"""Refuters that ask about factors and outcomes without an effect: the estimator must find none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from causalfm.covariances import cell_covariances
from causalfm.estimators.refuting.placebo_tests import cell_test
from causalfm.estimators.refuting.refutation import MIDDLE, NOMINAL, RefutationRow, rate_verdict, rate_words
from causalfm.estimators.refuting.refuted_units import Refuted, rejects, with_levels, with_outcome
from causalfm.moments import centred
from causalfm.norms import signed_root
from causalfm.resampling import permutations_within
from causalfm.strata import rank_within

BLOCK = 2**22  # random numbers held at once
LEAST_TO_SPLIT = 4  # patients of a cell: two in each half


def placebo_factor(refuted: Refuted) -> RefutationRow:
    """Permute the levels over the patients within strata: sizes, strata and outcomes stay, the effect goes."""
    units = refuted.units
    moves = permutations_within(units.stratum, refuted.n_draws, refuted.random_state)
    if refuted.saturated:
        Z, cell_stratum = refuted.adjusted, np.repeat(np.arange(units.n_strata), refuted.n_levels)
        cells = np.concatenate([refuted.cells[order] for order in moves])
        gamma, noise, p = refuted.exchangeable_test(Z, cell_stratum).values(Z, cells)
        values, rejected = (gamma**2).sum(axis=(1, 2)) - noise, int((p <= NOMINAL).sum())
    else:
        norms = [refuted.answer(with_levels(units, units.level.codes[row])) for order in moves for row in order]
        values, rejected = np.array([norm.value for norm in norms]), sum(map(rejects, norms))
    return _row(
        refuted,
        "placebo factor",
        f"levels of {units.level.name} permuted over {units.unit}s within strata, {refuted.n_draws} times",
        "a factor without effect",
        values,
        rejected,
    )


def noise_outcome(refuted: Refuted) -> RefutationRow:
    """Put noise with the covariance of the patients in place of the outcome.

    Notes
    -----
    Gaussian noise is drawn through what the estimator sees of it, the contrasts and the traces of the cells, which are
    independent: a Gaussian vector with the residuals' covariance, and a chi-squared with Box's degrees of freedom. The
    residuals' covariance is the truth of these draws, so that its square is not debiased (else 13 % were rejected).
    """
    units, cells = refuted.units, refuted.design.cells
    rng = np.random.default_rng(refuted.random_state)
    residuals, df, B = cells.residuals, float(cells.df.sum()), refuted.n_draws
    if refuted.saturated:
        weights, count = refuted.cell_weights(), np.bincount(cells.codes).astype(float)
        wide = len(residuals) > residuals.shape[1]
        trace = float((residuals**2).sum()) / df
        square = float(((residuals.T @ residuals if wide else residuals @ residuals.T) ** 2).sum()) / df**2
        test = cell_test(weights, count, np.arange(len(count)), np.full((len(count),) * 2, square), count - 1.0)
        root = np.linalg.cholesky((weights * count) @ weights.T)
        observed = np.empty(B)
        step = max(1, BLOCK // (len(root) * len(residuals)))
        for start in range(0, B, step):
            draws = rng.standard_normal((min(step, B - start), *root.shape[:1], len(residuals)))
            gamma = np.einsum("jk,bkg->bjg", root, draws, optimize=True) @ residuals
            observed[start : start + step] = (gamma**2).sum(axis=(1, 2)) / df
        box = (count - 1.0) * trace**2 / square
        noise = (trace * rng.chisquare(box, (B, len(count))) / box) @ ((weights**2).sum(axis=0) * count)
        values, rejected = observed - noise, int((test.p_values(observed, noise) <= NOMINAL).sum())
    else:
        norms = [
            refuted.answer(with_outcome(units, rng.standard_normal((len(units),) * 2) @ residuals / np.sqrt(df)))
            for _ in range(B)
        ]
        values, rejected = np.array([norm.value for norm in norms]), sum(map(rejects, norms))
    done = f"noise with the covariance of the {units.unit}s in place of the outcome, {B} times"
    return _row(refuted, "dummy outcome", done, "an outcome that nothing causes", values, rejected)


def permuted_outcome(refuted: Refuted) -> RefutationRow:
    """Permute the outcomes over all patients, whatever their stratum."""
    units = refuted.units
    moves = permutations_within(np.zeros(len(units), dtype=int), refuted.n_draws, refuted.random_state)
    if refuted.saturated:
        Z = refuted.design.Z - refuted.design.Z.mean(axis=0)
        cells = np.concatenate([refuted.cells[order] for order in moves])
        one = np.zeros(units.n_strata * refuted.n_levels, dtype=int)
        gamma, noise, p = refuted.exchangeable_test(Z, one).values(Z, cells)
        values, rejected = (gamma**2).sum(axis=(1, 2)) - noise, int((p <= NOMINAL).sum())
    else:
        norms = [refuted.answer(with_outcome(units, units.Z[row])) for order in moves for row in order]
        values, rejected = np.array([norm.value for norm in norms]), sum(map(rejects, norms))
    done = f"outcomes permuted over all {units.unit}s, {refuted.n_draws} times"
    return _row(refuted, "permuted outcome", done, "an outcome that nothing causes", values, rejected)


def pseudo_levels(refuted: Refuted) -> RefutationRow:
    """Split the patients of each level at random in two: the halves must not differ.

    Notes
    -----
    The splits are made between the declared units, so that this checks the grouping and the errors only: it cannot see
    a hidden cause that differs between the levels.
    """
    units, name = refuted.units, refuted.units.level.name
    per_level = -(-refuted.n_draws // refuted.n_levels)
    Z, values, rejected, split = refuted.adjusted, [], 0, []
    for level in range(refuted.n_levels):
        count = np.bincount(units.stratum[units.level.codes == level], minlength=units.n_strata)
        wide = np.flatnonzero(count >= LEAST_TO_SPLIT)
        rows = np.flatnonzero((units.level.codes == level) & np.isin(units.stratum, wide))
        if not len(rows):
            continue
        split.append(units.level.levels[level])
        stratum = np.searchsorted(wide, units.stratum[rows])
        value, p = _halves_differ(Z[rows], stratum, per_level, refuted.random_state + level)
        values.append(value)
        rejected += int((p <= NOMINAL).sum())
    if not values:
        why = f"No {name} has {LEAST_TO_SPLIT} {units.unit}s in a stratum: none can be split."
        nan = float("nan")
        return RefutationRow(
            "pseudo-levels", "nothing", signed_root(refuted.norm.value), nan, nan, nan, "cannot tell", why
        )
    done = f"{units.unit}s of one {name} split at random, {per_level} times in each of {len(split)} {name}s"
    row = _row(refuted, "pseudo-levels", done, f"a split within one {name}", np.concatenate(values), rejected)
    return row


def _halves_differ(Z: np.ndarray, stratum: np.ndarray, draws: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Debiased squared distances between random halves ``(draws,)`` of one level, and their p-values."""
    W = int(stratum.max()) + 1
    count = np.bincount(stratum)
    first = count // 2
    sizes = np.stack([first, count - first], axis=1).astype(float)
    share = count / count.sum()
    weights = (share[:, None] * np.array([1.0, -1.0]) / sizes).reshape(1, 2 * W)
    strata = np.repeat(np.arange(W), 2)
    product = cell_covariances(centred(Z, stratum, W), stratum, W).product[np.ix_(strata, strata)]
    test = cell_test(weights, sizes.ravel(), np.arange(2 * W), product, sizes.ravel() - 1.0)
    cells = np.concatenate(list(halves_within(stratum, draws, random_state)))
    gamma, noise, p = test.values(Z, 2 * stratum + cells)
    return (gamma**2).sum(axis=(1, 2)) - noise, p


def halves_within(cells: np.ndarray, draws: int, random_state: int) -> Iterator[np.ndarray]:
    """Yield ``(<= 64, G)`` halves, 0 and 1: ``n // 2`` patients of each cell of ``n`` are in the first."""
    second = (rank_within(cells) >= (np.bincount(cells) // 2)[cells]).astype(int)
    for moved in permutations_within(cells, draws, random_state):
        yield second[moved]


def _row(refuted: Refuted, name: str, done: str, what: str, values: np.ndarray, rejected: int) -> RefutationRow:
    low, high = (signed_root(v) for v in np.quantile(values, MIDDLE))
    before, verdict = refuted.norm.value, rate_verdict(rejected, len(values))
    above = int((values >= before).sum())
    beyond = "exceeded by none of them" if not above else f"exceeded by {above} of them"
    found = "" if verdict == "pass" else ", far more than its errors allow"
    sentence = (
        f"Asked about {what}, the estimator finds an effect in {rate_words(rejected, len(values))}{found}; "
        f"the estimate is {beyond}."
    )
    details = {"rejected": rejected, "draws": len(values)}
    return RefutationRow(
        name, done, signed_root(before), signed_root(float(values.mean())), low, high, verdict, sentence, details
    )
