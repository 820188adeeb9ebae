"""What every corrector shares: reading rows, fitting from moments at once or in parts, files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, adjusted
from causalfm.estimators.correctors.blocks import Change, over_blocks
from causalfm.estimators.correctors.comparability import comparable_rows, refuse_undetermined
from causalfm.estimators.correctors.files import load_corrector, refuse_other_settings, save_corrector
from causalfm.estimators.correctors.inputs import Batch, Regressors, coded, equal_weights, read_columns, read_rows
from causalfm.estimators.correctors.report import FitReport, fit_report
from causalfm.lazy_rows import part_of
from causalfm.level_moments import LevelMoments, Second, mean_of_first_rows
from causalfm.trimming import CommonSupport


class Corrector(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the correctors: fit on training rows, apply to others.

    A subclass says which second moments it needs and solves for what it applies.
    """

    streams = True  # whether moments suffice
    on_violation: Literal["refuse", "trim"]
    levels_: tuple[str, ...]
    solution_: dict[str, np.ndarray] | None
    report_: FitReport | None
    _fitted_with: dict[str, Any]

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        factor: Any = None,
        biology: Any = None,
        covariates: Any = None,
        groups: Any = None,
    ) -> Corrector:
        """Learn from training rows, and from nothing else.

        Parameters
        ----------
        X
            ``(n, d)`` float16, float32 or float64; may be a memory map.
        y, factor
            ``(n,)`` the factor to remove, at least two levels; as ``factor`` in a Pipeline whose ``y`` is an outcome.
        biology
            ``(n,)`` classes to keep: the factor's effect is taken given them.
        covariates
            Table or array with ``n`` rows: numbers enter as lines, everything else as levels.
        groups
            ``(n,)`` patients, who then weigh equally; None: rows do.

        Returns
        -------
        Corrector
            This corrector.

        Raises
        ------
        DataError
            Input that cannot be used, with row positions.
        NotIdentifiedError
            Levels that cannot be told from biology or covariates, with the table.
        """
        self._check_settings()
        y = y if factor is None else factor
        X, batch = self._read_batch(X, y, biology, covariates, groups, reset=True)
        self._fitted_with = self.get_params(deep=False)
        moments, regressors, n_units = self._moments(X, batch)
        support = self._support(moments, batch)
        if support is not None:
            X, batch = part_of(X, support.rows_kept), batch.part(support.rows_kept)
            moments, regressors, n_units = self._moments(X, batch)
        self.levels_, self.regressors_, self.moments_, self.n_units_ = batch.levels, regressors, moments, n_units
        self.grouped_ = groups is not None
        self.trimmed_ = None if support is None else support.sentence
        self.solution_, self.report_ = None, None  # a fit that is refused leaves nothing of an earlier one
        self._study(X, batch)
        self._finish()
        return self

    @available_if(lambda self: self.streams)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        factor: Any = None,
        biology: Any = None,
        covariates: Any = None,
        groups: Any = None,
    ) -> Corrector:
        """Add rows to those seen; new levels may come with any part. All rows of a group must come in one part.

        Parameters
        ----------
        X, y, factor, biology, covariates, groups
            See :meth:`fit`.

        Returns
        -------
        Corrector
            This corrector. When it is first applied it is checked whether levels can be told from biology, and
            ``report_`` is made.

        Raises
        ------
        DataError
            See :meth:`fit`; ``on_violation="trim"``, which needs all rows at once; parts with and without groups.
        """
        self._check_settings()
        if self.on_violation == "trim":
            raise DataError("on_violation='trim' compares all rows: use fit, or on_violation='refuse'.")
        first = getattr(self, "moments_", None) is None
        if first and hasattr(self, "levels_"):
            raise DataError("this corrector was read from a file, which holds no moments: fit a new one.")
        y = y if factor is None else factor
        X, batch = self._read_batch(X, y, biology, covariates, groups, reset=first, one_level=True)
        if not first and self.grouped_ != (groups is not None):
            raise DataError("give groups with every part, or with none: rows and groups cannot weigh together.")
        if first:
            self._fitted_with = self.get_params(deep=False)
        refuse_other_settings(self)
        self._add(X, batch, first)
        self.grouped_, self.trimmed_, self.solution_, self.report_ = groups is not None, None, None, None
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, then correct the same rows: their result is no measure of what new rows will get."""
        self.fit(X, y, **params)
        return self._transform_own(X, y if params.get("factor") is None else params["factor"])

    def transform(self, X: Any) -> Any:
        """Correct rows; their level of the factor is not needed.

        Parameters
        ----------
        X
            ``(n, d)``.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``, float64 for float64 input, else float32; a new array.

        Raises
        ------
        DataError
            NaN or infinite values, by row position; other dimensions than the fit had.
        """
        X = self._read_rows(X)
        return over_blocks(X, self._change(X, None))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and what is applied to one safetensors file; moments, and hence partial_fit, are left out.

        Raises
        ------
        DataError
            Another ending than ``.safetensors``, or a place that cannot be written.
        """
        check_is_fitted(self)
        self._solved()
        save_corrector(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Read a corrector that :meth:`save` wrote.

        Raises
        ------
        DataError
            Missing, damaged, edited, of another class, or written under a newer schema.
        """
        return load_corrector(cls, path)

    def _support(self, moments: LevelMoments, batch: Batch) -> CommonSupport | None:
        """Find the rows to fit on; None: all of them."""
        if self.on_violation == "trim" and adjusted(moments).undetermined:
            if "biology" not in {column.name for column in batch.columns}:
                raise DataError("on_violation='trim' keeps what is comparable given biology: pass biology=.")
            return comparable_rows((batch.codes, batch.levels), batch.columns, batch.groups)
        return None

    def _study(self, X: np.ndarray, batch: Batch) -> None:
        """Learn what moments do not tell from the rows of the fit."""

    def _second(self) -> Second:
        """Which second moments the solution needs."""
        raise NotImplementedError

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        """Turn moments into the arrays that are applied."""
        raise NotImplementedError

    def _map(self, block: np.ndarray, solution: Mapping[str, np.ndarray]) -> np.ndarray:
        """Correct rows; label-free correctors only."""
        raise NotImplementedError

    def _assumptions(self) -> str:
        """Say what the corrector rests on."""
        raise NotImplementedError

    def _needs_factor(self) -> bool:
        """Whether rows are corrected by their level."""
        return False

    def _change(self, X: np.ndarray, factor: Any) -> Change:
        """Return what is done to a block of rows; ``factor`` where levels are needed."""
        solution = self._solved()
        return lambda _, block: self._map(block, solution)

    def _transform_own(self, X: Any, factor: Any) -> Any:
        return self.transform(X)

    def _check_settings(self) -> None:
        if self.on_violation not in ("refuse", "trim"):
            raise DataError(f"on_violation={self.on_violation!r}: choose 'refuse' or 'trim'.")

    def _read_rows(self, X: Any) -> Any:
        """Check rows to correct; whether they are finite is seen while they are corrected."""
        check_is_fitted(self)
        return read_rows(self, X, reset=False)

    def _read_batch(
        self, X: Any, y: Any, biology: Any, covariates: Any, groups: Any, *, reset: bool, one_level: bool = False
    ) -> tuple[np.ndarray, Batch]:
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: y is the factor to remove."
            )
        X = read_rows(self, X, reset=reset)
        codes, levels = coded(y, "y", len(X))
        if len(levels) < 2 and not one_level:
            raise DataError(f"y has 1 class ({levels[0]!r}): there is nothing to remove. Pass rows of two or more.")
        return X, Batch(codes, levels, read_columns(biology, covariates, len(X)), groups)

    def _moments(self, X: np.ndarray, batch: Batch) -> tuple[LevelMoments, Regressors, int]:
        regressors = Regressors().extended(batch.columns)
        weights, units = equal_weights(batch.groups, len(batch))
        moments = LevelMoments.empty(mean_of_first_rows(X), len(batch.levels), len(regressors.names), self._second())
        moments.add(X, batch.codes, regressors.matrix(batch.columns, len(batch)), weights)
        return moments, regressors, units

    def _add(self, X: np.ndarray, batch: Batch, first: bool) -> None:
        """Add rows to the moments; where that fails, nothing has changed."""
        known: tuple[str, ...] = () if first else self.levels_
        base = Regressors() if first else self.regressors_
        if not first:
            base.refuse_others(batch.columns)
        regressors = base.extended(batch.columns)
        levels = known + tuple(v for v in batch.levels if v not in known)
        moments = LevelMoments.empty(mean_of_first_rows(X), 0, 1, self._second()) if first else self.moments_
        moments = moments.widened(np.arange(len(known)), len(levels), np.arange(len(base.names)), len(regressors.names))
        weights, units = equal_weights(batch.groups, len(batch))
        at = np.array([levels.index(v) for v in batch.levels])
        moments.add(X, at[batch.codes], regressors.matrix(batch.columns, len(batch)), weights)
        self.moments_, self.levels_, self.regressors_ = moments, levels, regressors
        self.n_units_ = units + (0 if first else self.n_units_)

    def _finish(self) -> None:
        """Check that the levels can be told from the rest, and solve."""
        if len(self.levels_) < 2:
            raise DataError(f"y has 1 class ({self.levels_[0]!r}) in all parts: there is nothing to remove.")
        fit = adjusted(self.moments_)
        unit = "groups" if self.grouped_ else "rows"
        if fit.undetermined:
            at = [i for i, name in enumerate(self.regressors_.names) if name.startswith("biology=")]
            classes = [self.regressors_.names[i].split("=", 1)[1] for i in at]
            refuse_undetermined(self.moments_.gram[:, 0, at] if at else fit.count[:, None], self.levels_, classes, unit)
        self.solution_ = self._solve(self.moments_, fit)
        self.report_ = fit_report(self, unit)

    def _solved(self) -> dict[str, np.ndarray]:
        refuse_other_settings(self)
        if self.solution_ is None:
            self._finish()
        assert self.solution_ is not None
        return self.solution_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
