"""New rows drawn under an intervention, and the density of rows that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.scm.drawn_units import draw_units
from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import levels_as
from causalfm.scm.parents import Values
from causalfm.scm.support import refuse_unsupported
from causalfm.validation import row_blocks

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def draw_rows(
    fitted: Fitted, graph: CausalGraph, do: Mapping[str, Any], n: int, rng: np.random.Generator, assume: str | None
) -> Cohort:
    """Draw independent units with one row each.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    do
        Node to value; empty draws as observed.
    n
        Units.
    rng
        Generator.
    assume
        See :class:`causalfm.EmbeddingSCM`.

    Returns
    -------
    Cohort
        ``(n, d)`` float32.
    """
    parents = fitted.mean.parents
    sides = draw_units(fitted, graph, do, n, rng)
    start, values = (
        Values(
            np.stack([side[c] for c in parents.categorical], axis=1),
            np.stack([side[c] for c in parents.continuous], axis=1) if parents.continuous else np.zeros((n, 0)),
        )
        for side in sides
    )
    if do:
        refuse_unsupported(fitted, graph, do, start, values, assume=assume)
    X = np.empty((n, len(fitted.density.basis)), dtype=np.float32)
    for rows in row_blocks(X):
        here = values[rows]
        noise = fitted.density.draw(len(here.levels), rng)
        for at, levels in _by_levels(here):
            noise[at] += fitted.noise.colour(noise[at], levels)
        X[rows] = noise + fitted.mean.at(here)
    text = pd.Series("", index=range(n), dtype=object)
    table = {name: levels_as(text, fitted.known(name) or (), sides[1][name]) for name in fitted.columns}
    table |= {name: pd.Series(sides[1][name]) for name in fitted.continuous}
    drawn = pd.Series([f"drawn {i}" for i in range(n)], dtype=object)
    units = [name for name in graph.columns if name not in graph.measured]
    table |= dict.fromkeys(units, drawn)  # one row each, which is its own slide, patient and specimen
    return Cohort(X, pd.DataFrame(table), {"source": "EmbeddingSCM", "do": {k: str(v) for k, v in do.items()}})


def log_density(X: np.ndarray, fitted: Fitted, values: Values) -> np.ndarray:
    """Log density ``(n,)`` of rows given their parents, in nats.

    Parameters
    ----------
    X
        ``(n, d)``, may be a memory map.
    fitted
        The model.
    values
        Parents of the rows.
    """
    out = np.empty(len(X))
    for rows in row_blocks(X):
        here = values[rows]
        residual = np.asarray(X[rows], dtype=np.float64) - fitted.mean.at(here)
        for at, levels in _by_levels(here):
            noise, log_det = fitted.noise.whiten(residual[at], levels)
            out[rows.start + at] = fitted.density.log(noise) + log_det
    return out


def _by_levels(values: Values) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of each combination of levels."""
    distinct, where = np.unique(values.levels, axis=0, return_inverse=True)
    return [(np.flatnonzero(where.reshape(-1) == c), levels) for c, levels in enumerate(distinct)]
