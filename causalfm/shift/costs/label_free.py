"""Accuracy at the new site without its labels: which estimate to trust, how far, and why."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.arguments import check_whole
from causalfm.confidence import alpha_in_force, bounds_in_force, level_in_force, percent
from causalfm.results import Verdict, verdict_against
from causalfm.shift.costs.back_tests import SITE_LEVEL, BackTest, Trial, another_site, back_tests, tried
from causalfm.shift.costs.label_free_doubts import BEYOND, disagreements_of, doubt_of, signals_of
from causalfm.shift.costs.label_free_estimators import ESTIMATORS, Guess, Scored
from causalfm.shift.costs.label_free_results import LabelFree, LabelFreeEstimate
from causalfm.shift.costs.rates import Rate, rate
from causalfm.shift.domains import Domains
from causalfm.shift.temperatures import tempered

MINIMUM = 10
MEANING = "and the label means at the new site what it means in the reference"


def label_free_performance(domains: Domains, *, margin: float | None = None, minimum: int = MINIMUM) -> LabelFree:
    """Estimate the accuracy at the new site from scores alone, with errors found on reference sites held out.

    Parameters
    ----------
    domains
        Reference and deployment; labels of the deployment are not looked at.
    margin
        Largest acceptable drop of the accuracy; None: no verdict.
    minimum
        Fewest patients for a reference site to be a back-test.

    Returns
    -------
    LabelFree
        Every estimate with its assumption, interval and back-test, and the one to trust.

    Notes
    -----
    Every reference site is held out in turn and taken for the new one. Its error, measured less predicted accuracy, has
    a part by chance (the site's patients are few) and one by which sites differ; the prediction interval is the
    random-effects one of Higgins et al. (2009) with the new site's own part by chance. It is for the accuracy of these
    patients, were they all labelled. An estimator is trusted if (1) 8 sites could be held out, (2) intervals made of
    the other sites' errors cover the sites, (3) the new site is no further from the reference's sites, in mean
    confidence, predicted classes and embeddings, than they are from one another, (4) its errors are not told to be
    larger than those of the constant guess "as the sites held out", and (5) importance weights leave 30 patients. The
    one with the smallest errors in the back-test is used. Estimates that differ by more than they ever did lower the
    verdict to "cannot tell". No label-free estimate sees that the label has come to mean something else at the new
    site.
    """
    check_whole(minimum, "minimum", 2, why="a site needs patients to be judged")
    unit, names = domains.graph.group, domains.sites
    patients_out, site_out, deployed = tempered(domains)
    chance = 1.0 / len(domains.classes) if domains.refitted else None
    reference = rate(patients_out.hit, patients_out.units, patients_out.weights, chance=chance)
    out = ~np.isnan(site_out.probabilities).any(axis=1)
    outside = rate(site_out.hit[out], site_out.units[out], site_out.weights[out], chance=chance)
    tests, left_out = back_tests(patients_out, site_out, domains.reference.sites, names, minimum)
    signals = signals_of(site_out, deployed, domains, [record["site"] for record in tests[SITE_LEVEL].sites])
    trials = {name: tried(rule, patients_out, deployed) for name, (rule, _) in ESTIMATORS.items()}
    trials[SITE_LEVEL] = _constant(tests[SITE_LEVEL], patients_out, deployed)
    estimates = [
        _estimate(name, trial, tests[name], reference, margin, doubt_of(tests, name, trial, signals))
        for name, trial in trials.items()
    ]
    disagreements = disagreements_of([e for e in estimates if e.trusted], tests, trials, patients_out, deployed)
    details = {
        "target": f"accuracy of these {unit}s, were they all labelled; each {unit} weighs the same",
        "signals": signals,
        "disagreements": disagreements,
        "sites_left_out": left_out,
        "assumptions": f"the new site errs as reference sites do that are held out, {MEANING}",
        "bounds": f"verdicts rest on one-sided {percent(alpha_in_force())} bounds",
    }
    spans = [(r.value, *r.interval()) for r in (reference, outside)]
    parts = _decided(estimates, tests, disagreements, margin)
    return LabelFree(
        tuple(estimates),
        reference=spans[0],
        site_held_out=spans[1],
        margin=margin,
        back_tests=tuple(tests.values()),
        n=len(deployed.hit),
        n_groups=len(np.unique(deployed.units)),
        unit=unit,
        details=details,
        **parts,
    )


def _constant(test: BackTest, source: Scored, target: Scored) -> Trial:
    """Return the guess that the new site is as sites held out were."""
    value = test.sites[0]["predicted"] if test.sites else float("nan")
    patients = len(np.unique(target.units))
    chance = test.sites[0]["variance"] * test.sites[0]["patients"] / patients if test.sites else float("nan")
    flat = np.full(len(source.hit), value), np.full(len(target.hit), value)
    return Trial(value, chance, chance, Guess(*flat, source.share))


def _estimate(
    name: str, trial: Trial, test: BackTest, reference: Rate, margin: float | None, doubt: str
) -> LabelFreeEstimate:
    nan = float("nan")
    # an interval that rests on the assumption alone is no answer where sites refute it, or none speaks for the new one
    withdrawn = test.assumption_holds is False or doubt.startswith(BEYOND)
    own = (nan, nan) if withdrawn else _around(trial.value, trial.own, level_in_force())
    predicted, low, high, drop, verdict = nan, nan, nan, (nan, nan, nan), "cannot tell"
    if not test.reason:
        predicted, low, high = _calibrated(test, trial, level_in_force())
        drop = _drop(reference, (predicted, low, high), level_in_force())
        if not doubt and margin is not None:
            bounds = bounds_in_force()
            verdict = verdict_against(*_drop(reference, _calibrated(test, trial, bounds), bounds)[1:], margin)
    if doubt:
        reason = doubt
    else:
        held = "hold" if test.assumption_holds else "do not hold, so that its own interval is withdrawn"
        reason = f"misses the accuracy of reference sites held out by {test.rmse:.3f}; its assumptions {held} there"
    assumption = ESTIMATORS[name][1] if name in ESTIMATORS else "the new site is one more like those of the reference"
    return LabelFreeEstimate(
        name,
        assumption,
        trial.value,
        *own,
        predicted,
        low,
        high,
        *drop,
        not doubt,
        reason,
        verdict,  # type: ignore[arg-type]
        trial.guess.effective,
    )


def _around(value: float, variance: float, level: float) -> tuple[float, float]:
    from scipy import stats

    half = float(stats.norm.ppf(0.5 + level / 2.0)) * variance**0.5
    return max(value - half, 0.0), min(value + half, 1.0)  # an accuracy lies between 0 and 1


def _calibrated(test: BackTest, trial: Trial, level: float) -> tuple[float, float, float]:
    centre, half = another_site(test.errors, test.variances, trial.chance, level)
    value = float(np.clip(trial.value + centre, 0.0, 1.0))
    return value, max(trial.value + centre - half, 0.0), min(trial.value + centre + half, 1.0)


def _drop(reference: Rate, there: tuple[float, float, float], level: float) -> tuple[float, float, float]:
    low, high = reference.interval(level)
    value = reference.value - there[0]
    below = float(np.hypot(reference.value - low, there[2] - there[0]))
    return value, value - below, value + float(np.hypot(high - reference.value, there[0] - there[1]))


def _decided(
    estimates: list[LabelFreeEstimate],
    tests: dict[str, BackTest],
    disagreements: list[dict[str, Any]],
    margin: float | None,
) -> dict[str, Any]:
    """Choose the estimate, and say what follows."""
    usable = [e for e in estimates if e.trusted]
    nan = dict.fromkeys(("value", "low", "high", "drop", "drop_low", "drop_high"), float("nan"))
    if not usable:
        reasons = "; ".join(dict.fromkeys(e.reason for e in estimates))
        sentence = f"The accuracy at the new site cannot be told without labels: {reasons}."
        return {"trusted": None, **nan, "verdict": "cannot tell", "sentence": sentence}
    best = min(usable, key=lambda e: tests[e.name].rmse)
    numbers = {"value": best.predicted} | {
        k: getattr(best, k) for k in ("low", "high", "drop", "drop_low", "drop_high")
    }
    sentence = (
        f"Without labels, {best.name} predicts an accuracy of {best.predicted:.2f} [{best.low:.2f}, {best.high:.2f}] "
        f"at the new site, a drop of {best.drop:.2f} [{best.drop_low:.2f}, {best.drop_high:.2f}]; it {best.reason}"
    )
    verdict: Verdict = best.verdict
    if disagreements:
        verdict = "cannot tell"
        pairs = "; ".join(f"{a} and {b}" for a, b in (record["of"] for record in disagreements))
        sentence += f". Estimates differ by more than at any site held out is expected: {pairs}"
    if margin is not None:
        sentence += f". Against a largest acceptable drop of {margin:g}: {verdict}"
    return {"trusted": best.name, **numbers, "verdict": verdict, "sentence": f"{sentence}."}
