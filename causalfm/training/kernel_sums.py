"""Kernel means between the environments of a batch."""

from __future__ import annotations

import torch

from causalfm.training.batches import Batch


def kernel_means(batch: Batch, bandwidth: float | None) -> torch.Tensor | None:
    """Return the mean of the kernel between every two environments.

    Parameters
    ----------
    batch
        With features.
    bandwidth
        ``s^2``; None: the median of the squared distances that are not 0.

    Returns
    -------
    torch.Tensor or None
        ``(E, E)``; None if all rows are equal.

    Notes
    -----
    The kernel is the mean of ``exp(-|x - y|^2 / (2 s^2))`` over bandwidths ``s``, ``s/2`` and ``s/4``, that of the
    library's tests. Distances are taken row by row, not by products: equal rows are at distance 0 exactly. Gradients
    pass through the median: scaling all features changes nothing, and nothing is gained by shrinking them.
    """
    square = torch.cdist(batch.features, batch.features, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    scale = _median(square, batch) if bandwidth is None else square.new_tensor(bandwidth)
    if scale is None:
        return None
    base = square * (-0.5 / scale)
    kernel = (base.exp() + (4 * base).exp() + (16 * base).exp()) / 3
    share = batch.share()
    rows = batch.summed(kernel * share[:, None])
    return batch.summed((rows * share).T.contiguous()).T


def _median(square: torch.Tensor, batch: Batch) -> torch.Tensor | None:
    """Lower median over pairs of different rows, a pair as heavy as the product of its weights."""
    i, j = torch.triu_indices(len(square), len(square), 1, device=square.device)
    values = square.detach()[i, j]
    apart = values > 0
    if not bool(apart.any()):
        return None
    i, j, values = i[apart], j[apart], values[apart]
    if batch.counts:
        at = values.median(dim=0).indices
    else:
        weight = batch.weight.detach().double()
        order = values.argsort(stable=True)
        total = (weight[i] * weight[j])[order].cumsum(0)
        at = order[torch.searchsorted(total, 0.5 * total[-1])]
    return square[i[at], j[at]]  # one pair carries the gradient
