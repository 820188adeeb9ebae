"""What the model does at the new site where labels exist: accuracy, recalls, sites, and the drop, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from causalfm.arguments import check_whole
from causalfm.confidence import bounds_in_force
from causalfm.results import Check, Estimate, Result, Verdict, verdict_against
from causalfm.shift.costs.labelled_rows import Labelled, difference_of, estimate_of
from causalfm.shift.costs.rates import NOTHING, difference
from causalfm.shift.domains import Domains
from causalfm.shift.temperatures import scored
from causalfm.strata import groups_per_level


@dataclass(frozen=True)
class MeasuredPerformance(Result):
    """Performance measured with the labels there are.

    Attributes
    ----------
    accuracy
        Of the deployment's labelled patients, each weighing the same.
    reference, reference_site_out
        Of the reference by models that have not seen the patient, and not the site: the second is what a new site could
        expect.
    drop, drop_site_out
        Either less the deployment's: positive is a loss.
    balanced, drop_balanced
        Mean recall of the classes that can be judged, and its drop.
    recalls, drop_by_class
        Per class; ``nan`` with ``details["reason"]`` below the minimum of patients.
    by_site
        Accuracy at each site of the deployment.
    reversals
        Whether pooled drop and drop within classes (and within sites that both have) point the same way: ``"fail"`` is
        a reversal told from chance, ``"cannot tell"`` opposite signs that are not.
    verdict
        Of ``drop`` against ``margin``; ``"cannot tell"`` without labels or margin.
    sentence
        The result in words.
    margin
        Largest acceptable drop.
    n_labelled, n_groups, unit
        Labelled and all units of the deployment, and what the unit is.
    details
        ``"assumption"``, ``"target"``, ``"labelled_rows"``, ``"rows"``.
    """

    accuracy: Estimate
    reference: Estimate
    reference_site_out: Estimate
    drop: Estimate
    drop_site_out: Estimate
    balanced: Estimate
    drop_balanced: Estimate
    recalls: tuple[Estimate, ...]
    drop_by_class: tuple[Estimate, ...]
    by_site: tuple[Estimate, ...]
    reversals: tuple[Check, ...]
    verdict: Verdict
    sentence: str
    margin: float | None
    n_labelled: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per quantity."""
        single = (self.accuracy, self.reference, self.reference_site_out, self.drop, self.drop_site_out)
        several = (self.balanced, self.drop_balanced, *self.recalls, *self.drop_by_class, *self.by_site)
        return [row for estimate in (*single, *several) for row in estimate.rows()]


def measured_performance(domains: Domains, *, margin: float | None = None, minimum: int = 5) -> MeasuredPerformance:
    """Measure accuracy and recalls at the new site, and the drop against the reference.

    Parameters
    ----------
    domains
        Reference and deployment.
    margin
        Largest acceptable drop of the accuracy; None: no verdict.
    minimum
        Fewest patients for a number about a class or a site.

    Returns
    -------
    MeasuredPerformance
        All numbers with 95 % intervals for new patients of these sites.

    Notes
    -----
    Assumption: the labelled patients are a random sample of the deployment's. Patients weigh the same, whatever their
    rows; the interval of a share is Wilson's with the effective number of patients, and that of a drop Newcombe's, so
    that both have a width where nobody is wrong. The verdict rests on one-sided 95 % bounds.
    """
    check_whole(minimum, "minimum", 1, why="a number needs a patient")
    unit = domains.graph.group
    chance = 1.0 / len(domains.classes) if domains.refitted else None
    parts = {
        "reference": Labelled.of(domains, scored(domains.reference, domains.reference.scores), False, chance),
        "site out": Labelled.of(domains, scored(domains.reference, domains.site_out), False, chance),
        "deployment": Labelled.of(domains, scored(domains.deployment, domains.deployment.scores), True, None),
    }
    here, known, outside = parts["deployment"], parts["reference"], parts["site out"]
    rates = {name: part.rate() for name, part in parts.items()}
    drop = difference_of("drop", rates["reference"], rates["deployment"], unit)
    codes = [k for k in range(len(domains.classes)) if min(here.held(k), known.held(k)) >= minimum]
    balanced = [part.balanced(codes) for part in (known, here)]
    verdict: Verdict = "cannot tell"
    if margin is not None and rates["deployment"].n_units >= minimum:
        verdict = verdict_against(*difference(rates["reference"], rates["deployment"], bounds_in_force())[1:], margin)
    largest = float(np.max([known.held(k) for k in range(len(domains.classes))]) / max(rates["reference"].n_units, 1))
    out = MeasuredPerformance(
        accuracy=estimate_of("accuracy", rates["deployment"], unit, chance=largest),
        reference=estimate_of("reference accuracy", rates["reference"], unit, chance=largest),
        reference_site_out=estimate_of("reference accuracy, site held out", rates["site out"], unit, chance=largest),
        drop=drop,
        drop_site_out=difference_of("drop, site held out", rates["site out"], rates["deployment"], unit),
        balanced=estimate_of("balanced accuracy", balanced[1], unit, chance=1.0 / max(len(codes), 1)),
        drop_balanced=difference_of("drop of balanced accuracy", balanced[0], balanced[1], unit),
        recalls=tuple(_by_class(domains, (here,), minimum)),
        drop_by_class=tuple(_by_class(domains, (known, here), minimum)),
        by_site=tuple(_by_site(domains, here, minimum)),
        reversals=tuple(_reversals(domains, known, here, drop, minimum)),
        verdict=verdict,
        sentence="",
        margin=margin,
        n_labelled=rates["deployment"].n_units,
        n_groups=int(domains.deployment.units.max()) + 1,
        unit=unit,
        details={
            "assumption": f"labelled {unit}s are a random sample of the deployment's",
            "target": f"new {unit}s of these sites; each {unit} weighs the same",
            "labelled_rows": len(here.rows.hit),
            "rows": len(domains.deployment),
            "site_held_out_rows": len(outside.rows.hit),
            "classes_in_balanced": [domains.classes[k] for k in codes],
        },
    )
    return replace(out, sentence=_sentence(out))


def _by_class(domains: Domains, parts: tuple[Labelled, ...], minimum: int) -> list[Estimate]:
    """Return the recall of each class, or with two parts its drop."""
    out = []
    for k, name in enumerate(domains.classes):
        held = [part.held(k) for part in parts]
        about: dict[str, Any] = {"class": name}
        if min(held) < minimum:
            about["reason"] = f"cannot tell: {min(held)} {domains.graph.group}s, of {minimum} that are needed"
        rates = [part.rate(part.classes == k) if min(held) >= minimum else NOTHING for part in parts]
        unit = domains.graph.group
        if len(parts) == 1:
            out.append(estimate_of(f"recall of {name}", rates[0], unit, **about))
        else:
            out.append(difference_of(f"drop in recall of {name}", rates[0], rates[1], unit, **about))
    return out


def _by_site(domains: Domains, here: Labelled, minimum: int) -> list[Estimate]:
    out, unit = [], domains.graph.group
    sites = np.unique(domains.deployment.sites)
    count = groups_per_level(here.sites, here.rows.units, len(domains.sites)) if len(here.sites) else None
    for site in sites:
        held = 0 if count is None else int(count[site])
        about: dict[str, Any] = {
            "site": domains.sites[site],
            "seen_in_reference": bool(site < domains.n_reference_sites),
        }
        if held < minimum:
            about["reason"] = f"cannot tell: {held} labelled {unit}s, of {minimum} that are needed"
        found = here.rate(here.sites == site) if held >= minimum else NOTHING
        out.append(estimate_of(f"accuracy at {domains.sites[site]}", found, unit, **about))
    return out


def _reversals(domains: Domains, known: Labelled, here: Labelled, drop: Estimate, minimum: int) -> list[Check]:
    """Compare the pooled drop with the drop at the reference's mix of classes, and of sites that both have."""
    out = []
    for name, of in (("class", "classes"), ("site", "sites")):
        first, second = getattr(known, of), getattr(here, of)
        both = np.intersect1d(first, second)
        held = [
            min(len(np.unique(part.rows.units[codes == k])) for part, codes in ((known, first), (here, second)))
            for k in both
        ]
        codes = [int(k) for k, n in zip(both, held, strict=True) if n >= minimum]
        if len(codes) < 2:
            continue
        counts = np.array([known.rows.weights[first == k].sum() for k in codes])
        share = counts / counts.sum()
        rates = [known.standardised(first, codes, share), here.standardised(second, codes, share)]
        within = difference_of(f"drop within each {name}", rates[0], rates[1], domains.graph.group)
        out.append(_reversal(name, drop, within))
    return out


def _reversal(name: str, pooled: Estimate, within: Estimate) -> Check:
    opposite = pooled.value * within.value < 0.0
    told = all(e.low > 0.0 or e.high < 0.0 for e in (pooled, within))
    both = (
        f"the pooled drop is {pooled.value:.3f} [{pooled.low:.3f}, {pooled.high:.3f}], and at the reference's mix of "
        f"the {name} it is {within.value:.3f} [{within.low:.3f}, {within.high:.3f}]"
    )
    verdict: Verdict = "pass" if not opposite else "fail" if told else "cannot tell"
    words = {
        "pass": "No sign reversal",
        "fail": "Sign reversal (Simpson)",
        "cannot tell": "Signs differ by chance or not",
    }
    details = {"pooled": pooled, "within": within}
    return Check(f"reversal by {name}", verdict, f"{words[verdict]}: {both}.", details)


def _sentence(found: MeasuredPerformance) -> str:
    unit, n = found.unit, found.n_labelled
    if not n:
        return f"No {unit} of the deployment has a label: the accuracy there is not measured."
    drop, seen = found.drop, f"{n} of {found.n_groups} {unit}s have labels"
    part = "" if n == found.n_groups else " (taken for a random sample)"
    text = (
        f"{seen}{part}: accuracy {found.accuracy.value:.2f} [{found.accuracy.low:.2f}, {found.accuracy.high:.2f}] "
        f"against {found.reference.value:.2f} in the reference, a drop of {drop.value:.2f} [{drop.low:.2f}, "
        f"{drop.high:.2f}]"
    )
    outside = found.drop_site_out
    if np.isfinite(outside.value):
        text += (
            f"; against {found.reference_site_out.value:.2f} at reference sites that the model has not seen, a drop of "
            f"{outside.value:.2f} [{outside.low:.2f}, {outside.high:.2f}]"
        )
    if found.margin is not None:
        text += f". Against a largest acceptable drop of {found.margin:g}: {found.verdict}"
    return text + "."
