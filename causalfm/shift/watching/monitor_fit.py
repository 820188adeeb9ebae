"""Fix on the reference what a monitor watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.shift.watching.monitor_cells import Cells, fit_cells
from causalfm.shift.watching.monitor_memory import Memory, hashed
from causalfm.shift.watching.monitor_panels import Panel, fit_panel, patients_until_noticed
from causalfm.shift.watching.monitor_plan import Plan, State, Unit, error_values, image_values, next_stamp
from causalfm.shift.watching.monitor_scores import Source, probes, source_of
from causalfm.shift.watching.monitor_views import (
    EmbeddingView,
    fit_embedding_view,
    least_share,
    one_row_each,
    patient_means,
    score_names,
)

LEAST_PATIENTS = 40


def fitted_plan(
    reference: Cohort,
    graph: CausalGraph,
    alpha: float,
    given: tuple[str, ...],
    model: Any,
    scores: Mapping[str, str] | None,
    unit: Unit,
    noticeable: float,
    random_state: int,
) -> tuple[Plan, Source | None]:
    """Return what is fixed, and where probabilities come from; arguments as :meth:`Monitor.fit`."""
    group = reference.factor(graph.group, private=True)
    if group.n_levels < LEAST_PATIENTS:
        raise DataError(
            f"the reference has {group.n_levels} {graph.group}s and {LEAST_PATIENTS} are the least: half of them fix "
            "what is watched, the others are what the stream is compared with. Add patients."
        )
    rng = np.random.default_rng([random_state, 0])
    shape = rng.permutation(group.n_levels) < group.n_levels // 2
    cells = fit_cells(reference, graph, given, shape, group.codes)
    where, numbers = cells.of(reference, group.codes, group.n_levels)
    labels, classes = _labels(reference, graph, graph.biology)
    source = source_of(model, scores, classes, reference.X)
    columns = [graph.group, *cells.columns, *((source and source.columns) or ())]
    fingerprint = reference.fingerprint(dict.fromkeys(columns))
    units = group.codes
    if unit == "row":
        rows = one_row_each(units, group.n_levels, rng)
        reference, units, labels = reference[rows], np.arange(group.n_levels), labels[rows]
    view = _view(reference, graph, units, shape, labels)
    values = image_values(reference, units, group.n_levels, view, source, "reference")
    basis = cells.basis(numbers)
    streams = _streams(view, classes, source)
    panels = [_panel(streams[:-1] if source else streams, alpha, values, basis, where, cells, shape, len(streams))]
    if source is not None:
        values = error_values(reference, units, group.n_levels, labels, source, "reference")
        panels.append(_panel(streams[-1:], alpha, values, basis, where, cells, shape, len(streams)))
    answers = None
    if source is not None and source.scorer is not None:
        answers = source.of(Cohort(probes(view).astype(reference.X.dtype), _numbered(view)), "probes")
    plan = Plan(
        graph.group,
        graph.biology,
        unit,
        float(alpha),
        view,
        cells,
        tuple(panels),
        classes if source is not None else None,
        source.columns if source is not None else None,
        answers,
        reference.X.dtype.name,
        float(noticeable),
        patients_until_noticed(panels[0], noticeable, random_state=random_state),
        random_state,
        fingerprint,
        group.n_levels,
    )
    return plan, source


def first_state(plan: Plan, reference: Cohort, key: bytes, capacity: int) -> State:
    """Return the state before the first batch; the reference's patients have had their turn."""
    memory = Memory(np.empty(0, dtype=np.uint64), capacity)
    memory = memory.add(hashed(reference.factor(plan.group, private=True).levels, key))
    watches = tuple(panel.start(memory) for panel in plan.panels)
    return State(0, 0, watches, (), None, next_stamp(plan.fingerprint, str(plan.seed), key.hex()))


def _labels(reference: Cohort, graph: CausalGraph, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Codes and levels of a factor; zeros and None where it is absent, incomplete or a number."""
    column = reference.obs.get(name)
    if column is None or column.isna().any() or graph.kind(name, reference) == "continuous":
        return np.zeros(len(reference), dtype=np.int64), None
    factor = reference.factor(name)
    return factor.codes, factor.levels


def _view(
    reference: Cohort, graph: CausalGraph, units: np.ndarray, shape: np.ndarray, labels: np.ndarray
) -> EmbeddingView:
    """Choose directions on the shape patients; a patient's site and class are those of her first row."""
    sites, _ = _labels(reference, graph, graph.technical[0])
    first = np.unique(units, return_index=True)[1][shape]
    _, site = np.unique(sites[first], return_inverse=True)
    _, label = np.unique(labels[first], return_inverse=True)
    return fit_embedding_view(patient_means(reference.X, units, len(shape))[shape], site, label)


Stream = tuple[str, tuple[str, ...]]


def _streams(view: EmbeddingView, classes: tuple[str, ...] | None, source: Source | None) -> tuple[Stream, ...]:
    embedding = ("embedding", view.names)
    if source is None or classes is None:
        return (embedding,)
    return embedding, ("scores", score_names(classes)), ("errors", ("probability left for wrong classes",))


def _panel(
    streams: tuple[Stream, ...],
    alpha: float,
    values: np.ndarray,
    basis: np.ndarray,
    where: np.ndarray,
    cells: Cells,
    shape: np.ndarray,
    n_streams: int,
) -> Panel:
    owners = tuple(stream for stream, names in streams for _ in names)
    names = tuple(name for _, found in streams for name in found)
    threshold = np.array([least_share(alpha, n_streams, len(found)) for _, found in streams for _ in found])
    return fit_panel(owners, names, threshold, values, basis, where, cells.n_cells, shape)


def _numbered(view: EmbeddingView) -> Any:
    import pandas as pd

    return pd.DataFrame(index=range(2 * len(view.spread) + 1))
