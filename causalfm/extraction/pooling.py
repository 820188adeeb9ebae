"""Tokens of a transformer become one embedding. Register tokens stand between the class token and the patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def class_token(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Return the class token, ``(b, d)``."""
    return tokens[:, 0]


def patch_mean(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Return the mean of the patch tokens, ``(b, d)``: without the class token, without registers."""
    return tokens[:, prefix:].mean(1)


def class_and_patches(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Return the class token and behind it the mean of the patch tokens, ``(b, 2 d)``."""
    import torch

    return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], dim=1)


CLASS, BOTH = "class token", "class token + mean of patch tokens"
NETWORK = "network"  # pools by itself

# (tokens (b, t, d), number of tokens before the patches) -> (b, k)
POOLINGS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    CLASS: class_token,
    "mean of patch tokens": patch_mean,
    BOTH: class_and_patches,
}
