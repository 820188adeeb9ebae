"""Effect estimators."""

from causalfm.estimators.effects import Effect, effect
from causalfm.estimators.sensitivity import Sensitivity, robustness_value

__all__ = ["Effect", "Sensitivity", "effect", "robustness_value"]
