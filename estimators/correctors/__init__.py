"""Correctors: fitted on training rows, applied to others; each name is loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalfm.estimators.correctors.causal_combat import CausalComBat as CausalComBat
    from causalfm.estimators.correctors.combat import ComBat as ComBat
    from causalfm.estimators.correctors.gradient_reversal_adapter import (
        GradientReversalAdapter as GradientReversalAdapter,
    )
    from causalfm.estimators.correctors.linear_eraser import LinearEraser as LinearEraser
    from causalfm.estimators.correctors.mean_aligner import MeanAligner as MeanAligner
    from causalfm.estimators.correctors.nuisance_subspace import NuisanceSubspace as NuisanceSubspace
    from causalfm.estimators.correctors.nullspace_projector import NullspaceProjector as NullspaceProjector
    from causalfm.estimators.correctors.scm_corrector import SCMCorrector as SCMCorrector
    from causalfm.estimators.correctors.transport_aligner import TransportAligner as TransportAligner

NAMES = {
    "CausalComBat": "causal_combat",
    "ComBat": "combat",
    "GradientReversalAdapter": "gradient_reversal_adapter",
    "LinearEraser": "linear_eraser",
    "MeanAligner": "mean_aligner",
    "NuisanceSubspace": "nuisance_subspace",
    "NullspaceProjector": "nullspace_projector",
    "SCMCorrector": "scm_corrector",
    "TransportAligner": "transport_aligner",
}

__all__ = list(NAMES)


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(f"causalfm.estimators.correctors.{NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
