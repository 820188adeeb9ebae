"""Measure one entry of the book in this process: calls in turn, so that a busy machine slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.claim import Claim, Entry, Gauge, Growth
from experiments.benchmarks.clock import peak_mib, spend
from experiments.benchmarks.exponents import exponent


class Disagreement(Exception):
    """The peer's answer is another one: the times are of different tasks."""


def measure(entry: Entry, folder: Path, *, fast: bool, repeats: int | None = None) -> dict[str, Any]:
    """Measure an entry.

    Parameters
    ----------
    entry
        Claim, growth or gauge.
    folder
        For files; empty.
    fast
        Take the tiny sizes.
    repeats
        Rounds; None: as the entry has.

    Returns
    -------
    dict
        Quartiles of seconds and ratios; peak of the process in MiB.

    Raises
    ------
    Disagreement
        Ours and the peer's answers are further apart than the claim allows.
    """
    rounds = repeats or entry.repeats
    found = PARTS[type(entry)](entry, folder, dict(entry.fast if fast else entry.sizes), rounds, fast)
    return {**found, "repeats": rounds, "process_mib": round(peak_mib())}


def in_turn(calls: Mapping[Any, Callable[[], Any]], rounds: int, **given: Any) -> dict[Any, list[Any]]:
    """Return what each call cost in each round; rounds start with one call after the other.

    Parameters
    ----------
    calls
        By name.
    rounds
        How many.
    given
        ``most``: rounds that a name takes part in, if fewer. ``before``: called before each call. ``keep``: takes name
        and result, outside the clock.
    """
    names, spent = list(calls), {name: [] for name in calls}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if turn >= given.get("most", {}).get(name, rounds):
                continue
            given.get("before", lambda: None)()
            cost = spend(calls[name])
            if "keep" in given:
                given["keep"](name, cost.result)
            spent[name].append(cost._replace(result=None))
    return spent


def quartiles(values: list[float]) -> list[float]:
    """Return lower quartile, median and upper quartile, to four digits."""
    return [float(f"{value:.4g}") for value in np.quantile(values, (0.25, 0.5, 0.75))]


def _claim(claim: Claim, folder: Path, sizes: dict[str, Any], rounds: int, fast: bool) -> dict[str, Any]:
    trial = claim.prepare(folder, **sizes)
    calls = {"ours": trial.ours, "limit": trial.limit}
    peer_rounds = min(rounds, claim.peer_repeats)
    if trial.peer is not None:
        calls["peer"] = trial.peer
    answers: dict[str, np.ndarray] = {}
    reduce = {"ours": trial.answer, "peer": trial.peer_answer}

    def keep(name: str, result: Any) -> None:
        if trial.peer is not None and name in reduce and name not in answers:
            answers[name] = reduce[name](result)

    for name, call in calls.items():
        if name != "peer" or claim.peer_repeats > 1:  # loading and compiling are not the task
            trial.before()
            call()
    spent = in_turn(calls, rounds, most={"peer": peer_rounds}, before=trial.before, keep=keep)
    found: dict[str, Any] = {"sizes": sizes}
    for name, costs in spent.items():
        found[name] = {
            "wall": quartiles([cost.wall for cost in costs]),
            "processor": quartiles([cost.processor for cost in costs]),
            "mib": round(max(cost.mib for cost in costs)),
        }
    found["over_limit"] = _ratios(spent["ours"], spent["limit"])
    if trial.peer is not None:
        found["peer_over_ours"] = _ratios(spent["peer"], spent["ours"])
        found["apart"] = trial.apart(answers["ours"], answers["peer"])
        if not found["apart"] <= claim.tolerance:
            raise Disagreement(
                f"{claim.differs}: {found['apart']:.3g} apart, {claim.tolerance:g} allowed: not the same task"
            )
    return found


def _ratios(above: list[Any], below: list[Any]) -> dict[str, list[float]]:
    """Return quartiles of the ratios within rounds, by clock."""
    pairs = list(zip(above, below, strict=False))  # a peer sits out the later rounds
    return {
        clock: quartiles([getattr(a, clock) / max(getattr(b, clock), 1e-9) for a, b in pairs])
        for clock in ("wall", "processor")
    }


def _growth(growth: Growth, folder: Path, sizes: dict[str, Any], rounds: int, fast: bool) -> dict[str, Any]:
    values = growth.fast_values if fast else growth.values
    calls = growth.prepare(folder, values, **sizes)
    calls[values[0]]()  # loading and compiling are not the task
    spent = in_turn(calls, rounds)
    wall = [quartiles([cost.wall for cost in spent[value]]) for value in values]
    processor = [quartiles([cost.processor for cost in spent[value]]) for value in values]
    user = [quartiles([max(cost.user, 0.01) for cost in spent[value]]) for value in values]  # its clock ticks
    slope, error = exponent(values, [middle for _, middle, _ in wall])
    return {
        "sizes": sizes,
        "along": growth.along,
        "values": list(values),
        "wall": wall,
        "processor": processor,
        "mib": [round(max(cost.mib for cost in spent[value])) for value in values],
        "exponent": round(slope, 3),
        "error": round(error, 3),
        "exponent_processor": round(exponent(values, [max(middle, 1e-4) for _, middle, _ in processor])[0], 3),
        "exponent_user": round(exponent(values, [middle for _, middle, _ in user])[0], 3),
    }


def _gauge(gauge: Gauge, folder: Path, sizes: dict[str, Any], rounds: int, fast: bool) -> dict[str, Any]:
    call, amount = gauge.prepare(folder, **sizes)
    call()
    spent = in_turn({"gauge": call}, rounds)["gauge"]
    return {"sizes": sizes, "rate": quartiles([amount / cost.wall for cost in spent]), "unit": gauge.unit}


PARTS: dict[type, Callable[..., dict[str, Any]]] = {Claim: _claim, Growth: _growth, Gauge: _gauge}
