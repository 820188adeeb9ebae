"""Predictions alike for all views of one specimen."""

from __future__ import annotations

import torch

from causalfm.errors import DataError
from causalfm.training.batches import full_precision


def counterfactual_consistency(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor | None,
    env: torch.Tensor | None,
    weights: torch.Tensor | None = None,
    *,
    unit: torch.Tensor,
) -> torch.Tensor:
    """Jensen-Shannon divergence of the predictions for one specimen at several technical levels.

    Parameters
    ----------
    features, y, env
        Not read.
    logits
        ``(n, k)`` floating; rows and their counterfactuals together.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.
    unit
        ``(n,)`` integer codes of the specimen: rows that differ in technical levels only share one.

    Returns
    -------
    torch.Tensor
        Mean over specimens, as heavy as their rows, of ``H(mean p) - mean H(p)``, in nats; from 0 (predictions equal)
        to the logarithm of the number of classes. Specimens seen once are left out; 0 if all are.

    Raises
    ------
    DataError
        A batch that cannot be read.

    References
    ----------
    Hendrycks et al., AugMix, ICLR 2020 (the divergence).
    """
    if not isinstance(unit, torch.Tensor):
        raise DataError("unit is no tensor: pass integer codes (n,), equal for the views of one specimen.")
    with full_precision(("logits", "env"), None, logits, None, unit, weights) as batch:
        several = batch.summed(torch.ones_like(batch.weight)) > 1
        if not bool(several.any()):
            return batch.zero
        logs = torch.log_softmax(batch.logits, dim=1)
        mean = batch.means(logs.exp()).clamp_min(torch.finfo(logs.dtype).tiny)
        apart = batch.means((logs.exp() * (logs - mean.log()[batch.env])).sum(dim=1))
        mass = batch.summed(batch.weight)
        return (mass[several] * apart[several]).sum() / mass[several].sum()
