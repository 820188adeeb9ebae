"""Wilson's interval of a share, for as many independent observations as its variance amounts to."""

from __future__ import annotations

from typing import Any

import numpy as np


def wilson_interval(share: Any, size: Any, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's interval of a share, number by number.

    Parameters
    ----------
    share, size
        Shares, and the independent observations behind each: their number, or the effective one of a design.
    quantile
        Two-sided quantile: of Student's t where the size is estimated.

    Returns
    -------
    low, high : numpy.ndarray
        Within 0 and 1; at both the formula gives the end itself, up to rounding.

    References
    ----------
    Korn and Graubard, Survey Methodology 24 (1998) 193-201.
    """
    share, size, q2 = np.asarray(share, dtype=np.float64), np.asarray(size, dtype=np.float64), quantile**2
    centre = (share + q2 / (2.0 * size)) / (1.0 + q2 / size)
    spread = np.maximum(share * (1.0 - share), 0.0) / size + q2 / (4.0 * size**2)
    reach = np.sqrt(q2 * spread) / (1.0 + q2 / size)
    return np.maximum(centre - reach, 0.0), np.minimum(centre + reach, 1.0)
