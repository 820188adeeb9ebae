"""Drift: how far the new hospital's embeddings are from the reference, and whether that is more than hospitals differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_whole
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative
from causalfm.invariance.methods import METHODS, Question
from causalfm.norm_contrasts import fieller_of
from causalfm.norms import SquaredNorm
from causalfm.positivity import MIN_GROUPS
from causalfm.results import Estimate, Result, Verdict
from causalfm.shift.domains import Domains
from causalfm.shift.drift_distances import MIN_SITES, SiteDistances, class_distance, site_distances
from causalfm.shift.drift_patients import PatientTable, by_site, patient_table
from causalfm.strata import varies_within
from causalfm.units import patient_units

NAN = float("nan")
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Drift(Result):
    """One drift.

    Attributes
    ----------
    name
        ``"joint"``, ``"given ..."`` or ``"<biology>=<class>"``.
    given
        What it is given.
    method, statistic, p_value
        The invariance test of the column that tells the cohorts apart: whether these hospitals differ at all.
    distance
        Root of the squared distance between the mean embeddings, in root mean square distances between two classes of
        the reference; patients resampled, these hospitals.
    among
        The same of each reference hospital from the others (a squared distance below zero counts as zero); ``nan``
        where it has no patients to compare.
    limit
        95 % prediction limit of the distance of one more hospital like them; ``nan`` under five.
    p_new_site
        Probability that one more hospital like them is as far away; ``nan`` under five.
    verdict
        ``"fail"``: further away than that; ``"pass"``: the upper end of the interval is below the limit.
    sentence, details
        The result in words; what was left out.
    """

    name: str
    given: tuple[str, ...]
    method: str
    statistic: float
    p_value: float
    distance: Estimate
    among: tuple[float, ...]
    limit: float
    p_new_site: float
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this drift."""
        return [
            {
                "name": self.name,
                "distance": self.distance.value,
                "low": self.distance.low,
                "high": self.distance.high,
                "p_value": self.p_value,
                "limit": self.limit,
                "p_new_site": self.p_new_site,
                "verdict": self.verdict,
                "n_groups": self.distance.n_groups,
                "sentence": self.sentence,
            }
        ]


@dataclass(frozen=True, eq=False)
class Drifts(Result):
    """All drifts of one deployment.

    Attributes
    ----------
    parts
        Joint, and with labels given biology and covariates and class by class.
    verdict, sentence
        With labels of the drift given biology and covariates and of those within classes, Bonferroni-corrected; without,
        of the joint drift.
    details
        Patients used, covariates left out.
    """

    parts: tuple[Drift, ...]
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per drift."""
        return [row for part in self.parts for row in part.rows()]


def drift(domains: Domains, *, method: str = "mean", n_permutations: int = 499) -> Drifts:
    """Measure the drift of the embeddings: without labels jointly, with labels given biology and covariates.

    Parameters
    ----------
    domains
        Reference and deployment.
    method
        Of the invariance test, see :func:`causalfm.invariance_test`.
    n_permutations
        Of the patients between the cohorts.

    Returns
    -------
    Drifts
        One drift per question.

    Raises
    ------
    DataError
        An unknown method.

    Notes
    -----
    A new hospital always differs: with enough patients the test rejects for every hospital. The verdict therefore sets
    its distance against the distances of the reference's hospitals from each other
    (:func:`causalfm.shift.drift_distances.site_distances`). Patients are averaged and weigh equally; of more than 3,000
    in a domain that many are drawn, evenly over its hospitals.

    The joint drift holds case mix too and cannot be taken apart without labels. Given biology and covariates, it is the
    technical shift, or biology that was not declared.
    """
    if method not in METHODS:
        raise DataError(f"method={method!r} is unknown: use one of {', '.join(METHODS)}.")
    check_whole(n_permutations, "n_permutations", 19)
    table = patient_table(domains)
    given, dropped = usable_covariates(domains, table)
    biology = domains.graph.biology
    classes = class_distance(
        by_site(table.part(~table.new), domains.graph, domains.site, (biology, *given))[0], biology
    )
    ask = _Asked(table, domains, method, n_permutations, classes)
    parts = [ask.drift("joint", (), np.ones(len(table.new), dtype=bool))]
    if table.labelled[table.new].any():
        label = np.where(table.labelled, table.cohort.obs[biology].cat.codes.to_numpy(), -1)
        parts.append(ask.drift(f"given {', '.join((biology, *given))}", (biology, *given), table.labelled))
        parts += [ask.drift(f"{biology}={name}", given, label == c) for c, name in enumerate(domains.classes)]
    verdict, sentence = parts[0].verdict, parts[0].sentence
    if len(parts) == 1:
        sentence += f" Without labels case mix and technical shift are not separable: a change in {biology} counts too."
    else:
        verdict, sentence = _together(parts[1:])
    details = {"left_out": table.left_out, "covariates_left_out": dropped}
    return Drifts(tuple(parts), verdict, sentence, details)


def usable_covariates(domains: Domains, table: PatientTable) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the covariates that can be conditioned on, and why the others cannot."""
    usable, dropped = [], {}
    for name in domains.graph.covariates:
        if name not in table.cohort.obs.columns:
            dropped[name] = "the deployment has no such column"
            continue
        if domains.graph.kind(name, domains.reference.cohort) != "continuous" and any(
            varies_within(side.cohort.factor(name).codes, side.cohort.factor(domains.graph.group, private=True)).any()
            for side in (domains.reference, domains.deployment)
        ):
            dropped[name] = f"it takes several values within a {domains.graph.group}"
            continue
        usable.append(name)
    return tuple(usable), dropped


@dataclass(frozen=True, eq=False)
class _Asked:
    """What all questions share."""

    table: PatientTable
    domains: Domains
    method: str
    n_permutations: int
    classes: SquaredNorm | None

    def drift(self, name: str, given: Sequence[str], rows: np.ndarray) -> Drift:
        """Test and measure on some rows of the table."""
        part, graph = self.table.part(rows), self.domains.graph
        unit = graph.group
        n = part.cohort.obs.groupby(graph.group)[part.column].first().value_counts()
        few = [side for side in ("reference", "deployment") if n.get(side, 0) < MIN_GROUPS]
        if few:
            why = f"Cannot tell the drift {name}: the {few[0]} has fewer than {MIN_GROUPS} {unit}s here."
            return _none(name, given, self.method, why, part)
        statistic, p_value = test(part, graph, given, self.method, self.n_permutations, self.domains.random_state)
        found = site_distances(*by_site(part, graph, self.domains.site, given))
        return self._decide(name, given, part, (statistic, p_value), found)

    def _decide(
        self, name: str, given: Sequence[str], part: PatientTable, tested: tuple[float, float], found: SiteDistances
    ) -> Drift:
        unit, length = self.domains.graph.group, NAN
        value, low, high = NAN, NAN, NAN
        if found.new is not None and self.classes is not None:
            value, low, high = fieller_of(found.new, self.classes, 0.0)
            length = self.classes.value
        known = length > 0.0 and not np.isnan(value)
        if found.new is None:
            return _none(name, given, self.method, f"Cannot tell the drift {name}: nothing is comparable.", part)
        if not known:  # embedding units
            value, (low, high), length = found.new.value, found.new.interval(), 1.0
        numbers = [float(v) for v in np.sqrt(np.maximum([value, low, high], 0.0))]
        scale = "times the distance between classes" if known else "in embedding units (classes are not told apart)"
        limit = float(np.sqrt(max(found.limit, 0.0) / length)) if not np.isnan(found.limit) else NAN
        verdict = judged(found.p_value, numbers[2], limit)
        distance = Estimate(
            "distance", *numbers, chance=0.0, n=len(part.new), n_groups=_units(part, unit), unit=unit,
            details={"target": "these sites", "in_class_distances": known},
        )  # fmt: skip
        words = new_site_words(
            verdict, found.p_value, limit, int(np.isfinite(found.reference).sum()), self.domains.site
        )
        sentence = (
            f"Drift {name}: the deployment is {numbers[0]:.2f} ({numbers[1]:.2f} to {numbers[2]:.2f}) {scale} from the "
            f"reference (p = {tested[1]:.3g}){words}"
        )
        return Drift(
            name, tuple(given), self.method, *tested, distance,
            tuple(np.sqrt(np.maximum(found.reference, 0.0) / length).tolist()), limit, found.p_value, verdict, sentence,
            {"patients_in_small_cells": found.left_out},
        )  # fmt: skip


def _together(parts: Sequence[Drift]) -> tuple[Verdict, str]:
    """Decide by the drift given everything and those within classes, Bonferroni-corrected: any can show a shift."""
    main, p = parts[0], np.array([part.p_new_site for part in parts])
    if np.nanmin(p, initial=1.0) * len(p) <= ALPHA:
        first = parts[int(np.nanargmin(p))]
        return "fail", first.sentence
    others = [part for part in parts[1:] if part.verdict != "pass"]
    if main.verdict == "pass" and others:
        return "cannot tell", f"{main.sentence} Not settled within classes: {others[0].sentence}"
    return ("cannot tell" if main.verdict == "fail" else main.verdict), main.sentence


def judged(p_value: float, high: float, limit: float) -> Verdict:
    """Fail beyond what one more hospital would show, pass if the whole interval is within it."""
    if np.isnan(p_value):
        return "cannot tell"
    if p_value <= ALPHA:
        return "fail"
    return "pass" if high < limit else "cannot tell"


def new_site_words(verdict: Verdict, p_value: float, limit: float, sites: int, site: str) -> str:
    """Say how the new hospital compares with the others, as the end of a sentence."""
    if np.isnan(p_value):
        return (
            f"; {sites} {site}s of the reference can be compared, fewer than the {MIN_SITES} that show how far one more "
            "would be."
            if sites < MIN_SITES
            else f"; the {site}s of the reference do not differ, so that no limit can be set."
        )
    if verdict == "fail":
        return f"; that is further than one more {site} like the {sites} of the reference would be ({limit:.2f})."
    within = f"one more {site} like the {sites} of the reference would be within {limit:.2f}"
    return f"; {within}." if verdict == "pass" else f"; {within}, and whether this one is beyond it is not settled."


def test(
    part: PatientTable, graph: CausalGraph, given: Sequence[str], method: str, n_permutations: int, random_state: int
) -> tuple[float, float]:
    """Run the invariance test of the column that tells the cohorts apart; ``nan`` where it has nothing to compare."""
    units = patient_units(part.cohort, graph, (part.column,), given)
    if not informative(units).any():
        return NAN, NAN
    found = METHODS[method](Question(part.cohort, graph, (part.column,), tuple(given), n_permutations, random_state))
    return float(found.statistic), float(found.p_value)


def _units(part: PatientTable, unit: str) -> int:
    return int(part.cohort.obs[unit].nunique())


def _none(name: str, given: Sequence[str], method: str, why: str, part: PatientTable) -> Drift:
    nothing = Estimate("distance", NAN, NAN, NAN, NAN, len(part.new), 0, "", {})
    return Drift(name, tuple(given), method, NAN, NAN, nothing, (), NAN, NAN, "cannot tell", why)
