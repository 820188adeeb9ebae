"""For whom: performance in subgroups of the patients, of a deployment or of one cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from causalfm.arguments import check_whole, columns_of
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.shift.costs.labelled_rows import Labelled
from causalfm.shift.costs.subgroup_gaps import Side, SubgroupPerformance, judged
from causalfm.shift.costs.subgroup_levels import levels_of
from causalfm.shift.domains import Domains
from causalfm.shift.temperatures import scored

FEWEST = 10  # patients of a level


def subgroup_performance(
    domains: Domains,
    columns: str | Sequence[str],
    *,
    edges: Mapping[str, Sequence[float]] | None = None,
    margin: float | None = None,
    minimum: int = FEWEST,
) -> tuple[SubgroupPerformance, ...]:
    """Measure accuracy in subgroups, the largest gap, and whether it stays within sites and classes.

    Parameters
    ----------
    domains
        Reference and deployment.
    columns
        Columns of both tables: sex, a band of age, any other.
    edges
        Cut points of numeric columns: ``{"age": [50, 65]}`` makes three bands, each without its upper edge. Default for
        a column with more than 6 different numbers: thirds of the reference's patients.
    margin
        Largest acceptable gap between two levels; None: no verdict.
    minimum
        Fewest patients of a level, and of a level in a cell.

    Returns
    -------
    tuple of SubgroupPerformance
        One per column.

    Raises
    ------
    DataError
        A column that one of the tables does not have, edges that do not rise, a level for every patient.

    Notes
    -----
    The worst of several levels is partly the unluckiest. Bounds of the worst level and of the largest gap therefore
    hold for all levels, and all pairs, together (Bonferroni). The gap of the two levels is then standardised: the mean
    over classes, and over sites and classes, in which both have the minimum of patients, weighing a cell by the
    patients that both have there. What vanishes at fixed classes comes with the case mix; what vanishes at fixed sites
    too comes with where the patients are seen, so it is technical or goes with the site; what stays is neither. Its
    intervals are joint for all pairs as well: the two levels were chosen for their gap.
    """
    check_whole(minimum, "minimum", 2, why="an interval needs two patients")
    labelled = bool(domains.deployment.known.any())
    chance = 1.0 / len(domains.classes) if domains.refitted else None
    reference = Labelled.of(domains, scored(domains.reference, domains.reference.scores), False, chance)
    there = Labelled.of(domains, scored(domains.deployment, domains.deployment.scores), True, None)
    out = []
    for column in columns_of(columns, "columns"):
        tables = [domain.cohort for domain in (domains.reference, domains.deployment)]
        levels, codes, cuts = levels_of(tables, domains.graph, column, (edges or {}).get(column))
        known = [c[d.known] for c, d in zip(codes, (domains.reference, domains.deployment), strict=True)]
        unit, before = domains.graph.group, Side(levels, reference, known[0])
        if labelled:
            after = Side(levels, there, known[1])
            out.append(judged(column, "deployment", unit, after, before, margin, minimum, cuts))
        else:
            out.append(judged(column, "reference", unit, before, None, margin, minimum, cuts))
    return tuple(out)


def cohort_subgroups(
    cohort: Cohort,
    graph: CausalGraph,
    rows: Labelled,
    positions: np.ndarray,
    column: str,
    *,
    margin: float | None = None,
    minimum: int = FEWEST,
) -> tuple[SubgroupPerformance, Side]:
    """Measure accuracy in the subgroups of one cohort, as :func:`subgroup_performance` does of a deployment.

    Parameters
    ----------
    cohort, graph
        Table and declared graph.
    rows, positions
        Rows with known hits, and ``(m,)`` where they are in the cohort.
    column, margin, minimum
        As there; bands are thirds of the cohort's patients.

    Returns
    -------
    SubgroupPerformance
        The result, with ``domain="cohort"``.
    Side
        The rows with the level of each.
    """
    levels, codes, cuts = levels_of([cohort], graph, column, None)
    side = Side(levels, rows, codes[0][positions])
    return judged(column, "cohort", graph.group, side, None, margin, minimum, cuts), side
