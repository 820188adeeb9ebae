"""What an undeclared common cause would have to be like to explain an effect away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.factor_contrasts import Contrasts
from causalfm.paired_units import PairedUnits
from causalfm.results import Result
from causalfm.standardisation import Standardised
from causalfm.units import Units


@dataclass(frozen=True)
class Sensitivity(Result):
    """Robustness of a vector effect to an undeclared common cause of factor and embedding.

    Attributes
    ----------
    pair
        Levels compared: the pair with the largest distance.
    robustness_value
        Share of the variance of both the factor and the embedding that an undeclared cause must explain to account for
        the whole estimated distance.
    robustness_value_low
        The same for the lower end of the 95 % interval.
    like_declared
        Distance that a cause as strong as all declared strata together could fake, in units of the estimated distance;
        infinite if it could fake any.
    sentence
        In words.
    """

    pair: tuple[str, str]
    robustness_value: float
    robustness_value_low: float
    like_declared: float
    sentence: str

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this result."""
        return [
            {
                "pair": " - ".join(self.pair),
                "robustness_value": self.robustness_value,
                "robustness_value_low": self.robustness_value_low,
                "like_declared": self.like_declared,
            }
        ]


def robustness_value(partial_f2: float) -> float:
    """Equal shares ``R2`` of treatment and outcome that would explain a partial ``f^2`` away.

    Parameters
    ----------
    partial_f2
        Squared partial f: ``t^2 / df`` for a scalar outcome; for a vector, ``|effect|^2 var(D) / tr var(Y)`` with
        residual variances.

    Returns
    -------
    float
        ``(sqrt(f^4 + 4 f^2) - f^2) / 2``, in [0, 1).

    References
    ----------
    Cinelli and Hazlett, J. R. Statist. Soc. B 82 (2020) 39-67. For a vector the bias is bounded by the same expression
    with the trace in place of the variance (Cauchy-Schwarz over dimensions).
    """
    f2 = max(partial_f2, 0.0)
    return float((np.sqrt(f2**2 + 4.0 * f2) - f2) / 2.0)


def vector_sensitivity(contrasts: Contrasts, units: Units | PairedUnits) -> Sensitivity:
    """Robustness value of the pair of levels with the largest distance.

    Parameters
    ----------
    contrasts, units
        Contrasts of one factor and the patients they come from.

    Returns
    -------
    Sensitivity
        Values and sentence.

    Notes
    -----
    ``|bias|^2 <= R2_D R2_Y / (1 - R2_D) * tr var(Y) / var(D)``, residual variances within strata (Cinelli and Hazlett
    for every dimension, summed). The benchmark is theirs with ``k = 1``: both
    ``R2`` of the hidden cause equal the odds ``R2 / (1 - R2)`` of the declared strata, for the pair of levels and for
    the embedding within levels. In a paired design causes that are constant within a patient are held fixed, so that
    the value is about causes that change within patients: ``f^2 = |effect|^2 / (tr(Gamma) df)``, their squared t over
    its degrees of freedom; there is no benchmark.
    """
    if not isinstance(contrasts, Standardised):
        return _within_sensitivity(contrasts, units)
    design = contrasts.design
    (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
    rows = np.isin(design.level, (a, b))
    in_a = (design.level[rows] == a).astype(float)
    stratum = design.stratum[rows]
    variance_d = float(((in_a - _group_mean(in_a, stratum)) ** 2).mean())
    cells = design.cells
    residual = float((cells.df * cells.trace).sum() / cells.df.sum())
    pair = (units.level.levels[a], units.level.levels[b])
    if residual <= 0.0:
        nothing = float("nan")
        return Sensitivity(pair, nothing, nothing, nothing, "Patients of a cell do not differ: no sensitivity.")
    scale = variance_d / residual
    value, low = (robustness_value(x * scale) for x in (norm.value, norm.interval()[0]))
    like = float("nan")
    if norm.value > 0:
        total = ((design.Z - _group_mean(design.Z, design.level)) ** 2).sum()
        odds_y = total / (cells.residuals**2).sum() - 1.0  # R2 / (1 - R2) of the declared strata within levels
        odds_d = in_a.var() / variance_d - 1.0
        like = float(np.sqrt(odds_y * odds_d / (1.0 - odds_d) / (norm.value * scale))) if odds_d < 1.0 else float("inf")
    sentence = (
        f"An undeclared cause would have to explain {value:.0%} of both the assignment to {pair[0]} or {pair[1]} and "
        f"the remaining embedding variance to account for the whole distance ({low:.0%} for its lower bound)."
    )
    if not np.isnan(like):
        share = "all" if like >= 1.0 else f"{like:.0%}"
        sentence += f" One as strong as all that is declared could account for {share} of it."
    return Sensitivity(pair, value, low, like, sentence)


def _within_sensitivity(contrasts: Contrasts, units: Units | PairedUnits) -> Sensitivity:
    """Robustness value of a paired contrast."""
    (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
    pair = (units.level.levels[a], units.level.levels[b])
    nothing = float("nan")
    if norm.noise <= 0.0:
        return Sensitivity(
            pair, nothing, nothing, nothing, f"{units.unit}s do not differ: no sensitivity.".capitalize()
        )
    value, low = (robustness_value(x / (norm.noise * norm.df_directional)) for x in (norm.value, norm.interval()[0]))
    sentence = (
        f"What is constant within a {units.unit} is held fixed. A cause that changes within {units.unit}s must "
        f"explain {value:.0%} of both the assignment to {pair[0]} or {pair[1]} and the remaining variance within "
        f"{units.unit}s to account for the whole distance ({low:.0%} for its lower bound)."
    )
    return Sensitivity(pair, value, low, nothing, sentence)


def _group_mean(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean of each row's group, shaped like ``values``."""
    _, codes, count = np.unique(codes, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), *values.shape[1:]))
    np.add.at(total, codes, values)
    return np.asarray((total / count.reshape(-1, *[1] * (values.ndim - 1)))[codes])
