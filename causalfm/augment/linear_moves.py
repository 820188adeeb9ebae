"""Embeddings moved between levels by a linear mechanism, row by row in parallel on any device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Tables = Mapping[str, torch.Tensor]


def moved_rows(
    spec: Mapping[str, Any],
    tables: Tables,
    z: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    numbers: torch.Tensor | None,
) -> torch.Tensor:
    """Move rows: the noise is abducted at the levels ``before`` and put back at the levels ``after``.

    Parameters
    ----------
    spec, tables
        See :func:`causalfm.augment.move_tables.effect_arrays`.
    z
        ``(n, d)``.
    before, after
        ``(n, k)`` level codes.
    numbers
        ``(n, m)`` continuous causes of ``Z``; needed where the residual is reshaped.

    Returns
    -------
    torch.Tensor
        ``(n, d)``; rows whose causes do not change are returned as they are.
    """
    here, there = before[:, spec["parents"]], after[:, spec["parents"]]
    start, end = (_means(spec, tables, side) for side in (before, after))
    out = z + (end - start)
    if reshapes(tables):
        residual = z - start - _common(tables, numbers)
        out = out + (_stretch if "half_0" in tables else _transport)(tables, residual, here, there)
    return torch.where((here != there).any(dim=1)[:, None], out, z)


def reshapes(tables: Tables) -> bool:
    """Whether the mechanism changes the residual, and so needs the whole mean."""
    return "half_0" in tables or "basis" in tables


def _means(spec: Mapping[str, Any], tables: Tables, codes: torch.Tensor) -> torch.Tensor:
    """Mean ``(n, d)`` of the levels, without the constant and the numbers, which do not change."""
    columns = [codes[:, column] for column in spec["parents"]]
    out = sum((tables[f"mean_{i}"][c] for i, c in enumerate(columns)), torch.zeros((), device=codes.device))
    for i, (a, b) in enumerate(spec["crossed"]):
        size = len(spec["levels"][b])
        out = out + tables[f"crossed_{i}"][codes[:, a] * size + codes[:, b]]
    return out


def _common(tables: Tables, numbers: torch.Tensor | None) -> torch.Tensor:
    """Part of the mean that no level changes: the constant, and splines of the numbers (see ``Parents.splines``)."""
    if numbers is None or not len(tables["knots"]):
        return tables["constant"]
    low, middle, high = tables["knots"].T
    half = torch.where(high > low, (high - low) / 2.0, torch.ones_like(high))
    t = (numbers - middle) / half
    inner = torch.minimum(torch.maximum(t, (low - middle) / half), (high - middle) / half)
    up, beyond = inner.clamp(min=0.0), t - inner
    columns = torch.stack([t, inner**2 + 2.0 * inner * beyond, up**2 + 2.0 * up * beyond], dim=2)
    return tables["constant"] + columns.reshape(len(t), -1) @ tables["slopes"]


def _stretch(tables: Tables, residual: torch.Tensor, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return what location-scale adds: the residual in units of the scale there."""
    log = torch.zeros_like(residual)
    for i in range(here.shape[1]):
        log = log + tables[f"half_{i}"][there[:, i]] - tables[f"half_{i}"][here[:, i]]
    return torch.expm1(log) * residual


def _transport(tables: Tables, residual: torch.Tensor, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return what transport adds: back through the maps of the levels here, on through those there."""
    basis, factors = tables["basis"], range(here.shape[1])
    log = sum(tables[f"outside_{i}"][there[:, i]] - tables[f"outside_{i}"][here[:, i]] for i in factors)
    outside = torch.exp(torch.as_tensor(log))
    along = residual @ basis
    t = along[:, :, None]
    for i in factors:  # A(x) is the product of the maps in this order, so its inverse starts with the first
        t = tables[f"back_{i}"][here[:, i]] @ t
    for i in reversed(factors):
        t = tables[f"map_{i}"][there[:, i]] @ t
    return (t[:, :, 0] - outside * along) @ basis.T + (outside - 1.0) * residual
