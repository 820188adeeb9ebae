"""Effect estimators."""

from causalfm.estimators.effects import Effect, effect
from causalfm.estimators.group_influence import GroupInfluence
from causalfm.estimators.nuisances import Nuisances
from causalfm.estimators.sensitivity import Sensitivity, robustness_value

__all__ = ["Effect", "GroupInfluence", "Nuisances", "Sensitivity", "effect", "robustness_value"]
