"""Penalties that read the risks of the environments: IRM, VREx, GroupDRO."""

from __future__ import annotations

import torch

from causalfm.arguments import check_positive
from causalfm.errors import DataError
from causalfm.training.batches import full_precision

READS = ("logits", "y", "env")
LEAST_PAIRS = 1e-5  # weight of the pairs of rows in an environment: below, one row is all there is to float32


def irm(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """IRMv1: squared slope of each environment's risk in a scale of the logits, without the bias of one sample.

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

    Returns
    -------
    torch.Tensor
        Mean over environments of at least two rows, 0 if there is none. As every unbiased estimate of a square it can
        be negative. That environments are alike does not make it 0: it is where the scale is right at each of them.

    Raises
    ------
    DataError
        A batch that cannot be read.

    Notes
    -----
    The slope of a row's cross-entropy at scale 1 is ``g = sum_k p_k l_k - l_y``. The mean of ``g_i g_j`` over
    ``i != j`` is what DomainBed's product of even and odd rows is on average over orders of the rows; it does not
    depend on their order. Weights ``w`` of sum 1: ``((sum w g)^2 - sum w^2 g^2) / (1 - sum w^2)``; a repeated row is
    no new evidence and counts less than two.

    Give it rows drawn anew at every step. The same rows at every step can be fitted to a value below 0, by slopes that
    differ much rather than by slopes near 0.

    References
    ----------
    Arjovsky et al., arXiv:1907.02893, appendix D.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        chance = torch.log_softmax(batch.logits, dim=1).exp()
        own = batch.logits.gather(1, batch.y[:, None])[:, 0]
        share, slope = batch.share(), (chance * batch.logits).sum(dim=1) - own
        pairs = 1 - batch.summed(share**2)
        several = pairs > LEAST_PAIRS
        if not bool(several.any()):
            return batch.zero
        square = batch.summed(share * slope) ** 2 - batch.summed((share * slope) ** 2)
        return (square[several] / pairs[several]).mean()


def vrex(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """VREx: variance of the environments' risks, ``mean_e (R_e - mean R)^2``.

    Parameters, Raises: as :func:`irm`. Returns 0 for a single environment.

    References
    ----------
    Krueger et al., Out-of-distribution generalization via risk extrapolation, ICML 2021.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        risks = batch.means(batch.losses())
        return ((risks - risks.mean()) ** 2).mean()


def group_dro(
    features: torch.Tensor | None,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    q: torch.Tensor | None = None,
) -> torch.Tensor:
    """GroupDRO: the environments' risks, each times its weight ``q``. A risk to be used in place of the mean one.

    Parameters
    ----------
    features, logits, y, env, weights
        As :func:`irm`.
    q
        ``(E,)`` weights, those of :func:`next_group_weights`; ``env`` are positions in it. None: environments of the
        batch weigh the same. An environment that the batch lacks adds nothing.

    Returns
    -------
    torch.Tensor
        ``sum_e q_e R_e``.

    Raises
    ------
    DataError
        A batch that cannot be read, an environment beyond ``q``.

    References
    ----------
    Sagawa et al., Distributionally robust neural networks, ICLR 2020.
    """
    with full_precision(READS, features, logits, y, env, weights) as batch:
        risks = batch.means(batch.losses())
        if q is None:
            return risks.mean()
        _check_q(q, batch.levels)
        return (q.to(risks)[batch.levels] * risks).sum()


def next_group_weights(
    q: torch.Tensor,
    logits: torch.Tensor,
    y: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    step: float = 0.01,
) -> torch.Tensor:
    """Return ``q_e exp(step R_e)``, scaled to sum 1: the state of GroupDRO after a batch.

    Parameters
    ----------
    q
        ``(E,)`` positive; start from ``torch.ones(E) / E``. Not modified.
    logits, y, env, weights
        As :func:`group_dro`. An environment that the batch lacks is not multiplied.
    step
        Positive.

    Returns
    -------
    torch.Tensor
        ``(E,)`` without gradient.

    Raises
    ------
    DataError
        As :func:`group_dro`.
    """
    check_positive(step, "step", "how fast weight moves to the environment with the largest risk")
    with torch.no_grad(), full_precision(READS, None, logits, y, env, weights) as batch:
        _check_q(q, batch.levels)
        logs = q.log().index_add(0, batch.levels, step * batch.means(batch.losses()).to(q))
        return torch.softmax(logs, dim=0)  # in logarithms: large risks do not overflow


def _check_q(q: torch.Tensor, levels: torch.Tensor) -> None:
    if not isinstance(q, torch.Tensor) or not bool((torch.isfinite(q) & (q >= 0)).all()) or not bool((q > 0).any()):
        raise DataError("q holds no weights: pass a tensor (E,), finite, 0 or more; start from torch.ones(E) / E.")
    if q.ndim != 1 or int(levels.max()) >= len(q) or int(levels.min()) < 0:
        raise DataError(
            f"q has shape {tuple(q.shape)} and env runs from {int(levels.min())} to {int(levels.max())}: "
            "env are positions in q (E,)."
        )
