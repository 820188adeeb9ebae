"""The table of encoders, by family; facts only."""

from causalfm.extraction.catalogue import medicine, offline, pathology_timm, pathology_transformers, photographs

ROWS = (*offline.ROWS, *pathology_timm.ROWS, *pathology_transformers.ROWS, *medicine.ROWS, *photographs.ROWS)
