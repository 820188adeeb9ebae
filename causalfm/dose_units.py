"""Continuous factors as units: patients with a dose, and the slope that is measured against biology."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.covariances import CellCovariances, cell_covariances
from causalfm.dosing import read_doses
from causalfm.errors import DataError
from causalfm.factor_contrasts import Contrasts
from causalfm.norms import squared_norm
from causalfm.positivity import MIN_GROUPS, CompleteTable
from causalfm.standardisation import Design, biology_norm, build_design, within_norm
from causalfm.units import Units, patient_units

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

STEP = ("any value", "one standard deviation more")  # what the slope sets apart


@dataclass(frozen=True, eq=False)
class DoseUnits(Units):
    """Patients of a question about a continuous factor.

    Attributes
    ----------
    dose
        ``(G,)`` value of each patient; dates in days since the first.
    kept
        Strata whose values are compared.
    """

    dose: np.ndarray
    kept: tuple[int, ...]

    @property
    def inside(self) -> np.ndarray:
        """Mask ``(G,)`` of the patients compared."""
        return np.isin(self.stratum, self.kept)

    @property
    def spread(self) -> float:
        """Standard deviation of the factor over the patients compared."""
        return float(self.dose[self.inside].std(ddof=1))

    def per_level(self) -> list[dict[str, Any]]:
        """Patients, their rows and the factor's range in each stratum compared, for reports."""
        out = []
        for w in self.kept:
            own = self.stratum == w
            out.append(
                {
                    "stratum": self.stratum_name(w),
                    f"{self.unit}s": int(own.sum()),
                    f"rows per {self.unit}": float(np.median(self.size[own])),
                    "least": float(self.dose[own].min()),
                    "largest": float(self.dose[own].max()),
                }
            )
        return out


def dose_units(
    cohort: Cohort,
    graph: CausalGraph,
    of: Sequence[str],
    given: Sequence[str],
    minimum: int = MIN_GROUPS,
    *,
    units: Units | None = None,
) -> DoseUnits:
    """Reduce a question about a continuous factor to one row and one value per patient.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of, given
        The one factor, and conditioning columns.
    minimum
        Least patients per stratum.
    units
        The patients in another space, made without a factor; None: their mean embeddings.

    Returns
    -------
    DoseUnits
        ``level`` has two levels, a value and one standard deviation more, with nobody at the second.

    Raises
    ------
    DataError
        No stratum in which values can be compared; see also :func:`causalfm.dosing.read_doses`.
    """
    units = units or patient_units(cohort, graph, (), given)
    doses = dataclasses.replace(read_doses(cohort, graph, of[0], given), strata=units)  # features may divide the strata
    kept = doses.kept(minimum)
    if not kept:
        raise DataError(f"values of {of[0]} cannot be compared in any stratum: see the overlap check.")
    fields = {name: getattr(units, name) for name in Units.__dataclass_fields__}
    fields["level"] = Factor(doses.name, np.zeros(len(units), dtype=np.int64), STEP)
    return DoseUnits(**fields, dose=doses.values, kept=kept)


def residual_dose(units: DoseUnits) -> np.ndarray:
    """Return what strata and covariates leave of the dose of the patients compared, ``(K,)`` standard deviations.

    Raises
    ------
    DataError
        Nothing is left.
    """
    rows = units.inside
    design = np.concatenate([np.eye(units.n_strata)[units.stratum[rows]], units.covariates[rows]], axis=1)
    dose = (units.dose[rows] - units.dose[rows].mean()) / units.spread
    left = dose - design @ np.linalg.lstsq(design, dose, rcond=None)[0]
    if np.abs(left).max() < 1e-6:
        raise DataError(
            f"{units.level.name} is a function of {' and '.join(units.continuous) or 'the strata'} in the "
            f"{rows.sum()} {units.unit}s compared: its own effect cannot be seen."
        )
    return np.asarray(left)


def contrast_doses(units: DoseUnits, biology: str, minimum: int = MIN_GROUPS) -> Contrasts:
    """Estimate the slope of the embedding on a continuous factor, and the biology to measure it against.

    Parameters
    ----------
    units
        Patients of the question.
    biology
        Name of the biology column.
    minimum
        Least patients per cell of the biology.

    Returns
    -------
    Contrasts
        ``joint`` and the only pair are the squared length of the slope per standard deviation of the factor over the
        patients compared, given strata and covariates; the biology's distance is given the factor, too.

    Raises
    ------
    DataError
        Nothing is left of the factor, or more regression terms than degrees of freedom.

    Notes
    -----
    Every patient's own squared residual stands for its variance (White, with the leverages of MacKinnon and White): one
    variance for all covered a true zero in 10 % of cohorts where patients vary more at both ends.

    Assumption: the factor acts linearly and alike in all strata; else the slope is an average that favours strata in
    which the factor varies much.
    """
    design, weights = slope_design(units)
    slope = squared_norm(design.Z, weights[None], _own_variances(design, weights))
    within = units.contrasts is not None
    norm, why = within_norm(units) if within else biology_norm(units, design, biology, minimum)
    if norm is None and not within and biology in [f.name for f in units.conditioning]:
        why = f"no two classes of {biology} have {minimum} {units.unit}s each in the same stratum"
    return Contrasts(
        levels=(0, 1),
        joint=slope,
        pairs={(0, 1): slope},
        biology=norm,
        no_biology=why,
        cells=None if within else design.cells,
        groups=design.rows,
        in_pair={(0, 1): len(design.rows)},
    )


def slope_design(units: DoseUnits) -> tuple[Design, np.ndarray]:
    """Return the patients compared, and their weights ``(K,)`` in the slope per standard deviation of the factor."""
    left = residual_dose(units)
    dose = (units.dose - units.dose[units.inside].mean())[:, None] / units.spread
    given = dataclasses.replace(units, covariates=np.concatenate([units.covariates, dose], axis=1))
    return build_design(given, CompleteTable((0,), units.kept, len(left))), left / (left @ left)


def spare_parts(design: Design) -> np.ndarray:
    """Return what the fit leaves of the variance of each patient's residual ``(K,)``: one less the leverage."""
    columns = np.concatenate([np.eye(design.cells.n_cells)[design.cells.codes], design.basis], axis=1)
    columns /= np.linalg.norm(columns, axis=0)
    return np.asarray(np.maximum(1.0 - (columns**2).sum(axis=1), 1e-9))


def _own_variances(design: Design, weights: np.ndarray) -> CellCovariances:
    """Covariance of a weighted sum of patients, each with a variance of its own, as that of one cell.

    The cell's residuals are scaled so that the squared weights times its covariance are ``sum_g w_g^2 r_g r_g' /
    (1 - h_g)``, ``h`` the leverage; its degrees of freedom are ``(sum w^2)^2 / sum w^4``.
    """
    spare = spare_parts(design)
    square = weights**2
    df = square.sum() ** 2 / (square**2).sum()
    scaled = design.cells.residuals * (weights * np.sqrt(df / square.sum() / spare))[:, None]
    return cell_covariances(scaled, np.zeros(len(weights), dtype=np.int64), 1, df=np.array([df]))
