"""Numbers and names as a reader sees them: shared by the reports and the figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from causalfm.auditing.findings import Finding
from causalfm.results import Estimate

DASH = "–"
MOST_DECIMALS = 4


def clean(text: object) -> str:
    """Return text on one line without control or direction-changing characters.

    Names come from the data: a newline would break a table, a control character is not legal in SVG, and a
    right-to-left override could make a report read differently from what it says.

    Parameters
    ----------
    text
        Any value.

    Returns
    -------
    str
        Printable characters only, blanks collapsed.
    """
    return re.sub(r" +", " ", printable(text)).strip()


def printable(text: object) -> str:
    """Return text with a blank in place of every control, line-breaking and direction-changing character.

    The zero-width joiner and non-joiner stay: they hold emoji together and spell Persian and Indic names.
    """
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in str(text))


def number(value: Any) -> str:
    """Format a scalar: floats to 3 significant digits, integers with separators, nothing as a dash.

    Parameters
    ----------
    value
        A number, text, boolean or None.

    Returns
    -------
    str
        For instance ``"0.489"``, ``"12,345"``, ``"yes"`` or ``"–"``.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        return _minus(text.rstrip("0").rstrip(".") if "." in text else text)
    return _minus(f"{value:.2e}")


def interval(finding: Finding) -> str:
    """Format a finding's number with its interval, ``"0.14 [0.10, 0.19]"``, legible against its margin.

    Parameters
    ----------
    finding
        The finding.

    Returns
    -------
    str
        As from :func:`bounds`.
    """
    return bounds(finding.value, finding.low, finding.high, finding.margin)


def beside_chance(estimate: Estimate) -> str:
    """Format an estimate with its interval, legible against its chance; as from :func:`bounds`."""
    return bounds(estimate.value, estimate.low, estimate.high, estimate.chance)


def bounds(value: float, low: float, high: float, against: float = math.nan) -> str:
    """Format a number with its interval, ``"0.14 [0.10, 0.19]"``.

    Two decimals for numbers of order one. Decimals are added when rounding would make the number or an end look
    equal to what it is held against: a reader must be able to see why it passed or failed.

    Parameters
    ----------
    value, low, high
        The number and the ends of its interval.
    against
        A margin, or nothing.

    Returns
    -------
    str
        A dash if there is no number; no bracket if there is no interval.
    """
    known = [v for v in (value, low, high) if math.isfinite(v)]
    if math.isnan(value):
        return DASH
    if max(map(abs, known), default=0) >= 1e6 or 0 < max(map(abs, known), default=0) < 1e-3:
        parts = [number(v) for v in (value, low, high)]
    else:
        decimals = _decimals(known, against)
        parts = [_minus(f"{v:,.{decimals}f}") if math.isfinite(v) else number(v) for v in (value, low, high)]
    if math.isnan(low) and math.isnan(high):
        return parts[0]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]"


def requirement(finding: Finding) -> str:
    """Format the margin with the side that passes, ``"< 0.1"``, if ``details["want"]`` names it.

    Parameters
    ----------
    finding
        The finding; ``details["want"]`` is ``"below"`` or ``"above"``.

    Returns
    -------
    str
        A dash if there is no margin.
    """
    sign = {"below": "< ", "above": "> "}.get(str(finding.details.get("want")), "")
    return DASH if math.isnan(finding.margin) else sign + number(finding.margin)


def first_up(text: object) -> str:
    """Begin a sentence: a first letter in capitals, the rest (names of columns) as it is."""
    words = str(text)
    return words[:1].upper() + words[1:]


def listing(names: Iterable[object]) -> str:
    """Join names as in a sentence: ``"a, b and c"``."""
    words = [clean(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _decimals(values: list[float], margin: float) -> int:
    scale = max(map(abs, values), default=0.0)
    exponent = math.floor(math.log10(scale)) if scale else 0
    decimals = min(MOST_DECIMALS, max(0, (2 if exponent >= 0 else 1) - exponent))
    while decimals < MOST_DECIMALS and any(v != margin and round(v - margin, decimals) == 0 for v in values):
        decimals += 1
    return decimals


def _minus(text: str) -> str:
    """Write a true minus sign, and no sign before zero."""
    return text.replace("-", "−") if any(c in "123456789" for c in text.split("e")[0]) else text.lstrip("-")
