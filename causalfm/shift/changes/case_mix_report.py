"""Case mix of the deployment: measured with labels; without, estimated where a mixture of the classes fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_whole
from causalfm.confidence import alpha_in_force
from causalfm.results import Estimate, Result, Verdict
from causalfm.shift.changes.case_mix_features import featured, make_features, patient_means
from causalfm.shift.changes.case_mix_fit import MIN_PATIENTS, MixtureFit, mixture_fit
from causalfm.shift.changes.case_mix_shares import FLOOR, Scored, Shares, class_shares, scored
from causalfm.shift.changes.case_mix_usual import patient_shares, usual_shares
from causalfm.shift.changes.drift_distances import MIN_SITES
from causalfm.shift.changes.drift_patients import patients_drawn
from causalfm.shift.changes.support_density import spread_rows
from causalfm.shift.changes.support_shares import share_estimate
from causalfm.shift.domains import Domain, Domains

MOST_PATIENTS = 1500
MOST_ROWS = 4000
SITE_BOOT = 40  # replicates at each hospital left out: a variance is wanted
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class CaseMix(Result):
    """Shares of the classes at the deployment.

    Attributes
    ----------
    measured
        Shares of the labelled patients, one per class; None without labels.
    reference
        Shares of the reference's patients.
    bbse, em
        Shares estimated without labels, one per class. The interval holds what patients add and what the same
        estimate missed at hospitals of the reference that were left out.
    fit
        Whether a mixture of the reference's classes gives the deployment.
    readable
        Whether the estimates can be believed: the mixture fits, predictions tell the classes, the two agree.
    usual
        ``(low, high)`` per class: 95 % prediction interval of the share in the population of one more hospital like
        those of the reference, over all classes; ``nan`` under five.
    verdict
        ``"fail"``: the interval of a share is beyond ``usual``; ``"pass"``: all are within what the patients of one
        more hospital would show; ``"cannot tell"``: neither, or not readable.
    sentence, details
        The result in words; errors at hospitals left out.
    """

    measured: tuple[Estimate, ...] | None
    reference: tuple[float, ...]
    bbse: tuple[Estimate, ...]
    em: tuple[Estimate, ...]
    fit: MixtureFit
    readable: bool
    usual: tuple[tuple[float, float], ...]
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per class and method."""
        out = []
        for name, found in (("measured", self.measured), ("bbse", self.bbse), ("em", self.em)):
            for one, known, (low, high) in zip(found or (), self.reference, self.usual, strict=False):
                row = {"method": name, "class": one.name, "share": one.value, "low": one.low, "high": one.high}
                out.append(row | {"reference": known, "usual_low": low, "usual_high": high})
        return out


@dataclass(frozen=True, eq=False)
class _Rows:
    X: np.ndarray
    scored: Scored
    sites: np.ndarray
    site_out: np.ndarray


def case_mix(domains: Domains, *, n_boot: int = 100) -> CaseMix:
    """Measure or estimate the shares of the classes among the deployment's patients.

    Parameters
    ----------
    domains
        Reference and deployment.
    n_boot
        Bootstrap replicates of the patients of both.

    Returns
    -------
    CaseMix
        Shares with intervals, the fit of the mixture, and whether the estimates can be read.

    Notes
    -----
    Without labels, case mix and technical shift are not separable: a scanner that moves tumours towards normal tissue
    looks like fewer tumours. Both estimators assume that classes look alike in both cohorts (label shift). The fit of
    that mixture is tested; where it fails, case mix is "cannot tell" and only the joint drift is reported. Where it
    holds as well as between hospitals of the reference, the errors that the estimators made at those hospitals, each
    left out in turn, widen the interval (with fewer than five, they cannot, and classes must look exactly alike).

    At most 1,500 patients and 4,000 rows of each cohort are used, spread over hospitals and patients.

    References
    ----------
    See :func:`causalfm.shift.changes.case_mix_shares.class_shares`.
    """
    check_whole(n_boot, "n_boot", 39)
    seed, classes = domains.random_state, domains.classes
    old = _drawn(domains.reference, seed, domains.site_out)
    new = _drawn(domains.deployment, seed, None)
    shares = class_shares(old.scored, new.scored, n_boot, seed)
    missed = _missed_at_sites(old, len(classes), seed)
    fit = _fit(old, new, len(classes), max(n_boot, 199), seed)
    unit = domains.graph.group
    bbse, em = (
        tuple(
            _widened(
                getattr(shares, method), getattr(shares, f"{method}_draws"), missed[method], new.scored, classes, unit
            )
        )
        for method in ("bbse", "em")
    )
    measured = _measured(domains)
    usual, seen = usual_shares(domains)
    agree = _agree(shares, missed)
    readable = fit.verdict == "pass" and shares.conditioned and agree
    decided = measured or (em if readable else None)
    verdict = _verdict(decided, usual, seen)
    reference = tuple(patient_shares(domains.reference, len(classes))[0].mean(axis=0).tolist())
    why = (
        fit.sentence
        if fit.verdict != "pass"
        else "The two estimates disagree."
        if shares.conditioned
        else ("Predictions hardly tell the classes.")
    )
    sentence = _sentence(domains, decided, measured is not None, reference, usual, verdict, "" if readable else why)
    details = {"missed_at_sites": {k: v.tolist() for k, v in missed.items()}, "agree": agree}
    return CaseMix(measured, reference, bbse, em, fit, readable, usual, verdict, sentence, details)


def _drawn(side: Domain, seed: int, site_out: np.ndarray | None) -> _Rows:
    rows = spread_rows(side.units, patients_drawn(side, MOST_PATIENTS, seed), MOST_ROWS, seed)
    out = np.full((len(rows), 0), NAN) if site_out is None else np.log(np.maximum(site_out[rows], FLOOR))
    return _Rows(
        np.asarray(side.cohort.X[rows], dtype=np.float64),
        scored(side.scores, side.labels, side.units, rows),
        side.sites[rows],
        out,
    )


def _fit(old: _Rows, new: _Rows, n_classes: int, n_boot: int, seed: int) -> MixtureFit:
    features = make_features(old.X, old.scored.logits, old.scored.labels, old.scored.weights, seed)
    there = featured(features, old.X, old.scored, old.site_out, old.sites)
    here = patient_means(features, new.X, new.scored.logits, new.scored.units, new.scored.n_units)
    return mixture_fit(there, here, n_classes, n_boot, seed)


def _missed_at_sites(old: _Rows, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """Errors and their variance by patients, ``(S, 2, K)``, of both methods at hospitals left out."""
    out: dict[str, list[np.ndarray]] = {"bbse": [], "em": []}
    for site in np.unique(old.sites):
        here = old.sites == site
        if not np.isfinite(old.site_out[here]).all() or len(np.unique(old.scored.units[here])) < MIN_PATIENTS:
            continue
        if len(np.unique(old.scored.labels[~here])) < n_classes:
            continue
        rest = _part(old.scored, ~here, old.scored.logits)
        shares = class_shares(rest, _part(old.scored, here, old.site_out), SITE_BOOT, seed)
        own = _part(old.scored, here, old.site_out)
        known = own.weights @ np.eye(n_classes)[own.labels]
        for method in out:
            errors = getattr(shares, f"{method}_draws") - shares.known_draws
            out[method].append(np.stack([getattr(shares, method) - known, errors.var(axis=0, ddof=1)]))
    return {method: np.array(found).reshape(-1, 2, n_classes) for method, found in out.items()}


def _part(side: Scored, rows: np.ndarray, logits: np.ndarray) -> Scored:
    return Scored(logits[rows], side.labels[rows], np.unique(side.units[rows], return_inverse=True)[1].reshape(-1))


def _between(missed: np.ndarray) -> np.ndarray:
    """Variance ``(K,)`` of the error between hospitals, beyond what their patients give."""
    if len(missed) < MIN_SITES:
        return np.zeros(missed.shape[2])
    return np.asarray(np.maximum((missed[:, 0] ** 2).mean(axis=0) - missed[:, 1].mean(axis=0), 0.0))


def _widened(
    value: np.ndarray, draws: np.ndarray, missed: np.ndarray, new: Scored, classes: Sequence[str], unit: str
) -> list[Estimate]:
    """Intervals of Clopper and Pearson with the number of patients that would give the variance of each share."""
    from scipy import stats

    S, G, tail = len(missed), new.n_units, alpha_in_force() / 2.0
    between = _between(missed) * (1.0 + 1.0 / max(S, 1))
    own = draws.var(axis=0, ddof=1)
    out = []
    for c, name in enumerate(classes):
        p = (G * value[c] + 0.5) / (G + 1.0)
        patients = max(float(own[c]), p * (1.0 - p) / G)  # labels themselves would leave as much
        variance = patients + float(between[c])
        df = variance**2 / (float(between[c]) ** 2 / max(S - 1, 1) + patients**2 / max(G - 1, 1))
        size = p * (1.0 - p) / variance * (stats.norm.ppf(1.0 - tail) / stats.t.ppf(1.0 - tail, df)) ** 2
        x = value[c] * size
        low = float(stats.beta.ppf(tail, x, size - x + 1.0)) if x > 0.0 else 0.0
        high = float(stats.beta.ppf(1.0 - tail, x + 1.0, size - x)) if x < size else 1.0
        details = {"target": "a new site" if S >= MIN_SITES else "classes that look as in the reference"}
        out.append(Estimate(name, float(value[c]), low, high, NAN, len(new.labels), G, unit, details))
    return out


def _agree(shares: Shares, missed: Mapping[str, np.ndarray]) -> bool:
    """Whether the two estimates differ by less than three standard errors of their difference."""
    own = (shares.bbse_draws - shares.em_draws).var(axis=0, ddof=1)
    between = _between(missed["bbse"]) + _between(missed["em"])
    return bool((np.abs(shares.bbse - shares.em) <= 3.0 * np.sqrt(own + between) + 0.02).all())


def _measured(domains: Domains) -> tuple[Estimate, ...] | None:
    side = domains.deployment
    if not side.known.any():
        return None
    shares = patient_shares(side, len(domains.classes))[0]
    n, unit = int(side.known.sum()), domains.graph.group
    return tuple(share_estimate(shares[:, c], name, unit, n) for c, name in enumerate(domains.classes))


def _verdict(
    found: Sequence[Estimate] | None, usual: Sequence[tuple[float, float]], seen: Sequence[tuple[float, float]]
) -> Verdict:
    if found is None or np.isnan(usual[0][0]):
        return "cannot tell"
    if any(one.low > high or one.high < low for one, (low, high) in zip(found, usual, strict=True)):
        return "fail"
    inside = all(low <= one.low and one.high <= high for one, (low, high) in zip(found, seen, strict=True))
    return "pass" if inside else "cannot tell"


def _sentence(
    domains: Domains,
    found: Sequence[Estimate] | None,
    measured: bool,
    reference: Sequence[float],
    usual: Sequence[tuple[float, float]],
    verdict: Verdict,
    why: str,
) -> str:
    biology = domains.graph.biology
    if found is None:
        return (
            f"Case mix cannot be told without labels: a change in {biology} and a technical shift are not separable "
            f"here. {why} Only the joint drift is known."
        )
    c = int(np.argmax([abs(one.value - known) for one, known in zip(found, reference, strict=True)]))
    one, (low, high) = found[c], usual[c]
    how = "measured" if measured else "estimated without labels, if classes look as at the reference's sites"
    words = (
        f"{biology}={one.name} has {one.value:.0%} [{one.low:.0%}, {one.high:.0%}] of the deployment's "
        f"{domains.graph.group}s ({how}) and {reference[c]:.0%} of the reference's"
    )
    if np.isnan(low):
        return f"{words}; its {domains.site}s are too few to say what is usual."
    beyond = {"fail": "beyond", "pass": "no other than", "cannot tell": "not told from"}[verdict]
    return f"{words}; {beyond} the {low:.0%} to {high:.0%} of one more {domains.site} like them."
