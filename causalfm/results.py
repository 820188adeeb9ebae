"""Frozen results: plain data that leave as a frame, a dictionary or HTML."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from scipy import sparse

Verdict = Literal["pass", "fail", "cannot tell"]
# Stands in every report: the one reading of a hospital's effect that no statistic can exclude.
CAVEAT = "Hospital effect = technical effect, or biology that was not declared (grade, purity, composition)."
VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "cannot tell")
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "cannot tell": 3}  # of commands; 2: bad input


def plain(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples, results and non-finite floats into plain JSON values.

    Parameters
    ----------
    value
        Any result value.

    Returns
    -------
    Any
        ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` or None; a non-finite number becomes None.
    """
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


class Result:
    """What every result can do; subclasses are frozen dataclasses."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary per quantity; the frame is built from them."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """Return one row per quantity as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def to_dict(self) -> dict[str, Any]:
        """Return the whole result as plain, JSON-ready data."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {f.name: plain(getattr(self, f.name)) for f in fields if f.name != "influence"}

    def _repr_html_(self) -> str:
        rows = [{k: v for k, v in row.items() if not isinstance(v, Mapping)} for row in self.rows()]
        if not rows:
            return f"<p>{escape(type(self).__name__)}: no rows</p>"
        head = "".join(f"<th>{escape(str(k))}</th>" for k in rows[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_short(v))}</td>" for v in row.values()) + "</tr>" for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class Influence:
    """What each independent unit adds to an estimate: makes contrasts of estimates on the same cohort possible.

    Attributes
    ----------
    effects
        ``(G,)`` one number per unit, up to a constant per stratum: the estimate less the estimate without the unit.
    strata
        ``(G,)`` codes of the design cells in which the number of units is fixed; -1: the unit plays no part.
    pairs
        ``(G, G)`` sparse part of the effects that belongs to pairs of units, or None. It is met in both units.
    pairs_are_residuals
        Whether block means and main effects are off the pairs already.
    inflation
        Factor on the variance where a correction is known as a factor only.
    """

    effects: np.ndarray
    strata: np.ndarray
    pairs: sparse.csr_array | None = None
    pairs_are_residuals: bool = False
    inflation: float = 1.0


@dataclass(frozen=True)
class Estimate(Result):
    """A number with its interval and the value that the design gives by chance.

    Attributes
    ----------
    name
        The quantity, for instance ``"robustness_index"``.
    value, low, high
        Point estimate and 95 % interval (``nan`` where it cannot be told).
    chance
        Value expected on this design if the embedding carried nothing (``nan`` where the notion is void).
    n, n_groups
        Rows and independent units used.
    unit
        The independent unit, for instance ``"patient"``.
    details
        Everything else: settings, weights, target population, ``"standardised"`` (the version that is comparable
        between designs), reasons for "cannot tell".
    influence
        Effects of the units, in the order of the group column's codes; None where there is no interval. Not exported.
    """

    name: str
    value: float
    low: float
    high: float
    chance: float
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)
    influence: Influence | None = field(default=None, repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this estimate, without ``details``."""
        left_out = ("details", "influence")
        return [{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}]


@dataclass(frozen=True)
class TestResult(Result):
    """Outcome of an invariance test.

    Attributes
    ----------
    statistic, p_value
        Observed statistic and its permutation p-value, ``(1 + #{>=}) / (1 + B)``; ``nan`` if there was no test.
    effect
        The size of what was tested, with its interval; the verdict rests on it, never on the p-value alone.
    verdict
        ``"pass"``, ``"fail"`` or ``"cannot tell"``.
    sentence
        The result in words.
    of, given, effect_kind, method
        Tested factor, conditioning set, ``"total"`` or ``"direct"``, and the statistic's name.
    n, n_groups, unit
        Rows, independent units, and what the unit is.
    details
        Margin, permutations, strata left out, valid alternatives to the conditioning set, assumptions.
    """

    __test__ = False  # not a pytest class

    statistic: float
    p_value: float
    effect: Estimate | None
    verdict: Verdict
    sentence: str
    of: str
    given: tuple[str, ...]
    effect_kind: str
    method: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this test."""
        return [
            {
                "of": self.of,
                "given": ", ".join(self.given),
                "method": self.method,
                "statistic": self.statistic,
                "p_value": self.p_value,
                "verdict": self.verdict,
                "sentence": self.sentence,
                "n": self.n,
                "n_groups": self.n_groups,
                "unit": self.unit,
            }
        ]


@dataclass(frozen=True)
class Check(Result):
    """A yes/no condition with what was seen, for instance one overlap rule.

    Attributes
    ----------
    name, verdict, sentence
        What was checked, the outcome and the outcome in words.
    details
        Tables and counts behind it.
    """

    name: str
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this check."""
        return [{"name": self.name, "verdict": self.verdict, "sentence": self.sentence}]


def worst(verdicts: list[Verdict]) -> Verdict:
    """Combine verdicts: fail > cannot tell > pass; an empty list cannot tell.

    Parameters
    ----------
    verdicts
        Verdicts of the parts.

    Returns
    -------
    Verdict
        The one that decides.
    """
    for verdict in ("fail", "cannot tell"):
        if verdict in verdicts:
            return verdict
    return "pass" if verdicts else "cannot tell"


def verdict_against(low: float, high: float, margin: float, *, want: Literal["below", "above"] = "below") -> Verdict:
    """Decide by one-sided bounds against a margin fixed before the run.

    Parameters
    ----------
    low, high
        One-sided 95 % bounds.
    margin
        The margin.
    want
        ``"below"``: pass if ``high < margin``, fail if ``low > margin``. ``"above"``: the reverse.

    Returns
    -------
    Verdict
        ``"cannot tell"`` if neither holds, or a bound is not a number.
    """
    if math.isnan(low) or math.isnan(high):
        return "cannot tell"
    if want == "above":
        low, high, margin = -high, -low, -margin
    if high < margin:
        return "pass"
    return "fail" if low > margin else "cannot tell"
