"""Run code of other packages that draws from global generators and warns: repeatable, and leaving no trace."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def contained(random_state: int) -> Iterator[None]:
    """Seed the global generators, silence warnings, and put the generators back.

    Parameters
    ----------
    random_state
        Seed.
    """
    drawn, numpy_drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - what the other packages draw from
    random.seed(random_state)
    np.random.seed(random_state)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(numpy_drawn)  # noqa: NPY002
