"""Structural causal model of embeddings: counterfactual rows, interventional means, likelihoods."""

from causalfm.scm.contrasts import InterventionalContrast
from causalfm.scm.counterfactuals import RowErrors
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.faithfulness import Fidelity, fidelity
from causalfm.scm.pair_curves import PairCurve, pair_curve
from causalfm.scm.pair_moves import PairedRowErrors
from causalfm.scm.shifts import mean_shift

__all__ = [
    "EmbeddingSCM",
    "Fidelity",
    "InterventionalContrast",
    "PairCurve",
    "PairedRowErrors",
    "RowErrors",
    "fidelity",
    "mean_shift",
    "pair_curve",
]
