"""What a fitted causal model says about moving rows between levels, as plain lists and arrays for any device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_choice, check_type, columns_of, did_you_mean
from causalfm.errors import DataError, GraphError, NotIdentifiedError

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph
    from causalfm.scm import EmbeddingSCM
    from causalfm.scm.fitted import Fitted

TARGETS = ("marginal", "uniform")  # levels as often as patients have them, or equally often
MAX_CONFIGURATIONS = 10**6  # combinations of the causes of one node, seen or not
OPEN = 1e-4  # null directions are orthonormal: entries of levels that differ are far above, rounding far below


@dataclass(frozen=True, eq=False)
class MoveTables:
    """A fitted model as lookups by level codes.

    Attributes
    ----------
    spec
        JSON-ready: columns and their levels, which are drawn, which follow, how ``Z`` depends on them.
    arrays
        Float64 and int64 arrays by name.
    """

    spec: dict[str, Any]
    arrays: dict[str, np.ndarray]


def move_tables(scm: EmbeddingSCM, factors: str | Sequence[str] | None, target: str) -> MoveTables:
    """Read the tables out of a fitted model.

    Parameters
    ----------
    scm
        Fitted model.
    factors
        Technical nodes to draw; None for those without a technical cause.
    target
        ``"marginal"`` or ``"uniform"``.

    Returns
    -------
    MoveTables
        See there.

    Raises
    ------
    DataError
        Not fitted, factors that are no categorical technical nodes, nodes that follow and cannot be predicted.
    GraphError
        Biology that follows the factors.
    NotIdentifiedError
        A node that follows has an unmeasured common cause with its own causes.
    """
    from causalfm.scm import EmbeddingSCM
    from causalfm.scm.pair_maps import refuse_pairs

    check_type(scm, EmbeddingSCM, "scm", "fit one: EmbeddingSCM(graph).fit(cohort)")
    check_choice(target, "target", TARGETS)
    fitted, graph = scm.fitted, scm.graph
    refuse_pairs(fitted, "augmentation moves rows by tables of levels")
    drawn = _factors(graph, factors)
    follow = _followers(fitted, graph, drawn)
    parents = fitted.mean.parents
    if not {*drawn, *follow} & set(parents.categorical):
        raise DataError(f"{', '.join(drawn)} and what follows from them do not cause Z: no embedding would change.")
    causes = [p for node in follow for p in fitted.tables[node].parents]
    columns = tuple(dict.fromkeys((*parents.categorical, *drawn, *follow, *causes)))
    combinations, share = _combinations(fitted, drawn, target)
    spec = {
        "columns": list(columns),
        "levels": [list(fitted.known(name) or ()) for name in columns],
        "numbers": list(parents.continuous),
        "factors": list(drawn),
        "follow": list(follow),
        "biology": graph.biology,
        "target": target,
        "mechanism": scm.mechanism,
        "cumulated": np.cumsum(share).tolist(),
        "parents": [columns.index(name) for name in parents.categorical],
        "crossed": [[columns.index(parents.categorical[i]) for i in pair] for pair in parents.crossed],
        "nodes": [_node(fitted, columns, name) for name in follow],
        "counted": [],
    }
    arrays = {"combinations": combinations}
    for i, name in enumerate(follow):
        arrays |= {f"node_{i}_{part}": value for part, value in _node_arrays(fitted, name).items()}
    arrays |= _null_tables(fitted)
    if scm.assume is None and graph.biology in parents.categorical:
        seen = _seen_tables(fitted, graph)
        spec["counted"] = [columns.index(name) for name in seen]
        arrays |= {f"seen_{i}": table for i, table in enumerate(seen.values())}
    return MoveTables(spec, arrays)


def _factors(graph: CausalGraph, factors: str | Sequence[str] | None) -> tuple[str, ...]:
    if factors is None:
        drawn = tuple(t for t in graph.technical if not graph.technical_ancestors(t))
    else:
        drawn = tuple(dict.fromkeys(columns_of(factors, "factors")))
    if not drawn:
        raise DataError("factors is empty: name at least one technical factor, or pass None.")
    for name in drawn:
        if name not in graph.technical:
            near = did_you_mean(name, graph.technical)
            raise DataError(
                f"factors names {name!r}, no technical factor: choose among {', '.join(graph.technical)}.{near}"
            )
    return drawn


def _followers(fitted: Fitted, graph: CausalGraph, drawn: Sequence[str]) -> list[str]:
    """Nodes that follow the drawn ones, causes first."""
    from causalfm.scm.interventions import changed_nodes, refuse_confounded

    follow = changed_nodes(graph, dict.fromkeys(drawn))
    for node in follow:
        if node == graph.biology:
            raise GraphError(
                f"{', '.join(drawn)} cause {node!r} in this graph: no draw is independent of the biology that follows "
                f"it. If a hospital sees other patients, write {drawn[0]} <-> {node}, or {node} -> {drawn[0]}.\n"
                f"Graph: {graph}"
            )
        if node not in fitted.tables:
            raise DataError(
                f"{node!r} follows from {', '.join(drawn)} and is no categorical node with categorical causes: it "
                "cannot be predicted. Remove the arrow if you do not hold it true, or choose other factors."
            )
        refuse_confounded(graph, node)
    return follow


def _combinations(fitted: Fitted, drawn: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the drawn factors' combinations among patients of the fit ``(C, f)``, and their probabilities ``(C,)``."""
    codes = fitted.joint[:, [fitted.columns.index(name) for name in drawn]]
    found, at = np.unique(codes, axis=0, return_inverse=True)
    patients = np.bincount(at.reshape(-1), fitted.patients)
    share = patients if target == "marginal" else np.ones(len(found))
    return found.astype(np.int64), share / share.sum()


def _node(fitted: Fitted, columns: Sequence[str], name: str) -> dict[str, Any]:
    table = fitted.tables[name]
    sizes = [len(levels) for levels in table.parent_levels]
    if np.prod(sizes, dtype=float) > MAX_CONFIGURATIONS:
        raise DataError(f"the causes of {name!r} have more than {MAX_CONFIGURATIONS} combinations: merge rare levels.")
    return {"column": columns.index(name), "parents": [columns.index(p) for p in table.parents], "sizes": sizes}


def _node_arrays(fitted: Fitted, name: str) -> dict[str, np.ndarray]:
    """Where each combination of causes stands (-1: never seen), cumulated shares there, levels in their order."""
    table = fitted.tables[name]
    sizes = tuple(len(levels) for levels in table.parent_levels)
    where = np.full(int(np.prod(sizes)), -1, dtype=np.int64)
    where[np.ravel_multi_index(tuple(table.configurations.T), sizes)] = np.arange(len(table.configurations))
    high = np.cumsum(table.count[:, table.order], axis=1)
    order = np.asarray(table.order, dtype=np.int64)
    return {"where": where, "high": high / high[:, -1:], "order": order, "rank": np.argsort(order)}


def _null_tables(fitted: Fitted) -> dict[str, np.ndarray]:
    """Coordinates of each level in what the design leaves open; a change is determined if its coordinates add to 0."""
    from causalfm.singular_values import thin_svd

    mean = fitted.mean
    parents, width = mean.parents, mean.parents.n_main
    eigenvalues, vectors = np.linalg.eigh(np.eye(width) - (mean.estimable + mean.estimable.T) / 2.0)
    null = np.linalg.qr(vectors[:, eigenvalues > 0.5] / mean.scale[:, None])[0]
    starts = 1 + parents.n_splines + np.cumsum([0, *parents.sizes])
    parts = [null[a:b] - null[a:b].mean(axis=0) for a, b in itertools.pairwise(starts)]
    used = thin_svd(np.concatenate(parts))
    directions = used[2][used[1] > OPEN].T  # constants against the sum of all levels drop out
    return {f"null_{i}": part @ directions for i, part in enumerate(parts)}


def _seen_tables(fitted: Fitted, graph: CausalGraph) -> dict[str, np.ndarray]:
    """Whether enough patients of each class were seen at each level, per technical cause of ``Z``."""
    from causalfm.positivity import MIN_GROUPS

    names = [n for n in fitted.mean.parents.categorical if n in graph.technical]
    return {n: (fitted.crossed_patients(n, graph.biology) >= MIN_GROUPS - 1e-6).astype(np.int64) for n in names}


def effect_arrays(scm: EmbeddingSCM) -> dict[str, np.ndarray]:
    """Read what moves ``Z``: means by level, and what the mechanism does to the residual.

    Parameters
    ----------
    scm
        Fitted model with a linear mechanism.

    Returns
    -------
    dict of numpy.ndarray
        ``mean_i (L, d)`` per categorical cause, ``crossed_i``, ``constant``, ``slopes``, ``knots``; ``half_i`` log
        scales; ``map_i``, ``back_i (L, k, k)``, ``basis`` and ``outside_i`` of optimal transport.

    Raises
    ------
    DataError
        Another mechanism.
    """
    from causalfm.scm.additive import SharedNoise
    from causalfm.scm.location_scale import ScaledNoise
    from causalfm.scm.optimal_transport import TransportedNoise

    noise, arrays = scm.fitted.noise, _mean_arrays(scm.fitted)
    if type(noise) is ScaledNoise:
        return arrays | {f"half_{i}": 0.5 * log for i, log in enumerate(noise.logs)}
    if type(noise) is TransportedNoise:
        arrays |= {"basis": noise.basis}
        for i, (maps, log) in enumerate(zip(noise.maps, noise.logs, strict=True)):
            arrays |= {f"map_{i}": maps, f"back_{i}": np.linalg.inv(maps), f"outside_{i}": 0.5 * log}
        return arrays
    if type(noise) is SharedNoise:
        return arrays
    raise DataError(
        f"mechanism={scm.mechanism!r} is not linear in Z: fit another mechanism for a module, or call "
        "balanced_counterfactuals before training."
    )


def _mean_arrays(fitted: Fitted) -> dict[str, np.ndarray]:
    parents, coefficients = fitted.mean.parents, fitted.mean.coefficients
    first = 1 + parents.n_splines
    out = {"constant": coefficients[0], "slopes": coefficients[1:first], "knots": parents.knots}
    for i, size in enumerate(parents.sizes):
        out[f"mean_{i}"] = coefficients[first : first + size]
        first += size
    for i, (a, b) in enumerate(parents.crossed):
        size = parents.sizes[a] * parents.sizes[b]
        out[f"crossed_{i}"] = coefficients[first : first + size]
        first += size
    return out


def refuse_immovable(scm: EmbeddingSCM, factors: Sequence[str], rows: int, open_: int, few: int) -> None:
    """Refuse when no row at all can be moved.

    Parameters
    ----------
    scm, factors
        Model and what was drawn.
    rows, open_, few
        Rows that were to move, of these with an effect that the design leaves open, with too few patients.

    Raises
    ------
    NotIdentifiedError
        With the cross table, or the way out.
    """
    from causalfm.positivity import MIN_GROUPS
    from causalfm.scm.fitted import undetermined_message

    graph = scm.graph
    if open_:
        drawn = dict.fromkeys(factors, "another level")
        raise NotIdentifiedError(
            undetermined_message(scm.fitted, graph, drawn, open_)
            + f" Other classes of {graph.biology} seen at these levels tell the effect too, if effects add up: fit on "
            "all of them with EmbeddingSCM(..., assume='additive')."
        )
    raise NotIdentifiedError(
        f"none of {rows} rows can be moved: {few} would come to a level of {', '.join(factors)} at which fewer than "
        f"{MIN_GROUPS} {graph.group}s of their {graph.biology} were seen. Add such {graph.group}s, or pass "
        "EmbeddingSCM(..., assume='additive') if effects add up there as elsewhere."
    )
