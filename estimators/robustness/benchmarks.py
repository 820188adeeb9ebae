"""The answer to "what would overturn it": robustness values, benchmarks and what a given hidden cause would leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_positive
from causalfm.estimators.robustness.bias_bounds import (
    Strength,
    adjusted,
    bias_factor,
    robustness_value,
    scalar_robustness_value,
)
from causalfm.estimators.robustness.observed_strength import ALL
from causalfm.results import Result

TIMES = (1.0, 2.0, 3.0)  # how many times as strong as a declared column
NOTHING = float("nan")


@dataclass(frozen=True)
class Sensitivity(Result):
    """Robustness of an effect to an undeclared common cause of treatment and outcome.

    Attributes
    ----------
    pair
        Levels compared (of ``Z``: the pair with the largest distance).
    robustness_value
        Share of what is left of both the treatment and the outcome that an undeclared cause must explain to account for
        the whole estimate.
    robustness_value_low
        The same until the interval reaches 0.
    like_declared
        What a cause as strong as all declared columns together could fake, in units of the estimate; infinite if it
        could fake any, ``nan`` without columns.
    sentence
        In words.
    outcome
        ``"Z"`` or the name of the scalar.
    value, low, high
        The estimate with its interval; of ``Z`` the distance.
    scale
        Largest bias per unit of ``sqrt(R2_Y R2_D / (1 - R2_D))``.
    benchmarks
        What causes some times as strong as each declared column could do: ``r2_treatment``, ``r2_outcome``, ``bias``
        and the estimate left, with interval.
    details
        ``partial_r2`` of treatment with outcome. Of a scalar also ``error``, ``df``, ``e_value``, ``e_value_limit`` and
        ``e_value_of``; the unit.
    """

    pair: tuple[str, str]
    robustness_value: float
    robustness_value_low: float
    like_declared: float
    sentence: str
    outcome: str = "Z"
    value: float = NOTHING
    low: float = NOTHING
    high: float = NOTHING
    scale: float = NOTHING
    benchmarks: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this result; ``benchmarks`` have rows of their own."""
        names = ("outcome", "value", "low", "high", "robustness_value", "robustness_value_low", "like_declared")
        return [{"pair": " - ".join(self.pair), **{name: getattr(self, name) for name in names}}]

    def at(self, r2_treatment: float, r2_outcome: float) -> dict[str, float]:
        """Return the largest bias and what it leaves of the estimate, at a strength of the hidden cause.

        Parameters
        ----------
        r2_treatment, r2_outcome
            Shares that it explains of what is left of the treatment given the set, and of the outcome given both.

        Returns
        -------
        dict
            ``bias``, ``value``, ``low``, ``high``. A scalar is moved towards and beyond 0; a distance has no sign and
            ends at 0.
        """
        if "error" in self.details:
            error, df, alpha = (self.details[name] for name in ("error", "df", "alpha"))
            return adjusted(self.value, error, df, r2_treatment, r2_outcome, alpha=alpha)
        bias = float(self.scale * bias_factor(r2_treatment, r2_outcome))
        left = max(self.value - bias, 0.0), max(self.low - bias, 0.0), self.high + bias
        return {"bias": bias, **dict(zip(("value", "low", "high"), left, strict=True))}


def with_benchmarks(
    pair: tuple[str, str],
    outcome: str,
    estimate: tuple[float, float, float],
    scale: float,
    strengths: Mapping[str, Strength],
    times: Sequence[float],
    details: Mapping[str, Any],
) -> Sensitivity:
    """Fill in everything but the sentence."""
    for k in times:
        check_positive(k, "times", "a hidden cause is some times as strong as a declared one")
    if "error" in details:
        how = {"q": details["q"]}
        t, df = estimate[0] / details["error"], details["df"]
        value = scalar_robustness_value(t, df, **how)
        low = scalar_robustness_value(t, df, alpha=details["alpha"], **how)
    else:
        value, low = (robustness_value((x / scale) ** 2) for x in estimate[:2])
        f2 = (estimate[0] / scale) ** 2
        details = {**details, "partial_r2": f2 / (1.0 + f2)}
    bare = Sensitivity(pair, value, low, NOTHING, "", outcome, *estimate, scale, (), details)
    rows = []
    for name, strength in strengths.items():
        for k in times:
            d, y = strength.times(k)
            rows.append({"column": name, "times": k, "r2_treatment": d, "r2_outcome": y, **bare.at(d, y)})
    like = NOTHING
    alone = strengths.get(ALL) or (next(iter(strengths.values())) if len(strengths) == 1 else None)
    if alone is not None and estimate[0] != 0.0:
        like = float(scale * bias_factor(*alone.times(1.0)) / abs(estimate[0]))
    return Sensitivity(pair, value, low, like, "", outcome, *estimate, scale, tuple(rows), details)


def worded(found: Sensitivity, sentence: str) -> Sensitivity:
    """Give the result its sentence, with what the declared columns and the E-value add."""
    if not np.isnan(found.like_declared):
        share = "all" if found.like_declared >= 1.0 else f"{found.like_declared:.0%}"
        sentence += f" One as strong as all that is declared could account for {share} of it."
    if "e_value" in found.details:
        sentence += (
            f" E-value {found.details['e_value']:.2f}, {found.details['e_value_limit']:.2f} for the interval "
            f"({found.details['e_value_of']})."
        )
    return dataclasses.replace(found, sentence=sentence)
