"""Metrics of an embedding: what its neighbourhoods carry, what probes read, whether their probabilities hold."""

from causalfm.metrics.calibration import calibration_by_level
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import readout
from causalfm.metrics.reference import reference_index
from causalfm.metrics.site_calibration import probe_calibration

__all__ = ["calibration_by_level", "probe_calibration", "readout", "reference_index", "robustness_index"]
