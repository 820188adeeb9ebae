"""Where counterfactual rows fail: levels that the model never saw, and classes never seen at a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets import histology
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM, fidelity
from experiments.counterfactual_views import UNSEEN_SCANNER, Views

UNSEEN_STAIN = "HE-4"
MECHANISM = "random-effects"


def limits(views: Views, training: Cohort, seen: Cohort, graph: CausalGraph) -> list[dict[str, Any]]:
    """Score the three failures; rows of a table."""
    full = fitted(graph, training)
    without = fitted(graph, training[(training.obs["stain"] != UNSEEN_STAIN).to_numpy()])
    rest = seen[(seen.obs["stain"] != UNSEEN_STAIN).to_numpy()]
    stains = [stain for stain in histology.STAINS if stain != UNSEEN_STAIN]
    rows = unseen("unseen stain", "stain", UNSEEN_STAIN, stains, without, full, views, rest, graph)
    rows += unseen("unseen scanner", "scanner", UNSEEN_SCANNER, ["Argus 2", "Meridian"], full, None, views, seen, graph)
    solid = (training.obs["tumour"] == "solid") & (training.obs["stain"] == UNSEEN_STAIN)
    lacking = training[~solid.to_numpy()]
    truth = views.under(histology.intervene(seen.obs, stain=UNSEEN_STAIN))
    models = {"class seen at that stain": full, "class never seen there": fitted(graph, lacking)}
    models["class never seen there, additive"] = fitted(graph, lacking, "additive")
    predicted = {name: scm.counterfactual(seen, {"stain": UNSEEN_STAIN}) for name, scm in models.items()}
    return rows + _rows("class never seen at the stain", predicted, truth, seen, graph, "stain")


def fitted(graph: CausalGraph, training: Cohort, mechanism: str = MECHANISM) -> EmbeddingSCM:
    """Fit a model that adds effects up where a class is missing."""
    return EmbeddingSCM(graph, mechanism, assume="additive").fit(training)


def unseen(
    name: str,
    factor: str,
    level: str,
    known: list[str],
    scm: EmbeddingSCM,
    full: EmbeddingSCM | None,
    views: Views,
    seen: Cohort,
    graph: CausalGraph,
) -> list[dict[str, Any]]:
    """Move rows to a level that a model never saw, as far as anyone can: to levels it saw."""
    try:
        scm.counterfactual(seen, {factor: level})
    except DataError:
        pass
    else:
        raise AssertionError(f"the model did not refuse {factor}={level}")
    truth = views.under(histology.intervene(seen.obs, **{factor: level}))
    moved = {f"as if {other}": scm.counterfactual(seen, {factor: other}).X for other in known}
    predicted = {"as if the mean of the levels seen": np.mean(list(moved.values()), axis=0), **moved}
    cohorts = {key: Cohort(X, truth.obs) for key, X in predicted.items()}
    if full is not None:
        cohorts["level seen in training"] = full.counterfactual(seen, {factor: level})
    return _rows(name, cohorts, truth, seen, graph, factor)


def _rows(
    name: str, predicted: dict[str, Cohort], truth: Cohort, seen: Cohort, graph: CausalGraph, factor: str
) -> list[dict[str, Any]]:
    result = fidelity(predicted, truth, graph, source=seen, factor=factor)
    return [{"question": name, **row} for row in pd.DataFrame(result.rows()).to_dict("records")]
