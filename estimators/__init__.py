"""Effect estimators and correctors; correctors are loaded on first use, because they load scikit-learn."""

from typing import TYPE_CHECKING, Any

from causalfm.estimators.correctors import NAMES as _CORRECTORS
from causalfm.estimators.deconfounding.performance import DeconfoundedPerformance, deconfounded_performance
from causalfm.estimators.deconfounding.premiums import Premium
from causalfm.estimators.effects import Effect, effect
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.maps.effect_maps import EffectMap, effect_map
from causalfm.estimators.refuting.refutation import Refutation
from causalfm.estimators.robustness.benchmarks import Sensitivity
from causalfm.estimators.robustness.bias_bounds import e_value, robustness_value, scalar_robustness_value
from causalfm.estimators.robustness.scalar_robustness import scalar_sensitivity
from causalfm.estimators.scoring.board import scoreboard
from causalfm.estimators.scoring.result import Scoreboard

if TYPE_CHECKING:
    from causalfm.estimators.correctors import CausalComBat as CausalComBat
    from causalfm.estimators.correctors import ComBat as ComBat
    from causalfm.estimators.correctors import GradientReversalAdapter as GradientReversalAdapter
    from causalfm.estimators.correctors import LinearEraser as LinearEraser
    from causalfm.estimators.correctors import MeanAligner as MeanAligner
    from causalfm.estimators.correctors import NuisanceSubspace as NuisanceSubspace
    from causalfm.estimators.correctors import NullspaceProjector as NullspaceProjector
    from causalfm.estimators.correctors import SCMCorrector as SCMCorrector
    from causalfm.estimators.correctors import TransportAligner as TransportAligner

__all__ = [
    "CausalComBat",
    "ComBat",
    "DeconfoundedPerformance",
    "Effect",
    "EffectMap",
    "GradientReversalAdapter",
    "GroupInfluence",
    "LinearEraser",
    "MeanAligner",
    "NuisanceSubspace",
    "Nuisances",
    "NullspaceProjector",
    "Premium",
    "Refutation",
    "SCMCorrector",
    "Scoreboard",
    "Sensitivity",
    "TransportAligner",
    "deconfounded_performance",
    "e_value",
    "effect",
    "effect_map",
    "robustness_value",
    "scalar_robustness_value",
    "scalar_sensitivity",
    "scoreboard",
]


def __getattr__(name: str) -> Any:
    if name in _CORRECTORS:
        from causalfm.estimators import correctors

        return getattr(correctors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
