"""From scores of pairs of views to one estimate: the mean, the worst pair, strata, and what has no partner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.metrics.design import NO_SPREAD, interval_of, variance_of
from causalfm.metrics.specimens import Pair, Specimens
from causalfm.results import Estimate, Influence

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Score:
    """A pair of views, scored.

    Attributes
    ----------
    pair
        The pair, with the specimens used.
    value, chance, standard
        The score, what noise gives, and the version that is comparable between designs; ``nan`` where there is none.
    effects, standard_effects
        ``(G,)`` what each group of the cohort adds to them.
    used
        ``(G,)`` which groups took part.
    reason
        Why there is no score.
    curve
        Scores at other lengths of the list.
    """

    pair: Pair
    value: float
    chance: float
    standard: float
    effects: np.ndarray
    standard_effects: np.ndarray
    used: np.ndarray
    reason: str = ""
    curve: dict[int, float] = field(default_factory=dict)

    @classmethod
    def none(cls, pair: Pair, reason: str) -> Score:
        """Return a pair that could not be scored."""
        nothing = np.zeros(0)
        return cls(pair, NAN, NAN, NAN, nothing, nothing, nothing, reason)

    @classmethod
    def of(
        cls,
        pair: Pair,
        n_groups: int,
        used: np.ndarray,
        value: float,
        effects: np.ndarray,
        chance: float,
        standard: float,
        standard_effects: np.ndarray,
        curve: dict[int, float] | None = None,
    ) -> Score:
        """Return a score, with the effects of the groups ``used`` put in the order of all groups."""
        spread = np.zeros((2, n_groups))
        spread[:, used] = effects, standard_effects
        mask = np.isin(np.arange(n_groups), used)
        return cls(pair, value, chance, standard, spread[0], spread[1], mask, "", curve or {})


def paired_estimate(
    name: str, standard_name: str, design: Specimens, scores: Sequence[Score], details: dict[str, Any], *, index: bool
) -> Estimate:
    """Average the scores of the pairs, each weighing the same.

    Parameters
    ----------
    name, standard_name
        Names of the estimate and of its version that is comparable between designs.
    design
        The paired design.
    scores
        One per pair of views.
    details
        Settings.
    index
        Whether the score lies between 0 and 1.
    """
    scored = [score for score in scores if not score.reason]
    floor = 0.0 if index else -1.0
    details |= {"factors": list(design.factors), "weights": f"pairs of views equal, {design.unit}s equal within each"}
    details["missing"] = {
        "specimens": design.total,
        "in_one_view_only": design.alone,
        "pairs_of_views_not_scored": len(scores) - len(scored),
    }
    joint = 1.0 - (1.0 - level_in_force()) / max(len(scored), 1)
    details["pairs"] = [_record(score, joint, floor) for score in scores]
    if not scored:
        details["reason"] = "cannot tell: no specimen is in both views of any pair"
        return Estimate(name, NAN, NAN, NAN, NAN, 0, 0, design.unit, details)
    n = len(np.unique(np.concatenate([np.r_[score.pair.left, score.pair.right] for score in scored])))
    details["worst"] = _worst([record for record in details["pairs"] if "reason" not in record])
    kinds = sorted({score.pair.differs for score in scored})
    details["strata"] = {kind: _stratum([s for s in scored if s.pair.differs == kind], floor) for kind in kinds}
    details["curve"] = {k: float(np.mean([score.curve[k] for score in scored])) for k in scored[0].curve}
    value, chance, standard = (
        float(np.mean([getattr(s, key) for s in scored])) for key in ("value", "chance", "standard")
    )
    influence, other = _pooled(scored, "effects"), _pooled(scored, "standard_effects")
    used = int((influence.strata >= 0).sum())
    low, high, details["interval"] = _ends(value, influence, design.unit, index=index)
    standard_low, standard_high, note = _ends(standard, other, design.unit, index=index)
    about = {"interval": note}
    if np.isnan(standard):
        about["reason"] = "cannot tell: rows of different groups are one point, or there is one group"
    ends = standard_low, standard_high, 0.5 if index else 0.0
    details["standardised"] = Estimate(standard_name, standard, *ends, n, used, design.unit, about, other)
    return Estimate(name, value, low, high, chance, n, used, design.unit, details, influence)


def _pooled(scores: Sequence[Score], effects: str) -> Influence:
    """Return what the groups add to the mean of the scores."""
    used = np.any([score.used for score in scores], axis=0)
    return Influence(np.mean([getattr(score, effects) for score in scores], axis=0), np.where(used, 0, -1))


def _ends(value: float, influence: Influence, unit: str, *, index: bool) -> tuple[float, float, str]:
    if np.isnan(value):
        return NAN, NAN, "none"
    if (influence.strata >= 0).sum() < 2:
        return NAN, NAN, f"none: one {unit}"
    return interval_of(value, influence, unit, index=index)


def _reach(value: float, influence: Influence, level: float, floor: float) -> tuple[float, float]:
    """Return a t interval cut at the ends of the scale; ``nan`` without spread."""
    if (influence.strata >= 0).sum() < 2:
        return NAN, NAN
    variance, df = variance_of(influence)
    if not variance > NO_SPREAD:
        return NAN, NAN
    half = float(stats.t.ppf(0.5 + level / 2.0, df)) * variance**0.5
    return max(floor, value - half), min(1.0, value + half)


def _record(score: Score, joint: float, floor: float) -> dict[str, Any]:
    pair = score.pair
    record = {"a": pair.a, "b": pair.b, "differs": pair.differs, "specimens": len(pair.left)}
    record |= {"missing_partner": pair.missing}
    if score.reason:
        return record | {"reason": score.reason}
    low, high = _reach(score.value, _pooled([score], "effects"), joint, floor)
    return record | {"value": score.value, "low": low, "high": high, "chance": score.chance, "standard": score.standard}


def _worst(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Name the pair of views with the least score; bounds for the least of all, whichever it is.

    A pair without an interval could be the least one, unless its score is the largest that there is.
    """
    least = min(records, key=lambda record: record["value"])
    known = [r for r in records if r["low"] == r["low"]]
    told = known and all(r["low"] == r["low"] or r["value"] >= 1.0 for r in records)
    ends = {key: min(r[key] for r in known) if told else NAN for key in ("low", "high")}
    return {key: least[key] for key in ("a", "b", "differs", "value", "chance")} | ends


def _stratum(scores: Sequence[Score], floor: float) -> dict[str, Any]:
    """Average the pairs of views that differ in the same factors; the median over pairs is what plismbench ranks by."""
    value, chance = (float(np.mean([getattr(s, key) for s in scores])) for key in ("value", "chance"))
    low, high = _reach(value, _pooled(scores, "effects"), level_in_force(), floor)
    median = float(np.median([score.value for score in scores]))
    return {"value": value, "low": low, "high": high, "chance": chance, "median": median, "pairs": len(scores)}
