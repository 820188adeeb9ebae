"""Silhouettes of labels and of batches within labels: ASW, BRAS and the score of isolated labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_type, check_whole
from causalfm.errors import DataError
from causalfm.metrics.design import design_of
from causalfm.metrics.distances import Metric
from causalfm.metrics.silhouette_averages import averaged, silhouette_reference
from causalfm.metrics.silhouette_sums import MAX_ROWS, SilhouettePass, mark_of, silhouette_pass
from causalfm.metrics.typed_lists import Within
from causalfm.results import Estimate
from causalfm.strata import table

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def silhouette_label(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    passed: SilhouettePass | None = None,
    max_rows: int = MAX_ROWS,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure how far classes lie apart: average silhouette width (ASW) of the biology, rescaled to 0 to 1.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Matters only by its technical causes.
    within, metric, exclude_groups, max_rows, random_state
        As in :func:`silhouette_pass`.
    passed
        A pass over the same rows to use again, with the options that it was made with.
    standardised
        Add the reference version, which can be compared between designs, as ``details["standardised"]``.

    Returns
    -------
    Estimate
        1/2 is no structure. ``details["labels"]`` has the mean of every class. Rows without a row of another group in
        their class are left out and counted; peers score them 0. ``chance`` is the mean over 20 permutations of the
        groups' classes. The 95 % interval is for new groups of the same design, by a delete-one-group jackknife on rows
        and mean distances: exact where a group has one class, else the sum of what its parts change.

    Raises
    ------
    DataError
        As :func:`silhouette_pass`.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    """
    used = _passed(cohort, graph, "label", passed, confounder, within, metric, exclude_groups, max_rows, random_state)
    extra = _reference(cohort, graph, used, "label", confounder, within, random_state) if standardised else {}
    return averaged("silhouette_label", used, "label", rows_equal=True, details=extra)


def silhouette_batch(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    passed: SilhouettePass | None = None,
    max_rows: int = MAX_ROWS,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure how well the confounder's levels mix within each class: batch ASW, the mean of ``1 - |width|``.

    The width of a row compares its own level with the nearest other one, among rows of the same class. With several
    levels, one of them near suffices for a good score: :func:`bras` does not have this weakness.

    Parameters
    ----------
    cohort, graph, confounder, within, metric, exclude_groups, passed, max_rows, standardised, random_state
        As in :func:`silhouette_label`.

    Returns
    -------
    Estimate
        Mean over classes; ``details["labels"]`` has each of them, or says that it has one level only and is left out.
        ``chance`` is the mean over 20 permutations of the groups' levels within the class. Interval as in
        :func:`silhouette_label`. ``nan`` with ``details["reason"]`` if every class is left out.

    Raises
    ------
    DataError
        As :func:`silhouette_pass`.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    """
    used = _passed(cohort, graph, "batch", passed, confounder, within, metric, exclude_groups, max_rows, random_state)
    extra = _reference(cohort, graph, used, "batch", confounder, within, random_state) if standardised else {}
    return averaged("silhouette_batch", used, "batch", details=extra)


def bras(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    passed: SilhouettePass | None = None,
    max_rows: int = MAX_ROWS,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure how well the confounder's levels mix within each class: batch removal adapted silhouette (BRAS).

    As :func:`silhouette_batch`, but a row compares its own level with all rows of the other levels. With two levels
    both are the same.

    Parameters
    ----------
    cohort, graph, confounder, within, metric, exclude_groups, passed, max_rows, standardised, random_state
        As in :func:`silhouette_label`.

    Returns
    -------
    Estimate
        As :func:`silhouette_batch`.

    Raises
    ------
    DataError
        As :func:`silhouette_pass`.

    References
    ----------
    Rautenstrauch and Ohler, Shortcomings of silhouette in single-cell integration benchmarking, Nature Biotechnology
    (2025).
    """
    used = _passed(cohort, graph, "bras", passed, confounder, within, metric, exclude_groups, max_rows, random_state)
    extra = _reference(cohort, graph, used, "bras", confounder, within, random_state) if standardised else {}
    return averaged("bras", used, "bras", details=extra)


def isolated_labels(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    most_levels: int | None = None,
    within: Within = "auto",
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    passed: SilhouettePass | None = None,
    max_rows: int = MAX_ROWS,
    random_state: int = 0,
) -> Estimate:
    """Measure how far the classes that few hospitals hold lie apart from the others: the isolated label score.

    Parameters
    ----------
    cohort, graph, confounder, within, metric, exclude_groups, passed, max_rows, random_state
        As in :func:`silhouette_label`; here the confounder says which classes are isolated.
    most_levels
        A class is isolated if it occurs in no more levels of the confounder; by default the fewest that any class has.

    Returns
    -------
    Estimate
        Mean over the isolated classes of their mean rescaled width; ``details["isolated"]`` names them. Where every
        class occurs in as many levels, all of them count as isolated. ``nan`` with ``details["reason"]`` if none is.
        Chance and interval as in :func:`silhouette_label`.

    Raises
    ------
    DataError
        As :func:`silhouette_pass`.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    """
    if most_levels is not None:
        check_whole(most_levels, "most_levels", 1)
    used = _passed(cohort, graph, "label", passed, confounder, within, metric, exclude_groups, max_rows, random_state)
    design = used.design
    names = design.biology_levels
    held = (table(design.biology, design.confounder, (len(names), len(design.confounder_levels))) > 0).sum(axis=1)
    isolated = (held > 0) & (held <= (held[held > 0].min() if most_levels is None else most_levels))
    parts = np.flatnonzero(isolated[np.arange(used.widths["label"].sums.shape[0]) % len(names)])
    details = {"isolated": [names[code] for code in np.flatnonzero(isolated)]}
    return averaged("isolated_labels", used, "label", parts=parts, details=details)


def _reference(
    cohort: Cohort,
    graph: CausalGraph,
    used: SilhouettePass,
    kind: str,
    confounder: str | None,
    within: Within,
    random_state: int,
) -> dict[str, Any]:
    design = design_of(cohort, graph, confounder, within)
    return {"standardised": silhouette_reference(cohort.X, design, kind, used.options["metric"], random_state)}


def _passed(
    cohort: Cohort,
    graph: CausalGraph,
    kind: str,
    passed: SilhouettePass | None,
    confounder: str | None,
    within: Within,
    metric: Metric,
    exclude_groups: bool,
    max_rows: int,
    random_state: int,
) -> SilhouettePass:
    if passed is None:
        return silhouette_pass(
            cohort,
            graph,
            confounder=confounder,
            within=within,
            metric=metric,
            exclude_groups=exclude_groups,
            kinds=[kind],
            max_rows=max_rows,
            random_state=random_state,
        )
    check_type(passed, SilhouettePass, "passed", "make it with silhouette_pass(cohort, graph)")
    if kind not in passed.widths:
        raise DataError(f"passed has {', '.join(passed.widths)}, but not {kind}: make another, or leave it out.")
    design = design_of(cohort, graph, confounder, within)
    if passed.mark != mark_of(cohort.X, design):
        made, names = passed.design, (design.biology_name, design.confounder_name)
        raise DataError(
            f"passed was made from other embeddings, rows or roles ({made.biology_name} and {made.confounder_name}; "
            f"asked are {' and '.join(names)}): leave it out, or make another from this cohort."
        )
    return passed
