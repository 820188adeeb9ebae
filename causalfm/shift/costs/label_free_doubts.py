"""When an estimate without labels is not to be used: what can be seen of the new site, and what back-tests say."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from causalfm.shift.costs.back_tests import NEW_SITE, SITE_LEVEL, BackTest, Trial, another_site
from causalfm.shift.costs.label_free_estimators import Scored
from causalfm.shift.costs.label_free_results import LabelFreeEstimate
from causalfm.shift.costs.site_distances import distance_beyond
from causalfm.shift.domains import Domains

EFFECTIVE = 30  # patients that importance weights must leave
BEYOND = "the new site lies beyond those of the reference"
FAR = 0.05  # chance that a site of the reference's kind is called unlike it: it only costs an answer
WORSE = 0.05  # chance that an estimator no worse than the constant guess is dropped for it
DISAGREE = 0.05  # chance that estimates err as differently as never before although nothing is new


def signals_of(site_out: Scored, deployed: Scored, domains: Domains, judged: list[str]) -> dict[str, dict[str, Any]]:
    """Say for what can be seen without labels whether the new site lies beyond the reference's, taken as new."""
    if len(judged) < NEW_SITE:
        return {}

    def seen(rows: Scored) -> np.ndarray:
        predicted = np.eye(rows.probabilities.shape[1])[rows.probabilities.argmax(axis=1)]
        return np.column_stack([rows.confidence, predicted])

    sites = [site_out[domains.reference.sites == domains.sites.index(name)] for name in judged]
    names = ("mean confidence", *(f"predicted {name}" for name in domains.classes))
    values = [_by_patient(seen(rows), rows) for rows in sites]
    here = _by_patient(seen(deployed), deployed)
    counts, out = np.array([len(value) for value in values]), {}
    for k, name in enumerate(names):
        spread = (sum(float(((v[:, k] - v[:, k].mean()) ** 2).sum()) for v in values) + 0.25) / counts.sum()
        means = np.array([v[:, k].mean() for v in values])
        centre, half = another_site(means, spread / counts, spread / len(here), 1.0 - FAR / 2.0 / len(names))
        value = float(here[:, k].mean())
        out[name] = {"value": value, "low": centre - half, "high": centre + half, "far": abs(value - centre) > half}
    value, limit = distance_beyond(domains, judged, FAR / 2.0)
    out["embeddings' distance"] = {"value": value, "low": 0.0, "high": limit, "far": value > limit}
    return out


def _by_patient(values: np.ndarray, rows: Scored) -> np.ndarray:
    sums = np.zeros((int(rows.units.max()) + 1, values.shape[1]))
    np.add.at(sums, rows.units, values * rows.weights[:, None])
    return np.asarray(sums / np.bincount(rows.units, rows.weights)[:, None])


def doubt_of(tests: dict[str, BackTest], name: str, trial: Trial, signals: dict[str, dict[str, Any]]) -> str:
    """Return why an estimate is not to be trusted, or nothing."""
    test = tests[name]
    if test.reason:
        return test.reason
    if far := [signal for signal, record in signals.items() if record["far"]]:
        return f"{BEYOND} in {', '.join(far)}: no back-test speaks for it"
    if not test.calibrated:
        return f"intervals made of the other sites' errors hold only {test.coverage:.0%} of the sites"
    if trial.guess.effective < EFFECTIVE:
        return f"its weights leave {trial.guess.effective:.0f} patients of the reference; {EFFECTIVE} are needed"
    base = tests[SITE_LEVEL]
    if _worse(test, base):
        return f"it misses by {test.rmse:.3f} at sites held out, and the mean of the others by {base.rmse:.3f}"
    return ""


def _worse(test: BackTest, base: BackTest) -> bool:
    """Say whether an estimator's squared errors are told to be larger than those of the constant guess."""
    more = np.array([a["left"] ** 2 - b["left"] ** 2 for a, b in zip(test.sites, base.sites, strict=True)])
    spread = float(more.std(ddof=1)) / len(more) ** 0.5
    return bool(more.mean() > stats.t.ppf(1.0 - WORSE, len(more) - 1) * spread and spread > 0.0)


def disagreements_of(
    trusted: list[LabelFreeEstimate],
    tests: dict[str, BackTest],
    trials: dict[str, Trial],
    source: Scored,
    deployed: Scored,
) -> list[dict[str, Any]]:
    """List pairs of trusted estimates that differ by more than the sites held out let expect."""
    pairs, out = list(combinations([e.name for e in trusted], 2)), []
    patients = len(np.unique(deployed.units))
    for a, b in pairs:
        apart = tests[b].errors - tests[a].errors  # estimate a less estimate b, at each site
        first, second = trials[a].guess, trials[b].guess
        # how patients vary in it: those of the deployment can be too few to say
        spread = max(
            _by_patient((one - other)[:, None], rows).var()
            for one, other, rows in ((first.source, second.source, source), (first.target, second.target, deployed))
        )
        spread = float(spread) + 1e-12
        counts = np.array([record["patients"] for record in tests[a].sites])
        centre, half = another_site(apart, spread / counts, spread / patients, 1.0 - DISAGREE / len(pairs))
        value = trials[a].value - trials[b].value
        if abs(value - centre) > half:
            out.append({"of": (a, b), "difference": value, "low": centre - half, "high": centre + half})
    return out
