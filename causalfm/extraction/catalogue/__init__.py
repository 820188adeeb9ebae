"""The table of encoders, by family; facts only."""

from causalfm.extraction.catalogue import offline

ROWS = (*offline.ROWS,)
