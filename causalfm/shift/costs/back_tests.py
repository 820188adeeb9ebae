"""Label-free estimates tried on every reference site as if it were new: what they miss there is their error here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from causalfm.confidence import CHECK_ALPHA
from causalfm.results import Result
from causalfm.shift.costs.label_free_estimators import ESTIMATORS, Guess, Scored

NEW_SITE = 8  # sites from which their spread says something of another one
TESTED = 1.0 - CHECK_ALPHA  # of the intervals that back-tests try, whatever level is in force
REFUTED = 0.05  # chance of covering as few sites as were covered, below which an interval is taken to miss
SITE_LEVEL = "site level"


@dataclass(frozen=True, eq=False)
class Trial:
    """An estimator on one target: estimate, and variances of ``accuracy of these patients - estimate``.

    ``chance`` is what chance among the target's patients adds, ``own`` the same with the error of the source: all that
    there is if the assumption holds.
    """

    value: float
    chance: float
    own: float
    guess: Guess


@dataclass(frozen=True)
class BackTest(Result):
    """What an estimator missed at reference sites held out.

    Attributes
    ----------
    estimator
        Its name.
    sites
        One record per site judged: patients, ``predicted`` and ``measured`` accuracy, ``error`` (measured less
        predicted), ``variance`` (by chance), the interval under the estimator's assumption with ``own_covers``, and
        from the other sites' errors ``low``, ``high`` and ``covers``.
    bias, spread
        Mean error, and its standard deviation between sites beyond chance.
    rmse
        Root mean square of the error left after the other sites' bias is taken off.
    own_coverage, coverage
        Share of sites inside the interval under the assumption, and inside that made of the other sites' errors.
    assumption_holds
        False where fewer sites than chance allows lie inside the first; None under 8 sites.
    calibrated
        The same for the second.
    reason
        Why there is no answer, or empty.
    """

    estimator: str
    sites: tuple[Mapping[str, Any], ...]
    bias: float
    spread: float
    rmse: float
    own_coverage: float
    coverage: float
    assumption_holds: bool | None
    calibrated: bool | None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per site."""
        return [{"estimator": self.estimator, **record} for record in self.sites]

    @property
    def errors(self) -> np.ndarray:
        """``(sites,)``."""
        return np.array([record["error"] for record in self.sites])

    @property
    def variances(self) -> np.ndarray:
        """``(sites,)`` variances of the errors by chance."""
        return np.array([record["variance"] for record in self.sites])


def between_sites(errors: np.ndarray, variances: np.ndarray) -> tuple[float, float, float]:
    """Mean of a number over sites, its variance, and the variance between sites beyond chance (Paule and Mandel).

    Parameters
    ----------
    errors, variances
        ``(S,)`` numbers and their variances within sites.

    Returns
    -------
    tuple of float
        Mean, variance of the mean (Hartung and Knapp, at least that by chance), variance between sites.

    References
    ----------
    Higgins, Thompson and Spiegelhalter, J. R. Stat. Soc. A 172:137 (2009); IntHout et al., BMC Med. Res. Methodol.
    14:25 (2014).
    """
    variances, n = np.maximum(variances, 1e-12), len(errors)

    def excess(between: float) -> float:
        weights = 1.0 / (variances + between)
        return float(weights @ (errors - weights @ errors / weights.sum()) ** 2) - (n - 1)

    between, top = 0.0, float(errors.var(ddof=1)) + 1e-12
    if excess(0.0) > 0.0:
        from scipy.optimize import brentq

        while excess(top) > 0.0:
            top *= 2.0
        between = float(brentq(excess, 0.0, top, xtol=1e-12))
    weights = 1.0 / (variances + between)
    mean = float(weights @ errors / weights.sum())
    robust = float(weights @ (errors - mean) ** 2) / ((n - 1) * float(weights.sum()))
    return mean, max(robust, 1.0 / float(weights.sum())), between


def another_site(
    errors: np.ndarray, variances: np.ndarray, variance: float, level: float = TESTED
) -> tuple[float, float]:
    """Return centre and half width of the prediction interval for one more site with this variance by chance."""
    mean, uncertain, between = between_sites(errors, variances)
    quantile = float(stats.t.ppf(0.5 + level / 2.0, max(len(errors) - 2, 1)))
    return mean, quantile * float(np.sqrt(between + uncertain + variance))


def tried(rule: Any, source: Scored, target: Scored) -> Trial:
    """Apply an estimator to a target without looking at its hits."""
    guess: Guess = rule(source, target)
    value = float(target.share @ guess.target)
    gap = source.hit - guess.source
    offset = float(guess.weights @ gap)
    effects = np.bincount(source.units, guess.weights * (gap - offset))
    n = len(effects)
    residuals = np.bincount(source.units, source.weights * gap) / np.bincount(source.units, source.weights)
    chance = chance_variance(residuals, target)
    return Trial(value, chance, chance + float((effects**2).sum()) * n / max(n - 1, 1), guess)


def chance_variance(residuals: np.ndarray, target: Scored) -> float:
    """Variance by chance of the mean of ``hit - f`` over the target's patients, from the source's residuals.

    One patient missed by half is added: without any error the next patient can be one.
    """
    n = len(residuals)
    spread = (float(((residuals - residuals.mean()) ** 2).sum()) + 0.25) / (n + 1)
    return spread / len(np.unique(target.units))


def back_tests(
    patients_out: Scored, site_out: Scored, sites: np.ndarray, names: tuple[str, ...], minimum: int
) -> tuple[dict[str, BackTest], list[dict[str, str]]]:
    """Try every estimator on every reference site with enough patients.

    Parameters
    ----------
    patients_out, site_out
        The reference scored by models that have not seen the patient, and not the site (``nan`` where there is none).
    sites
        ``(n,)`` site codes.
    names
        Site names.
    minimum
        Fewest patients for a site to be judged.

    Returns
    -------
    tests : dict
        By estimator, ``"site level"`` (the mean accuracy of sites held out, whatever the scores) last.
    left_out : list of dict
        Sites that were not judged, with reasons.
    """
    judged, left_out, targets = [], [], []
    for site in np.unique(sites):
        here = sites == site
        n = len(np.unique(site_out.units[here]))
        if n < minimum or np.isnan(site_out.probabilities[here]).any():
            reason = f"{n} patients" if n < minimum else "a class lives here alone"
            left_out.append({"site": names[site], "reason": reason})
            continue
        judged.append(int(site))
        targets.append(site_out[here])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*ESTIMATORS, SITE_LEVEL)}
    measured = np.array([float(target.share @ target.hit) for target in targets])
    for i, (site, target) in enumerate(zip(judged, targets, strict=True)):
        source = patients_out[~np.isin(patients_out.units, np.unique(patients_out.units[sites == site]))]
        for name, (rule, _) in ESTIMATORS.items():
            trial = tried(rule, source, target)
            record = _record(names[site], target, trial.value, (trial.chance, trial.own), measured[i])
            found[name].append(record | {"effective_patients": trial.guess.effective})
    if targets:  # a constant: which one does not matter once the other sites' bias is taken off
        within, mean = patient_variance(targets), float(measured.mean())
        for site, target, value in zip(judged, targets, measured, strict=True):
            chance = within / len(np.unique(target.units))
            found[SITE_LEVEL].append(_record(names[site], target, mean, (chance, chance), value))
    return {name: _summary(name, records) for name, records in found.items()}, left_out


def patient_variance(targets: list[Scored]) -> float:
    """Variance of a patient's mean hit within sites, with one patient half right added."""
    total, count = 0.25, 1
    for target in targets:
        means = np.bincount(target.units, target.weights * target.hit) / np.bincount(target.units, target.weights)
        total, count = total + float(((means - means.mean()) ** 2).sum()), count + len(means) - 1
    return total / count


def _record(name: str, target: Scored, value: float, variances: tuple[float, float], measured: float) -> dict[str, Any]:
    half = float(stats.norm.ppf(0.5 + TESTED / 2.0)) * variances[1] ** 0.5
    own = {"own_low": value - half, "own_high": value + half, "own_covers": abs(measured - value) <= half}
    out = {"site": name, "patients": len(np.unique(target.units)), "predicted": value, "measured": measured}
    return out | {"error": measured - value, "variance": variances[0]} | own


def _summary(name: str, records: list[dict[str, Any]]) -> BackTest:
    nan, n = float("nan"), len(records)
    if n < NEW_SITE:
        reason = f"cannot tell: {n} reference sites could be held out, and their spread needs {NEW_SITE}"
        return BackTest(name, tuple(records), nan, nan, nan, nan, nan, None, None, reason)
    errors, variances = (np.array([r[key] for r in records]) for key in ("error", "variance"))
    for i, record in enumerate(records):
        centre, half = another_site(np.delete(errors, i), np.delete(variances, i), variances[i])
        low, high = record["predicted"] + centre - half, record["predicted"] + centre + half
        record |= {"low": low, "high": high, "left": errors[i] - centre, "covers": abs(errors[i] - centre) <= half}
    mean, _, between = between_sites(errors, variances)
    own, covered = (sum(bool(r[key]) for r in records) for key in ("own_covers", "covers"))
    rmse = float(np.sqrt(np.mean([r["left"] ** 2 for r in records])))
    holds, calibrated = (bool(stats.binom.cdf(count, n, TESTED) >= REFUTED) for count in (own, covered))
    return BackTest(name, tuple(records), mean, between**0.5, rmse, own / n, covered / n, holds, calibrated)
