"""What every typed metric reports of its lists: support and its causes, counts, the curve over k, strata or tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.metrics.list_ratios import quotient
from causalfm.metrics.typed import KINDS, OS, SO, kind_counts, support_of
from causalfm.metrics.typed_lists import TypedLists


def described(lists: TypedLists, values: np.ndarray) -> dict[str, Any]:
    """Return the details of typed lists.

    Parameters
    ----------
    lists
        The lists.
    values
        ``(len(lists.grid),)`` the metric at each k of the grid.
    """
    counts, support = kind_counts(lists.kinds, lists.grid)
    found = support_of(lists.kinds[:, : lists.k])
    return {
        "support": found.pop("support"),
        "undefined": found,
        "counts": dict(zip(KINDS, counts[lists.grid.index(lists.k)].tolist(), strict=True)),
        "curve": [
            {
                "k": j,
                "value": float(values[i]),
                "so": int(counts[i, SO]),
                "os": int(counts[i, OS]),
                "support": float(support[i]),
                "biology_accuracy": float(lists.accuracy[i]),
            }
            for i, j in enumerate(lists.grid)
        ],
    } | parts(lists)


def parts(lists: TypedLists) -> dict[str, Any]:
    """Return rows, SO and OS counts of every stratum or table; nothing if there are none."""
    layout, design = lists.layout, lists.layout.design
    if design.rows is None:
        return {}
    code = design.within[lists.found.queries]
    kinds = lists.kinds[:, : lists.k]
    so, os = (np.bincount(code, (kinds == kind).sum(1)) for kind in (SO, OS))
    names = layout.details.get("tables") or [{"stratum": name} for name in design.within_levels]
    found = [
        {
            **names[w],
            "rows": int(rows),
            "so": int(so[w]),
            "os": int(os[w]),
            "index": float(quotient(so[w], so[w] + os[w])),
        }
        for w, rows in enumerate(np.bincount(code))
        if rows
    ]
    return {"tables" if "tables" in layout.details else "strata": found}
