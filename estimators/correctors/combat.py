"""ComBat: locations and scales of levels by empirical Bayes, biology and covariates kept; CovBat as an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, residual_squares
from causalfm.estimators.correctors.empirical_bayes import Prior, posterior, prior_over
from causalfm.estimators.correctors.mean_aligner import common_parts
from causalfm.estimators.correctors.score_alignment import align_scores, apply_scores, scores_of_level
from causalfm.estimators.correctors.site_wise import SiteWise
from causalfm.level_moments import LevelMoments, Second

AXIS = {"dimensions": 1, "levels": 0}


class ComBat(SiteWise):
    """Shift and scale each dimension at each level, by parametric empirical Bayes.

    Parameters
    ----------
    prior
        ``"dimensions"``: each level's locations and scales are drawn from one prior over its dimensions, as published;
        ``"levels"``: each dimension's from one over the levels.
    mean_only
        Shift alone; scales are taken as equal.
    reference
        Level that is left as it is and to which the others are moved; None: the mean of all rows.
    covbat
        Share of variance, in (0, 1], of the principal scores of the corrected residuals whose mean and scale are
        aligned too; None: not done.
    unseen
        Rows at levels that the fit never saw: ``"refuse"``; ``"shrink"``: the average level; ``"adapt"``: location and
        scale learned from the rows passed together, with the frozen fit, under its mix of biology and covariates.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    :meth:`transform` stretches about the mean of all rows and needs no labels; :meth:`transform_given` about what
    biology and covariates predict, as neuroCombat does in-sample. ``mean_only`` weighs a level by its rows; neuroCombat
    weighs it as one row there.

    References
    ----------
    Johnson, Li and Rabinovic, Biostatistics 8 (2007) 118-127; Fortin et al., NeuroImage 167 (2018) 104-120; Chen et
    al., Hum. Brain Mapp. 43 (2022) 1179-1195.
    """

    def __init__(
        self,
        *,
        prior: Literal["dimensions", "levels"] = "dimensions",
        mean_only: bool = False,
        reference: Any = None,
        covbat: float | None = None,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.prior = prior
        self.mean_only = mean_only
        self.reference = reference
        self.covbat = covbat
        self.unseen = unseen
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        if not isinstance(self.prior, str) or self.prior not in AXIS:
            raise DataError(f"prior={self.prior!r}: choose 'dimensions' or 'levels'.")
        if not isinstance(self.mean_only, (bool, np.bool_)):
            raise DataError(f"mean_only={self.mean_only!r}: choose True or False.")
        number = isinstance(self.covbat, (int, float, np.number)) and not isinstance(self.covbat, bool)
        if self.covbat is not None and (self.mean_only or not number or not 0.0 < self.covbat <= 1.0):
            raise DataError(f"covbat={self.covbat!r}: choose a share in (0, 1], and mean_only=False.")

    def _second(self) -> Second:
        return "diagonal" if self.covbat is None else "full"

    def _assumptions(self) -> str:
        scale = "" if self.mean_only else ", and levels stretch rows about the mean"
        return f"effects of the factor, biology and covariates on the mean add up{scale}; estimates share one prior"

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        reference = self._reference()
        out = common_parts(moments, fit, reference)
        square = residual_squares(moments, fit)
        diagonal = square if moments.second == "diagonal" else np.maximum(np.einsum("ldd->ld", square), 0.0)
        if reference is None:
            variance = diagonal.sum(axis=0) / fit.count.sum()
        else:  # as published: in units of the reference
            variance = diagonal[reference] / fit.count[reference]
        if not self.mean_only and fit.count.min() < 2:
            few = ", ".join(self.levels_[i] for i in np.flatnonzero(fit.count < 2)[:8])
            raise DataError(f"a scale needs two rows (groups) at each level; fewer at {few}: mean_only=True, or merge.")
        varies = variance > 1e-14 * variance.max(initial=0.0)
        sd = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)
        gamma, delta = fit.effects(reference) / sd, None
        if not self.mean_only:
            delta = np.where(varies, diagonal / (fit.count[:, None] - 1.0) / sd**2, 1.0)
        out |= {"sd": sd, "varies": varies}
        shift, scale = self._posterior(gamma, delta, fit.count, out, fit.located)
        if reference is not None:
            shift[reference], scale[reference] = 0.0, 1.0
        out |= {"shift": shift * sd, "scale": scale}
        if self.covbat is not None:
            left = (gamma - shift) / scale
            inside = square / (scale[:, :, None] * scale[:, None, :]) / np.outer(sd, sd)
            out |= align_scores(left, inside, fit.count, self.covbat, reference)
        return out

    def _posterior(
        self,
        gamma: np.ndarray,
        delta: np.ndarray | None,
        count: np.ndarray,
        out: dict[str, np.ndarray],
        located: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Locations and scales ``(L, d)``; dimensions without residual are not shrunk, and one alone has no prior."""
        varies, location, scale = out["varies"], gamma.copy(), np.ones_like(gamma)
        some = None if delta is None else np.maximum(delta[:, varies], 1e-12)
        if self.prior == "levels" or varies.sum() > 1:
            if "prior_mean" in out and self.prior == "levels":
                prior = Prior(out["prior_mean"], out["prior_variance"], out.get("prior_shape"), out.get("prior_rate"))
            else:
                prior = prior_over(gamma[:, varies], some, AXIS[self.prior])
                if self.prior == "levels":
                    out |= {f"prior_{name}": value for name, value in vars(prior).items() if value is not None}
            location[:, varies], variance = posterior(gamma[:, varies], some, count, prior, located)
        else:
            variance = np.ones_like(gamma[:, varies]) if some is None else some
        scale[:, varies] = np.sqrt(variance)
        return location, scale

    def _stretch(self, rows: np.ndarray, code: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.mean_only:
            return rows
        rows = rows / parts["scale"][code]
        return rows if self.covbat is None else apply_scores(rows, code, parts)

    def _population(self, solution: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        out = {"shift": solution["shift"].mean(axis=0), "scale": np.exp(np.log(solution["scale"]).mean(axis=0))}
        if self.covbat is not None:
            axes = solution["axes"].shape[1]
            out |= {"score_shift": np.zeros(axes), "score_scale": np.ones(axes)}
        return out

    def _learn(
        self, moments: LevelMoments, solution: Mapping[str, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        n, sd = moments.count, solution["sd"]
        if n[0] < 2:
            raise DataError("unseen='adapt' needs at least two rows (groups) of a new level, passed together.")
        mean = moments.cross[:, 0] / n[0]
        square = moments.square[0] / n[0]
        gamma, delta = mean / sd, None
        if not self.mean_only:
            spread, expected = square - mean[0] ** 2, inside
            if moments.second == "full":
                spread, expected = np.diag(square) - mean[0] ** 2, np.diag(inside)
            ratio = spread * n[0] / (n[0] - 1.0) / np.where(expected > 0, expected, 1.0)
            within = solution["within"] if moments.second == "diagonal" else np.diag(solution["within"])
            delta = np.where(solution["varies"], ratio * within / sd**2, 1.0)[None]
        shift, scale = self._posterior(gamma, delta, n, dict(solution))
        out = {"shift": shift[0] * sd, "scale": scale[0]}
        if self.covbat is not None:
            both = np.outer(sd * scale[0], sd * scale[0])
            covariance = (square - np.outer(mean[0], mean[0])) / both * n[0] / (n[0] - 1.0)
            stretch = np.sqrt(solution["within"].diagonal() / np.where(np.diag(inside) > 0, np.diag(inside), 1.0))
            covariance *= np.outer(stretch, stretch)
            out |= scores_of_level(((gamma - shift) / scale)[0], covariance, solution)
        return out
