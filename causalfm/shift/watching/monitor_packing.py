"""A monitor to header and arrays, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.shift.watching.martingales import Wealth
from causalfm.shift.watching.monitor_cells import Cells
from causalfm.shift.watching.monitor_memory import Memory
from causalfm.shift.watching.monitor_panels import Panel, Watch
from causalfm.shift.watching.monitor_plan import Plan, State
from causalfm.shift.watching.monitor_status import Alarm
from causalfm.shift.watching.monitor_views import EmbeddingView

_PANEL = ("slopes", "centre", "scale", "threshold")
_VIEW = ("centre", "directions", "spread")
_WEALTH = ("prior", "awake", "rise", "since", "peak")
_PLAIN = ("group", "biology", "unit", "alpha", "dtype", "noticeable", "needed", "seed", "fingerprint", "n_reference")


def pack(plan: Plan, state: State) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the JSON header and the arrays."""
    tensors = {f"view/{name}": getattr(plan.view, name) for name in _VIEW}
    header: dict[str, Any] = {name: getattr(plan, name) for name in _PLAIN}
    header |= {"n_site": plan.view.n_site, "classes": plan.classes, "score_columns": plan.score_columns}
    header |= {"cells": dataclasses.asdict(plan.cells), "panels": []}
    if plan.answers is not None:
        tensors["answers"] = plan.answers
    for k, (panel, watch) in enumerate(zip(plan.panels, state.watches, strict=True)):
        tensors |= {f"panel/{k}/{name}": getattr(panel, name) for name in _PANEL}
        tensors |= {f"wealth/{k}/{name}": getattr(watch.wealth, name) for name in _WEALTH}
        tensors |= {f"hashes/{k}": watch.memory.hashes}
        for what, counts in (("base", panel.counts), ("now", watch.counts)):
            places = np.flatnonzero(counts)
            tensors |= {f"{what}/{k}/places": places, f"{what}/{k}/counts": counts.ravel()[places]}
        header["panels"].append(
            {
                "streams": panel.streams,
                "names": panel.names,
                "shape": panel.counts.shape,
                "batches": watch.wealth.batches,
                "compared": watch.compared,
                "outside": watch.outside,
                "capacity": watch.memory.capacity,
                "forgotten": watch.memory.forgotten,
            }
        )
    header |= {name: getattr(state, name) for name in ("number", "resets", "seen", "stamp")}
    header["alarm"] = None if state.alarm is None else dataclasses.asdict(state.alarm)
    return header, tensors


def unpack(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> tuple[Plan, State]:
    """Rebuild a monitor."""
    view = EmbeddingView(**{name: tensors[f"view/{name}"] for name in _VIEW}, n_site=header["n_site"])
    panels, watches = [], []
    for k, saved in enumerate(header["panels"]):
        base, now = (_dense(tensors, what, k, tuple(saved["shape"])) for what in ("base", "now"))
        slopes, centre, scale, threshold = (tensors[f"panel/{k}/{name}"] for name in _PANEL)
        names = tuple(saved["streams"]), tuple(saved["names"])
        panels.append(Panel(*names, slopes, centre, scale, base, threshold))
        wealth = Wealth(**{name: tensors[f"wealth/{k}/{name}"] for name in _WEALTH}, batches=saved["batches"])
        memory = Memory(tensors[f"hashes/{k}"], saved["capacity"], saved["forgotten"])
        watches.append(Watch(now, wealth, memory, saved["compared"], saved["outside"]))
    plan = Plan(
        **{name: header[name] for name in _PLAIN},
        view=view,
        cells=Cells(**{name: _tuples(value) for name, value in header["cells"].items()}),
        panels=tuple(panels),
        classes=_tuples(header["classes"]),
        score_columns=_tuples(header["score_columns"]),
        answers=tensors.get("answers"),
    )
    state = State(
        header["number"],
        header["resets"],
        tuple(watches),
        _tuples(header["seen"]),
        None if header["alarm"] is None else Alarm(**header["alarm"]),
        header["stamp"],
    )
    return plan, state


def _dense(tensors: Mapping[str, np.ndarray], what: str, k: int, shape: tuple[int, ...]) -> np.ndarray:
    counts = np.zeros(shape, dtype=np.int64)
    counts.ravel()[tensors[f"{what}/{k}/places"]] = tensors[f"{what}/{k}/counts"]
    return counts


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
