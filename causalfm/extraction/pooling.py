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


# (tokens (b, t, d), number of tokens before the patches) -> (b, k). "network": the network pools by itself.
POOLINGS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "class token": class_token,
    "mean of patch tokens": patch_mean,
    "class token + mean of patch tokens": class_and_patches,
}
