"""Gradient reversal, which adversarial correctors and training share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def reversed_gradient(z: torch.Tensor, strength: float) -> torch.Tensor:
    """Return ``z`` itself, whose gradient comes back times ``-strength``.

    Parameters
    ----------
    z
        Finite tensor of any shape.
    strength
        At least 0.

    Notes
    -----
    The difference that is added is exactly 0: values keep all digits in half precision too.
    """
    still = z.detach()
    return still + strength * (still - z)
