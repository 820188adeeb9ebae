"""The design behind a neighbour metric: roles as codes, strata of the groups, and intervals for that design."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from causalfm.arguments import columns_of
from causalfm.confidence import level_in_force
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs, check_levels
from causalfm.results import Influence
from causalfm.strata import confounder_of, joint_factor

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

NO_SPREAD = 1e-24  # variance, up to which it is rounding: every deletion gives the same value


@dataclass(frozen=True, eq=False)
class Design:
    """Integer codes of the three roles, each ``(n,)``, and their names.

    Attributes
    ----------
    biology, confounder, groups
        Codes from 0.
    biology_levels, confounder_levels
        Level names.
    biology_name, confounder_name, unit
        Column names.
    within
        ``(n,)`` codes of the strata (levels of the confounder's technical causes) in which rows are compared; zeros if
        there are none.
    within_names
        Columns that make the strata.
    within_levels
        Level names of the strata.
    rows
        ``(n,)`` row positions in the cohort, where the entries are not its rows one by one: some are left out, or
        come once in each of several tables. None: entry i is row i.
    """

    biology: np.ndarray
    confounder: np.ndarray
    groups: np.ndarray
    biology_levels: tuple[str, ...]
    confounder_levels: tuple[str, ...]
    biology_name: str
    confounder_name: str
    unit: str
    within: np.ndarray
    within_names: tuple[str, ...] = ()
    within_levels: tuple[str, ...] = ()
    rows: np.ndarray | None = None


def design_of(
    cohort: Cohort, graph: CausalGraph, confounder: str | None = None, within: Sequence[str] | Literal["auto"] = "auto"
) -> Design:
    """Read biology, confounder (the graph's first technical factor unless named) and group from the cohort.

    Parameters
    ----------
    cohort, graph
        Data and roles.
    confounder
        Technical column.
    within
        Columns within whose joint levels rows are compared. ``"auto"``: the technical causes of the confounder, so that
        a neighbour that shares the scanner is not mistaken for one that shares the scanner's hospital.

    Raises
    ------
    DataError
        Unknown columns, missing values, a biology or confounder with one level only or thousands, or a confounder with
        another role.
    """
    check_inputs(cohort, graph)
    name = confounder_of(graph, confounder)
    biology, other = cohort.factor(graph.biology), cohort.factor(name)
    groups = cohort.factor(graph.group, private=True)
    check_levels(biology, "biology")
    check_levels(other, "the confounder")
    columns = graph.technical_ancestors(name) if within == "auto" else columns_of(within, "within")
    if wrong := {name, graph.biology, *graph.groups} & set(columns):
        raise DataError(
            f"within names {sorted(wrong)}: leave out what is measured, and units; rows are compared within causes."
        )
    strata = joint_factor(cohort, columns) if columns else None
    within_codes = np.zeros(len(cohort), dtype=np.int64) if strata is None else strata.codes
    levels = biology.levels, other.levels
    names = biology.name, other.name, groups.name
    within_levels = () if strata is None else strata.levels
    return Design(
        biology.codes, other.codes, groups.codes, *levels, *names, within_codes, tuple(columns), within_levels
    )


def design_cells(design: Design) -> np.ndarray:
    """Return the design stratum of each group, ``(G,)``: the set of biology x confounder cells in which it has rows.

    Cells of different strata are different cells.
    """
    cell = design.biology * len(design.confounder_levels) + design.confounder
    cell = np.unique(cell * (int(design.within.max()) + 1) + design.within, return_inverse=True)[1]
    present = np.zeros((int(design.groups.max()) + 1, int(cell.max()) + 1), dtype=bool)
    present[design.groups, cell] = True
    return np.asarray(np.unique(present, axis=0, return_inverse=True)[1])


def stratified_variance(effects: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Variance of a sum over independent units when the number of units per stratum is fixed by design.

    Parameters
    ----------
    effects
        ``(G,)`` contribution of each unit to the estimate.
    strata
        ``(G,)`` integer codes. Units alone in theirs are pooled; a last single one joins the smallest other stratum,
        which can only widen the interval.

    Returns
    -------
    variance : float
        Sum over strata of n / (n - 1) times the squares about the stratum mean; ``nan`` if there is only one unit.
    df : float
        Satterthwaite's: between the units minus 1 of the smallest stratum, where all spread is in one stratum, and
        units minus strata. Counting every stratum's degrees alike covered 92.6 % where cells of five patients carry
        most of the error.

    References
    ----------
    Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2:110 (1946).
    """
    code = pool_single_units(strata)
    size = np.bincount(code)
    if size.max() < 2:
        return float("nan"), 0.0
    mean = np.bincount(code, effects) / size
    parts = np.bincount(code, (effects - mean[code]) ** 2) * size / (size - 1)
    total = float(parts.sum())
    if total == 0.0:
        return 0.0, float(len(effects) - len(size))
    return total, total**2 / float((parts**2 / (size - 1)).sum())


def pair_variance(pairs: sparse.csr_array, strata: np.ndarray) -> float:
    """Variance of the part of an estimate that belongs to pairs of units, not to single ones.

    A jackknife meets the effect of a pair in both of its units and so counts this variance twice. In neighbour metrics,
    where two units must meet in one list, it is a large share: without this the interval covers 98 %.

    Parameters
    ----------
    pairs
        ``(G, G)`` sparse: contribution of the row unit's queries through neighbours from the column unit.
    strata
        ``(G,)`` integer codes, pooled as in :func:`stratified_variance`.

    Returns
    -------
    float
        Sum over pairs of squared residuals after block means and main effects of both units, scaled to be unbiased.
        Pairs within a stratum of fewer than 4 units count as 0, which can only widen the interval.

    References
    ----------
    Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9:586 (1981).
    """
    code = pool_single_units(strata)
    size = np.bincount(code).astype(float)
    onehot = sparse.csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(len(size), len(code)))
    both = pairs + pairs.T
    rows = (both @ onehot.T).toarray()  # (G, S): sum of each unit's pairs with each stratum
    total, main = onehot @ rows, onehot @ rows**2
    squares = (onehot @ both.power(2) @ onehot.T).toarray()
    n, m = size[:, None], size[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = squares - main / m - main.T / n + total**2 / (n * m)
        between *= n * m / ((n - 1) * (m - 1))
        mean = total.diagonal() / (size * (size - 1))
        slope = (main.diagonal() - size * (size - 1) ** 2 * mean**2) / (size - 2)
        within = squares.diagonal() / 2 - mean**2 * size * (size - 1) / 2 - slope
        within *= (size - 1) / (size - 3)
    return float(np.triu(between, 1).sum() + within[size > 3].sum())


def pool_single_units(strata: np.ndarray) -> np.ndarray:
    """Return strata of at least two units, coded from 0: single ones are pooled, a last one joins the smallest."""
    code, size = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    code = np.unique(np.where(size[code] == 1, len(size), code), return_inverse=True)[1]
    size = np.bincount(code)
    if len(size) > 1 and size[-1] == 1:
        code = np.where(code == len(size) - 1, np.argmin(size[:-1]), code)
    return np.asarray(code)


def variance_of(influence: Influence) -> tuple[float, float]:
    """Return variance and degrees of freedom of an estimate from what its units add to it.

    The part that belongs to pairs of units is taken off once, because a jackknife meets it twice; at most half of the
    variance, all that pairs alone can make.
    """
    used = influence.strata >= 0
    strata = influence.strata[used]
    variance, df = stratified_variance(influence.effects[used], strata)
    if influence.pairs is not None:
        pairs = influence.pairs[used][:, used]
        twice = sparse.triu(pairs, 1).power(2).sum() if influence.pairs_are_residuals else pair_variance(pairs, strata)
        variance = max(variance - float(twice), variance / 2)
    return variance * influence.inflation, df


def interval_of(
    value: float, influence: Influence, unit: str, *, index: bool = True, largest_share: float | None = None
) -> tuple[float, float, str]:
    """Return the 95 % interval of an estimate and how it was found.

    Parameters
    ----------
    value
        The estimate.
    influence
        What each unit adds to it.
    unit
        Name of the unit, for the note.
    index
        Whether the estimate lies between 0 and 1: then the interval is symmetric on the logit scale.
    largest_share
        Largest share of the list entries counted that one unit is met in: gives an index of exactly 0 or 1 the
        one-sided bound of :func:`faultless_bound`.
    """
    variance, df = variance_of(influence)
    if index and largest_share is not None and not 0 < value < 1:
        spread = t_quantile(df) * variance**0.5 if variance > 0 else 0.0  # exceptions may wait just beyond the lists
        reach = max(1 - faultless_bound(largest_share), spread)
        note = f"one-sided: no exception was met; one {unit} is met in at most {largest_share:.1%} of what is counted"
        return max(0.0, value - reach), min(1.0, value + reach), note
    if not variance > NO_SPREAD:  # for instance all typed neighbours are SO
        return float("nan"), float("nan"), no_spread(unit)
    once = "" if influence.pairs is None else ", pairs counted once"
    note = f"delete-one-{unit} jackknife within cells{once}, t with {df:.0f} degrees of freedom"
    if index:
        return *t_interval(value, variance, df), note
    half = t_quantile(df) * variance**0.5
    return value - half, value + half, note


def no_spread(unit: str, what: str = "value") -> str:
    """Say why there is no interval where the variance is none."""
    return f"none: the {what} is the same whichever {unit} is left out, so its spread is unknown"


def faultless_bound(largest_share: float) -> float:
    """Return the lower 97.5 % bound of an index over neighbour lists whose every observation is 1.

    Suppose each unit is an exception with some probability, and that an exception spoils at most the entries in which
    it is met, as query or as neighbour. No exception was met; among all probabilities with which that happens at least
    2.5 % of the time, the expected damage is at most ``-log(0.025)`` = 3.7 times the largest share: the rule of three.
    With G equal units that share is 2 / G, because an entry has two units. Nothing can be said of exceptions that spoil
    more than any unit seen is met in.

    Parameters
    ----------
    largest_share
        Largest share of what is counted that one unit is met in.
    """
    return max(0.0, 1 + math.log((1 - level_in_force()) / 2) * largest_share)


def t_quantile(df: float) -> float:
    """Return the quantile of t that leaves half the error in force above: 2.5 %."""
    from scipy.stats import t

    return float(t.ppf((1 + level_in_force()) / 2, df))


def t_interval(value: float, variance: float, df: float) -> tuple[float, float]:
    """Return the 95 % t interval of an index between 0 and 1.

    It is built on the logit scale: near 0 and 1 the estimate is skewed, and the symmetric interval covers 91 %.
    At exactly 0 or 1 there is no logit: then symmetric, cut at 0 and 1.
    """
    from scipy.special import expit, logit

    half = t_quantile(df) * variance**0.5
    if not 0 < value < 1:
        return max(0.0, value - half), min(1.0, value + half)
    centre, half = logit(value), half / (value * (1 - value))
    return float(expit(centre - half)), float(expit(centre + half))
