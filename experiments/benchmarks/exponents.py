"""How fast a time grows: the slope of its logarithm on the logarithm of the size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit ``log seconds = a + b log size`` by least squares.

    Parameters
    ----------
    sizes, seconds
        At least three of each, positive.

    Returns
    -------
    slope, error
        ``b`` and its standard error.

    Raises
    ------
    ValueError
        Fewer than three points, or values that are not positive.
    """
    if len(sizes) < 3 or len(sizes) != len(seconds) or min(*sizes, *seconds) <= 0:
        raise ValueError("an exponent needs three sizes or more, and positive seconds for each")
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    return slope, float(np.sqrt(residual @ residual / (len(x) - 2) / (x @ x)))
