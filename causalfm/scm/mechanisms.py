"""What a mechanism is: how the noise of ``Z`` carries over from one combination of levels to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError
from causalfm.scm.parents import Parents
from causalfm.scm.residuals import Residuals

Move = tuple[slice, np.ndarray, np.ndarray]  # rows, source and target


class Noise(Protocol):
    """A fitted mechanism. ``source`` and ``target`` are ``(k,)`` level codes of the categorical parents of ``Z``.

    The noise is abducted under ``source`` and put back under ``target``; going by way of a third combination changes
    nothing, so that do(a) then do(b) is do(b).
    """

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Return what is added to ``residual (n, d)`` when its rows move from their source to their target."""

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the noise behind ``residual (n, d)`` at ``levels``, and the log determinant of the map to it."""

    def colour(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return what is added to ``noise (n, d)`` to make it a residual at ``levels``: the way back from whiten."""

    def scale_error(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the factor ``(d,)`` on a residual and the variance of its logarithm; None if there is no such form."""

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Return the arrays that restore it."""


class Mechanism(Protocol):
    """A way to learn and to restore a :class:`Noise`.

    Attributes
    ----------
    coupling
        The assumption that ties a row to its own counterfactual, in words.
    crossed
        Whether biology changes the effects of technical factors on the mean.
    """

    coupling: str
    crossed: bool

    def fit(self, moments: Residuals, parents: Parents) -> Noise:
        """Learn from the moments of the residuals."""

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> Noise:
        """Rebuild from saved arrays."""


def mechanism_named(name: str) -> Mechanism:
    """Return a mechanism by its public name.

    Raises
    ------
    DataError
        Unknown name.
    """
    known = _known()
    if not isinstance(name, str) or name not in known:
        raise DataError(f"mechanism={name!r}: choose one of {', '.join(known)}.{did_you_mean(name, known)}")
    return known[name]()


def _known() -> dict[str, Callable[[], Mechanism]]:
    from causalfm.scm.additive import Additive
    from causalfm.scm.interaction import Interaction
    from causalfm.scm.location_scale import LocationScale
    from causalfm.scm.optimal_transport import OptimalTransport
    from causalfm.scm.random_effects import RandomEffects

    return {
        "additive": Additive,
        "location-scale": LocationScale,
        "optimal-transport": OptimalTransport,
        "interaction": Interaction,
        "random-effects": RandomEffects,
    }
