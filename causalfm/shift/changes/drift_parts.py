"""Drift: how far the new hospital's embeddings are from the reference, and whether that is more than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.arguments import check_whole
from causalfm.confidence import usual_alpha
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative
from causalfm.invariance.methods import METHODS, Question
from causalfm.norm_contrasts import fieller_of
from causalfm.norms import SquaredNorm
from causalfm.positivity import MIN_GROUPS
from causalfm.results import Estimate, Verdict
from causalfm.shift.changes.drift_distances import SiteDistances, class_distance, site_distances
from causalfm.shift.changes.drift_patients import PatientTable, by_site, patient_table
from causalfm.shift.changes.drift_results import Drift, Drifts, judged, new_site_words
from causalfm.shift.domains import Domains
from causalfm.strata import varies_within
from causalfm.units import patient_units

NAN = float("nan")


def drift(domains: Domains, *, method: str = "mean", n_permutations: int = 499, tolerated: float = 0.0) -> Drifts:
    """Measure the drift of the embeddings: without labels jointly, with labels given biology and covariates.

    Parameters
    ----------
    domains
        Reference and deployment.
    method
        Of the invariance test, see :func:`causalfm.invariance_test`.
    n_permutations
        Of the patients between the cohorts.
    tolerated
        Distance, in distances between classes, that passes whatever the reference's hospitals show.

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
    (:func:`causalfm.shift.changes.drift_distances.site_distances`). Patients are averaged and weigh equally; of more
    than 3,000 in a domain that many are drawn, evenly over its hospitals.

    The joint drift holds case mix too and cannot be taken apart without labels. Given biology and covariates, it is the
    technical shift, or biology that was not declared.
    """
    if method not in METHODS:
        raise DataError(f"method={method!r} is unknown: use one of {', '.join(METHODS)}.")
    check_whole(n_permutations, "n_permutations", 19)
    table = patient_table(domains)
    given, dropped = usable_covariates(domains, table)
    biology = domains.graph.biology
    try:
        units = by_site(table.part(~table.new), domains.graph, domains.site, (biology, *given))[0]
        classes = class_distance(units, biology)
    except DataError:  # too few patients for the covariates: distances are in embedding units, and say so
        classes = None
    ask = _Asked(table, domains, method, n_permutations, classes, tolerated)
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
    tolerated: float

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
        try:
            found = site_distances(*by_site(part, graph, self.domains.site, given))
        except DataError as error:  # too few patients for the covariates
            return _none(name, given, self.method, f"Cannot tell the drift {name}: {error}", part)
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
        value, low, high = (float(v) for v in np.sqrt(np.maximum([value, low, high], 0.0)))
        scale = "times the distance between classes" if known else "in embedding units (classes are not told apart)"
        limit = float(np.sqrt(max(found.limit, 0.0) / length)) if not np.isnan(found.limit) else NAN
        verdict = judged(found.p_value, high, limit, self.tolerated if known else 0.0)
        details = {"target": "these sites", "in_class_distances": known}
        n_groups = int(part.cohort.obs[unit].nunique())
        distance = Estimate("distance", value, low, high, 0.0, len(part.new), n_groups, unit, details)
        words = new_site_words(
            verdict, found.p_value, limit, int(np.isfinite(found.reference).sum()), self.domains.site
        )
        sentence = (
            f"Drift {name}: the deployment is {value:.2f} [{low:.2f}, {high:.2f}] {scale} from the "
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
    if np.nanmin(p, initial=1.0) * len(p) <= usual_alpha():
        first = parts[int(np.nanargmin(p))]
        return "fail", first.sentence
    others = [part for part in parts[1:] if part.verdict != "pass"]
    if main.verdict == "pass" and others:
        return "cannot tell", f"{main.sentence} Not settled within classes: {others[0].sentence}"
    return ("cannot tell" if main.verdict == "fail" else main.verdict), main.sentence


def test(
    part: PatientTable, graph: CausalGraph, given: Sequence[str], method: str, n_permutations: int, random_state: int
) -> tuple[float, float]:
    """Run the invariance test of the column that tells the cohorts apart; ``nan`` where it has nothing to compare."""
    units = patient_units(part.cohort, graph, (part.column,), given)
    if not informative(units).any():
        return NAN, NAN
    found = METHODS[method](Question(part.cohort, graph, (part.column,), tuple(given), n_permutations, random_state))
    return float(found.statistic), float(found.p_value)


def _none(name: str, given: Sequence[str], method: str, why: str, part: PatientTable) -> Drift:
    nothing = Estimate("distance", NAN, NAN, NAN, NAN, len(part.new), 0, "", {})
    return Drift(name, tuple(given), method, NAN, NAN, nothing, (), NAN, NAN, "cannot tell", why)
