"""Structural causal model of embeddings: counterfactual rows, interventional means, likelihoods, audits."""

from causalfm.scm.contrasts import InterventionalContrast
from causalfm.scm.counterfactuals import RowErrors
from causalfm.scm.decision_flips import Flips, flips
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.path_parts import gap_paths
from causalfm.scm.path_rows import GapPaths

__all__ = ["EmbeddingSCM", "Flips", "GapPaths", "InterventionalContrast", "RowErrors", "flips", "gap_paths"]
