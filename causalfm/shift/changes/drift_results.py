"""What a drift is, when it fails, and how it is put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.confidence import usual_alpha
from causalfm.results import Estimate, Result, Verdict
from causalfm.shift.changes.drift_distances import MIN_SITES


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
        With labels of the drift given biology and covariates and of those within classes, Bonferroni-corrected;
        without, of the joint drift.
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


def judged(p_value: float, high: float, limit: float, tolerated: float = 0.0) -> Verdict:
    """Fail beyond what one more hospital would show, pass if the whole interval is within it, or is tolerated."""
    if high <= tolerated:
        return "pass"
    if np.isnan(p_value):
        return "cannot tell"
    if p_value <= usual_alpha():
        return "fail"
    return "pass" if high <= limit else "cannot tell"


def new_site_words(verdict: Verdict, p_value: float, limit: float, sites: int, site: str) -> str:
    """Say how the new hospital compares with the others, as the end of a sentence."""
    if np.isnan(p_value):
        return (
            f"; {sites} {site}s of the reference can be compared, fewer than the {MIN_SITES} that show how far one "
            "more would be."
            if sites < MIN_SITES
            else f"; the {site}s of the reference do not differ, so that no limit can be set."
        )
    if verdict == "fail":
        return (
            f"; that is further than one more {site} like the {sites} of the reference would be ({limit:.2f}; "
            f"p = {p_value:.2g})."
        )
    within = f"one more {site} like the {sites} of the reference would be within {limit:.2f}"
    return f"; {within}." if verdict == "pass" else f"; {within}, and whether this one is beyond it is not settled."
