"""ComBat on rows that can be compared: common support by vector matching, effects by regression or doubly robust."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from causalfm.arguments import check_choice, check_positive, check_seed
from causalfm.errors import DataError, positions
from causalfm.estimators.correctors.adjusted import Adjusted, adjusted
from causalfm.estimators.correctors.combat import ComBat
from causalfm.estimators.correctors.comparability import comparable_rows
from causalfm.estimators.correctors.inputs import Batch, read_columns
from causalfm.estimators.correctors.matched_rows import as_units, level_means
from causalfm.estimators.correctors.nearest_matching import kway_matching
from causalfm.estimators.correctors.support_region import region, within
from causalfm.level_moments import LevelMoments
from causalfm.trimming import CommonSupport

ESTIMATORS = ("regression", "matched", "aipw")


class CausalComBat(ComBat):
    """Fit ComBat to the rows inside the common support of biology and covariates, where no level extrapolates.

    Parameters
    ----------
    estimator
        Of the levels' locations: ``"regression"``, as in ComBat, on the rows inside; ``"matched"``: the same on rows
        that have near counterparts at other levels; ``"aipw"``: augmented inverse probability weighting, right if
        either the outcome regressions at each level or the propensities are.
    caliper
        For ``"matched"``: greatest distance of a match, in standard deviations of the propensity.
    prior, mean_only, reference, unseen
        See :class:`ComBat`.
    on_violation
        Rows outside the common support, and levels that cannot be told from biology: ``"refuse"``; ``"trim"``: left out
        of the fit and named by position in ``left_out_``.
    random_state
        Seed of the folds of ``"aipw"``.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.
    left_out_
        Positions of the rows of the fit outside the common support; not saved.
    unmatched_
        Positions of the rows inside it that have no near counterpart and were not fitted on; not saved.
    means_
        Doubly robust means ``(L, d)`` of ``"aipw"``, else None; not saved.

    Notes
    -----
    Patients (rows, without ``groups``) are matched on generalised propensities: each must lie where every level has
    some (:func:`causalfm.common_support`, at least three patients per cell). The rule looks at ranges and drops a few
    patients even where levels do not differ. ``"matched"`` then matches one by one, which balances the levels where
    effects of covariates are curved, and costs patients: of 160 at four sites that did not differ, 104 were left.
    Without biology and covariates there is nothing to match on, and the fit is that of ComBat.

    :meth:`transform` knows no covariates and moves every row by its level: an effect learned inside the support, also
    outside. :meth:`supported` says which rows lie in it; :meth:`transform_given` refuses those that do not, by
    position. For both, the support is the cells of the categorical columns, and the ranges of each number and of the
    linear indices of the levels among the rows of the fit. Bounds are rounded outward, by as much as the five outermost
    patients lie apart or more, so that no patient's number is kept.

    Against the authors' R code (causalBatch 1.4): ``"regression"`` is theirs without nearest-neighbour matching,
    ``"matched"`` with it; their AIPW variant corrects by the outcome regressions alone, uncrossed and unshrunken, here
    by the doubly robust means, cross-fitted and shrunken by ComBat's prior for as many patients of equal weight as they
    rest on. Scales are those of ComBat.

    Assumptions: biology and covariates block all back doors between the factor and the embedding; inside the support
    the effects of the factor, biology and covariates add up (``"regression"``).

    References
    ----------
    Bridgeford et al., Imaging Neuroscience (2025) imag_a_00458; Lopez and Gutman, Statist. Sci. 32 (2017) 432-454;
    Robins, Rotnitzky and Zhao, J. Amer. Statist. Assoc. 89 (1994) 846-866.
    """

    covbat = None
    streams = False
    left_out_: np.ndarray
    unmatched_: np.ndarray
    means_: np.ndarray | None

    def __init__(
        self,
        *,
        estimator: Literal["regression", "matched", "aipw"] = "regression",
        caliper: float = 0.1,
        prior: Literal["dimensions", "levels"] = "dimensions",
        mean_only: bool = False,
        reference: Any = None,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        on_violation: Literal["refuse", "trim"] = "refuse",
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.caliper = caliper
        self.prior = prior
        self.mean_only = mean_only
        self.reference = reference
        self.unseen = unseen
        self.on_violation = on_violation
        self.random_state = random_state

    def supported(self, *, biology: Any = None, covariates: Any = None) -> np.ndarray:
        """Say which rows lie in the common support of the fit.

        Parameters
        ----------
        biology, covariates
            As at the fit.

        Returns
        -------
        numpy.ndarray
            Mask ``(n,)``.

        Raises
        ------
        DataError
            Neither, other columns than the fit had, or levels of them that it never saw.
        """
        check_is_fitted(self)
        given = biology if biology is not None else covariates
        if given is None:
            raise DataError("pass biology= and covariates= as at the fit: they say which rows can be compared.")
        columns = read_columns(biology, covariates, len(given))
        return within(columns, self.regressors_, len(given), self._solved())

    def transform_given(self, X: Any, factor: Any, *, biology: Any = None, covariates: Any = None) -> np.ndarray:
        """Correct rows about what biology and covariates predict for them; see :meth:`ComBat.transform_given`.

        Raises
        ------
        DataError
            Rows outside the common support, by position; and as there.
        """
        if biology is not None or covariates is not None:
            self._refuse(np.flatnonzero(~self.supported(biology=biology, covariates=covariates)), "leave them out")
        return super().transform_given(X, factor, biology=biology, covariates=covariates)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_seed(self.random_state)
        check_positive(self.caliper, "caliper", "in standard deviations of the propensity")
        check_choice(self.estimator, "estimator", ESTIMATORS)

    def _assumptions(self) -> str:
        if self.estimator != "aipw":
            return f"inside the common support {super()._assumptions()}"
        scale = "" if self.mean_only else "; levels stretch rows about the mean"
        return (
            "inside the common support, outcome regressions linear in biology and covariates, or the propensities, "
            f"are right{scale}; estimates share one prior"
        )

    def _support(self, moments: LevelMoments, batch: Batch) -> CommonSupport | None:
        self.left_out_, self.unmatched_ = (np.zeros(0, dtype=np.int64) for _ in range(2))
        if not batch.columns or (self.on_violation == "refuse" and adjusted(moments).undetermined):
            return super()._support(moments, batch)  # the latter is refused with the table
        support = comparable_rows((batch.codes, batch.levels), batch.columns, batch.groups)
        outside = np.flatnonzero(~support.rows_kept)
        if self.on_violation == "refuse":
            self._refuse(outside, "leave them out with on_violation='trim'", f" {support.sentence}")
        kept, sentence = support.rows_kept, support.sentence
        if len(outside):
            self.left_out_ = outside
            sentence += f" Left out: {positions(outside.tolist())}."
        if self.estimator == "matched":
            kept, more = self._matched(batch, kept)
            sentence += more
        return None if kept.all() else dataclasses.replace(support, rows_kept=kept, sentence=sentence)

    def _matched(self, batch: Batch, inside: np.ndarray) -> tuple[np.ndarray, str]:
        """Mask ``(n,)`` of the rows that are matched, and how many in words."""
        units, rows = as_units(batch.part(inside), "matched"), np.flatnonzero(inside)
        near = kway_matching(units.level, units.columns, self.caliper)
        self.unmatched_ = rows[~near[units.of]]
        if len(np.unique(units.level[near])) < len(np.unique(units.level)):
            raise DataError(
                f"caliper={self.caliper:g}: a level has no rows with counterparts so near at others. Widen it, or "
                "choose estimator='regression'."
            )
        kept = np.zeros(len(inside), dtype=bool)
        kept[rows[near[units.of]]] = True
        unit = "rows" if batch.groups is None else "groups"
        return kept, f" Of these the fit rests on the {near.sum()} {unit} matched within {self.caliper:g} SD."

    def _refuse(self, outside: np.ndarray, way_out: str, more: str = "") -> None:
        if len(outside):
            raise DataError(
                f"{len(outside)} rows ({positions(outside.tolist())}) lie outside the common support of biology and "
                f"covariates, where levels cannot be compared.{more} Correcting them would extrapolate: {way_out}."
            )

    def _study(self, X: np.ndarray, batch: Batch) -> None:
        self._region = region(batch, self.regressors_)
        self.means_, self._effective = None, None
        if self.estimator == "aipw":
            self.means_, self._effective = level_means(X, batch, self.random_state)

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        if (
            self.means_ is not None and self._effective is not None
        ):  # about the mean of all rows, as the regression's levels are
            middle = fit.count @ self.means_ / fit.count.sum()
            fit = dataclasses.replace(fit, levels=self.means_ - middle + fit.centre, located=self._effective)
        return {**super()._solve(moments, fit), **self._region}
