"""Tell whether embeddings carry biology, or the hospital, the scanner and the stain.

Importing this package loads nothing, not even numpy: every public name is resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalfm.auditing import Audit as Audit
    from causalfm.auditing import Comparison as Comparison
    from causalfm.auditing import audit as audit
    from causalfm.auditing import compare as compare
    from causalfm.cohort import Cohort as Cohort
    from causalfm.comparison_plot import plot_comparison as plot_comparison
    from causalfm.effects_plot import plot_effects as plot_effects
    from causalfm.errors import CausalFMError as CausalFMError
    from causalfm.estimators import Effect as Effect
    from causalfm.estimators import effect as effect
    from causalfm.extraction import extract as extract
    from causalfm.flip_plot import plot_flips as plot_flips
    from causalfm.graph import CausalGraph as CausalGraph
    from causalfm.invariance import equivalence_test as equivalence_test
    from causalfm.invariance import invariance_test as invariance_test
    from causalfm.invariance import self_check as self_check
    from causalfm.io import read as read
    from causalfm.io import write as write
    from causalfm.map_drawing import plot_map as plot_map
    from causalfm.neighbours import Neighbours as Neighbours
    from causalfm.neighbours import knn as knn
    from causalfm.pair_plot import plot_pair_curve as plot_pair_curve
    from causalfm.results import Estimate as Estimate
    from causalfm.results import TestResult as TestResult
    from causalfm.scm import EmbeddingSCM as EmbeddingSCM
    from causalfm.scm import pair_curve as pair_curve
    from causalfm.scoreboard_plot import plot_scoreboard as plot_scoreboard
    from causalfm.sensitivity_plot import plot_sensitivity as plot_sensitivity
    from causalfm.trimming import common_support as common_support

__version__ = "0.1.0"

_NAMES = {
    "Audit": "causalfm.auditing",
    "CausalFMError": "causalfm.errors",
    "CausalGraph": "causalfm.graph",
    "Cohort": "causalfm.cohort",
    "Comparison": "causalfm.auditing",
    "Effect": "causalfm.estimators",
    "EmbeddingSCM": "causalfm.scm",
    "Estimate": "causalfm.results",
    "Neighbours": "causalfm.neighbours",
    "TestResult": "causalfm.results",
    "audit": "causalfm.auditing",
    "common_support": "causalfm.trimming",
    "compare": "causalfm.auditing",
    "effect": "causalfm.estimators",
    "equivalence_test": "causalfm.invariance",
    "extract": "causalfm.extraction",
    "invariance_test": "causalfm.invariance",
    "knn": "causalfm.neighbours",
    "pair_curve": "causalfm.scm",
    "plot_comparison": "causalfm.comparison_plot",
    "plot_effects": "causalfm.effects_plot",
    "plot_flips": "causalfm.flip_plot",
    "plot_map": "causalfm.map_drawing",
    "plot_pair_curve": "causalfm.pair_plot",
    "plot_scoreboard": "causalfm.scoreboard_plot",
    "plot_sensitivity": "causalfm.sensitivity_plot",
    "read": "causalfm.io",
    "self_check": "causalfm.invariance",
    "write": "causalfm.io",
}
_FOLDERS = ("augment", "auditing", "estimators", "extraction", "invariance", "metrics", "scm", "shift", "training")

__all__ = [*_NAMES, *_FOLDERS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _FOLDERS:
        return import_module(f"causalfm.{name}")
    raise AttributeError(f"module 'causalfm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
