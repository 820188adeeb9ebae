"""Penalties that read how risks are distributed: EQRM over environments, RDM over rows."""

from __future__ import annotations

import torch

from causalfm.errors import DataError
from causalfm.training.batches import full_precision

READS = ("logits", "y", "env")
SCALES = tuple(10.0**power for power in range(-4, 4))  # of the squared difference of two losses, in nats
HALVINGS = {torch.float32: 28, torch.float64: 58}  # of the interval that holds the quantile: to its last digit


def eqrm(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    quantile: float = 0.75,
) -> torch.Tensor:
    """EQRM: a quantile of the environments' risks. A risk to be used in place of the mean one.

    Parameters
    ----------
    features
        Not read.
    logits
        ``(n, k)`` floating.
    y, env
        ``(n,)`` integer codes.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.
    quantile
        Between 0 and 1: share of environments like these whose risk shall be at most this.

    Returns
    -------
    torch.Tensor
        Quantile of the risks smoothed by a normal kernel of standard deviation ``1.06 sd E^(-1/5)``; the risk itself
        where all are equal or there is one.

    Raises
    ------
    DataError
        A batch that cannot be read, a quantile outside (0, 1).

    Notes
    -----
    The value is DomainBed's; its gradient is not: that follows the ends of the bisection, this one the quantile
    (``dq = -dF / density``).

    References
    ----------
    Eastwood et al., Probable domain generalization via quantile risk minimization, NeurIPS 2022.
    """
    if not 0.0 < quantile < 1.0:
        raise DataError(f"quantile={quantile!r}: pass a number between 0 and 1, such as 0.75.")
    with full_precision(READS, features, logits, y, env, weights) as batch:
        risks = batch.means(batch.losses())
        if len(risks) < 2 or bool((risks == risks[0]).all()):
            return risks.mean()
        width = 1.06 * risks.std() * len(risks) ** -0.2
        at, density = _found(risks.detach(), width.detach(), quantile)
        share: torch.Tensor = torch.special.ndtr((at - risks) / width).mean()
        return at - (share - share.detach()) / density  # the value of the bisection, the gradient of the quantile


def _found(risks: torch.Tensor, width: torch.Tensor, quantile: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantile of the smoothed risks, by bisection, and their density there."""
    ends = risks + width * torch.special.ndtri(torch.full_like(risks, quantile))
    low, high = ends.min(), ends.max()
    for _ in range(HALVINGS[risks.dtype]):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle - risks) / width).mean() < quantile
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    at = (low + high) / 2
    return at, torch.exp(-0.5 * ((at - risks) / width) ** 2).mean() / (width * (2.0 * torch.pi) ** 0.5)


def rdm(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """RDM: squared maximum mean discrepancy between the losses of the worst environment's rows and those of all rows.

    Parameters, Raises: as :func:`eqrm`. Returns 0 for a single environment.

    Notes
    -----
    V-statistic with DomainBed's kernel, the sum of ``exp(-g (l - l')^2)`` over ``g = 1e-4, 1e-3, ..., 1e3``; without
    its second term, the variance of the losses.

    References
    ----------
    Nguyen et al., Domain generalisation via risk distribution matching, WACV 2024.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        if batch.n_env < 2:
            return batch.zero
        losses = batch.losses()
        worst = batch.env == batch.means(losses.detach()).argmax()
        square = (losses[:, None] - losses) ** 2
        kernel = torch.stack([torch.exp(-scale * square) for scale in SCALES]).sum(dim=0)
        there = torch.where(worst, batch.weight, 0.0)
        apart = there / there.sum() - batch.weight / batch.weight.sum()
        return apart @ kernel @ apart
