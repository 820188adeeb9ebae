"""Features independent of the environment, or so within every class: MMD and HSIC, marginal and conditional."""

from __future__ import annotations

from collections.abc import Callable

import torch

from causalfm.arguments import check_positive
from causalfm.errors import DataError
from causalfm.training.batches import Batch, full_precision
from causalfm.training.kernel_sums import kernel_means

Measure = Callable[[Batch, torch.Tensor], torch.Tensor]


def mmd(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    bandwidth: float | None = None,
) -> torch.Tensor:
    """Squared maximum mean discrepancy of the features, averaged over pairs of environments.

    Parameters
    ----------
    features
        ``(n, d)`` floating; for a linear head on frozen embeddings its logits, since nothing else can change.
    logits, y
        Not read.
    env
        ``(n,)`` integer codes.
    weights
        ``(n,)`` at least 0; 0 is as absent. None: rows weigh the same.
    bandwidth
        ``s^2`` of the kernel (:func:`causalfm.training.kernel_sums.kernel_means`); None: by the median heuristic.

    Returns
    -------
    torch.Tensor
        V-statistic, at least 0 up to rounding; exactly 0 where environments have equal rows in one order. 0 for a
        single environment.

    Raises
    ------
    DataError
        A batch that cannot be read.

    References
    ----------
    Gretton et al., A kernel two-sample test, JMLR 13 (2012).
    """
    return _marginal(_discrepancy, features, env, weights, bandwidth)


def conditional_mmd(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    given: torch.Tensor | None = None,
    bandwidth: float | None = None,
) -> torch.Tensor:
    """:func:`mmd` within every class, averaged over the classes that have several environments.

    Parameters
    ----------
    features, logits, env, weights, bandwidth
        As :func:`mmd`; without ``bandwidth`` every class has the median of its own.
    y
        ``(n,)`` integer codes.
    given
        ``(n,)`` integer codes of strata in place of ``y``.

    Returns
    -------
    torch.Tensor
        0 if no class has several environments. How frequent classes are in an environment does not matter.

    Raises
    ------
    DataError
        A batch that cannot be read.

    References
    ----------
    Veitch et al., Counterfactual invariance to spurious correlations, NeurIPS 2021.
    """
    return _within(_discrepancy, features, y if given is None else given, env, weights, bandwidth)


def hsic(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    bandwidth: float | None = None,
) -> torch.Tensor:
    """Hilbert-Schmidt independence criterion of features and environment, ``tr(K H L H) / n^2``.

    ``L`` is 1 for two rows of one environment, else 0, so that the criterion is ``sum_e p_e^2 |m_e - m|^2`` with the
    share ``p_e`` and the kernel mean ``m_e`` of an environment: frequent environments count more than in :func:`mmd`.

    Parameters, Returns, Raises: as :func:`mmd`.

    References
    ----------
    Gretton et al., Measuring statistical dependence with Hilbert-Schmidt norms, ALT 2005.
    """
    return _marginal(_dependence, features, env, weights, bandwidth)


def conditional_hsic(
    features: torch.Tensor,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    given: torch.Tensor | None = None,
    bandwidth: float | None = None,
) -> torch.Tensor:
    """:func:`hsic` within every class, averaged over the classes that have several environments.

    Parameters, Returns, Raises: as :func:`conditional_mmd`.
    """
    return _within(_dependence, features, y if given is None else given, env, weights, bandwidth)


def _discrepancy(batch: Batch, means: torch.Tensor) -> torch.Tensor:
    own = means.diagonal()
    gaps = own[:, None] + own - means - means.T
    return gaps.sum() / (batch.n_env * (batch.n_env - 1))


def _dependence(batch: Batch, means: torch.Tensor) -> torch.Tensor:
    share = batch.summed(batch.weight) / batch.weight.sum()
    middle = means @ share
    return (share**2 * (means.diagonal() - 2.0 * middle + share @ middle)).sum()


def _measured(measure: Measure, batch: Batch, bandwidth: float | None) -> torch.Tensor:
    means = kernel_means(batch, bandwidth) if batch.n_env > 1 else None
    return batch.zero if means is None else measure(batch, means)


def _marginal(
    measure: Measure,
    features: torch.Tensor,
    env: torch.Tensor,
    weights: torch.Tensor | None,
    bandwidth: float | None,
) -> torch.Tensor:
    _check_bandwidth(bandwidth)
    with full_precision(("features", "env"), features, None, None, env, weights) as batch:
        return _measured(measure, batch, bandwidth)


def _within(
    measure: Measure,
    features: torch.Tensor,
    given: torch.Tensor | None,
    env: torch.Tensor,
    weights: torch.Tensor | None,
    bandwidth: float | None,
) -> torch.Tensor:
    _check_bandwidth(bandwidth)
    if given is None:
        raise DataError("y is None: pass labels, or strata as given=.")
    with full_precision(("features", "y", "env"), features, None, given, env, weights) as batch:
        parts = [batch.part(batch.y == stratum) for stratum in torch.unique(batch.y)]
        values = [_measured(measure, part, bandwidth) for part in parts if part.n_env > 1]
        return torch.stack(values).mean() if values else batch.zero


def _check_bandwidth(bandwidth: float | None) -> None:
    if bandwidth is not None:
        check_positive(bandwidth, "bandwidth", "a squared distance; None takes the median")
