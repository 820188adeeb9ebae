"""Metrics of an embedding: what its neighbourhoods carry."""

from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.reference import reference_index

__all__ = ["reference_index", "robustness_index"]
