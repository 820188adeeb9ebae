"""Rows at levels that the fit never saw: refused, shrunk to the population of levels, or learned from the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.scm.additive import SharedNoise
from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import changed_nodes
from causalfm.scm.level_batch import learn, with_effects
from causalfm.scm.level_prior import block_of, level_prior
from causalfm.scm.wider_model import widen
from causalfm.scm.wider_noise import widen_noise

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

POLICIES = ("refuse", "shrink", "adapt")


@dataclass(frozen=True, eq=False)
class Met:
    """A model that knows the levels of a cohort.

    Attributes
    ----------
    fitted
        Wider where the cohort has new levels.
    cohort
        The cohort, with a stand-in for an absent biology.
    settable
        The model whose levels may be set.
    note
        What was assumed of new levels, for the record; None where there are none.
    stand_in
        Column that was added.
    """

    fitted: Fitted
    cohort: Cohort
    settable: Fitted
    note: dict[str, Any] | None = None
    stand_in: str | None = None

    def record(self, X: np.ndarray, obs: pd.DataFrame, entry: Mapping[str, Any]) -> Cohort:
        """Return moved rows with the record of what was done behind earlier ones."""
        if self.note is not None:
            entry = {**entry, "unseen": self.note}
        if self.stand_in is not None:
            obs = obs.drop(columns=self.stand_in)
        info = self.cohort.info
        return Cohort(X, obs, {**info, "counterfactual": [*info.get("counterfactual", []), entry]})


def meet(fitted: Fitted, graph: CausalGraph, cohort: Cohort, do: Mapping[str, Any], unseen: str, mechanism: str) -> Met:
    """Widen a model by the new levels of technical factors in a cohort.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    cohort
        Rows to move.
    do
        The intervention.
    unseen
        The policy; under ``"refuse"`` nothing changes, and reading the cohort raises.
    mechanism
        Public name, for messages.

    Returns
    -------
    Met
        See there.

    Raises
    ------
    DataError
        Fewer than three levels seen, levels that cannot be compared, a mechanism without a prior, an absent biology
        that the answer depends on.
    """
    new = {} if unseen == "refuse" else _new_levels(fitted, graph, cohort)
    if not new:
        return Met(fitted, cohort, fitted)
    stand_in = None
    if unseen == "adapt" and graph.biology not in cohort.obs and graph.biology in fitted.columns:
        cohort, stand_in = _stand_in(fitted, graph, cohort, do), graph.biology
    parents = fitted.mean.parents
    own = [f for f, name in enumerate(parents.categorical) if name in new]
    priors = {f: level_prior(fitted, f, shrunken=mechanism == "random-effects") for f in own}
    wider = widen(fitted, new)
    more = [len(b) - len(a) for a, b in zip(parents.levels, wider.mean.parents.levels, strict=True)]
    wider = dataclasses.replace(wider, noise=widen_noise(fitted.noise, more, mechanism))
    ends = {f: block_of(wider.mean.parents, f).stop for f in own}
    codes = [c for f in own for c in range(ends[f] - more[f], ends[f])]
    prior = [priors[f] for f in own for _ in range(more[f])]
    note: dict[str, Any] = {"policy": unseen, "levels": {name: list(levels) for name, levels in new.items()}}
    if unseen == "shrink":
        note["assumption"] = "effects of new levels are drawn from the population of the levels seen"
        if not own:  # no cause of Z
            return Met(wider, cohort, fitted, note)
        loadings = np.eye(wider.mean.parents.width)[codes]
        wider = with_effects(wider, loadings, np.stack([p.variance for p in prior]), [(p.ratio, p.df) for p in prior])
        return Met(wider, cohort, fitted, note)
    at = np.array(codes, dtype=np.int64)
    wider, patients = learn(wider, fitted, graph, cohort, (at, prior), labelled=stand_in is None)
    given = f"given {graph.biology}" if stand_in is None else f"the mix of {graph.biology} of the fit, none being given"
    note |= {"patients": patients, "assumption": f"effects of new levels are learned from these rows: {given}"}
    return Met(wider, cohort, wider, note, stand_in)


def _new_levels(fitted: Fitted, graph: CausalGraph, cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """Find new levels per technical column; those of other columns are refused when they are read."""
    out = {}
    for name in graph.technical:
        known = fitted.known(name)
        if known is not None:
            fresh = tuple(v for v in cohort.factor(name).levels if v not in known)
            if fresh:
                out[name] = fresh
    return out


def _stand_in(fitted: Fitted, graph: CausalGraph, cohort: Cohort, do: Mapping[str, Any]) -> Cohort:
    """Give the biology a level where it is absent, if no answer depends on which."""
    if graph.biology in changed_nodes(graph, do) or graph.biology in do:
        raise DataError(f"obs has no column {graph.biology!r}, and the intervention changes it: add the column.")
    alike = isinstance(fitted.noise, SharedNoise) and not fitted.mean.parents.crossed
    followed = [n for n in graph.children(graph.biology) if n in fitted.columns]
    if not alike or followed:
        why = f"{', '.join(followed)} follows it" if followed else "the mechanism moves classes differently"
        raise DataError(
            f"obs has no column {graph.biology!r}, and {why}: add the column, or use mechanism='additive' on a graph "
            f"in which nothing but Z follows {graph.biology!r}."
        )
    return cohort.replace(obs=cohort.obs.assign(**{graph.biology: (fitted.known(graph.biology) or ("",))[0]}))
