"""Penalties that shrink what the head reads or says, without comparing environments: IB and SD."""

from __future__ import annotations

import torch

from causalfm.training.batches import full_precision


def information_bottleneck(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Information bottleneck (IB): variance of the features within environments.

    Parameters
    ----------
    features
        ``(n, d)`` floating.
    logits, y
        Not read.
    env
        ``(n,)`` integer codes.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.

    Returns
    -------
    torch.Tensor
        Mean over features and environments. That environments are alike does not make it 0.

    Raises
    ------
    DataError
        A batch that cannot be read.

    Notes
    -----
    Variances are divided by ``n``, in DomainBed by ``n - 1``: divided so, one row has none.

    References
    ----------
    Ahuja et al., Invariance principle meets information bottleneck, NeurIPS 2021.
    """
    with full_precision(("features", "env"), features, logits, y, env, weights) as batch:
        centred = batch.features - batch.means(batch.features)[batch.env]
        return batch.means(centred**2).mean()


def spectral_decoupling(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Spectral decoupling (SD): mean squared logit.

    Parameters
    ----------
    features, y
        Not read.
    logits
        ``(n, k)`` floating.
    env
        ``(n,)`` integer codes; checked and not compared.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.

    Returns
    -------
    torch.Tensor
        Mean over rows and classes. That environments are alike does not make it 0.

    Raises
    ------
    DataError
        A batch that cannot be read.

    References
    ----------
    Pezeshki et al., Gradient starvation, NeurIPS 2021.
    """
    with full_precision(("logits", "env"), features, logits, y, env, weights) as batch:
        return (batch.weight * (batch.logits**2).mean(dim=1)).sum() / batch.weight.sum()
