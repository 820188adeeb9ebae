"""Structural causal model of embeddings: counterfactual rows, interventional means, likelihoods."""

from causalfm.scm.contrasts import InterventionalContrast
from causalfm.scm.counterfactuals import RowErrors
from causalfm.scm.embedding_scm import EmbeddingSCM

__all__ = ["EmbeddingSCM", "InterventionalContrast", "RowErrors"]
