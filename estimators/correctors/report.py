"""What a corrector was fitted on, and what it does to rows of each level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalfm.results import Result


@dataclass(frozen=True)
class FitReport(Result):
    """What a corrector was fitted on.

    Attributes
    ----------
    corrector
        Class name.
    levels
        One entry per level: ``level``, ``rows``, ``weight`` (groups, or rows).
    unit
        What weighs equally: ``"rows"`` or ``"groups"``.
    given
        Columns that the factor's effect is taken given.
    assumptions
        What the correction rests on.
    trimmed
        What was left out, in a sentence; None if nothing was.
    fingerprint
        Hash of the sums that were fitted.
    """

    corrector: str
    levels: tuple[Mapping[str, Any], ...]
    unit: str
    given: tuple[str, ...]
    assumptions: str
    trimmed: str | None
    fingerprint: str

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per level."""
        return [dict(level) for level in self.levels]


@dataclass(frozen=True)
class Account(Result):
    """What is done to rows of each level.

    Attributes
    ----------
    levels
        One entry per level met: ``level``, ``rows``, ``seen`` at the fit, ``done`` in words.
    """

    levels: tuple[Mapping[str, Any], ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per level."""
        return [dict(level) for level in self.levels]


def fit_report(corrector: Any, unit: str) -> FitReport:
    """Say what a corrector was fitted on."""
    moments = corrector.moments_
    counts = zip(corrector.levels_, moments.rows.tolist(), moments.count.tolist(), strict=True)
    levels = tuple({"level": name, "rows": rows, "weight": weight} for name, rows, weight in counts)
    return FitReport(
        type(corrector).__name__,
        levels,
        unit,
        corrector.regressors_.columns,
        corrector._assumptions(),
        corrector.trimmed_,
        moments.fingerprint(),
    )
