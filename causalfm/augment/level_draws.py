"""Which level each row moves to: drawn independently of biology, followed down the graph, refused without support.

All functions take level codes ``(n, k)`` in the order of ``spec["columns"]`` and run on the device of their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from causalfm.augment.move_tables import OPEN

Tables = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Draw:
    """Levels drawn for rows.

    Attributes
    ----------
    codes
        ``(n, k)`` after the draw; rows without support keep their own.
    wanted, open, few
        ``(n,)`` masks: rows whose draw changes a cause of ``Z``; of these, rows that stay because the design leaves
        the effect open (or what follows was never seen), and because too few patients of their class were seen there.
    """

    codes: torch.Tensor
    wanted: torch.Tensor
    open: torch.Tensor
    few: torch.Tensor

    @property
    def kept(self) -> torch.Tensor:
        """Rows ``(n,)`` that should move and cannot."""
        return self.open | self.few


def random_numbers(spec: Mapping[str, Any], n: int, seed: int, call: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the drawn combinations ``(n,)`` as positions, and luck ``(n, nodes)`` in (0, 1), for one call of a seed.

    They are drawn on the CPU, so that every device sees the same.
    """
    uniform = np.random.default_rng([seed, call]).random((n, 1 + len(spec["follow"])))
    cumulated = np.asarray(spec["cumulated"])
    return np.searchsorted(cumulated[:-1], uniform[:, 0], side="right"), uniform[:, 1:]


def draw_levels(
    spec: Mapping[str, Any], tables: Tables, codes: torch.Tensor, combination: torch.Tensor, noise: torch.Tensor
) -> Draw:
    """Set the drawn factors, let their effects follow, and keep rows that cannot move.

    Parameters
    ----------
    spec, tables
        See :class:`causalfm.augment.move_tables.MoveTables`.
    codes
        ``(n, k)`` as seen.
    combination
        ``(n,)`` drawn combination of the factors.
    noise
        ``(n, nodes)`` exogenous noise of the nodes that follow; nan leaves a node where it was set.

    Returns
    -------
    Draw
        See there.
    """
    after, lost = codes.clone(), torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    for j, name in enumerate(spec["factors"]):
        after[:, spec["columns"].index(name)] = tables["combinations"][combination, j]
    for i, node in enumerate(spec["nodes"]):
        at = _locate(tables[f"node_{i}_where"], node, after)
        high = tables[f"node_{i}_high"][at.clamp(min=0)]
        rank = (noise[:, i, None] >= high).sum(dim=1).clamp(max=high.shape[1] - 1)
        changed = (after[:, node["parents"]] != codes[:, node["parents"]]).any(dim=1) & ~torch.isnan(noise[:, i])
        column = node["column"]
        after[:, column] = torch.where(changed, tables[f"node_{i}_order"][rank], after[:, column])
        lost |= changed & (at < 0)
    parents = spec["parents"]
    wanted = (after[:, parents] != codes[:, parents]).any(dim=1)
    open_ = wanted & (lost | _open(spec, tables, codes, after))
    few = wanted & ~open_ & _few(spec, tables, codes, after)
    return Draw(torch.where((open_ | few)[:, None], codes, after), wanted, open_, few)


def abducted_noise(
    spec: Mapping[str, Any], tables: Tables, codes: torch.Tensor, luck: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the noise that explains the levels of the nodes that follow.

    Parameters
    ----------
    spec, tables, codes
        See :func:`draw_levels`.
    luck
        ``(n, nodes)`` in (0, 1): place within the interval of noise that explains the level.

    Returns
    -------
    noise : torch.Tensor
        ``(n, nodes)``.
    explained : torch.Tensor
        ``(n,)`` mask: rows whose levels were seen under their causes.
    """
    noise, explained = torch.empty_like(luck), torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    for i, node in enumerate(spec["nodes"]):
        at = _locate(tables[f"node_{i}_where"], node, codes)
        high = tables[f"node_{i}_high"][at.clamp(min=0)]
        bounds = torch.cat([torch.zeros_like(high[:, :1]), high], dim=1)
        rank = tables[f"node_{i}_rank"][codes[:, node["column"]]][:, None]
        low, top = bounds.gather(1, rank)[:, 0], bounds.gather(1, rank + 1)[:, 0]
        noise[:, i] = low + (top - low) * luck[:, i]
        explained &= (at >= 0) & (top > low)
    return noise, explained


def _locate(where: torch.Tensor, node: Mapping[str, Any], codes: torch.Tensor) -> torch.Tensor:
    """Position of the causes' combination, -1 if it was never seen."""
    key = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for column, size in zip(node["parents"], node["sizes"], strict=True):
        key = key * size + codes[:, column]
    return where[key]


def _open(spec: Mapping[str, Any], tables: Tables, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mark changes of levels that the design does not determine."""
    if not tables["null_0"].shape[1]:
        return torch.zeros(len(before), dtype=torch.bool, device=before.device)
    total = torch.zeros((len(before), tables["null_0"].shape[1]), device=before.device, dtype=tables["null_0"].dtype)
    for i, column in enumerate(spec["parents"]):
        total = total + tables[f"null_{i}"][after[:, column]] - tables[f"null_{i}"][before[:, column]]
    return total.abs().amax(dim=1) > OPEN


def _few(spec: Mapping[str, Any], tables: Tables, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mark changes to a level at which hardly any patient of the row's class was seen."""
    few = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    if spec["counted"]:
        classes = after[:, spec["columns"].index(spec["biology"])]
        for i, column in enumerate(spec["counted"]):
            seen = tables[f"seen_{i}"][after[:, column], classes]
            few |= (before[:, column] != after[:, column]) & (seen == 0)
    return few
