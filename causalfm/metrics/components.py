"""Principal component regression: the share of the embedding's variance that the confounder accounts for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed
from causalfm.errors import DataError
from causalfm.metrics.balanced import Draw
from causalfm.metrics.bundles import bundle_influence, cell_bundles
from causalfm.metrics.design import Design, design_cells, design_of
from causalfm.metrics.explained import Shares, explained_share, unit_sums, varying
from causalfm.metrics.mixing import PERMUTATIONS, mixing_estimate, no_estimate, permuted_codes
from causalfm.metrics.mixing_reference import DrawScore, mixing_reference, permuted_once
from causalfm.metrics.typed_lists import Within
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

MOST_BUNDLES = 1500


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
        Levels in which the confounder does not vary are left out and their rows counted.
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
        the embedding or the confounder does not vary.

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
    shares = Shares.of(cohort.X, design.confounder, design.within, bundle[design.groups])
    details: dict[str, Any] = {"components": "all", "weights": "rows weigh equally", "left_out": _left_out(design)}
    if standardised:
        details["standardised"] = mixing_reference("pc_regression", cohort.X, design, _draw_score, random_state)
    if np.isnan(shares.value):
        return no_estimate("pc_regression", _nothing(design) or "the embedding does not vary", design, details)
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
        Shares.of(cohort.X, design.confounder, design.within, bundle[design.groups]) for cohort in (before, after)
    )
    details: dict[str, Any] = {"before": first.value, "after": second.value, "weights": "rows weigh equally"}
    details["left_out"] = _left_out(design)
    if np.isnan(first.value + second.value) or first.value == 0:
        reason = "one of the embeddings does not vary, or the first not between levels"
        return no_estimate("pcr_comparison", _nothing(design) or reason, design, details)
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
    found = mixing_estimate(
        "pcr_comparison", 1.0 - ratio, chance, influence, design, details, bundle=bundle, index=False
    )
    return replace(found, high=min(found.high, 1.0))  # more than all cannot be taken away


def _left_out(design: Design) -> int:
    """Return the number of rows in strata in which the confounder does not vary."""
    return int((~varying(design.confounder, design.within)[design.within]).sum())


def _nothing(design: Design) -> str:
    if _left_out(design) < len(design.within):
        return ""
    return f"one level of {design.confounder_name} only within each of {' x '.join(design.within_names)}"


def _draw_score(draw: Draw, seed: int) -> DrawScore:
    nothing = np.zeros(len(draw.units), dtype=np.int64)
    shares = Shares.of(draw.X, draw.confounder, nothing, draw.units)
    chance = explained_share(draw.X, permuted_once(draw.confounder, draw, seed))
    return DrawScore(shares.value, chance, shares.without, shares.pairs)


def _chance(X: np.ndarray, design: Design, random_state: int) -> tuple[float, dict[str, Any]]:
    """Return the mean share over permuted levels, all permutations from one pass over the rows."""
    drawn = np.stack(list(permuted_codes(design.confounder, design.groups, design.within, random_state)))
    number = np.arange(PERMUTATIONS)[:, None]
    keys = np.stack(np.broadcast_arrays(number, design.within, drawn)).reshape(3, -1)
    cells, cell = np.unique(keys, axis=1, return_inverse=True)
    cell = cell.reshape(drawn.shape)
    total, squares = unit_sums(X, cell, cells.shape[1])
    strata, size = unit_sums(X, design.within[None], int(design.within.max()) + 1)[0], np.bincount(design.within)
    compared = varying(design.confounder, design.within)
    whole, kept = float(((strata**2).sum(axis=1) / size)[compared].sum()), compared[cells[1]]
    between = np.bincount(cells[0], (total**2).sum(axis=1) / np.bincount(cell.ravel()) * kept)
    values = (between - whole) / (squares[kept].sum() / PERMUTATIONS - whole)
    error = float(np.std(values, ddof=1) / PERMUTATIONS**0.5)
    how = f"mean over {PERMUTATIONS} permutations of the groups' levels on this embedding"
    return float(values.mean()), {"chance": how, "chance_error": error}
