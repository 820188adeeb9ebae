"""Graph, columns and file of the corrector that rests on a structural causal model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators.correctors.report import Account
from causalfm.estimators.correctors.site_wise import POLICIES
from causalfm.graph import CausalGraph
from causalfm.model_files import read_model, write_model
from causalfm.results import plain
from causalfm.scm.embedding_scm import SETTINGS, EmbeddingSCM
from causalfm.scm.packing import graph_header, pack, unpack
from causalfm.validation import refuse_missing

KIND = "causalfm.SCMCorrector"


def save_scm(corrector: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted corrector; see :meth:`SCMCorrector.save`."""
    header, tensors = pack(corrector.scm_.fitted)
    names = getattr(corrector, "feature_names_in_", None)
    own = {
        "own": plain({k: v for k, v in corrector.get_params(deep=False).items() if k != "graph"}),
        "settings": {name: getattr(corrector.scm_, name) for name in SETTINGS},
        "declared": graph_header(corrector.graph),
        "graph": graph_header(corrector.scm_.graph),
        "targets": corrector.targets_,
        "trimmed": corrector.trimmed_,
        "names": None if names is None else [str(name) for name in names],
    }
    write_model(path, {**header, **own}, tensors, kind=KIND)


def load_scm(cls: Any, path: str | os.PathLike[str]) -> Any:
    """Read a corrector; see :meth:`SCMCorrector.load`."""
    header, tensors = read_model(path, kind=KIND)
    declared, graph = dict(header["declared"]), dict(header["graph"])
    corrector = cls(CausalGraph(declared.pop("arrows"), **declared), **header["own"])
    scm = EmbeddingSCM(CausalGraph(graph.pop("arrows"), **graph), **header["settings"])
    scm._fitted = unpack(header, tensors, scm._mechanism)
    corrector.scm_, corrector.targets_, corrector.trimmed_ = scm, header["targets"], header["trimmed"]
    corrector.n_features_in_ = scm.fitted.mean.coefficients.shape[1]
    if header["names"] is not None:
        corrector.feature_names_in_ = np.array(header["names"], dtype=object)
    return corrector


def technical_only(graph: CausalGraph) -> CausalGraph:
    """Return the graph in which technical factors are associated with biology and covariates but do not cause them."""
    cut = [(a, b) for a, b in graph.edges if a in graph.technical and b not in (*graph.technical, EMBEDDING)]
    if not cut:
        return graph
    arrows = [f"{a} -> {b}" for a, b in graph.edges if (a, b) not in cut]
    arrows += [f"{a} <-> {b}" for a, b in (*graph.bidirected, *cut)]
    header = graph_header(graph)
    header["arrows"] = "; ".join(arrows)
    return CausalGraph(header.pop("arrows"), **header)


def column_of(values: Any, n: int, name: str) -> np.ndarray:
    """One value per row, whatever index it came with."""
    array = np.asarray(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or len(array) != n:
        raise DataError(f"{name} has shape {array.shape}: it should be a 1d array, one value for each of {n} rows.")
    refuse_missing(pd.Series(array), name, "complete it, or leave these rows out")
    return array


def unit_columns(graph: CausalGraph, groups: Any, n: int) -> dict[str, np.ndarray]:
    """Columns of the units that a graph names, from one unit per row; without them, every row is one of its own."""
    rows = np.arange(n)
    units = dict.fromkeys(graph.groups, rows if groups is None else column_of(groups, n, "groups"))
    return units if graph.specimen is None else {graph.specimen: rows, **units}


def targets_of(reference: Any, scm: EmbeddingSCM) -> list[dict[str, str]]:
    """Say where rows are moved: the reference, or every combination of technical levels that was seen."""
    fitted, technical = scm.fitted, scm.graph.technical
    if reference is not None:
        if isinstance(reference, dict):
            return [{str(k): str(v) for k, v in reference.items()}]
        if len(technical) > 1:
            raise DataError(f"reference={reference!r}: give a level for each of {', '.join(technical)}.")
        return [{technical[0]: str(reference)}]
    at = [fitted.columns.index(name) for name in technical]
    return [
        {name: fitted.levels[i][code] for name, i, code in zip(technical, at, row, strict=True)}
        for row in np.unique(fitted.joint[:, at], axis=0)
    ]


def account_of(corrector: Any, technical: pd.DataFrame) -> Account:
    """Say what is done to rows of each combination of technical levels."""
    fitted = corrector.scm_.fitted
    known = {name: set(fitted.known(name) or ()) for name in technical}
    where = ", ".join(f"{k}={v}" for k, v in corrector.targets_[0].items())
    goal = f"moved to {where}" if len(corrector.targets_) == 1 else f"mean over {len(corrector.targets_)} combinations"
    rows = []
    for levels, part in technical.astype(str).groupby(list(technical), sort=True):
        seen = all(v in known[k] for k, v in zip(technical, levels, strict=True))
        done = goal if seen else f"{POLICIES[corrector.unseen]}; {goal}" if corrector.unseen != "refuse" else "refused"
        rows.append({"level": " + ".join(map(str, levels)), "rows": len(part), "seen": seen, "done": done})
    return Account(tuple(rows))


def refuse_early(scm: EmbeddingSCM, cohort: Cohort, targets: list[dict[str, str]]) -> None:
    """Refuse at the fit what would be refused when it is applied: one row per combination of columns is moved."""
    names = [n for n in scm.graph.measured if n not in scm.fitted.continuous]
    part = cohort[np.flatnonzero(~cohort.obs[names].astype(str).duplicated().to_numpy())]
    for target in targets:
        scm.counterfactual(part, target)
