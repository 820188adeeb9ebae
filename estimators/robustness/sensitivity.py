"""What an undeclared common cause would have to be like to explain a vector effect away."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from causalfm.estimators.robustness.benchmarks import NOTHING, TIMES, Sensitivity, with_benchmarks, worded
from causalfm.estimators.robustness.bias_bounds import Strength
from causalfm.estimators.robustness.observed_strength import ALL, declared_columns, observed_strengths
from causalfm.factor_contrasts import Contrasts
from causalfm.paired_units import PairedUnits
from causalfm.standardisation import Standardised, standardised_means
from causalfm.units import Units

__all__ = ["Sensitivity", "vector_sensitivity"]


def vector_sensitivity(
    contrasts: Contrasts, units: Units | PairedUnits, *, times: Sequence[float] = TIMES
) -> Sensitivity:
    """Robustness value of the pair of levels with the largest distance.

    Parameters
    ----------
    contrasts, units
        Contrasts of one factor and the patients they come from.
    times
        How many times as strong as each declared column the benchmarks are.

    Returns
    -------
    Sensitivity
        Values and sentence.

    Notes
    -----
    With ``g`` the mean of ``Z`` given level and declared set, and ``a`` the weights that make the contrast (``theta =
    E[a Z]``), the bias of every dimension is ``E[(g - g_long)(a - a_long)]``. Cauchy-Schwarz, summed over dimensions,
    gives ``|bias|^2 <= R2_Y R2_D / (1 - R2_D) * tr E[(Z - g)^2] * E[a^2]`` over the patients of the pair, with ``R2_Y``
    the share of the trace that the hidden cause explains and ``1 - R2_D = E[a^2] / E[a_long^2]``. Where shares of
    levels are alike in all strata ``E[a^2]`` is one over the residual variance of the level and ``R2_D`` the partial R2
    of Cinelli and Hazlett; where they differ, ``E[a^2]`` is larger than that, and bounds made of the residual variance
    can be exceeded. In a paired design causes that are constant within a patient are held fixed, so that the value is
    about causes that change within patients: ``f^2 = |effect|^2 / (tr(Gamma) df)``, their squared t over its degrees of
    freedom; there is no benchmark.

    References
    ----------
    Cinelli and Hazlett, J. R. Statist. Soc. B 82 (2020) 39-67. Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis, Long
    story short: omitted variable bias in causal machine learning (2022).
    """
    if not isinstance(contrasts, Standardised):
        return _within_sensitivity(contrasts, units)
    design = contrasts.design
    (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
    pair = (units.level.levels[a], units.level.levels[b])
    rows = np.isin(design.level, (a, b))
    cells = design.cells
    own = np.unique(cells.codes[rows])
    residual = float((cells.df * cells.trace)[own].sum() / cells.df[own].sum())
    if residual <= 0.0:
        sentence = "Patients of a cell do not differ: no sensitivity."
        return Sensitivity(pair, NOTHING, NOTHING, NOTHING, sentence)
    scale = float(np.sqrt(residual * rows.sum() * (norm.weights**2).sum()))
    ends = [float(np.sqrt(max(x, 0.0))) for x in (norm.value, *norm.interval())]
    strengths = _standardised_strengths(contrasts, units, (a, b), rows) if isinstance(units, Units) else {}
    told = with_benchmarks(pair, "Z", (ends[0], ends[1], ends[2]), scale, strengths, times, {"unit": units.unit})
    sentence = (
        f"An undeclared cause would have to explain {told.robustness_value:.0%} of both the assignment to {pair[0]} or "
        f"{pair[1]} and the remaining embedding variance to account for the whole distance "
        f"({told.robustness_value_low:.0%} for its lower bound)."
    )
    return worded(told, sentence)


def _standardised_strengths(
    contrasts: Standardised, units: Units, pair: tuple[int, int], rows: np.ndarray
) -> dict[str, Strength]:
    """Strengths of the declared columns, with the treatment's share taken from the weights where strata carry it."""
    design = contrasts.design
    in_a = (design.level[rows] == pair[0]).astype(float)
    found = observed_strengths(in_a, design.Z[rows], declared_columns(units, design.rows[rows]))
    columns = units.stratum_columns[design.stratum]
    at = [contrasts.levels.index(level) for level in pair]

    def energy(kept: np.ndarray) -> float:
        """``sum w^2`` of the contrast standardised over the kept columns."""
        codes = np.zeros(len(design.level), dtype=np.int64)
        if kept.shape[1]:
            codes = np.unique(kept, axis=0, return_inverse=True)[1].reshape(-1)
        means = standardised_means(design.level, contrasts.levels, codes, tuple(np.unique(codes).tolist()))
        return float(((means[at[0]] - means[at[1]]) ** 2).sum())

    full = energy(columns)
    shares = {f.name: 1.0 - energy(np.delete(columns, i, axis=1)) / full for i, f in enumerate(units.conditioning)}
    shares[ALL] = 1.0 - energy(columns[:, :0]) / float((contrasts.pairs[pair].weights ** 2).sum())
    return {
        name: dataclasses.replace(one, r2_treatment=max(shares.get(name, 0.0), one.r2_treatment))
        for name, one in found.items()
    }


def _within_sensitivity(contrasts: Contrasts, units: Units | PairedUnits) -> Sensitivity:
    """Robustness value of a paired contrast."""
    (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
    pair = (units.level.levels[a], units.level.levels[b])
    if norm.noise <= 0.0:
        sentence = f"{units.unit}s do not differ: no sensitivity.".capitalize()
        return Sensitivity(pair, NOTHING, NOTHING, NOTHING, sentence)
    scale = float(np.sqrt(norm.noise * norm.df_directional))
    ends = [float(np.sqrt(max(x, 0.0))) for x in (norm.value, *norm.interval())]
    told = with_benchmarks(pair, "Z", (ends[0], ends[1], ends[2]), scale, {}, (), {"unit": units.unit})
    sentence = (
        f"What is constant within a {units.unit} is held fixed. A cause that changes within {units.unit}s must "
        f"explain {told.robustness_value:.0%} of both the assignment to {pair[0]} or {pair[1]} and the remaining "
        f"variance within {units.unit}s to account for the whole distance ({told.robustness_value_low:.0%} for its "
        "lower bound)."
    )
    return worded(told, sentence)
