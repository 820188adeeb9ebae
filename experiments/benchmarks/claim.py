"""What the book of benchmarks is made of: claims beside a peer and a limit, growth in size, and the machine's rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_TIMES_LIMIT = 2.0  # beyond it a claim needs an explanation, as where the peer is faster
LEAST_SECONDS = 0.2  # below it fixed costs distort an exponent


def same(result: Any) -> np.ndarray:
    """Take a result as the answer that is compared."""
    return np.asarray(result, dtype=np.float64)


def largest_difference(ours: np.ndarray, peer: np.ndarray) -> float:
    """Return the largest absolute difference of two answers of one shape."""
    if ours.shape != peer.shape:
        raise ValueError(f"answers of shapes {ours.shape} and {peer.shape}")
    return float(np.abs(ours - peer).max())


def nothing() -> None:
    """Do nothing before a call."""


@dataclass(frozen=True)
class Trial:
    """Calls that are ready to be timed, on one set of data.

    Attributes
    ----------
    ours, limit, peer
        Calls without arguments; no peer is None.
    answer, peer_answer
        Reduce a result to the numbers that are compared, outside the clock.
    apart
        How far two answers are apart, in the unit that the claim's ``differs`` names.
    before
        Called before every call, outside the clock.
    """

    ours: Callable[[], Any]
    limit: Callable[[], Any]
    peer: Callable[[], Any] | None = None
    answer: Callable[[Any], np.ndarray] = same
    peer_answer: Callable[[Any], np.ndarray] = same
    apart: Callable[[np.ndarray, np.ndarray], float] = largest_difference
    before: Callable[[], None] = nothing


@dataclass(frozen=True)
class Claim:
    """A task that is timed beside a peer and beside the least that the task needs.

    Attributes
    ----------
    name
        ``family.task``; how the command line calls it.
    what
        The task, for a table.
    prepare
        ``prepare(folder, **sizes) -> Trial``; its time does not count.
    sizes, fast
        Arguments of ``prepare``, and those of the tests' tiny run.
    limit
        What the limit is, for a table.
    peer
        Distributions that do the same, the first named in the table; without one, ``no_peer`` says why.
    differs, tolerance
        What is compared with the peer's answer, and how far apart the two may be.
    why
        Why it is slower than its peer or above twice its limit.
    repeats, peer_repeats
        Rounds; the peer joins the first ``peer_repeats``. One that joins a single round is warmed in ``prepare``.
    threads
        Of all libraries; None: as many as the run has.
    needs, absent
        ``"cuda"`` or a module without which it is not run, and what the page says then.
    """

    name: str
    what: str
    prepare: Callable[..., Trial]
    sizes: Mapping[str, Any]
    fast: Mapping[str, Any]
    limit: str
    peer: str = ""
    no_peer: str = ""
    differs: str = ""
    tolerance: float = 0.0
    why: str = ""
    repeats: int = 5
    peer_repeats: int = 3
    threads: int | None = None
    needs: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Growth:
    """How the time of a task grows.

    Attributes
    ----------
    name, what, prepare, fast, why, repeats, threads
        As of a claim; ``prepare(folder, values, **sizes)`` returns a call per value of ``along``.
    along
        What grows: ``"n"``, ``"d"``, ``"sites"``.
    values, fast_values
        At least four sizes, the last eight times the first or more.
    sizes
        What stays as it is.
    wanted
        The exponent's least and most; None where nothing is required.
    """

    name: str
    what: str
    prepare: Callable[..., Mapping[int, Callable[[], Any]]]
    along: str
    values: tuple[int, ...]
    fast_values: tuple[int, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    fast: Mapping[str, Any] = field(default_factory=dict)
    wanted: tuple[float, float] | None = None
    why: str = ""
    repeats: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class Gauge:
    """A rate of the machine: ``prepare(folder, **sizes)`` returns a call, and how many units times seconds it does."""

    name: str
    what: str
    prepare: Callable[..., tuple[Callable[[], Any], float]]
    sizes: Mapping[str, Any]
    fast: Mapping[str, Any]
    unit: str
    repeats: int = 5
    threads: int | None = None


Entry = Claim | Growth | Gauge
