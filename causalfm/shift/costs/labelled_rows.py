"""Scored rows with known hits, their rates in classes and sites, and rates as estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.results import Estimate
from causalfm.shift.costs.label_free_estimators import Scored
from causalfm.shift.costs.rates import NOTHING, Rate, difference, rate
from causalfm.shift.domains import Domains
from causalfm.shift.temperatures import scored

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Scored rows whose hits are known, with classes and sites."""

    rows: Scored
    classes: np.ndarray
    sites: np.ndarray
    chance: float | None

    @classmethod
    def of(cls, domains: Domains, rows: Scored, deployed: bool, chance: float | None) -> Labelled:
        """Keep the rows with a known hit; patients weigh the same by these."""
        domain = domains.deployment if deployed else domains.reference
        known = np.flatnonzero(~np.isnan(rows.hit))
        if not len(known):
            nothing = Scored(rows.probabilities[:0], rows.hit[:0], rows.units[:0], rows.weights[:0])
            return cls(nothing, domain.labels[:0], domain.sites[:0], chance)
        kept = rows[known]
        kept = Scored(kept.probabilities, kept.hit, kept.units, 1.0 / np.bincount(kept.units)[kept.units])
        return cls(kept, domain.labels[known], domain.sites[known], chance)

    def rows_of(self, mask: np.ndarray) -> Scored:
        """Return some of the rows."""
        return some_of(self.rows, mask)

    def held(self, k: int) -> int:
        """Count the patients of a class."""
        return len(np.unique(self.rows.units[self.classes == k]))

    def rate(self, mask: np.ndarray | None = None) -> Rate:
        """Return the accuracy of the rows, or of some of them."""
        rows = self.rows if mask is None else some_of(self.rows, mask)
        return rate(rows.hit, rows.units, rows.weights, chance=self.chance)

    def balanced(self, codes: list[int], share: np.ndarray | None = None) -> Rate:
        """Return the mean recall of some classes."""
        return self.standardised(self.classes, codes, share)

    def standardised(self, strata: np.ndarray, codes: list[int], share: np.ndarray | None = None) -> Rate:
        """Return the weighted mean of the accuracies within strata."""
        mask = np.isin(strata, codes)
        if not mask.any():
            return NOTHING
        rows = some_of(self.rows, mask)
        cell = np.searchsorted(codes, strata[mask])
        return rate(rows.hit, rows.units, rows.weights, cell=cell, share=share, chance=self.chance)


def pooled_drop(domains: Domains, level: float | None = None) -> tuple[float, float, float]:
    """Return the drop in accuracy between all labelled patients, and its interval: one for all that speak of it."""
    chance = 1.0 / len(domains.classes) if domains.refitted else None
    known = Labelled.of(domains, scored(domains.reference, domains.reference.scores), False, chance)
    here = Labelled.of(domains, scored(domains.deployment, domains.deployment.scores), True, None)
    return difference(known.rate(), here.rate(), level)


def some_of(rows: Scored, mask: np.ndarray) -> Scored:
    """Select rows and keep their units' codes and weights."""
    return Scored(rows.probabilities[mask], rows.hit[mask], rows.units[mask], rows.weights[mask])


def estimate_of(name: str, found: Rate, unit: str, chance: float = NAN, **details: Any) -> Estimate:
    """Return a rate as an estimate, with a reason where there are no labels."""
    if not found.n_units:
        details.setdefault("reason", "cannot tell: no labels")
    low, high = found.interval()
    return Estimate(
        name, found.value, low, high, chance, found.n_units, found.n_units, unit, {"effective": found.size, **details}
    )


def difference_of(
    name: str, first: Rate, second: Rate, unit: str, level: float | None = None, **details: Any
) -> Estimate:
    """Return first less second as an estimate; rows and units are those of the second."""
    if not min(first.n_units, second.n_units):
        details.setdefault("reason", "cannot tell: no labels")
    n = second.n_units
    return Estimate(name, *difference(first, second, level), 0.0, n, n, unit, details)
