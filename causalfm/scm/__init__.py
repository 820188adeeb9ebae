"""Structural causal model of embeddings: counterfactual rows, interventional means, likelihoods."""

from causalfm.scm.contrasts import InterventionalContrast
from causalfm.scm.counterfactuals import RowErrors
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.pair_curves import PairCurve, pair_curve
from causalfm.scm.pair_moves import PairedRowErrors

__all__ = ["EmbeddingSCM", "InterventionalContrast", "PairCurve", "PairedRowErrors", "RowErrors", "pair_curve"]
