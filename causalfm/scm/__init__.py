"""Structural causal model of embeddings: counterfactual rows, interventional means, likelihoods, audits."""

from causalfm.scm.contrasts import InterventionalContrast
from causalfm.scm.counterfactuals import RowErrors
from causalfm.scm.decision_flips import Flips, flips
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.faithfulness import Fidelity, fidelity
from causalfm.scm.pair_curves import PairCurve, pair_curve
from causalfm.scm.pair_moves import PairedRowErrors
from causalfm.scm.path_parts import gap_paths
from causalfm.scm.path_rows import GapPaths
from causalfm.scm.shifts import mean_shift

__all__ = [
    "EmbeddingSCM",
    "Fidelity",
    "Flips",
    "GapPaths",
    "InterventionalContrast",
    "PairCurve",
    "PairedRowErrors",
    "RowErrors",
    "fidelity",
    "flips",
    "gap_paths",
    "mean_shift",
    "pair_curve",
]
