"""Mechanisms of the residual at levels that the fit never saw: the mean of the levels, or stretched as a batch is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalfm.errors import DataError
from causalfm.scm.additive import SharedNoise
from causalfm.scm.location_scale import ScaledNoise
from causalfm.scm.mechanisms import Noise
from causalfm.scm.optimal_transport import TransportedNoise


def widen_noise(noise: Noise, more: Sequence[int], name: str) -> Noise:
    """Add levels to a mechanism.

    Parameters
    ----------
    noise
        As fitted.
    more
        New levels of each categorical parent.
    name
        Public name of the mechanism, for the message.

    Returns
    -------
    Noise
        A new level has the mean log scale of the levels seen, with their spread as its error; transport leaves the
        shape of its residual as it is.

    Raises
    ------
    DataError
        A mechanism without a prior for levels.
    """
    if isinstance(noise, SharedNoise):
        return noise
    if isinstance(noise, ScaledNoise):
        pairs = [_more_logs(log, v, n) for log, v, n in zip(noise.logs, noise.variance, more, strict=True)]
        return ScaledNoise(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    if isinstance(noise, TransportedNoise):
        k = noise.basis.shape[1]
        maps = [np.concatenate([m, np.tile(np.eye(k), (n, 1, 1))]) for m, n in zip(noise.maps, more, strict=True)]
        logs = [np.concatenate([g, np.tile(g.mean(axis=0), (n, 1))]) for g, n in zip(noise.logs, more, strict=True)]
        return TransportedNoise(noise.basis, tuple(maps), tuple(logs))
    raise DataError(
        f"mechanism {name!r} has no prior for levels never seen: choose another than 'flow', "
        "such as 'additive', or leave the rows at new levels out."
    )


def _more_logs(logs: np.ndarray, variance: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    if not n:
        return logs, variance
    spread = (1.0 + 1.0 / len(logs)) * logs.var(axis=0, ddof=1) + variance.mean(axis=0)
    return (
        np.concatenate([logs, np.tile(logs.mean(axis=0), (n, 1))]),
        np.concatenate([variance, np.tile(spread, (n, 1))]),
    )


def stretch(noise: ScaledNoise, factor: int, level: int, squares: np.ndarray, first: int) -> ScaledNoise:
    """Move the log scale of a new level towards what its patients show, all dimensions together.

    Parameters
    ----------
    noise
        With the new levels.
    factor, level
        Where.
    squares
        ``(P,)`` per patient the mean squared residual over what the mean of the levels makes it.
    first
        Levels that the fit saw.

    Returns
    -------
    ScaledNoise
        Shrunk by the spread of the levels' mean log scales and by the patients' own spread.
    """
    common = noise.logs[factor][:first].mean(axis=1)
    prior = (1.0 + 1.0 / first) * float(common.var(ddof=1))
    mean = float(squares.mean())
    if len(squares) < 3 or prior <= 0 or mean <= 0:
        return noise
    error = float(squares.var(ddof=1)) / mean**2 / len(squares)
    share = prior / (prior + error)
    logs, variance = [a.copy() for a in noise.logs], [a.copy() for a in noise.variance]
    logs[factor][level] += share * np.log(mean)
    variance[factor][level] = np.maximum(variance[factor][level] - share * prior, share * error)
    return ScaledNoise(tuple(logs), tuple(variance))
