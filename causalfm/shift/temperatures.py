"""One temperature for the model's probabilities, so that its confidence means what it says in the reference."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from causalfm.metrics.calibration import SMALLEST
from causalfm.shift.costs.label_free_estimators import Scored
from causalfm.shift.domains import Domain, Domains
from causalfm.shift.heads import sharpness


def tempered(domains: Domains) -> tuple[Scored, Scored, Scored]:
    """Return reference (patients held out, sites held out) and deployment, with calibrated probabilities and hits.

    A head fitted here has its temperature, found without the site held out. A model that was given gets one, fitted to
    the whole reference: one number for all of its sites. It changes no prediction. Hits are ``nan`` where the label is
    not known, and where a class lives at the site held out alone.
    """
    slope = 1.0
    reference, deployment = domains.reference, domains.deployment
    if not domains.refitted:
        logs = np.log(np.maximum(reference.scores, SMALLEST))
        slope = sharpness(logs, reference.labels, reference.weights())
    return (
        scored(reference, _sharpened(reference.scores, slope)),
        scored(reference, _sharpened(domains.site_out, slope)),
        scored(deployment, _sharpened(deployment.scores, slope)),
    )


def scored(domain: Domain, probabilities: np.ndarray) -> Scored:
    """Put the scores and hits of one domain together."""
    known = domain.known & ~np.isnan(probabilities).any(axis=1)
    hit = np.full(len(domain), np.nan)
    hit[known] = probabilities[known].argmax(axis=1) == domain.labels[known]
    return Scored(probabilities, hit, domain.units, domain.weights())


def _sharpened(probabilities: np.ndarray, slope: float) -> np.ndarray:
    if slope == 1.0:
        return probabilities
    return np.asarray(softmax(slope * np.log(np.maximum(probabilities, SMALLEST)), axis=1))
