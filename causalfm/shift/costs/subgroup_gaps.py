"""Accuracy in the levels of one column: the worst of them, the largest gap, and what remains of it within strata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from causalfm.confidence import bounds_in_force, level_in_force
from causalfm.results import Estimate, Result, Verdict, verdict_against
from causalfm.shift.costs.labelled_rows import Labelled, difference_of, estimate_of
from causalfm.shift.costs.rates import NOTHING, Rate, difference

NAN = float("nan")


@dataclass(frozen=True)
class SubgroupPerformance(Result):
    """Accuracy in the subgroups of one column.

    Attributes
    ----------
    column
        The column.
    domain
        ``"deployment"`` where it has labels, else ``"reference"`` (patients held out); ``"cohort"`` without one.
    groups
        Accuracy per level; ``nan`` with ``details["reason"]`` below the minimum; ``details["drop"]`` against the same
        level of the reference.
    worst
        The level with the least accuracy, with joint bounds for the least of all levels, whichever it is.
    gap
        Best less worst level, with joint bounds for the largest difference of any two levels.
    gap_fixed_class, gap_fixed_site_and_class
        The same two levels, compared within classes, and within sites and classes, that both hold.
    verdict
        Of the gap against ``margin``.
    sentence
        The result in words.
    details
        ``"edges"`` of bands, ``"margin"``, cells compared.
    """

    column: str
    domain: str
    groups: tuple[Estimate, ...]
    worst: Estimate
    gap: Estimate
    gap_fixed_class: Estimate
    gap_fixed_site_and_class: Estimate
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per quantity, with the column."""
        parts = (*self.groups, self.worst, self.gap, self.gap_fixed_class, self.gap_fixed_site_and_class)
        return [{"column": self.column, **row} for part in parts for row in part.rows()]


@dataclass(frozen=True, eq=False)
class Side:
    """Labelled rows with the level of each; -1 where the column is empty."""

    levels: tuple[str, ...]
    rows: Labelled
    codes: np.ndarray

    def patients(self, mask: np.ndarray) -> int:
        """Count the patients of some rows."""
        return len(np.unique(self.rows.rows.units[mask]))

    def rate(self, level: int, minimum: int) -> Rate:
        """Return the accuracy at a level; nothing below the minimum of patients."""
        mask = self.codes == level
        return self.rows.rate(mask) if self.patients(mask) >= minimum else NOTHING


def judged(
    column: str,
    domain: Literal["deployment", "reference", "cohort"],
    unit: str,
    side: Side,
    other: Side | None,
    margin: float | None,
    minimum: int,
    cuts: list[float],
) -> SubgroupPerformance:
    """Compare the levels of one column.

    Parameters
    ----------
    column, domain, unit
        Names.
    side
        Rows judged.
    other
        The reference's rows, where the deployment's are judged.
    margin, minimum
        As in :func:`causalfm.shift.subgroup_performance`.
    cuts
        Edges of bands.

    Returns
    -------
    SubgroupPerformance
        The result.
    """
    groups, rates = [], {}
    for k, level in enumerate(side.levels):
        found = side.rate(k, minimum)
        about: dict[str, Any] = {"level": level}
        if not found.n_units:
            n = side.patients(side.codes == k)
            about["reason"] = f"cannot tell: {n} labelled {unit}s, of {minimum} that are needed"
        else:
            rates[k] = found
        if other is not None:
            about["drop"] = difference_of(f"drop for {level}", other.rate(k, minimum), found, unit)
        groups.append(estimate_of(f"accuracy for {level}", found, unit, **about))
    if len(rates) < 2:
        return _not_told(column, domain, tuple(groups), unit, f"fewer than two levels with {minimum} {unit}s")
    low, high = min(rates, key=lambda k: rates[k].value), max(rates, key=lambda k: rates[k].value)
    names = side.levels[low], side.levels[high]
    gap = _largest_gap(rates, names, unit, level_in_force())
    bounds = _largest_gap(rates, names, unit, bounds_in_force())
    joint = 1.0 - (1.0 - level_in_force()) / gap.details["pairs"]
    classes = int(side.rows.classes.max()) + 1
    fixed = [
        _standardised(side, (low, high), strata, minimum, unit, name, joint)
        for name, strata in (
            ("class", side.rows.classes),
            ("site and class", side.rows.sites * classes + side.rows.classes),
        )
    ]
    verdict: Verdict = "cannot tell" if margin is None else verdict_against(bounds.low, bounds.high, margin)
    details = {"edges": cuts, "margin": margin, "missing_rows": int((side.codes < 0).sum()), "levels": names}
    sentence = _sentence(column, names, gap, fixed, verdict, margin)
    if domain == "reference":
        sentence = f"No label of the deployment is known; in the reference: {sentence[0].lower()}{sentence[1:]}"
    worst = _worst(rates, names[0], unit)
    return SubgroupPerformance(
        column, domain, tuple(groups), worst, gap, fixed[0], fixed[1], verdict, sentence, details
    )


def _worst(rates: dict[int, Rate], name: str, unit: str) -> Estimate:
    """Return the least accuracy; bounds of the least of all levels, each bounded with its part of the error."""
    joint = [r.interval(1.0 - (1.0 - level_in_force()) / len(rates)) for r in rates.values()]
    least = min(rates.values(), key=lambda r: r.value)
    details = {"level": name, "levels": len(rates)}
    ends = min(low for low, _ in joint), min(high for _, high in joint)
    return Estimate("least accuracy", least.value, *ends, NAN, least.n_units, least.n_units, unit, details)


def _largest_gap(rates: dict[int, Rate], names: tuple[str, str], unit: str, level: float) -> Estimate:
    pairs = list(combinations(rates.values(), 2))
    found = [difference(a, b, 1.0 - (1.0 - level) / len(pairs)) for a, b in pairs]
    value = max(abs(f[0]) for f in found)
    low = max(max(f[1], -f[2], 0.0) for f in found)  # some pair differs by at least this much
    high = max(max(f[2], -f[1]) for f in found)
    n = sum(r.n_units for r in rates.values())
    return Estimate("largest gap", value, low, high, NAN, n, n, unit, {"levels": names, "pairs": len(pairs)})


def _standardised(
    side: Side, pair: tuple[int, int], strata: np.ndarray, minimum: int, unit: str, name: str, level: float
) -> Estimate:
    """Return best less worst level over the strata in which both have the minimum of patients."""
    units, kept, held = side.rows.rows.units, [], []
    for stratum in np.unique(strata):
        counts = [side.patients((strata == stratum) & (side.codes == one)) for one in pair]
        if min(counts) >= minimum:
            kept.append(int(stratum))
            held.append(sum(counts))
    inside = np.isin(strata, kept) & np.isin(side.codes, pair)
    details = {"strata": len(kept), "left_out_strata": len(np.unique(strata)) - len(kept), "levels": pair}
    details["covered"] = len(np.unique(units[inside])) / max(side.patients(np.isin(side.codes, pair)), 1)
    title = f"gap within {name.replace('class', 'classes').replace('site', 'sites')}"
    if not kept:
        details["reason"] = f"cannot tell: no {name} in which both levels have {minimum} {unit}s"
        return Estimate(title, NAN, NAN, NAN, 0.0, 0, 0, unit, details)
    share = np.array(held) / sum(held)
    rates = []
    for one in (pair[1], pair[0]):
        mask = side.codes == one
        part = Labelled(side.rows.rows_of(mask), side.rows.classes[mask], side.rows.sites[mask], side.rows.chance)
        rates.append(part.standardised(strata[mask], kept, share))
    return difference_of(title, rates[0], rates[1], unit, level=level, **details)


def _not_told(column: str, domain: str, groups: tuple[Estimate, ...], unit: str, reason: str) -> SubgroupPerformance:
    nothing = [
        Estimate(name, NAN, NAN, NAN, NAN, 0, 0, unit, {"reason": f"cannot tell: {reason}"})
        for name in ("least accuracy", "largest gap", "gap within classes", "gap within sites and classes")
    ]
    sentence = f"Accuracy cannot be compared between levels of {column}: {reason}."
    worst, gap, by_class, by_site = nothing
    return SubgroupPerformance(column, domain, groups, worst, gap, by_class, by_site, "cannot tell", sentence)


def _sentence(
    column: str,
    names: tuple[str, str],
    gap: Estimate,
    fixed: list[Estimate],
    verdict: Verdict,
    margin: float | None,
) -> str:
    text = (
        f"By {column}, accuracy is least for {names[0]} and best for {names[1]}: a gap of {gap.value:.2f} "
        f"[{gap.low:.2f}, {gap.high:.2f}] for any two levels"
    )
    for estimate, words in zip(fixed, ("the case mix", "where the patients are seen"), strict=True):
        again = estimate is not fixed[0] and (estimate.value, estimate.low) == (fixed[0].value, fixed[0].low)
        if np.isfinite(estimate.value) and not again:  # one site: the same number
            text += f"; {estimate.name} {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
            if gap.low > 0.0 and estimate.low <= 0.0 <= estimate.high:
                text += f", not told from 0: it may come with {words}"
            elif estimate.low > 0.0:
                text += ", so it remains"
    return text + (f". Against a largest acceptable gap of {margin:g}: {verdict}." if margin is not None else ".")
