"""From contrasts and influences to the rows and estimates of an Effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.estimators.estimating import Estimated
from causalfm.estimators.group_influence import GroupInfluence
from causalfm.estimators.variance_shares import level_spread, share_interval, share_ratio
from causalfm.factor_contrasts import Contrasts
from causalfm.gram_norms import GramNorm
from causalfm.norms import SquaredNorm
from causalfm.paired_units import PairedUnits
from causalfm.results import Estimate
from causalfm.units import Units, helmert


def pair_rows(contrasts: Contrasts, units: Units | PairedUnits, reference: str) -> list[dict[str, Any]]:
    """Return one row per level other than the reference: the squared distance between them."""
    rows = []
    for (a, b), norm in contrasts.pairs.items():
        pair = [units.level.levels[a], units.level.levels[b]]
        if reference in pair:
            level = pair[1 - pair.index(reference)]
            rows.append(norm_row(level, reference, norm, contrasts.in_pair[a, b], units.unit))
    return rows


def norm_row(level: str, reference: str, norm: SquaredNorm, n_groups: int, unit: str) -> dict[str, Any]:
    """Return the row of one squared distance of embeddings."""
    low, high = norm.interval()
    return {
        "level": level,
        "reference": reference,
        "outcome": EMBEDDING,
        "value": norm.value,
        "low": low,
        "high": high,
        **distance(norm, low, high),
        "n_groups": n_groups,
        "unit": unit,
    }


def scalar_rows(
    influence: GroupInfluence, C: np.ndarray, levels: Sequence[str], reference: str, outcomes: Sequence[str], unit: str
) -> list[dict[str, Any]]:
    """Return one row per contrast and outcome: the difference, its clustered error and interval."""
    found = influence.contrast(C)
    low, high = found.interval()
    p_value = found.p_values()
    return [
        {
            "level": level,
            "reference": reference,
            "outcome": outcome,
            "value": float(found.estimate[k, j]),
            "low": float(low[k, j]),
            "high": float(high[k, j]),
            "se": float(found.se[k, j]),
            "p_value": float(p_value[k, j]),
            "df": float(found.df[k, j]),
            "n_groups": len(influence),
            "unit": unit,
        }
        for k, level in enumerate(levels)
        for j, outcome in enumerate(outcomes)
    ]


def joint_norm(influence: GroupInfluence) -> GramNorm:
    """Mean squared distance over all pairs of levels; for a slope, its squared length."""
    L = len(influence.names)
    return influence.norm(np.ones((1, 1))) if L == 1 else influence.norm(helmert(L), 2.0 / (L - 1))


def spread_norm(influence: GroupInfluence, shares: np.ndarray) -> GramNorm:
    """Variance caused by the levels, when they come in these shares; for a slope, by its standard deviation."""
    return influence.norm(np.ones((1, 1)) if len(shares) == 1 else level_spread(influence, shares))


def share_estimates(found: Estimated, n: int, unit: str) -> tuple[Estimate | None, Estimate | None, Estimate]:
    """Shares of the variance caused by the factor and by biology, and their ratio.

    Parameters
    ----------
    found
        Influences and total variance.
    n, unit
        Rows and name of the independent unit, to be reported.

    Returns
    -------
    tuple
        Shares (None where there is none) and ratio; its interval is ``nan`` if biology is not told from zero.
    """
    own = biology = None
    nothing = Estimate("variance_ratio", float("nan"), float("nan"), float("nan"), 0.0, n, 0, unit)
    if found.influence is None or found.total is None:
        return None, None, nothing
    norm = spread_norm(found.influence, found.shares)
    own = _share("share_of_variance", norm, found, found.influence, found.shares, n, unit)
    if found.biology is None:
        return own, None, nothing
    other = spread_norm(found.biology, found.biology_shares)
    biology = _share("biology_share_of_variance", other, found, found.biology, found.biology_shares, n, unit)
    ratio = share_ratio(norm, other)
    return own, biology, Estimate("variance_ratio", *ratio, 0.0, n, len(found.influence), unit)


def _share(
    name: str, norm: GramNorm, found: Estimated, influence: GroupInfluence, shares: np.ndarray, n: int, unit: str
) -> Estimate:
    assert found.total is not None
    details = {
        "levels": dict(zip(influence.names, shares.tolist(), strict=True)),
        "levels_drawn": f"as in the {unit}s compared",
        "variance_caused": norm.value,
        "total_variance": found.total.value,
        "total": f"between {unit} means",
    }
    return Estimate(name, *share_interval(norm, found.total), 0.0, n, len(influence), unit, details)


def distance(norm: SquaredNorm, low: float, high: float) -> dict[str, float]:
    """Signed root of a squared distance, and the roots of its bounds."""
    value = float(np.sign(norm.value) * np.sqrt(abs(norm.value)))
    return {"distance": value, "distance_low": float(np.sqrt(low)), "distance_high": float(np.sqrt(high))}


def norm_estimate(name: str, norm: SquaredNorm, n: int, n_groups: int, unit: str) -> Estimate:
    """Return a squared distance with its interval."""
    low, high = norm.interval()
    details: Mapping[str, Any] = {**distance(norm, low, high), "weights": f"rows equal within a {unit}, {unit}s equal"}
    return Estimate(name, norm.value, low, high, 0.0, n, n_groups, unit, details)


def nothing(name: str, n: int, unit: str) -> Estimate:
    """Return an estimate without numbers."""
    return Estimate(name, float("nan"), float("nan"), float("nan"), 0.0, n, 0, unit)
