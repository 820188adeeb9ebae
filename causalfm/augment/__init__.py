"""Augmentation for training: technical factors drawn anew, independently of biology. Needs torch and numpy only."""

from causalfm.augment.balanced import balanced_counterfactuals
from causalfm.augment.embedding import CounterfactualAugment

__all__ = ["CounterfactualAugment", "balanced_counterfactuals"]
