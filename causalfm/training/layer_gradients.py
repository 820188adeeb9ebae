"""Gradients of the last layer alike in all environments: their variances (Fishr), their means (IGA)."""

from __future__ import annotations

import torch

from causalfm.training.batches import Batch, full_precision

READS = ("features", "logits", "y", "env")


def fishr(
    features: torch.Tensor,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Fishr: squared distance of the environments' gradient variances from their mean, in closed form.

    Parameters
    ----------
    features
        ``(n, d)`` floating: what the last, linear layer reads.
    logits
        ``(n, k)`` floating: what it returns.
    y, env
        ``(n,)`` integer codes.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.

    Returns
    -------
    torch.Tensor
        0 for a single environment.

    Raises
    ------
    DataError
        A batch that cannot be read.

    Notes
    -----
    A row's cross-entropy has gradient ``(p - y) z'`` in the weights and ``p - y`` in the bias of the layer. Variances
    are divided by ``n``, and the distance is the mean over all these parameters, as in DomainBed; without its moving
    average over batches, which is a state.

    References
    ----------
    Rame, Dancette, Cord: Fishr, ICML 2022.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        if batch.n_env < 2:
            return batch.zero
        residual, inputs = _factors(batch)
        share, variances = batch.share(), []
        for e in range(batch.n_env):
            rows = batch.env == e
            r, z, w = residual[rows], inputs[rows], share[rows, None]
            variances.append(((w * r**2).T @ z**2 - ((w * r).T @ z) ** 2).flatten())
        values = torch.stack(variances)
        return ((values - values.mean(dim=0)) ** 2).mean(dim=1).mean()


def iga(
    features: torch.Tensor,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """IGA: squared distance of the environments' gradients from their mean, in closed form.

    Parameters, Raises: as :func:`fishr`. Returns 0 for a single environment.

    Notes
    -----
    Summed over environments and parameters, as in DomainBed, which takes all layers of a network: here the last.

    References
    ----------
    Koyama and Yamaguchi, arXiv:2008.01883.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        if batch.n_env < 2:
            return batch.zero
        residual, inputs = _factors(batch)
        share = batch.share()[:, None]
        means = [(share * residual)[batch.env == e].T @ inputs[batch.env == e] for e in range(batch.n_env)]
        values = torch.stack(means)
        return ((values - values.mean(dim=0)) ** 2).sum()


def _factors(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``p - y (n, k)`` and ``(z, 1) (n, d + 1)``: a row's gradient is their outer product."""
    residual = batch.logits.softmax(dim=1) - torch.nn.functional.one_hot(batch.y, batch.logits.shape[1])
    return residual, torch.cat([batch.features, batch.features.new_ones((len(batch.features), 1))], dim=1)
