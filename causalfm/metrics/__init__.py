"""Metrics of an embedding: what its neighbourhoods carry, what probes read, whether their probabilities hold."""

from causalfm.metrics.batch_tests import kbet
from causalfm.metrics.calibration import calibration_by_level
from causalfm.metrics.case_mix_readout import readout_within
from causalfm.metrics.clusters import clustering_score
from causalfm.metrics.collapse import feature_collapse
from causalfm.metrics.components import pc_regression, pcr_comparison
from causalfm.metrics.connectivity import graph_connectivity
from causalfm.metrics.downstream import apd, nipd, performance_drop
from causalfm.metrics.label_tests import kbet_per_label
from causalfm.metrics.lisi_scores import clisi, ilisi
from causalfm.metrics.margins import croma
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.paired import paired_retrieval, paired_similarity
from causalfm.metrics.probes import readout
from causalfm.metrics.ratios import de_jong_ratio, neighbour_scalars
from causalfm.metrics.reference import reference_index
from causalfm.metrics.schedules import confounded_schedule
from causalfm.metrics.silhouette_sums import silhouette_pass
from causalfm.metrics.silhouettes import bras, isolated_labels, silhouette_batch, silhouette_label
from causalfm.metrics.site_calibration import probe_calibration
from causalfm.metrics.transfer import transfer_gap
from causalfm.metrics.weighted import mari

__all__ = [
    "apd",
    "bras",
    "calibration_by_level",
    "clisi",
    "clustering_score",
    "confounded_schedule",
    "croma",
    "de_jong_ratio",
    "feature_collapse",
    "graph_connectivity",
    "ilisi",
    "isolated_labels",
    "kbet",
    "kbet_per_label",
    "mari",
    "neighbour_scalars",
    "nipd",
    "paired_retrieval",
    "paired_similarity",
    "pc_regression",
    "pcr_comparison",
    "performance_drop",
    "probe_calibration",
    "readout",
    "readout_within",
    "reference_index",
    "robustness_index",
    "silhouette_batch",
    "silhouette_label",
    "silhouette_pass",
    "transfer_gap",
]
