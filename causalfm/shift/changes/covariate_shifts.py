"""How the columns of the table differ: covariates and technical factors, beside what hospitals differ anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort
from causalfm.confidence import level_in_force, usual_alpha
from causalfm.invariance.methods import METHODS, Question
from causalfm.invariance.several import holm
from causalfm.norms import SquaredNorm
from causalfm.results import Estimate, Result, Verdict, worst
from causalfm.shift.changes.drift_distances import SiteDistances, site_distances
from causalfm.shift.changes.drift_patients import SIDES, by_site, patients_drawn
from causalfm.shift.changes.drift_results import judged, new_site_words
from causalfm.shift.domains import Domain, Domains

MOST = 20_000  # patients of each domain
TOLERATED = {"standardised difference": 0.5, "Cramer's V": 0.3}  # medium effects (Cohen 1988): below, a pass
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class ColumnShift(Result):
    """How one column differs between reference and deployment.

    Attributes
    ----------
    column, role, kind
        Name, ``"covariate"`` or ``"technical"``, kind on the graph.
    size
        A continuous column: difference of the patients' means in standard deviations of the reference's patients. Else
        Cramer's V of the two cohorts, weighing the same, against the levels, debiased. Interval over patients.
    p_value, p_adjusted
        Permutation of patients between the cohorts; the second corrected over all columns (Holm).
    limit, p_new_site
        95 % prediction limit of the size for one more hospital, and the probability of one as large; ``nan`` under
        five hospitals.
    verdict
        ``"fail"``: more than one more hospital would differ (Holm over the columns). ``"pass"``: the interval is below
        that, or below a medium effect (half a standard deviation, V of .3).
    sentence
        The result in words.
    unseen
        ``{level: {"rows": ..., "patients": ...}}`` of levels that the reference does not have.
    """

    column: str
    role: str
    kind: str
    size: Estimate
    p_value: float
    p_adjusted: float
    limit: float
    p_new_site: float
    verdict: Verdict
    sentence: str
    unseen: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this column."""
        size = {"size": self.size.value, "low": self.size.low, "high": self.size.high}
        names = ("p_value", "p_adjusted", "limit", "p_new_site", "verdict", "sentence")
        row = {"column": self.column, "role": self.role, "measure": self.size.name, **size}
        return [row | {name: getattr(self, name) for name in names}]


@dataclass(frozen=True, eq=False)
class ColumnShifts(Result):
    """All columns of the graph but biology, site and units.

    Attributes
    ----------
    columns
        One for each.
    verdict, sentence
        The worst of them.
    details
        Columns that the deployment lacks, patients left out.
    """

    columns: tuple[ColumnShift, ...]
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per column."""
        return [row for column in self.columns for row in column.rows()]


@dataclass(frozen=True, eq=False)
class _Seen:
    column: str
    role: str
    kind: str
    values: np.ndarray  # (G, L): of all patients, laid out so that a squared distance is the squared size
    new: np.ndarray
    obs: pd.DataFrame
    unseen: dict[str, dict[str, int]]


def column_shifts(
    domains: Domains, *, n_permutations: int = 999, deciding: Sequence[str] | None = None
) -> ColumnShifts:
    """Compare covariates and technical columns between the cohorts.

    Parameters
    ----------
    domains
        Reference and deployment.
    n_permutations
        Of the patients between the cohorts.
    deciding
        Columns that the verdict and the sentence are about; None for all.

    Returns
    -------
    ColumnShifts
        Every column with its size, interval and verdict.

    Notes
    -----
    A column is laid out as an embedding (a number over its standard deviation, or indicators of its levels scaled so
    that a squared distance is Cramer's V squared) and asked as the embedding is: the ``mean`` invariance test of the
    cohort, and the distance beside those of the reference's hospitals from each other. Patients weigh equally, rows
    within them too. Of more than 20,000 patients in a domain that many are drawn, evenly over its hospitals.
    """
    check_whole(n_permutations, "n_permutations", 19)
    graph = domains.graph
    names = [*graph.covariates, *(name for name in graph.technical if name != domains.site)]
    there = [name for name in names if name in domains.deployment.cohort.obs.columns]
    sides = (domains.reference, domains.deployment)
    kept = [patients_drawn(side, MOST, domains.random_state) for side in sides]
    seen = [_seen(domains, name, kept) for name in there]
    tests = [_measured(domains, one, n_permutations) for one in seen]
    adjusted = holm([p for p, _ in tests])
    new_site = holm([found.p_value for _, found in tests])
    columns = tuple(
        _shift(domains, one, found, (p, float(a)), float(b))
        for one, (p, found), a, b in zip(seen, tests, adjusted, new_site, strict=True)
    )
    counted = names if deciding is None else [name for name in names if name in deciding]
    missing = [name for name in counted if name not in there]
    verdict = worst([column.verdict for column in columns if column.column in counted])
    telling = [column.sentence for column in columns if column.verdict == verdict and column.column in counted]
    if missing and verdict != "fail":
        verdict, telling = "cannot tell", [f"The deployment has no column {', '.join(missing)}."]
    sentence = " ".join(telling) if telling else "The graph has no covariate and no technical factor beside the site."
    left = {name: int((~keep).sum()) for name, keep in zip(SIDES.tolist(), kept, strict=True)}
    return ColumnShifts(columns, verdict, sentence, {"missing": missing, "left_out": left})


def unseen_levels(domains: Domains, name: str) -> dict[str, dict[str, int]]:
    """Rows and patients of the deployment at levels of a column that the reference does not have."""
    known = set(domains.reference.cohort.factor(name).levels)
    factor = domains.deployment.cohort.factor(name)
    out = {}
    for code, level in enumerate(factor.levels):
        rows = factor.codes == code
        if level not in known and rows.any():
            out[level] = {"rows": int(rows.sum()), "patients": len(np.unique(domains.deployment.units[rows]))}
    return out


def _seen(domains: Domains, name: str, kept: list[np.ndarray]) -> _Seen:
    graph, sides = domains.graph, (domains.reference, domains.deployment)
    kind, role = graph.kind(name, domains.reference.cohort), "technical" if name in graph.technical else "covariate"
    unseen: dict[str, dict[str, int]] = {}
    if kind == "continuous":
        parts = [_means(side, side.cohort.numeric(name)[:, None])[keep] for side, keep in zip(sides, kept, strict=True)]
        spread = float(parts[0].std(ddof=1)) or 1.0
        values = np.concatenate(parts) / spread
    else:
        factors = [side.cohort.factor(name) for side in sides]
        levels = sorted(set(factors[0].levels) | set(factors[1].levels))
        parts = []
        for side, factor, keep in zip(sides, factors, kept, strict=True):
            codes = np.array([levels.index(level) for level in factor.levels])[factor.codes]
            parts.append(_means(side, np.eye(len(levels))[codes])[keep])
        middle = np.maximum((parts[0].mean(axis=0) + parts[1].mean(axis=0)) / 2.0, 1e-300)
        values = np.concatenate(parts) / (2.0 * np.sqrt(middle))
        if len(levels) == 2:  # one number: the shares add up to 1
            values = np.concatenate(parts)[:, 1:] / (2.0 * np.sqrt(middle.prod()))
        unseen = unseen_levels(domains, name)
    obs = []
    for at, (side, keep) in enumerate(zip(sides, kept, strict=True)):
        first = np.unique(side.units, return_index=True)[1][keep]
        site = pd.Series(domains.sites, dtype=str).to_numpy()[side.sites[first]].astype(str)
        columns = {domains.site: np.char.add(f"{SIDES[at]}: ", site), "cohort ": str(SIDES[at])}
        obs.append(pd.DataFrame({**columns, graph.group: [f"{at}:{g}" for g in np.flatnonzero(keep)]}))
    new = np.repeat([False, True], [len(part) for part in parts])
    return _Seen(name, role, kind, values, new, pd.concat(obs, ignore_index=True), unseen)


def _means(side: Domain, values: np.ndarray) -> np.ndarray:
    """Means ``(G, L)`` over the rows of each patient of ``values (n, L)``."""
    sums = np.stack([np.bincount(side.units, column) for column in values.T], axis=1)
    return np.asarray(sums / np.bincount(side.units)[:, None])


def _measured(domains: Domains, one: _Seen, n_permutations: int) -> tuple[float, SiteDistances]:
    from causalfm.shift.changes.drift_patients import PatientTable

    cohort = Cohort(one.values, one.obs, {})
    part = PatientTable(cohort, "cohort ", one.new, np.zeros(len(one.new), dtype=bool), {})
    units, new = by_site(part, domains.graph, domains.site, ())
    found = site_distances(units, new)
    if not np.ptp(one.values, axis=0).any() or min(one.new.sum(), (~one.new).sum()) < 2:
        return NAN, found
    asked = Question(cohort, domains.graph, ("cohort ",), (), n_permutations, domains.random_state)
    return float(METHODS["mean"](asked).p_value), found


def _shift(
    domains: Domains, one: _Seen, found: SiteDistances, p: tuple[float, float], p_new_site: float
) -> ColumnShift:
    unit, number = domains.graph.group, one.kind == "continuous"
    name = "standardised difference" if number else "Cramer's V"
    value, low, high = NAN, NAN, NAN
    if one.values.shape[1] == 1:
        value, low, high = _difference(one.values[:, 0], one.new)
        if not number:  # two levels: a size without sign
            low, high = max(low, -high, 0.0), min(max(-low, high), 1.0)
    elif found.new is not None:
        low, high = np.sqrt(np.clip(_interval(found.new), 0.0, 1.0)).tolist()
    if not number and found.new is not None:
        value = float(np.sqrt(np.clip(found.new.value, 0.0, 1.0)))
    limit = float(np.sqrt(max(found.limit, 0.0))) if not np.isnan(found.limit) else NAN
    if not number:
        limit = min(limit, 1.0)
    verdict = judged(found.p_value, max(abs(low), abs(high)), limit, TOLERATED[name])
    if verdict == "fail" and p_new_site > usual_alpha():
        verdict = "cannot tell"
    counted = int(np.isfinite(found.reference).sum())
    words = f"; the deployment has too few {unit}s to compare it with each {domains.site}."
    if found.new is not None:
        words = new_site_words(verdict, found.p_value, limit, counted, domains.site)
    sentence = f"{one.column}: {name} {value:.2f}{_told(low, high, p[1])}{words}"
    if one.unseen:
        listed = "; ".join(f"{level}: {n['rows']} rows of {n['patients']} {unit}s" for level, n in one.unseen.items())
        sentence += f" Levels that the reference does not have: {listed}."
    size = Estimate(name, value, low, high, 0.0, len(one.new), len(one.new), unit, {"target": "these sites"})
    return ColumnShift(one.column, one.role, one.kind, size, *p, limit, found.p_value, verdict, sentence, one.unseen)


def _told(low: float, high: float, p: float) -> str:
    """Write interval and p-value, as far as there are any."""
    told = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return told if np.isnan(p) else f"{told} (p = {p:.3g} over all columns)"


def _interval(norm: SquaredNorm) -> tuple[float, float]:
    """Interval of a squared norm; shares can agree exactly, and then all noise is taken to lie along one direction."""
    from scipy import stats

    if norm.observed <= 1e-12 * norm.noise:
        return 0.0, round(float(stats.norm.ppf(0.5 + level_in_force() / 2.0)), 2) ** 2 * norm.noise
    return norm.interval()


def _difference(values: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Difference of means with Welch's interval."""
    from scipy import stats

    a, b = values[new], values[~new]
    if min(len(a), len(b)) < 2:
        return float(a.mean() - b.mean()), NAN, NAN
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    difference = float(a.mean() - b.mean())
    if va + vb <= 0.0:
        return difference, difference, difference
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    reach = float(stats.t.ppf(0.5 + level_in_force() / 2.0, df) * np.sqrt(va + vb))
    return difference, difference - reach, difference + reach
