"""Ids that start again at every hospital: different patients that look like the same patients seen again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.cohort import Cohort

MOST_CHANGED = 0.1  # share of units whose class may change between levels: a few wrong labels


def refuse_restarted_ids(cohort: Cohort, biology: str, site: str, unit: str) -> None:
    """Refuse units whose class changes with the level of a factor.

    In a paired design a unit is compared with itself, within its class. Patients numbered from 1 at every hospital look
    like such a design, but the classes of two hospitals agree by chance only. Where every level has its own class, the
    table says nothing of ids: overlap is judged elsewhere.

    Parameters
    ----------
    cohort
        Rows without missing values in these columns.
    biology, site, unit
        Columns: the class, the factor that varies within units, and the independent unit.

    Raises
    ------
    DataError
        More than a tenth of the units that are seen at several levels have no class in common at two of these, and
        some level shows several classes. Units are counted and never named.
    """
    units, kind, level = cohort.factor(unit, private=True), cohort.factor(biology), cohort.factor(site)
    place, shown = units.codes * level.n_levels + level.codes, units.codes * kind.n_levels + kind.codes
    places, row = np.unique(place, return_inverse=True)
    ones = np.ones(len(row), dtype=np.int64)
    seen = sparse.csr_array((ones, (row, shown)), shape=(len(places), units.n_levels * kind.n_levels))
    owner = places // level.n_levels
    levels = np.bincount(owner, minlength=units.n_levels)
    together = np.bincount(owner[(seen @ seen.T).nonzero()[0]], minlength=units.n_levels)  # ordered pairs of levels
    apart = together < levels**2
    mine = apart[units.codes]
    classes_of_levels = np.unique(level.codes[mine] * kind.n_levels + kind.codes[mine])
    goes_with_level = len(classes_of_levels) == len(np.unique(level.codes[mine]))
    if goes_with_level or apart.sum() <= MOST_CHANGED * (levels > 1).sum():
        return
    _, first = np.unique(units.codes, return_index=True)
    raise DataError(
        f"{apart.sum()} of {(levels > 1).sum()} levels of {unit!r} that are seen at several levels of {site!r} have "
        f"another {biology!r} there ({positions(sorted(first[apart].tolist()))}): they look like different {unit}s, "
        f"whose ids start again at each {site!r}. Make ids unique: obs[{unit!r}] = obs[{site!r}].astype(str) + '-' + "
        f"obs[{unit!r}].astype(str). If they are the same {unit}s, keep one level of each, or, if the same tissue was "
        "measured again, declare the column that says so as specimen."
    )
