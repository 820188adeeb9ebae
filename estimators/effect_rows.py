"""From contrasts and influences to the rows and estimates of an Effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.estimators.estimating import Estimated
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.variance_shares import TotalVariance, share_interval, share_ratio, spread_norm
from causalfm.factor_contrasts import Contrasts
from causalfm.gram_norms import GramNorm
from causalfm.norms import SquaredNorm, signed_root
from causalfm.paired_units import PairedUnits
from causalfm.results import Estimate
from causalfm.units import Units


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
        **distances(norm, low, high),
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
    no_ratio = nothing("variance_ratio", n, unit)
    if found.influence is None or found.total is None:
        return None, None, no_ratio
    norm = spread_norm(found.influence, found.shares)
    own = _share("share_of_variance", norm, found.total, found.influence.names, found.shares, n, unit)
    if found.biology is None:
        return own, None, no_ratio
    other = found.biology
    biology = _share("biology_share_of_variance", other.spread, other.total, other.levels, other.shares, n, unit)
    ratio = share_ratio(norm, other.spread)
    return own, biology, Estimate("variance_ratio", *ratio, 0.0, n, len(found.influence), unit)


def _share(
    name: str, norm: GramNorm, total: TotalVariance, levels: Sequence[str], shares: np.ndarray, n: int, unit: str
) -> Estimate:
    details = {
        "levels": dict(zip(levels, shares.tolist(), strict=True)),
        "levels_drawn": f"as in the {unit}s compared",
        "variance_caused": norm.value,
        "total_variance": total.value,
        "total": f"between {unit} means",
    }
    return Estimate(name, *share_interval(norm, total), 0.0, n, int(total.df) + 1, unit, details)


def distances(norm: SquaredNorm, low: float, high: float) -> dict[str, float]:
    """Signed root of a squared distance, and the roots of its bounds."""
    ends = {"distance_low": float(np.sqrt(low)), "distance_high": float(np.sqrt(high))}
    return {"distance": signed_root(norm.value), **ends}


def norm_estimate(name: str, norm: SquaredNorm, n: int, n_groups: int, unit: str) -> Estimate:
    """Return a squared distance with its interval."""
    low, high = norm.interval()
    details: Mapping[str, Any] = {**distances(norm, low, high), "weights": f"rows equal within a {unit}, {unit}s equal"}
    return Estimate(name, norm.value, low, high, 0.0, n, n_groups, unit, details)


def nothing(name: str, n: int, unit: str) -> Estimate:
    """Return an estimate without numbers."""
    return Estimate(name, float("nan"), float("nan"), float("nan"), 0.0, n, 0, unit)
