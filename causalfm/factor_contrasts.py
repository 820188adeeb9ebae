"""The contrasts of one factor, with what sets them against biology: ratio and margin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.confidence import alpha_in_force, level_in_force
from causalfm.covariances import CellCovariances
from causalfm.norm_contrasts import fieller, linear_bounds
from causalfm.norms import SquaredNorm


@dataclass(frozen=True, eq=False)
class Contrasts:
    """All contrasts of one factor, between patients or within them.

    Attributes
    ----------
    levels
        Positions of the compared levels.
    joint
        Mean squared distance over all pairs of levels.
    pairs
        ``{(a, b): SquaredNorm}`` over pairs of positions in the units' levels.
    biology
        Mean squared distance over all pairs of classes, standardised over the levels; None with ``no_biology``.
    no_biology
        Why there is no biology to measure against.
    cells
        The covariances that factor and biology are both estimated with. None if they come from different means of the
        same patients, whose covariance is not known: bounds then assume the worst.
    groups
        Positions of the patients used among all patients of the units.
    in_pair
        Patients behind each pair.
    """

    levels: tuple[int, ...]
    joint: SquaredNorm
    pairs: dict[tuple[int, int], SquaredNorm]
    biology: SquaredNorm | None
    no_biology: str
    cells: CellCovariances | None
    groups: np.ndarray
    in_pair: dict[tuple[int, int], int]

    def ratio(self) -> tuple[float, float, float]:
        """Ratio of squared distances factor : biology with its interval; ``nan`` if biology is not told from zero.

        Fieller's interval where the covariance is known; else (biology or factor varying within patients) the two
        norms' intervals with half the error each (97.5 %) are combined, which is conservative.
        """
        nothing = (float("nan"),) * 3
        if self.biology is None:
            return nothing
        if self.cells is not None:
            return fieller(self.joint, self.biology, self.cells)
        level = 1.0 - alpha_in_force() / 2.0
        (low, high), (b_low, b_high) = (norm.interval(level) for norm in (self.joint, self.biology))
        return (self.joint.value / self.biology.value, low / b_high, high / b_low) if b_low > 0 else nothing

    def margin_bounds(self, margin: float, level: float | None = None) -> tuple[float, float]:
        """Simultaneous bounds of the largest ``|pair|^2 - margin^2 |biology|^2``.

        Parameters
        ----------
        margin
            Margin in units of the biology distance.
        level
            Confidence of each one-sided statement; None for the level in force.

        Returns
        -------
        low, high : float
            ``high < 0``: every pair is below the margin (intersection-union). ``low > 0``: some pair is above it
            (Bonferroni over the pairs). ``nan`` if biology is not told from zero.
        """
        if self.biology is None or self.biology.interval()[0] <= 0.0:
            return float("nan"), float("nan")
        lows, highs, level = [], [], level_in_force(level)
        split = 1.0 - (1.0 - level) / len(self.pairs)
        for pair in self.pairs.values():
            highs.append(linear_bounds(pair, self.biology, margin**2, self.cells, level)[2])
            lows.append(linear_bounds(pair, self.biology, margin**2, self.cells, split)[1])
        return max(lows), max(highs)
