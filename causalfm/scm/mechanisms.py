"""What a mechanism is: how the noise of ``Z`` carries over from one combination of levels to another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError
from causalfm.scm.parents import Parents
from causalfm.scm.principal import PrincipalRows
from causalfm.scm.residuals import Residuals

Move = tuple[slice, np.ndarray, np.ndarray]  # rows, source and target


class Noise(Protocol):
    """A fitted mechanism. ``source`` and ``target`` are ``(k,)`` level codes of the categorical parents of ``Z``.

    The noise is abducted under ``source`` and put back under ``target``; going by way of a third combination changes
    nothing, so that do(a) then do(b) is do(b).
    """

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Return what is added to ``residual (n, d)`` when its rows move from their source to their target."""

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float | np.ndarray]:
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
    directed
        Whether rows are moved along principal directions.
    """

    coupling: str
    crossed: bool
    directed: bool

    def fit(self, moments: Residuals, parents: Parents) -> Noise:
        """Learn from the moments of the residuals."""

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> Noise:
        """Rebuild from saved arrays."""


def fit_noise(mechanism: Mechanism, moments: Residuals, parents: Parents, rows: Callable[[], PrincipalRows]) -> Noise:
    """Learn from moments; a mechanism that moments do not suffice reads ``rows`` too."""
    fit_rows: Callable[..., Noise] | None = getattr(mechanism, "fit_rows", None)
    return mechanism.fit(moments, parents) if fit_rows is None else fit_rows(moments, parents, rows())


def mechanism_named(name: str, random_state: int = 0, device: str | None = None) -> Mechanism:
    """Return a mechanism by its public name; what is trained takes the seed and the device.

    Raises
    ------
    DataError
        Unknown name; a device that is not there, or that the mechanism has no use for.
    """
    known = _known(random_state, device)
    if not isinstance(name, str) or name not in known:
        raise DataError(f"mechanism={name!r}: choose one of {', '.join(known)}.{did_you_mean(name, known)}")
    if device is not None and name != "flow":
        raise DataError(f"device={device!r}: only mechanism='flow' is trained on a device; leave it out.")
    return known[name]()


def _known(random_state: int, device: str | None) -> dict[str, Callable[[], Mechanism]]:
    from causalfm.scm.additive import Additive
    from causalfm.scm.flow import Flow
    from causalfm.scm.interaction import Interaction
    from causalfm.scm.interaction_location_scale import InteractionLocationScale
    from causalfm.scm.location_scale import LocationScale
    from causalfm.scm.optimal_transport import OptimalTransport
    from causalfm.scm.random_effects import RandomEffects

    return {
        "additive": Additive,
        "location-scale": LocationScale,
        "optimal-transport": OptimalTransport,
        "interaction": Interaction,
        "random-effects": RandomEffects,
        "interaction-location-scale": InteractionLocationScale,
        "flow": functools.partial(Flow, random_state, device),
    }
