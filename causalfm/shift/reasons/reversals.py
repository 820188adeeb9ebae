"""Simpson's reversal: the pooled drop beside the drop within classes, sites and other technical levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from causalfm.confidence import alpha_in_force, level_in_force
from causalfm.results import Result, Verdict, worst
from causalfm.shift.costs.labelled_rows import pooled_drop
from causalfm.shift.domains import Domains
from causalfm.shift.reasons.attribution_result import interval
from causalfm.shift.reasons.swap_table import DEPLOYMENT, REFERENCE, SwapTable, swap_table

MINIMUM = 5  # units of a level in each domain
NAN = float("nan")


@dataclass(frozen=True)
class WithinDrop:
    """The drop within the levels of one column, at the deployment's shares of these levels.

    Attributes
    ----------
    column, value, low, high
        Column, drop and joint 95 % interval (Bonferroni over the columns); ``nan`` where no level can be compared.
    levels
        Levels compared, with the drop in each: ``(level, drop, low, high)``, 95 % each.
    left_out
        Levels of either domain with fewer than five units in the other.
    verdict
        ``"fail"``: clear of 0, with the sign opposite to the pooled drop's; ``"pass"``: clear of 0, as the pooled one,
        or both below the margin.
    hidden
        Whether it is a loss clear of 0 where the pooled drop is not.
    """

    column: str
    value: float
    low: float
    high: float
    levels: tuple[tuple[str, float, float, float], ...]
    left_out: tuple[str, ...]
    verdict: Verdict
    hidden: bool


@dataclass(frozen=True)
class Reversals(Result):
    """Whether the drop has another sign within levels than pooled.

    Attributes
    ----------
    drop, low, high
        Pooled drop in accuracy with its 95 % interval.
    within
        The same within the levels of each column.
    found
        Columns within whose levels the sign is reversed.
    verdict
        ``"fail"`` where one is found; ``"pass"`` where every column agrees with the pooled drop, both clear of 0, or
        both are below the margin.
    sentence
        In words.
    n, n_groups, unit
        Labelled rows, independent units, and what they are.
    details
        Settings.
    """

    drop: float
    low: float
    high: float
    within: tuple[WithinDrop, ...]
    found: tuple[str, ...]
    verdict: Verdict
    sentence: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the pooled drop and one row per column."""
        pooled = {"within": "", "value": self.drop, "low": self.low, "high": self.high, "verdict": self.verdict}
        names = ("value", "low", "high", "verdict")
        return [pooled, *({"within": w.column, **{name: getattr(w, name) for name in names}} for w in self.within)]


def sign_reversals(domains: Domains, *, margin: float | None = None) -> Reversals:
    """Compare the pooled drop in accuracy with the drop within classes and technical levels.

    Parameters
    ----------
    domains
        Reference and deployment; labelled rows count.
    margin
        Loss that does not count: where neither the pooled drop nor that within levels can be as large, nothing is
        hidden, whatever the signs.

    Returns
    -------
    Reversals
        Over the biology and every categorical technical factor. A column is left without a number where no level has
        five units in both domains: a new site has none.
    """
    graph = domains.graph
    columns = [graph.biology, *graph.technical]
    n = int(domains.reference.known.sum() + domains.deployment.known.sum())
    labelled = len(np.unique(domains.deployment.units[domains.deployment.known]))
    units = int(domains.reference.units.max()) + 1 + labelled
    details = {"minimum": MINIMUM, "labelled": labelled, "shares": "the deployment's", "margin": margin}
    if labelled < MINIMUM:
        words = f"Cannot tell: {labelled} {graph.group}s of the deployment are labelled."
        return Reversals(NAN, NAN, NAN, (), (), "cannot tell", words, n, units, graph.group, details)
    table = swap_table(domains, columns)
    columns = [column for column in columns if column in table.levels]
    pooled = pooled_drop(domains)
    within = tuple(_within(table, column, pooled, 1.0 - alpha_in_force() / len(columns), margin) for column in columns)
    found = tuple(w.column for w in within if w.verdict == "fail")
    told = [w for w in within if w.value == w.value]
    verdict = worst([w.verdict for w in told])
    words = _sentence(pooled, told, found)
    if verdict == "cannot tell" and told:
        words += " The signs are not told from chance."
    elif told and margin is not None and max(pooled[2], *(w.high for w in told)) < margin:
        words += f" None can be a loss of {margin:g}."
    return Reversals(*pooled, within, found, verdict, words, n, units, graph.group, details)


def _sentence(pooled: tuple[float, float, float], told: list[WithinDrop], found: tuple[str, ...]) -> str:
    listed = "; ".join(f"{interval(w.value, w.low, w.high)} within {w.column}" for w in told) or "no level is in both"
    words = f"Drop in accuracy {interval(*pooled)} pooled; {listed}."
    if found:
        words += f" The sign is reversed within {', '.join(found)}: the pooled drop is one of mixture."
    hidden = [w.column for w in told if w.hidden]
    return words + (f" Pooling hides the loss within {', '.join(hidden)}." if hidden else "")


def _within(
    table: SwapTable, column: str, pooled: tuple[float, float, float], level: float, margin: float | None
) -> WithinDrop:
    names = table.levels[column]
    codes = np.asarray(table.columns[column])
    held = np.zeros((2, len(names)), dtype=np.int64)
    for domain in (REFERENCE, DEPLOYMENT):
        rows = table.domain == domain
        pairs = np.unique(np.stack([codes[rows], table.units[rows]]), axis=1)[0]
        held[domain] = np.bincount(pairs, minlength=len(names))
    usable = np.asarray((held >= MINIMUM).all(axis=0))
    left_out = tuple(names[i] for i in np.flatnonzero(~usable & held.any(axis=0)))
    if not usable.any():
        return WithinDrop(column, NAN, NAN, NAN, (), left_out, "cannot tell", False)
    value, low, high = _estimate(*_standardised(table, codes, usable[codes]), table, level)
    each = []
    for i in np.flatnonzero(usable):
        alone = _standardised(table, np.zeros(len(codes), dtype=np.int64), codes == i)
        each.append((names[i], *_estimate(*alone, table, level_in_force())))
    clear, pooled_clear = low > 0.0 or high < 0.0, pooled[1] > 0.0 or pooled[2] < 0.0
    same = (value > 0.0) == (pooled[0] > 0.0)
    verdict: Verdict = "cannot tell" if not (clear and pooled_clear) else "pass" if same else "fail"
    if verdict == "cannot tell" and margin is not None and max(high, pooled[2]) < margin:
        verdict = "pass"
    return WithinDrop(
        column, value, low, high, tuple(each), left_out, verdict, bool(low > 0.0 and pooled[1] <= 0.0 <= pooled[2])
    )


def _standardised(table: SwapTable, strata: np.ndarray, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Drop within strata at the deployment's shares, over a mask of items, and its influence by unit."""
    reference, deployment = (rows & (table.domain == side) for side in (REFERENCE, DEPLOYMENT))
    w, hit, size = table.weights, table.loss, int(strata.max()) + 1
    count = np.bincount(strata[reference], w[reference], size)
    total = np.bincount(strata[reference], (w * hit)[reference], size)
    means = total / np.where(count > 0.0, count, 1.0)
    share = np.bincount(strata[deployment], w[deployment], size) / w[deployment].sum()
    gaps = means[strata[deployment]] - hit[deployment]
    value = float(np.average(gaps, weights=w[deployment]))
    units = int(table.units.max()) + 1
    here = w * (hit - means[strata]) * (share / np.where(count > 0.0, count, 1.0))[strata]
    influence = np.bincount(table.units[reference], here[reference], units)
    influence += np.bincount(table.units[deployment], w[deployment] * (gaps - value), units) / w[deployment].sum()
    return value, influence


def _estimate(value: float, influence: np.ndarray, table: SwapTable, level: float) -> tuple[float, float, float]:
    """Return value and interval; without any error it has the width of one more error in each domain."""
    variance = floor = squares = 0.0
    seen = 0
    for side in (REFERENCE, DEPLOYMENT):
        mine = influence[np.unique(table.units[table.domain == side])]
        if (mine != 0.0).any():
            mine = mine[mine != 0.0]
        part = float((mine**2).sum()) * len(mine) / max(len(mine) - 1, 1)
        variance, floor, seen = variance + part, floor + 1.0 / (len(mine) + 2.0) ** 2, seen + len(mine)
        squares += part**2 / max(len(mine) - 1, 1)
    df = max(min(variance**2 / max(squares, 1e-60), seen - 2), 1.0) if variance else max(seen - 2, 1)
    half = float(stats.t.ppf(0.5 + level / 2.0, df)) * max(variance, floor if variance < 1e-12 else 0.0) ** 0.5
    return value, value - half, value + half
