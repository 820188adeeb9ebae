"""Principal component regression: the share of the embedding's variance that the confounder accounts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from causalfm.arguments import check_seed
from causalfm.errors import DataError
from causalfm.metrics.balanced import Draw
from causalfm.metrics.bundles import bundle_influence, cell_bundles
from causalfm.metrics.design import Design, design_cells, design_of
from causalfm.metrics.distances import row_blocks, safe_scale
from causalfm.metrics.mixing import PERMUTATIONS, mixing_estimate, no_estimate, permuted_codes
from causalfm.metrics.mixing_reference import DrawScore, mixing_reference, permuted_once
from causalfm.metrics.typed_lists import Within
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

MOST_BUNDLES = 1500


def explained_share(X: np.ndarray, codes: np.ndarray, within: np.ndarray | None = None) -> float:
    """Share of variance between the levels of a factor: principal component regression on all components.

    ``sum_j R_j^2 var_j / sum_j var_j`` over all principal components j is the sum of squares between levels over the
    total. This is the same in any coordinates, so that no component has to be computed.

    Parameters
    ----------
    X
        ``(n, d)``.
    codes
        ``(n,)`` integer levels from 0.
    within
        ``(n,)`` integer strata from 0: then the share of the variance within strata.

    Returns
    -------
    float
        Between 0 and 1; ``nan`` if there is no variance.

    References
    ----------
    Büttner et al., A test metric for assessing single-cell RNA-seq batch correction, Nature Methods 16:43 (2019).
    """
    strata = np.zeros(len(codes), dtype=np.int64) if within is None else within
    return _Shares.of(X, codes, strata, np.zeros(len(codes), dtype=np.int64)).value


def pc_regression(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure the share of the embedding's variance that lies between the confounder's levels: PC regression.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    within
        Columns within whose joint levels the variance is taken; ``"auto"``: the technical causes of the confounder.
    standardised
        Add the reference version, which can be compared between designs, as ``details["standardised"]``.
    random_state
        Seed of the permutations behind ``chance``, and of the draws.

    Returns
    -------
    Estimate
        Levels are categories; peers regress on their codes by default, which changes with the levels' names. Case mix
        is not held constant: where classes are unevenly spread over the levels, biology counts as well. ``chance`` is
        the mean over 20 permutations of the groups' levels: with few groups it is far above 0. The 95 % interval is for
        new groups of the same design, by an exact delete-one-group jackknife. ``nan`` with ``details["reason"]`` where
        nothing varies.

    Raises
    ------
    DataError
        Missing columns or values, one level only.

    References
    ----------
    Büttner et al., A test metric for assessing single-cell RNA-seq batch correction, Nature Methods 16:43 (2019).
    """
    check_seed(random_state)
    design = design_of(cohort, graph, confounder, within)
    bundle = cell_bundles(design_cells(design), MOST_BUNDLES)
    shares = _Shares.of(cohort.X, design.confounder, design.within, bundle[design.groups])
    details: dict[str, Any] = {"components": "all", "weights": "rows weigh equally"}
    if standardised:
        details["standardised"] = mixing_reference("pc_regression", cohort.X, design, _draw_score, random_state)
    if np.isnan(shares.value):
        return no_estimate("pc_regression", "the embedding does not vary", design, details)
    chance, how = _chance(cohort.X, design, random_state)
    if np.isnan(shares.without).any():
        influence: Any = f"none: all that varies hangs on one {design.unit}"
    else:
        influence = bundle_influence(design_cells(design), bundle, shares.value, shares.without, shares.pairs)
    return mixing_estimate("pc_regression", shares.value, chance, influence, design, details | how, bundle=bundle)


def pcr_comparison(
    before: Cohort,
    after: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    random_state: int = 0,
) -> Estimate:
    """Measure which share of the confounder's variance a correction took away: ``1 - PCR(after) / PCR(before)``.

    Parameters
    ----------
    before, after
        Embeddings of the same rows, in the same order.
    graph, confounder, within, random_state
        As in :func:`pc_regression`.

    Returns
    -------
    Estimate
        0 for equal embeddings, 1 if the levels' means coincide afterwards; negative if the confounder's share grew,
        where peers cut at 0. ``chance`` is what noise in place of ``after`` gives: ``1 - chance(after) /
        PCR(before)``. The 95 % interval is a paired delete-one-group jackknife.

    Raises
    ------
    DataError
        Other rows, or as :func:`pc_regression`.
    """
    check_seed(random_state)
    design, other = (design_of(cohort, graph, confounder, within) for cohort in (before, after))
    same = len(before) == len(after) and all(
        np.array_equal(getattr(design, name), getattr(other, name))
        for name in ("biology", "confounder", "groups", "within")
    )
    if not same:
        raise DataError("before and after differ in their rows or columns: give embeddings of the same rows, in order.")
    bundle = cell_bundles(design_cells(design), MOST_BUNDLES)
    first, second = (
        _Shares.of(cohort.X, design.confounder, design.within, bundle[design.groups]) for cohort in (before, after)
    )
    details: dict[str, Any] = {"before": first.value, "after": second.value, "weights": "rows weigh equally"}
    if np.isnan(first.value + second.value) or first.value == 0:
        reason = "one of the embeddings does not vary, or the first not between levels"
        return no_estimate("pcr_comparison", reason, design, details)
    ratio = second.value / first.value
    noise, how = _chance(after.X, design, random_state)
    how["chance_error"] /= first.value
    if np.isnan(first.without + second.without).any():
        influence: Any = f"none: all that varies hangs on one {design.unit}"
    else:
        pairs = (ratio * first.pairs - second.pairs) / first.value
        influence = bundle_influence(
            design_cells(design), bundle, 1.0 - ratio, 1.0 - second.without / first.without, pairs
        )
    chance = 1.0 - noise / first.value
    details |= how
    return mixing_estimate(
        "pcr_comparison", 1.0 - ratio, chance, influence, design, details, bundle=bundle, index=False
    )


def _draw_score(draw: Draw, seed: int) -> DrawScore:
    nothing = np.zeros(len(draw.units), dtype=np.int64)
    shares = _Shares.of(draw.X, draw.confounder, nothing, draw.units)
    chance = explained_share(draw.X, permuted_once(draw.confounder, draw, seed))
    return DrawScore(shares.value, chance, shares.without, shares.pairs)


@dataclass(frozen=True, eq=False)
class _Shares:
    """Share between levels, the share without each bundle of groups ``(J,)``, and its part from pairs ``(J, J)``."""

    value: float
    without: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, codes: np.ndarray, strata: np.ndarray, bundle: np.ndarray) -> _Shares:
        level = strata * (int(codes.max()) + 1) + codes
        units, unit = np.unique(np.stack([level, strata, bundle]), axis=1, return_inverse=True)
        unit = unit.reshape(-1)
        n_bundles, size = int(bundle.max()) + 1, np.bincount(unit).astype(np.float64)
        total, squares = _unit_sums(X, unit[None], len(size))
        levels, whole = (_Between.of(total, size, of, units[2]) for of in units[:2])
        rounding = 1e-12 * squares.sum()
        value = _ratio(levels.value - whole.value, squares.sum() - whole.value, rounding)
        left = squares.sum() - np.bincount(units[2], squares, n_bundles) - whole.without
        without = _ratio(levels.without - whole.without, left, rounding)
        to_bundle = sparse.csr_array((np.ones(len(size)), (units[2], np.arange(len(size)))))
        inner = (total @ total.T) * (levels.together - whole.together)
        pairs = np.asarray(to_bundle @ (to_bundle @ inner).T) / max(squares.sum() - whole.value, rounding, 1e-300)
        np.fill_diagonal(pairs, 0.0)
        one_level = levels.left == whole.left
        return cls(float(value), np.where(one_level, np.nan, without), pairs)


@dataclass(frozen=True, eq=False)
class _Between:
    """Sum over levels of the squared sum of rows over their number: in all, and without each bundle."""

    value: float
    without: np.ndarray  # (J,)
    left: np.ndarray  # (J,) levels left
    together: np.ndarray  # (U, U) 1 / rows of the level for units of one level, else 0

    @classmethod
    def of(cls, total: np.ndarray, size: np.ndarray, level: np.ndarray, bundle: np.ndarray) -> _Between:
        level = np.unique(level, return_inverse=True)[1]
        n_levels, n_bundles = int(level.max()) + 1, int(bundle.max()) + 1
        # units of one bundle in one level go together
        part, of_unit = np.unique(level * n_bundles + bundle, return_inverse=True)
        gather = sparse.csr_array((np.ones(len(level)), (of_unit, np.arange(len(level)))))
        gone, rows, at = gather @ total, gather @ size, part // n_bundles
        sums = np.zeros((n_levels, total.shape[1]))
        np.add.at(sums, at, gone)
        count = np.bincount(at, rows)
        squares = (sums**2).sum(axis=1)
        after = squares[at] - 2.0 * np.einsum("ij,ij->i", sums[at], gone) + (gone**2).sum(axis=1)
        kept = count[at] - rows
        change = np.divide(after, kept, out=np.zeros_like(after), where=kept > 0) - (squares / count)[at]
        value = float((squares / count).sum())
        left = n_levels - np.bincount(part % n_bundles, kept == 0, n_bundles)
        together = (level[:, None] == level) / count[level]
        return cls(value, value + np.bincount(part % n_bundles, change, n_bundles), left, together)


def _unit_sums(X: np.ndarray, unit: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums ``(U, d)`` and sums of squares ``(U,)`` of the units' rows about the mean of all rows, scaled.

    ``unit (r, n)`` may place every row in several units.
    """
    scale = safe_scale(X)
    mean = sum((block.sum(axis=0) for _, block in row_blocks(X, scale)), np.zeros(X.shape[1])) / len(X)
    total, squares = np.zeros((n_units, X.shape[1])), np.zeros(n_units)
    for rows, block in row_blocks(X, scale):
        centred = block - mean
        centred[np.abs(centred) <= 1e-13 * np.abs(mean)] = 0.0  # rounding of the mean is no variance
        where = unit[:, rows].ravel(), np.tile(np.arange(len(block)), len(unit))
        gather = sparse.csr_array((np.ones(len(where[0])), where), shape=(n_units, len(block)))
        total += gather @ centred
        squares += gather @ np.einsum("ij,ij->i", centred, centred)
    return total, squares


def _ratio(between: np.ndarray | float, total: np.ndarray | float, rounding: float) -> np.ndarray:
    between, total = np.broadcast_arrays(between, total)
    empty = np.full(total.shape, np.nan)
    return np.asarray(np.divide(np.maximum(between, 0.0), total, out=empty, where=total > rounding))


def _chance(X: np.ndarray, design: Design, random_state: int) -> tuple[float, dict[str, Any]]:
    """Return the mean share over permuted levels, all permutations from one pass over the rows."""
    drawn = np.stack(list(permuted_codes(design.confounder, design.groups, design.within, random_state)))
    number = np.arange(PERMUTATIONS)[:, None]
    keys = np.stack(np.broadcast_arrays(number, design.within, drawn)).reshape(3, -1)
    cells, cell = np.unique(keys, axis=1, return_inverse=True)
    cell = cell.reshape(drawn.shape)
    total, squares = _unit_sums(X, cell, cells.shape[1])
    strata, size = _unit_sums(X, design.within[None], int(design.within.max()) + 1)[0], np.bincount(design.within)
    whole = float(((strata**2).sum(axis=1) / size).sum())
    between = np.bincount(cells[0], (total**2).sum(axis=1) / np.bincount(cell.ravel()))
    values = (between - whole) / (squares.sum() / PERMUTATIONS - whole)
    error = float(np.std(values, ddof=1) / PERMUTATIONS**0.5)
    how = f"mean over {PERMUTATIONS} permutations of the groups' levels on this embedding"
    return float(values.mean()), {"chance": how, "chance_error": error}
