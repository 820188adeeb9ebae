"""What a model of a measured node can do: find its noise, and follow its causes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from causalfm.cohort import Cohort


class NodeModel(Protocol):
    """A measured node as a function of its causes and of noise that no intervention changes.

    Causes are ``(n, p)`` in the order of ``parents``: codes of levels, or numbers.
    """

    @property
    def node(self) -> str:
        """Name."""

    @property
    def levels(self) -> tuple[str, ...] | None:
        """Its levels; None for a number."""

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the causes."""

    def causes(self, cohort: Cohort) -> np.ndarray:
        """Read the causes."""

    def seen(self, cohort: Cohort) -> np.ndarray:
        """Read the node itself ``(n,)``: a number, or the code of its level."""

    def abduct(self, seen: np.ndarray, parents: np.ndarray, luck: np.ndarray) -> np.ndarray:
        """Return the noise ``(n,)`` behind what was seen."""

    def explains(self, noise: np.ndarray, parents: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Tell in which rows ``(n,)`` the noise leads to what was seen."""

    def follow(self, noise: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the node ``(n,)`` after its causes changed."""

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the noise of ``n`` units."""

    def predict(self, noise: np.ndarray, parents: np.ndarray) -> np.ndarray:
        """Return the node ``(n,)`` under its causes, given the noise."""
