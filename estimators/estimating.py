"""One estimator on one question: group influences of the factor and of biology, and the contrasts between patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.arguments import check_positive
from causalfm.dose_units import DoseUnits, dose_units
from causalfm.errors import DataError
from causalfm.estimators.effect_questions import Posed
from causalfm.estimators.influence.aipw import aipw
from causalfm.estimators.influence.comparison_groups import Compared, biology_groups, compared_doses, compared_groups
from causalfm.estimators.influence.crossfitting import N_FOLDS, Folds, read_folds
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.influence.partially_linear import partially_linear, partially_linear_slope
from causalfm.estimators.influence.standardising import ridge, saturated, slope
from causalfm.estimators.variance_shares import TotalVariance, joint_norm, spread_norm, total_variance
from causalfm.factor_contrasts import Contrasts
from causalfm.gram_norms import GramNorm
from causalfm.paired_units import PairedUnits, contrast_units, paired_units
from causalfm.standardisation import Standardised
from causalfm.units import Units, patient_units

SATURATED = "standardisation"
ROUNDING = 1e-12
CROSS_FITTED: dict[str, Callable[..., tuple[GroupInfluence, Mapping[str, Any]]]] = {
    "aipw": aipw,
    "partially-linear": partially_linear,
}
ESTIMATORS = (SATURATED, "ridge", *CROSS_FITTED)


@dataclass(frozen=True)
class Settings:
    """How to estimate.

    Attributes
    ----------
    estimator, folds, nuisances, trim, minimum, random_state
        See :func:`causalfm.effect`.
    """

    estimator: str
    folds: Folds = N_FOLDS
    nuisances: Nuisances = dataclasses.field(default_factory=Nuisances)
    trim: float | None = None
    minimum: int = 3
    random_state: int = 0


@dataclass(frozen=True, eq=False)
class OfBiology:
    """What biology does to the same groups.

    Attributes
    ----------
    joint, spread
        Mean squared distance between classes, and the variance they cause.
    levels, shares
        Classes and their distribution over the groups.
    total
        Variance of the outcomes of these groups: fewer than the factor's, where cells without two classes are left out.
    """

    joint: GramNorm
    spread: GramNorm
    levels: tuple[str, ...]
    shares: np.ndarray
    total: TotalVariance


@dataclass(frozen=True, eq=False)
class Estimated:
    """What an estimator hands over.

    Attributes
    ----------
    units
        All units of the question.
    contrasts
        Contrasts between or within patients, where the estimator is standardisation; else None.
    influence, shares
        The factor's quantities and the distribution of its levels over the groups; None within patients.
    biology
        Distance and variance between the classes on the same groups; None with ``no_biology``.
    total
        Variance of the groups' outcomes.
    details
        What the estimator reports.
    """

    units: Units | PairedUnits
    contrasts: Contrasts | None
    influence: GroupInfluence | None
    shares: np.ndarray
    biology: OfBiology | None
    total: TotalVariance | None
    no_biology: str
    details: Mapping[str, Any]


def check_settings(settings: Settings) -> None:
    """Refuse unknown estimators, and arguments that the estimator does not take."""
    if settings.estimator not in ESTIMATORS:
        known = ", ".join(map(repr, ESTIMATORS))
        raise DataError(
            f"estimator={settings.estimator!r} is not available: choose one of {known}, or 'econml.*', 'backdoor.*', "
            "'iv.*', 'frontdoor.*'."
        )
    if not isinstance(settings.nuisances, Nuisances):
        raise DataError("nuisances must be a causalfm.estimators.Nuisances, such as Nuisances(outcome=Ridge()).")
    plain = settings.nuisances == Nuisances()
    if settings.estimator not in CROSS_FITTED and not (plain and np.ndim(settings.folds) == 0):
        raise DataError(f"estimator={settings.estimator!r} is not cross-fitted: leave folds= and nuisances= out.")
    if settings.trim is not None:
        check_positive(settings.trim, "trim", "smaller propensities are raised to it")
    if settings.trim is not None and settings.estimator != "aipw":
        raise DataError(f"trim={settings.trim!r} raises propensities of estimator='aipw' only: leave it out.")


def estimate(posed: Posed, settings: Settings) -> Estimated:
    """Run an estimator.

    Parameters
    ----------
    posed
        A question with something to compare.
    settings
        How.

    Raises
    ------
    DataError
        A design that the estimator does not answer.
    """
    cohort, graph, found = posed.cohort, posed.graph, posed.found
    if found.paired:
        if settings.estimator != SATURATED:
            raise DataError(
                f"{found.factor} varies within {graph.group}s, which are compared with themselves: choose "
                f"estimator={SATURATED!r}; there is nothing to weigh or to adjust for."
            )
        units = paired_units(cohort, graph, posed.factors, found.given, settings.minimum)
        contrasts = contrast_units(units, graph.biology, settings.minimum)
        return Estimated(units, contrasts, None, np.zeros(0), None, None, contrasts.no_biology, {})
    if found.continuous:
        return _slopes(posed, settings)
    return _levels(posed, patient_units(cohort, graph, posed.factors, found.given), settings)


def _levels(posed: Posed, units: Units, settings: Settings) -> Estimated:
    assert posed.found.table is not None
    compared = compared_groups(units, posed.found.table)
    _check_varies(compared, posed)
    biology = posed.graph.biology
    classes = None if units.contrasts is not None else biology_groups(compared, units, biology, settings.minimum)
    total = total_variance(compared.Z, compared.bundle, compared.n_bundles)
    if settings.estimator == SATURATED:
        contrasts = contrast_units(units, biology, settings.minimum)
        assert isinstance(contrasts, Standardised)
        influence = saturated(compared, contrasts.design)
        of_biology = None
        if classes is not None:
            of_biology = _norms(saturated(compared, contrasts.design, classes), classes, total)
        why = contrasts.no_biology or _no_classes(classes, units, biology)
        return Estimated(units, contrasts, influence, compared.shares, of_biology, total, why, {})
    # biology first, and only its norms are kept: the factor's residuals may then take the place of the outcomes
    of_biology, why = None, _no_classes(classes, units, biology)
    if classes is not None:
        # trim= is about the factor's propensities: those of biology stay as they are
        swapped, told = influence_of(classes, units, dataclasses.replace(settings, trim=None))
        effective = told.get("effective_groups", {})
        if thin := {k: v for k, v in effective.items() if v < settings.minimum}:
            few = ", ".join(f"{level} {value:.1f}" for level, value in thin.items())
            why = f"weights leave classes of {biology} fewer than {settings.minimum} effective groups: {few}"
        else:
            of_biology = _norms(swapped, classes, total)
    influence, details = influence_of(compared, units, settings, overwrite=True)
    return Estimated(units, None, influence, compared.shares, of_biology, total, why, details)


def _norms(influence: GroupInfluence, classes: Compared, total: TotalVariance) -> OfBiology:
    if len(classes) < int(total.df) + 1:
        total = total_variance(classes.Z, classes.bundle, classes.n_bundles)
    spread = spread_norm(influence, classes.shares)
    return OfBiology(joint_norm(influence), spread, classes.levels, classes.shares, total)


def _check_varies(compared: Compared, posed: Posed) -> None:
    """Refuse outcomes that are the same for all groups of a cell: rounding would be their only error."""
    if posed.outcome.is_vector:
        return
    cells = compared.stratum * len(compared.levels) + compared.level
    count = np.maximum(np.bincount(cells), 1)
    for j, name in enumerate(posed.outcome.names):
        z = compared.Z[:, j]
        spread = np.abs(z - (np.bincount(cells, z) / count)[cells]).max()
        if spread <= ROUNDING * np.abs(z).max():
            raise DataError(
                f"outcome {name!r} is the same for all {compared.unit}s of a cell (level and stratum), so that its "
                "effect has no error to be judged by: leave it out, or choose one that comes from the embedding."
            )


def influence_of(
    compared: Compared, units: Units, settings: Settings, *, overwrite: bool = False
) -> tuple[GroupInfluence, Mapping[str, Any]]:
    """Compare the levels by the estimator of the settings; ``overwrite``: the outcomes may be lost."""
    if settings.estimator == "ridge":
        return ridge(compared), {}
    fold = read_folds(
        settings.folds, units.groups, compared.groups, compared.level, compared.stratum, settings.random_state
    )
    more: dict[str, Any] = {"trim": settings.trim} if settings.estimator == "aipw" else {}
    return CROSS_FITTED[settings.estimator](compared, fold, settings.nuisances, overwrite=overwrite, **more)


def _slopes(posed: Posed, settings: Settings) -> Estimated:
    units = dose_units(posed.cohort, posed.graph, posed.factors, posed.found.given, settings.minimum)
    compared, dose = compared_doses(units)
    _check_varies(compared, posed)
    total = total_variance(compared.Z, compared.bundle, compared.n_bundles)
    one = np.ones(1)
    why = f"the share of {posed.graph.biology} is estimated beside a categorical factor only"
    if settings.estimator == SATURATED:
        contrasts = contrast_units(units, posed.graph.biology, settings.minimum)
        return Estimated(units, contrasts, slope(compared, units), one, None, total, contrasts.no_biology, {})
    if settings.estimator != "partially-linear":
        raise DataError(
            f"{posed.found.factor} is continuous and estimator={settings.estimator!r} compares levels: choose "
            f"'partially-linear' or {SATURATED!r}, or bin it with pandas.cut."
        )
    fold = read_folds(
        settings.folds, units.groups, compared.groups, compared.level, compared.stratum, settings.random_state
    )
    influence, details = partially_linear_slope(compared, dose, fold, settings.nuisances)
    return Estimated(units, None, influence, one, None, total, why, details)


def _no_classes(classes: Compared | None, units: Units | DoseUnits, biology: str) -> str:
    if classes is not None:
        return ""
    if units.contrasts is not None:
        return f"{biology} varies within {units.unit}s"
    return f"{biology} is not among the conditioning columns, or no two of its classes share a cell"
