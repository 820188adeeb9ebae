"""What an argument must be: one message form for numbers, types and names. Imports nothing but the standard library."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, Literal

from causalfm.errors import DataError, GraphError

SEEDS = 2**32 - 1  # the largest that scikit-learn takes


def check_whole(value: Any, name: str, least: int, *, most: int | None = None, why: str = "") -> None:
    """Refuse what is not a whole number in a range; True and 3.0 are none.

    Parameters
    ----------
    value, name
        The argument and its name.
    least, most
        Ends of the range, included.
    why
        Reason of the range, for the message.

    Raises
    ------
    DataError
        Naming the argument, its value and the range.
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        until = "" if most is None else f" and at most {most}"
        raise DataError(f"{name}={value!r}: choose a whole number of at least {least}{until}{why and f': {why}'}.")


def check_seed(value: Any) -> None:
    """Refuse what cannot seed every generator in use: a run must be repeatable from the number in its report.

    Raises
    ------
    DataError
        Not a whole number from 0 to 2**32 - 1.
    """
    check_whole(value, "random_state", 0, most=SEEDS, why="it is printed in the report, so that a run can be repeated")


def check_positive(value: Any, name: str, why: str) -> None:
    """Refuse what is not a finite number above 0.

    Raises
    ------
    DataError
        Naming the argument, its value and the reason.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise DataError(f"{name}={value!r}: choose a finite number above 0: {why}.")


def check_type(value: Any, wanted: type, name: str, way_out: str) -> None:
    """Refuse an object of another class.

    Raises
    ------
    DataError
        Naming the argument, both classes and how to get the right one.
    """
    if not isinstance(value, wanted):
        article = "an" if wanted.__name__[0] in "AEIO" else "a"
        raise DataError(f"{name} must be {article} {wanted.__name__}, not {type(value).__name__}: {way_out}.")


def check_flag(value: Any, name: str) -> None:
    """Refuse what is not True or False: the text "no" would count as yes.

    Raises
    ------
    DataError
        Naming the argument and its value.
    """
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's own too
        raise DataError(f"{name}={value!r}: choose True or False.")


def check_choice(value: Any, name: str, options: Sequence[str]) -> None:
    """Refuse what is none of a few words.

    Raises
    ------
    DataError
        Naming the argument, its value and the words.
    """
    if value not in options:
        raise DataError(f"{name}={value!r}: choose one of {', '.join(map(repr, options))}.")


def check_device(value: Any) -> None:
    """Refuse what torch cannot compute on here; None is the CPU.

    Raises
    ------
    DataError
        Naming the device and the way out.
    """
    if value is None:
        return
    import torch

    try:
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, AssertionError):  # the last from a torch that was built without it
        raise DataError(
            f"device={value!r}: torch has no such device here. Pass 'cpu', 'cuda' or 'cuda:1', or None for the CPU; "
            "causalfm doctor shows what torch finds."
        ) from None


def columns_of(value: Any, name: str) -> tuple[str, ...]:
    """Return one column name or several as a tuple.

    Raises
    ------
    DataError
        Neither, naming the argument and its value.
    """
    columns = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (None,)
    if not all(isinstance(column, str) for column in columns):
        raise DataError(f"{name}={value!r}: give a column name, a list of them, or () for none.")
    return columns


def did_you_mean(name: Any, options: Iterable[Any]) -> str:
    """Return `` Did you mean 'site'?`` for the nearest option, or nothing.

    Parameters
    ----------
    name
        What was asked for.
    options
        What there is. Never values that identify patients.
    """
    known = {str(option).strip().casefold(): str(option) for option in options}
    near = difflib.get_close_matches(str(name).strip().casefold(), known, n=1)
    return f" Did you mean {known[near[0]]!r}?" if near else ""


def sets_to_try(valid: Sequence[tuple[str, ...]], given: Literal["auto"] | Sequence[str]) -> Sequence[tuple[str, ...]]:
    """Return the valid conditioning sets, or the one asked for; one that is not valid under the graph is refused."""
    if isinstance(given, str) and given == "auto":
        return valid
    wanted = {given} if isinstance(given, str) else set(given)
    for candidate in valid:
        if set(candidate) == wanted:
            return (candidate,)
    shown = "; ".join("{" + ", ".join(s) + "}" for s in valid)
    raise GraphError(f"given={sorted(wanted)} is not a valid conditioning set under this graph. Valid: {shown}.")
