"""Keep part of a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from causalfm.arguments import did_you_mean
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.dropped_cells import listed
from causalfm.errors import DataError


def select_levels(cohort: Cohort, wanted: Mapping[str, str | Sequence[str]], *, public: Iterable[str] = ()) -> Cohort:
    """Keep the rows whose columns have one of the levels asked for.

    Parameters
    ----------
    cohort
        Cohort with the columns.
    wanted
        Levels, as text, per column.
    public
        Columns whose levels messages may show, such as the factors of the graph. Levels of all others can be slides
        or patients: messages show none, not even the one asked for.

    Returns
    -------
    Cohort
        The rows kept, in order. Each call adds to ``info["kept"]`` the columns and the count left out, never levels.

    Raises
    ------
    DataError
        A level that does not occur or no row left.
    """
    mask = rows_at(cohort, wanted, public=public)
    record = {"columns": list(wanted), "rows_left_out": int((~mask).sum())}
    return cohort._kept(np.flatnonzero(mask), {**cohort.info, "kept": [*cohort.info.get("kept", []), record]})


def rows_at(cohort: Cohort, wanted: Mapping[str, str | Sequence[str]], *, public: Iterable[str] = ()) -> np.ndarray:
    """Return the mask ``(n,)`` of the rows that :func:`select_levels` keeps, with its parameters and errors."""
    mask = np.ones(len(cohort), dtype=bool)
    public = set(public)
    for name, asked in wanted.items():
        column = cohort.column(name)
        text = np.asarray(column, dtype=object).astype(str)
        known = sorted(set(text[column.notna().to_numpy()]))
        levels = [str(level) for level in names(asked)]
        if absent := [level for level in levels if level not in known]:
            raise DataError(_absent(name, absent, known, name in public))
        mask &= np.isin(text, levels) & column.notna().to_numpy()
    if not mask.any():
        raise DataError(f"no row has the levels asked for in {', '.join(wanted)}: ask for fewer columns, or others.")
    return mask


def _absent(name: str, absent: list[str], known: list[str], public: bool) -> str:
    if not public:
        return (
            f"column {name!r} lacks {len(absent)} of the levels asked for and has {len(known)}: check the spelling, "
            "blanks and zeros."
        )
    near = did_you_mean(absent[0], known)
    return f"column {name!r} has no level {absent[0]!r}: check the spelling. Levels: {listed(known)}.{near}"
