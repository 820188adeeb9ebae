"""What a reader hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Loaded:
    """Embeddings as they lie in the files.

    Attributes
    ----------
    X
        ``(n, d)``.
    obs
        Their table, or None where the files hold none.
    info
        What the files say of their making, for ``Cohort.info``.
    finite
        The reader has looked at every value.
    """

    X: np.ndarray
    obs: pd.DataFrame | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    finite: bool = False
