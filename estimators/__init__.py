"""Effect estimators."""

from causalfm.estimators.benchmarks import Sensitivity
from causalfm.estimators.bias_bounds import e_value, robustness_value, scalar_robustness_value
from causalfm.estimators.effect_maps import EffectMap, effect_map
from causalfm.estimators.effects import Effect, effect
from causalfm.estimators.group_influence import GroupInfluence
from causalfm.estimators.nuisances import Nuisances
from causalfm.estimators.performance import DeconfoundedPerformance, deconfounded_performance
from causalfm.estimators.premiums import Premium
from causalfm.estimators.refutation import Refutation
from causalfm.estimators.scalar_robustness import scalar_sensitivity

__all__ = [
    "DeconfoundedPerformance",
    "Effect",
    "EffectMap",
    "GroupInfluence",
    "Nuisances",
    "Premium",
    "Refutation",
    "Sensitivity",
    "deconfounded_performance",
    "e_value",
    "effect",
    "effect_map",
    "robustness_value",
    "scalar_robustness_value",
    "scalar_sensitivity",
]
