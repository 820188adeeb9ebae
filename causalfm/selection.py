"""Keep part of a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError


def select_levels(cohort: Cohort, wanted: Mapping[str, Iterable[str]]) -> Cohort:
    """Keep the rows whose columns have one of the levels asked for; the count left out is recorded in ``info``.

    Parameters
    ----------
    cohort
        Cohort with the columns.
    wanted
        Levels, as text, per column.

    Returns
    -------
    Cohort
        The rows kept, in order.

    Raises
    ------
    DataError
        A level that does not occur or no row left.
    """
    mask = np.ones(len(cohort), dtype=bool)
    for name, levels in wanted.items():
        column = cohort.column(name)
        text = np.asarray(column, dtype=object).astype(str)
        known = set(text[column.notna().to_numpy()])
        for level in levels:
            if level not in known:
                raise DataError(f"column {name!r} has no level {level!r} among its {len(known)}: check the spelling.")
        mask &= np.isin(text, list(levels)) & column.notna().to_numpy()
    if not mask.any():
        raise DataError(f"no row has the levels asked for in {', '.join(wanted)}.")
    record = {"columns": {k: list(v) for k, v in wanted.items()}, "rows_left_out": int((~mask).sum())}
    return cohort[mask].replace(info={**cohort.info, "kept": record})
