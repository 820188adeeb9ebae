"""Affine coupling layers conditional on levels: an invertible map of a row, its inverse and its log determinant.

A layer keeps some coordinates, and stretches and shifts the others by functions of those kept. Hidden units are gated
by the levels, so that a level can have more or less of each bend. All-zero output weights are the identity
(Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LAYERS, HIDDEN = 6, 48
MOST_STRETCH = 2.0  # log scale of a layer stays within this
CONDITIONAL = ("gate", "direct")  # the weights by which levels differ
NAMES = ("kept", "inward", "bias", "outward", "rest", *CONDITIONAL)

Weights = Mapping[str, Any]  # (layers, ...) arrays or tensors by name


def identity_weights(k: int, n_conditions: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of the identity on ``k`` coordinates, with random hidden units."""
    kept = np.zeros((LAYERS, k))
    for pair in range(LAYERS // 2):  # halves of a new random order, each kept once
        order = rng.permutation(k)
        kept[2 * pair, order[: k // 2]] = 1.0
        kept[2 * pair + 1, order[k // 2 :]] = 1.0
    return {
        "kept": kept,
        "inward": rng.standard_normal((LAYERS, HIDDEN, k)) / np.sqrt(max(1, k // 2)),
        "bias": rng.uniform(-1.0, 1.0, (LAYERS, HIDDEN)),
        "outward": np.zeros((LAYERS, 2 * k, HIDDEN)),
        "rest": np.zeros((LAYERS, 2 * k)),
        "gate": np.zeros((LAYERS, HIDDEN, n_conditions)),
        "direct": np.zeros((LAYERS, 2 * k, n_conditions)),
    }


def forward(u: torch.Tensor, condition: torch.Tensor, weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    """Map rows ``u (n, k)`` under ``condition (n, c)`` or ``(1, c)``; return the log determinants ``(n,)`` too."""
    total = u.new_zeros(len(u))
    for layer in range(len(weights["kept"])):
        log_scale, shift = _stretch(u, condition, weights, layer)
        u = u * log_scale.exp() + shift
        total = total + log_scale.sum(dim=1)
    return u, total


def backward(e: torch.Tensor, condition: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Undo :func:`forward`."""
    for layer in reversed(range(len(weights["kept"]))):
        log_scale, shift = _stretch(e, condition, weights, layer)
        e = (e - shift) * (-log_scale).exp()
    return e


def _stretch(
    u: torch.Tensor, condition: torch.Tensor, weights: Weights, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log scale and shift ``(n, k)`` of a layer, 0 for the coordinates that it keeps and looks at."""
    w = {name: weights[name][layer] for name in NAMES}
    hidden = (w["bias"] + (u * w["kept"]) @ w["inward"].T).tanh() * (1.0 + condition @ w["gate"].T)
    out = hidden @ w["outward"].T + w["rest"] + condition @ w["direct"].T
    k, moved = u.shape[1], 1.0 - w["kept"]
    return MOST_STRETCH * (out[:, :k] / MOST_STRETCH).tanh() * moved, out[:, k:] * moved
