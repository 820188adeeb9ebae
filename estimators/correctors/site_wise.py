"""Correctors that need each row's level: an affine map per level, and one policy for levels that the fit never saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from causalfm.arguments import check_choice, did_you_mean
from causalfm.errors import DataError
from causalfm.estimators.correctors.base import Corrector
from causalfm.estimators.correctors.blocks import Change, over_blocks
from causalfm.estimators.correctors.inputs import coded, read_columns
from causalfm.estimators.correctors.report import Account
from causalfm.level_moments import LevelMoments
from causalfm.scm.level_prior import LEAST
from causalfm.validation import refuse_not_finite, row_blocks, rows_not_finite

POLICIES = {
    "refuse": "refused",
    "shrink": "new level: moved as the average level seen, its own effect left in",
    "adapt": "new level: learned from these rows, held to have biology and covariates in the mix of the fit",
}


class SiteWise(Corrector):
    """Base of the correctors whose ``transform`` takes ``factor=``.

    A row ``x`` at level ``s`` becomes ``c + A_s (x - c - shift_s)``: ``c`` is the mean of all rows at the fit, or what
    biology and covariates predict for the row in :meth:`transform_given`.
    """

    unseen: Literal["refuse", "shrink", "adapt"]
    reference: Any

    def transform(self, X: Any, factor: Any = None) -> Any:
        """Correct rows, given their level of the factor.

        Parameters
        ----------
        X
            ``(n, d)``.
        factor
            ``(n,)`` levels. In a Pipeline they are routed: ``sklearn.set_config(enable_metadata_routing=True)`` and
            ``corrector.set_transform_request(factor=True)``.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``, float64 for float64 input, else float32; a new array.

        Raises
        ------
        DataError
            No ``factor``; levels that the fit never saw under ``unseen="refuse"``; rows that are not finite.
        """
        X = self._read_rows(X)
        return over_blocks(X, self._change(X, factor))

    def transform_given(self, X: Any, factor: Any, *, biology: Any = None, covariates: Any = None) -> np.ndarray:
        """Correct rows about what biology and covariates predict for them, as the published in-sample methods do.

        Parameters
        ----------
        X, factor
            See :meth:`transform`.
        biology, covariates
            As at the fit, for these rows.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``.

        Notes
        -----
        A map that stretches about the mean of a row's class leaves a trace of the class that was passed in: how well
        biology is read from these rows says nothing about the embedding. :meth:`transform` needs no labels.

        Raises
        ------
        DataError
            See :meth:`transform`; other columns than the fit had, or levels of them that it never saw.
        """
        X = self._read_rows(X)
        columns = read_columns(biology, covariates, len(X))
        return over_blocks(X, self._change(X, factor, self.regressors_.matrix(columns, len(X))))

    def account(self, factor: Any) -> Account:
        """Say what :meth:`transform` does to rows at these levels.

        Parameters
        ----------
        factor
            ``(n,)`` levels.

        Returns
        -------
        Account
            One entry per level.
        """
        check_is_fitted(self)
        codes, names = coded(factor, "factor", len(factor))
        counts = np.bincount(codes, minlength=len(names)).tolist()
        rows = [
            {"level": name, "rows": count, "seen": name in self.levels_, "done": self._done(name)}
            for name, count in zip(names, counts, strict=True)
        ]
        return Account(tuple(rows))

    def _stretch(self, rows: np.ndarray, code: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """``A_s`` applied to rows less their centre and shift."""
        return rows

    def _population(self, solution: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Parts of a level of which nothing is known."""
        return {"shift": solution["shift"].mean(axis=0)}

    def _learn(
        self, moments: LevelMoments, solution: Mapping[str, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Parts of a new level; ``inside (d,)`` or ``(d, d)`` is how rows vary there if the level stretches nothing."""
        raise NotImplementedError

    def _done(self, name: str) -> str:
        return "corrected as fitted" if name in self.levels_ else POLICIES[self.unseen]

    def _check_settings(self) -> None:
        super()._check_settings()
        check_choice(self.unseen, "unseen", tuple(POLICIES))

    def _reference(self) -> int | None:
        """Position of the reference level."""
        if self.reference is None:
            return None
        if str(self.reference) not in self.levels_:
            raise DataError(
                f"reference={self.reference!r} is no level of y: choose one of {', '.join(self.levels_[:8])}."
                f"{did_you_mean(self.reference, self.levels_)}"
            )
        return self.levels_.index(str(self.reference))

    def _transform_own(self, X: Any, factor: Any) -> Any:
        return self.transform(X, factor=factor)

    def _needs_factor(self) -> bool:
        return True

    def _change(self, X: np.ndarray, factor: Any, regressors: np.ndarray | None = None) -> Change:
        if factor is None:
            raise DataError(
                f"{type(self).__name__} corrects each row by its level: transform(X, factor=...) needs them. In a "
                "Pipeline, set_transform_request(factor=True) routes them, once sklearn.set_config("
                "enable_metadata_routing=True) is set."
            )
        solution = self._solved()
        codes, names = coded(factor, "factor", len(X))
        at = {name: i for i, name in enumerate(self.levels_)}
        new = [name for name in names if name not in at]
        if new and self.unseen == "refuse":
            raise DataError(
                f"factor has levels that the fit never saw: {', '.join(map(repr, new[:8]))} "
                f"({int(np.isin(codes, [names.index(v) for v in new]).sum())} of {len(X)} rows). Nothing is known of "
                "them: choose unseen='shrink' (the average level seen) or 'adapt' (learned from these rows), or leave "
                "the rows out."
            )
        parts = dict(solution)
        for name in new:
            rows = codes == names.index(name)
            found = self._of_new(X, rows, None if regressors is None else regressors[rows], solution)
            at[name] = len(at)
            for key, value in found.items():
                parts[key] = np.concatenate([parts[key], value[None]])
        codes = np.array([at[name] for name in names])[codes]
        return lambda rows, block: self._move(block, codes[rows], regressors, rows, parts)

    def _of_new(
        self, X: np.ndarray, rows: np.ndarray, regressors: np.ndarray | None, solution: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if len(self.levels_) < LEAST and self.unseen == "shrink":
            raise DataError(
                f"unseen='shrink' needs at least {LEAST} levels at the fit; there were {len(self.levels_)}. Leave the "
                "rows at new levels out, or choose unseen='adapt'."
            )
        if self.unseen == "shrink":
            return self._population(solution)
        q = 1 if regressors is None else regressors.shape[1]
        moments = LevelMoments.empty(solution["centre"], 1, q, "full" if self._second() == "full" else "diagonal")
        columns = np.ones((int(rows.sum()), 1)) if regressors is None else regressors
        _add_part(moments, X, rows, columns, self._per_row())
        inside = solution["within"]
        if regressors is None:
            inside = inside + solution["mix"]
        else:
            moments = _less_predicted(moments, solution)
        return self._learn(moments, solution, inside)

    def _per_row(self) -> float:
        """Weight of a row of a new level: groups per row of the fit, for nobody says which rows are of one group."""
        assert self.report_ is not None
        return float(self.n_units_ / sum(level["rows"] for level in self.report_.levels))

    def _move(
        self,
        block: np.ndarray,
        codes: np.ndarray,
        regressors: np.ndarray | None,
        rows: slice,
        parts: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """Centre, stretch level by level, put back."""
        if regressors is not None:
            predicted = parts["centre"] + (regressors[rows, 1:] - parts["means"]) @ parts["beta"]
        else:
            predicted = np.broadcast_to(parts["centre"], block.shape)
        block -= predicted
        for code in np.unique(codes):
            members = np.flatnonzero(codes == code)
            block[members] = self._stretch(block[members] - parts["shift"][code], int(code), parts)
        block += predicted
        return block


def _add_part(moments: LevelMoments, X: np.ndarray, kept: np.ndarray, regressors: np.ndarray, per_row: float) -> None:
    """Add the rows of a mask to moments of one level, ``per_row`` groups each, block by block: ``X`` may be large."""
    bad: list[int] = []
    done = 0
    for rows in row_blocks(X):
        own = np.flatnonzero(kept[rows])
        block = X[rows][own]
        if found := rows_not_finite(block):
            bad += (own[found] + rows.start).tolist()
        elif not bad:
            codes = np.zeros(len(own), dtype=np.int64)
            moments.add(block, codes, regressors[done : done + len(own)], np.full(len(own), per_row))
        done += len(own)
    refuse_not_finite(bad, len(X))


def _less_predicted(moments: LevelMoments, solution: Mapping[str, np.ndarray]) -> LevelMoments:
    """Moments of rows less what biology and covariates predict: one regressor, 1, is left."""
    slope = np.concatenate([-(solution["means"] @ solution["beta"])[None], solution["beta"]])
    gram, cross = moments.gram[0], moments.cross[0]
    left = cross[0] - gram[0] @ slope
    mixed, fitted = slope.T @ cross, slope.T @ gram @ slope
    if moments.second == "full":
        square = moments.square[0] - mixed - mixed.T + fitted
    else:
        square = moments.square[0] - 2.0 * np.diag(mixed) + np.diag(fitted)
    first = np.array([[[gram[0, 0]]]])
    return LevelMoments(moments.shift, first, left[None, None], square[None], moments.rows, moments.second)
