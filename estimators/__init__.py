"""Effect estimators and correctors; correctors are loaded on first use, because they load scikit-learn."""

from typing import TYPE_CHECKING, Any

from causalfm.estimators.correctors import NAMES as _CORRECTORS
from causalfm.estimators.effects import Effect, effect
from causalfm.estimators.sensitivity import Sensitivity, robustness_value

if TYPE_CHECKING:
    from causalfm.estimators.correctors import ComBat as ComBat
    from causalfm.estimators.correctors import LinearEraser as LinearEraser
    from causalfm.estimators.correctors import MeanAligner as MeanAligner
    from causalfm.estimators.correctors import NuisanceSubspace as NuisanceSubspace
    from causalfm.estimators.correctors import NullspaceProjector as NullspaceProjector
    from causalfm.estimators.correctors import SCMCorrector as SCMCorrector
    from causalfm.estimators.correctors import TransportAligner as TransportAligner

__all__ = [
    "ComBat",
    "Effect",
    "LinearEraser",
    "MeanAligner",
    "NuisanceSubspace",
    "NullspaceProjector",
    "SCMCorrector",
    "Sensitivity",
    "TransportAligner",
    "effect",
    "robustness_value",
]


def __getattr__(name: str) -> Any:
    if name in _CORRECTORS:
        from causalfm.estimators import correctors

        return getattr(correctors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
