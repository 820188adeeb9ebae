"""Class x level tables of one size whose association grows from none to a complete one."""

from __future__ import annotations

from math import lcm

import numpy as np

from causalfm.crosstabs import cramers_v
from causalfm.errors import DataError


def confounded_tables(n_classes: int, n_levels: int, groups_per_class: int, steps: int) -> np.ndarray:
    """Class x level tables of training groups, from independence to complete association.

    At the end each level holds one class (or each class lies at one level, where there are more classes). The start has
    the same margins and no association, and the steps lie evenly between. Fractions are rounded along each class,
    beginning at its own levels: class sizes are exact at every step, level sizes wherever the table is symmetric.

    Parameters
    ----------
    n_classes, n_levels
        Shape; class i is tied to level i.
    groups_per_class
        Training groups of each class.
    steps
        Number of tables.

    Returns
    -------
    numpy.ndarray
        ``(steps, n_classes, n_levels)`` int64.

    Raises
    ------
    DataError
        Groups that cannot be split evenly, or more steps than they can make.
    """
    end, unit = complete_association(n_classes, n_levels)
    if groups_per_class % unit:
        raise DataError(
            f"groups_per_class={groups_per_class}: {n_classes} classes at {n_levels} levels need a multiple of {unit} "
            "to start without any association and end with a complete one."
        )
    few = f"steps={steps}: {groups_per_class} groups per class do not make {steps} tables whose association grows at "
    few += "each step. Ask for fewer steps, or for more groups."
    if steps > n_classes * groups_per_class + 1:  # each step moves a group at least
        raise DataError(few)
    start = np.broadcast_to(end.mean(axis=0), end.shape)
    order = (end.argmax(axis=1)[:, None] + np.arange(n_levels)) % n_levels
    tables = np.empty((steps, n_classes, n_levels), dtype=np.int64)
    for table, t in zip(tables, np.linspace(0.0, 1.0, steps), strict=True):
        exact = np.take_along_axis(groups_per_class * ((1.0 - t) * start + t * end), order, axis=1)
        whole = np.floor(np.round(exact.cumsum(axis=1), 9) + 0.5)
        np.put_along_axis(table, order, np.diff(whole, axis=1, prepend=0.0).astype(np.int64), axis=1)
    if (np.diff([cramers_v(table)[0] for table in tables]) <= 0.0).any():
        raise DataError(few)
    return tables


def complete_association(n_classes: int, n_levels: int) -> tuple[np.ndarray, int]:
    """Return the shares ``(n_classes, n_levels)`` of each class's groups at the end, and the unit of groups per class.

    Multiples of the unit make whole groups at the end and at the start.
    """
    owner = np.arange(max(n_classes, n_levels)) * min(n_classes, n_levels) // max(n_classes, n_levels)
    end = np.zeros((n_classes, n_levels))
    if n_classes >= n_levels:
        end[np.arange(n_classes), owner] = 1.0
        return end, lcm(*(n_classes // np.gcd(n_classes, int(n)) for n in np.bincount(owner)))
    sizes = np.bincount(owner)
    end[owner, np.arange(n_levels)] = 1.0 / sizes[owner]
    return end, n_classes * lcm(*sizes.tolist())
