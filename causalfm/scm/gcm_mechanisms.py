"""Scalar nodes as functional causal models of ``dowhy.gcm``, rebuilt from plain arrays."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

if TYPE_CHECKING:
    from causalfm.scm.scalar_nodes import ScalarNode


class FittedPredictor:
    """Prediction and classification model of ``dowhy.gcm`` whose coefficients are known.

    Parameters
    ----------
    node
        The model behind it. Parents' samples ``(n, p)`` are level codes, then numbers.
    """

    def __init__(self, node: ScalarNode) -> None:
        self.node = node

    def fit(self, X: np.ndarray, Y: np.ndarray) -> None:
        """Do nothing: patients weigh equally in the fit of the node, and ``dowhy.gcm`` passes no weights."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Mean ``(n, 1)`` of a number."""
        return self.node.predictions(X)

    def predict_probabilities(self, X: np.ndarray) -> np.ndarray:
        """Probabilities ``(n, K)`` of levels."""
        return np.asarray(softmax(self.node.predictions(X), axis=1))

    @property
    def classes(self) -> list[str]:
        """Levels."""
        return list(self.node.levels or ())

    def clone(self) -> FittedPredictor:
        """Return this model: it keeps no state."""
        return self


def functional_model(node: ScalarNode) -> Any:
    """Build the ``dowhy.gcm`` mechanism of a node.

    Parameters
    ----------
    node
        Fitted.

    Returns
    -------
    dowhy.gcm.AdditiveNoiseModel or dowhy.gcm.ClassifierFCM
        Additive Gaussian noise for a number; levels by their probabilities. Its own draws use the global generator of
        numpy; nothing here calls them.
    """
    drawn = random.getstate()
    with warnings.catch_warnings():  # imports of DoWhy warn about other packages, and draw from Python's generator
        warnings.simplefilter("ignore")
        from dowhy.gcm import AdditiveNoiseModel, ClassifierFCM, ScipyDistribution
        from scipy import stats
    random.setstate(drawn)
    if node.levels is not None:
        return ClassifierFCM(FittedPredictor(node))
    return AdditiveNoiseModel(FittedPredictor(node), ScipyDistribution(stats.norm, loc=0.0, scale=node.spread))
