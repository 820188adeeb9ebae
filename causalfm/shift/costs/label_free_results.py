"""Results of the label-free estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from causalfm.results import Result, Verdict
from causalfm.shift.costs.back_tests import BackTest


@dataclass(frozen=True)
class LabelFreeEstimate(Result):
    """One estimate of the accuracy at the new site.

    Attributes
    ----------
    name, assumption
        The estimator, and what it assumes, in words.
    value, own_low, own_high
        Its estimate, and the 95 % interval if the assumption holds; the interval is ``nan`` where the back-test refutes
        that it does, or the new site lies beyond the reference's.
    predicted, low, high
        The estimate less its mean error at reference sites held out, and the 95 % prediction interval made of those
        errors; ``nan`` under 8 sites.
    drop, drop_low, drop_high
        Accuracy of the reference (patients held out) less the predicted one.
    trusted
        Whether it may be used.
    reason
        Why, in words.
    verdict
        Of the drop against the margin; ``"cannot tell"`` where it is not trusted.
    effective_patients
        What importance weights leave; ``nan`` for the others.
    """

    name: str
    assumption: str
    value: float
    own_low: float
    own_high: float
    predicted: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    trusted: bool
    reason: str
    verdict: Verdict
    effective_patients: float = float("nan")

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this estimate."""
        return [{name: getattr(self, name) for name in self.__dataclass_fields__}]


@dataclass(frozen=True)
class LabelFree(Result):
    """Estimates of the accuracy at the new site that use none of its labels.

    Attributes
    ----------
    estimates
        One per estimator, ``"site level"`` (what reference sites had that were held out) last.
    trusted
        Name of the estimator that the verdict rests on, or None.
    reference, site_held_out
        ``(value, low, high)`` of the accuracy in the reference, patients held out and sites held out.
    value, low, high, drop, drop_low, drop_high
        Those of the trusted estimate; ``nan`` if there is none.
    verdict
        Of the drop against ``margin``.
    sentence
        The result in words.
    margin
        Largest acceptable drop, or None.
    back_tests
        One per estimator.
    n, n_groups, unit
        Rows and units of the deployment, and what the unit is.
    details
        ``"target"``, ``"signals"`` (how far the new site lies from those of the reference), ``"disagreements"``,
        ``"sites_left_out"``, ``"assumptions"``.
    """

    estimates: tuple[LabelFreeEstimate, ...]
    trusted: str | None
    reference: tuple[float, float, float]
    site_held_out: tuple[float, float, float]
    value: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    verdict: Verdict
    sentence: str
    margin: float | None
    back_tests: tuple[BackTest, ...]
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per estimator."""
        return [row for estimate in self.estimates for row in estimate.rows()]
