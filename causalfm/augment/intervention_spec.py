"""What an intervention draws: levels, donors, how often, by factor; the same levels as embeddings count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from causalfm.augment.level_targets import donors_of, levels_of, shares_of
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.augment.embedding import CounterfactualAugment
    from causalfm.graph import CausalGraph


class Intervened(NamedTuple):
    """What was done to the rows of a batch; factors in the order of ``columns``.

    Attributes
    ----------
    codes
        ``(B, k)`` int64: the level that each row shows now.
    drawn
        ``(B, k)`` int64: the level that was drawn for it.
    kept
        ``(B, k)`` bool: rows that should change and could not (glass, pen); they show their own level.
    waiting
        ``(B,)`` bool: rows left for :meth:`InterventionalAugment.embed`.
    """

    codes: torch.Tensor
    drawn: torch.Tensor
    kept: torch.Tensor
    waiting: torch.Tensor


def specify(
    graph: CausalGraph, changes: Mapping[str, Any], table: Any, donors: Mapping[str, Any], target: Any
) -> dict[str, Any]:
    """Return levels, donors and cumulated shares by factor, JSON-ready."""
    wrong = [
        name for mapping in (donors, target) if isinstance(mapping, Mapping) for name in mapping if name not in changes
    ]
    if wrong:
        raise DataError(f"donors or target names {wrong[0]!r}, which nobody changes: there are {list(changes)}.")
    spec: dict[str, Any] = {"columns": list(changes), "levels": [], "donors": [], "cumulated": []}
    for factor, change in changes.items():
        seen = levels_of(table, factor)
        units = list(table[graph.group]) if graph.group in table else list(range(len(seen)))
        drawn = donors_of(factor, seen, change.levels, donors.get(factor))
        levels = sorted({*seen, *drawn})
        weights = target.get(factor, "uniform") if isinstance(target, Mapping) else target
        spec["levels"].append(levels)
        spec["donors"].append([levels.index(level) for level in drawn])
        spec["cumulated"].append(np.cumsum(shares_of(factor, drawn, seen, weights, units)).tolist())
    return spec


def check_embedding(embedding: CounterfactualAugment, spec: Mapping[str, Any]) -> None:
    """Refuse a model of embeddings that draws other factors, or does not know all levels."""
    if set(embedding.spec["factors"]) != set(spec["columns"]):
        raise DataError(
            f"embedding draws {', '.join(embedding.spec['factors'])}, changes name {', '.join(spec['columns'])}: "
            "the same factors must be drawn in both spaces, CounterfactualAugment(scm, factors)."
        )
    positions_in(embedding, spec)


def positions_in(embedding: CounterfactualAugment, spec: Mapping[str, Any]) -> torch.Tensor:
    """Positions of the levels among those of the embedding's model ``(k, most levels)``."""
    rows = []
    for name, levels in zip(spec["columns"], spec["levels"], strict=True):
        known = embedding.spec["levels"][embedding.columns.index(name)]
        wrong = [level for level in levels if level not in known]
        if wrong:
            raise DataError(f"{name} {', '.join(map(repr, wrong))}: the model of the embeddings never saw it.")
        rows.append(torch.tensor([known.index(level) for level in levels]))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def check_share(value: Any, name: str) -> None:
    """Refuse what is no number from 0 to 1."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.0 <= value <= 1.0:
        raise DataError(f"{name}={value!r}: choose a number from 0 to 1.")


def drawn_levels(
    spec: Mapping[str, Any], rng: np.random.Generator, codes: torch.Tensor, probability: float, image_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw levels ``(B, k)`` without a look at the rows, and who waits ``(B,)``; rows not drawn anew keep ``codes``."""
    luck = rng.random((len(codes), len(spec["columns"]) + 2))
    columns = [
        np.asarray(donors)[np.searchsorted(np.asarray(high)[:-1], luck[:, j], side="right")]
        for j, (donors, high) in enumerate(zip(spec["donors"], spec["cumulated"], strict=True))
    ]
    drawn = torch.from_numpy(np.stack(columns, axis=1)).to(codes.device)
    anew = torch.from_numpy(luck[:, -2] < probability).to(codes.device)
    waiting = torch.from_numpy(luck[:, -1] >= image_share).to(codes.device)
    return torch.where(anew[:, None], drawn, codes), waiting


def check_codes(spec: Mapping[str, Any], images: torch.Tensor, codes: torch.Tensor) -> None:
    """Refuse codes that do not fit the images or the levels.

    Raises
    ------
    DataError
        Another shape or type, codes out of range.
    """
    k = len(spec["columns"])
    if codes.ndim != 2 or codes.shape[1] != k or codes.dtype != torch.int64 or len(codes) != len(images):
        raise DataError(
            f"codes have shape {tuple(codes.shape)} and type {codes.dtype}, images {tuple(images.shape)}: pass int64 "
            f"({len(images)}, {k}) with the codes of {', '.join(spec['columns'])}, from encode(obs)."
        )
    sizes = torch.tensor([len(levels) for levels in spec["levels"]], device=codes.device)
    wrong = ((codes < 0) | (codes >= sizes)).any(dim=1)
    if bool(wrong.any()):
        raise DataError(f"codes out of range ({positions(wrong.nonzero()[:, 0].tolist())}): use encode(obs).")


def check_state(state: Any, spec: Mapping[str, Any], schema: int) -> None:
    """Refuse a state that another object, or a newer version, wrote.

    Raises
    ------
    DataError
        Saying which.
    """
    if not isinstance(state, dict) or not {"schema", "spec", "random_state", "calls", "counted"} <= set(state):
        raise DataError("this is no state of InterventionalAugment: pass what state_dict() returned.")
    if state["schema"] > schema:
        raise DataError(f"the state has schema {state['schema']}, this version reads {schema}: use a newer causalfm.")
    for key, own in spec.items():
        if state["spec"].get(key) != own:
            raise DataError(f"the state was made with other {key} than this object: build it from the same table.")
