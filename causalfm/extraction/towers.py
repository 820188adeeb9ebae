"""Image towers that are a timm transformer and something behind it; the names are those of the published weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class ProjectedTower(nn.Module):
    """A transformer that pools by itself and a linear projection behind it (BiomedCLIP).

    Parameters
    ----------
    trunk
        timm transformer that gives ``(b, w)``.
    width, dimension
        Of the trunk, and of the embedding.
    """

    def __init__(self, trunk: nn.Module, width: int, dimension: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.ModuleDict({"proj": nn.Linear(width, dimension, bias=False)})

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return ``(b, dimension)``."""
        projected: torch.Tensor = self.head["proj"](self.trunk(batch))
        return projected


class AttentionPooledTower(nn.Module):
    """A transformer whose tokens one learned query pools by attention (CONCH, CONCH v1.5).

    Parameters
    ----------
    trunk
        timm transformer; all its tokens are read, the class token too.
    width, dimension
        Of the trunk, and of the embedding.
    pooler
        ``BiasedPooler`` (CONCH) or ``PlainPooler`` (CONCH v1.5).
    """

    def __init__(self, trunk: nn.Module, width: int, dimension: int, pooler: type[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = pooler(width, dimension)
        self.ln_contrast = nn.LayerNorm(dimension)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return ``(b, dimension)``."""
        tokens = self.trunk.forward_features(batch)  # type: ignore[operator]
        pooled: torch.Tensor = self.ln_contrast(self.attn_pool_contrast(tokens))
        return pooled


class BiasedPooler(nn.Module):
    """One query, eight heads, with biases: torch's own attention with keys of another width."""

    def __init__(self, width: int, dimension: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, dimension))
        self.attn = nn.MultiheadAttention(dimension, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(dimension), nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return ``(b, dimension)``."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled: torch.Tensor = self.attn(query, keys, keys, need_weights=False)[0][:, 0]
        return pooled


class PlainPooler(nn.Module):
    """One query, eight heads, without biases."""

    def __init__(self, width: int, dimension: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, dimension))
        self.ln_k, self.ln_q = nn.LayerNorm(width), nn.LayerNorm(dimension)
        self.to_q = nn.Linear(dimension, dimension, bias=False)
        self.to_kv = nn.Linear(width, 2 * dimension, bias=False)
        self.to_out = nn.Linear(dimension, dimension, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return ``(b, dimension)``."""
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        split = [part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (query, key, value)]
        pooled: torch.Tensor = self.to_out(functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return pooled[:, 0]


POOLERS: dict[str, type[nn.Module]] = {"attention, biased": BiasedPooler, "attention, plain": PlainPooler}


def tower(trunk: Any, head: str, dimension: int) -> nn.Module:
    """Put the head of that name behind a timm transformer."""
    if head == "linear":
        return ProjectedTower(trunk, trunk.num_features, dimension)
    return AttentionPooledTower(trunk, trunk.num_features, dimension, POOLERS[head])


def stretched_positions(positions: torch.Tensor, grid: int) -> torch.Tensor:
    """Enlarge position embeddings as DINO's first code did: a tenth of a patch is added before the factor is taken.

    Parameters
    ----------
    positions
        ``(1, 1 + g * g, d)``: the class token first.
    grid
        New number of patches per side.

    Returns
    -------
    torch.Tensor
        ``(1, 1 + grid * grid, d)``.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    first, patches = positions[:, :1], positions[:, 1:]
    if side == grid:
        return positions
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = (grid + 0.1) / side
    larger = functional.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([first, larger.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
