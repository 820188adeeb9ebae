"""The confidence level in force: 95 %, or what the policy of the audit that is running says.

A number of an audit passes through many functions before its interval is made. The level is therefore read where the
interval is made, from one context variable, and not handed through; an explicit ``level=`` wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from causalfm.errors import DataError

DEFAULT_ALPHA = 0.05
# Of what a verdict stands on, whatever alpha: tests of assumptions, null cohorts, ranges of what is usual among
# hospitals. A smaller alpha there would let more assumptions hold and call more hospitals usual: it would be looser.
CHECK_ALPHA = 0.05

_alpha: ContextVar[float] = ContextVar("causalfm_alpha", default=DEFAULT_ALPHA)


@contextmanager
def using_alpha(alpha: float) -> Iterator[None]:
    """Make intervals, bounds and tests inside a ``with`` block at level ``1 - alpha``.

    Parameters
    ----------
    alpha
        One minus the confidence, in (0, 0.5).

    Raises
    ------
    DataError
        ``alpha`` is none.

    Notes
    -----
    As every context variable it holds in this thread (and task) only: a thread or process started inside has the
    default, so that intervals must be made where the block was entered.
    """
    if isinstance(alpha, bool) or not 0.0 < alpha < 0.5:
        raise DataError(f"alpha={alpha!r}: choose one minus the confidence, between 0 and 0.5, such as 0.05.")
    token = _alpha.set(float(alpha))
    try:
        yield
    finally:
        _alpha.reset(token)


def alpha_in_force() -> float:
    """Return one minus the confidence level in force."""
    return _alpha.get()


def level_in_force(level: float | None = None) -> float:
    """Return ``level`` if one is given, else the confidence level in force."""
    return 1.0 - _alpha.get() if level is None else level


def bounds_in_force() -> float:
    """Return the two-sided level whose ends are one-sided bounds at the level in force: 0.9 for 95 %."""
    return 1.0 - 2.0 * _alpha.get()


def usual_alpha() -> float:
    """Return the level at which something is beyond what is usual among hospitals.

    What is usual is a range of reference of 95 %, as in the laboratory. A smaller alpha asks for stronger evidence of
    being beyond it; a larger one does not make the range narrower.
    """
    return min(_alpha.get(), CHECK_ALPHA)


def percent(alpha: float) -> str:
    """Write the confidence of an interval: ``"95%"`` for an alpha of 0.05, ``"99.9%"`` for 0.001."""
    return f"{100.0 * (1.0 - alpha):.10g}%"
