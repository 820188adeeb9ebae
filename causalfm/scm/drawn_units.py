"""Measured nodes of units that were never seen, drawn as observed and under an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import changed_nodes, refuse_confounded, set_value

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

Units = dict[str, np.ndarray]  # per measured node (n,): codes of levels, or numbers


def draw_units(
    fitted: Fitted, graph: CausalGraph, do: Mapping[str, Any], n: int, rng: np.random.Generator
) -> tuple[Units, Units]:
    """Draw the measured nodes of ``n`` independent units.

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

    Returns
    -------
    before, after
        As drawn and under the intervention: levels as patients of the fit had them together, numbers Gaussian around
        the mean of those levels, nodes below the intervention by their models and noise of their own.

    Raises
    ------
    DataError, NotIdentifiedError
        A value the model never saw; a node that follows and cannot be predicted.
    """
    at = rng.choice(len(fitted.joint), n, p=fitted.patients / fitted.patients.sum())
    before: Units = {name: fitted.joint[at, i] for i, name in enumerate(fitted.columns)}
    numbers = fitted.numbers[at]
    if fitted.continuous:
        numbers = numbers + rng.multivariate_normal(np.zeros(numbers.shape[1]), fitted.within, n)
    before |= {name: numbers[:, j] for j, name in enumerate(fitted.continuous)}
    after = dict(before)
    if not do:
        return before, after
    follow = changed_nodes(graph, do)
    for name, value in do.items():
        levels = fitted.known(name)
        spelled = set_value(pd.Series([""], dtype=object), value, levels, name)[0]
        after[name] = np.full(n, spelled if levels is None else levels.index(str(spelled)))
    for name in follow:
        refuse_confounded(graph, name)
        model = fitted.models[name]
        causes = (np.stack([side[p] for p in model.parents], axis=1) for side in (before, after))
        after[name] = model.follow(model.draw(n, rng), *causes)
    return before, after
