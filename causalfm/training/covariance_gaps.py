"""CORAL: means and covariances of features alike in all environments."""

from __future__ import annotations

import torch

from causalfm.training.batches import full_precision


def coral(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """CORAL: mean squared difference of means plus that of covariances, averaged over pairs of environments.

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
        0 for a single environment.

    Raises
    ------
    DataError
        A batch that cannot be read.

    Notes
    -----
    ``mean((m_i - m_j)^2) + mean((C_i - C_j)^2)`` as in DomainBed, but with covariances divided by ``n``: divided by
    ``n - 1`` an environment and the same rows twice differ, and one row has none.

    References
    ----------
    Sun and Saenko, Deep CORAL, ECCV 2016 workshops.
    """
    with full_precision(("features", "env"), features, logits, y, env, weights) as batch:
        if batch.n_env < 2:
            return batch.zero
        means = batch.means(batch.features)
        share = batch.share()
        rows = (batch.features - means[batch.env]) * share.sqrt()[:, None]
        spread = torch.stack([rows[batch.env == e].T @ rows[batch.env == e] for e in range(batch.n_env)])
        return _pair_gap(means) + _pair_gap(spread.flatten(1))


def _pair_gap(values: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of rows of ``values (E, m)`` and over columns of the squared difference.

    ``sum_{i<j} (a_i - a_j)^2 = E sum_i (a_i - mean)^2``: no ``(E, E, m)`` array.
    """
    return 2.0 * ((values - values.mean(dim=0)) ** 2).mean(dim=1).sum() / (len(values) - 1)
