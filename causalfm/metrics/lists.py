"""Neighbour lists for a design: one exact search, other groups only, within the strata of the design."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalfm.errors import DataError
from causalfm.lazy_rows import is_lazy, part_of
from causalfm.metrics.deletion import Search
from causalfm.metrics.design import Design
from causalfm.metrics.joint_cells import joint_codes
from causalfm.neighbours import Neighbours, knn
from causalfm.unit_vectors import unit_block

CHECKED = 64, 1024  # queries and candidates on which a given search is checked: milliseconds
CLOSE = 1e-4  # difference of cosines that rounding does not make


def neighbour_lists(X: np.ndarray, design: Design, k: int, given: Neighbours | None = None) -> Neighbours:
    """Return lists of ``k`` neighbours and a reserve, or check those that are given.

    Parameters
    ----------
    X
        ``(n, d)`` rows of the cohort.
    design
        Its groups are excluded. With strata, entries are searched within theirs; queries are the entries whose stratum
        has ``k`` candidates outside every group.
    k
        Neighbours.
    given
        A search of the whole cohort to be used again; not used with strata, where lists are others.

    Returns
    -------
    Neighbours
        Positions are those of the design's entries: rows of the cohort, unless ``design.rows`` says otherwise.

    Raises
    ------
    DataError
        ``given`` does not fit the cohort, holds rows of the query's own group or lacks others, or no stratum has ``k``
        candidates.
    """
    if _stratified(design):
        rows = scored_rows(design, k)
        if not len(rows):
            raise DataError(
                f"none of the strata ({' x '.join(design.within_names)}) has k={k} candidates outside every "
                f"{design.unit}: choose a smaller k."
            )
        return _search_within(X, design, k, rows, max(32, k))
    if given is None:
        largest = int(np.bincount(design.groups).max())
        return knn(X, k, exclude=design.groups, reserve=min(largest, max(32, k)))
    if given.n != len(X) or given.k < k:
        raise DataError(
            f"neighbours were searched among {given.n} rows with k={given.k}; this cohort has {len(X)} rows and "
            f"needs k={k}. Search again with knn(cohort.X, {k}, exclude=...)."
        )
    if len(np.unique(given.queries)) < len(given.queries):
        raise DataError("neighbours hold some queries twice: search again with every row position once in queries=.")
    own = design.groups[given.indices] == design.groups[given.queries, None]
    if (own & (given.indices >= 0)).any():
        raise DataError(
            f"neighbours hold rows of the query's own {design.unit}: search again with exclude= that column's codes."
        )
    _refuse_other_search(X, design, given)
    return replace(given, k=k) if given.k > k else given


def _refuse_other_search(X: np.ndarray, design: Design, given: Neighbours) -> None:
    """Refuse lists of other embeddings, or that lack more than the own group; checked on a sample.

    The similarity of nearest neighbours must be that of ``X``, and a row more similar than a list's last must be in it.
    """
    near = np.flatnonzero(given.queries < X.edges[1]) if is_lazy(X) else np.arange(len(given.queries))  # of one chunk
    near = near if len(near) else np.arange(1)
    at, rows = near[_spread(len(near), CHECKED[0])], _spread(int(X.edges[1]) if is_lazy(X) else given.n, CHECKED[1])
    query = given.queries[at]
    unit, nearest = (unit_block(X[these])[0] for these in (query, given.indices[at, 0]))
    other = np.abs(np.einsum("ij,ij->i", unit, nearest) - given.similarity[at, 0]) > CLOSE
    nearer = unit @ unit_block(X[rows])[0].T > given.similarity[at, -1:] + CLOSE
    nearer &= design.groups[rows] != design.groups[query, None]
    listed = np.stack([np.isin(rows, one) for one in given.indices[at]])
    if other.any() or (nearer & ~listed).any():
        what = "are those of other embeddings" if other.any() else f"lack rows of other {design.unit} units"
        raise DataError(
            f"neighbours {what}: search again with knn(cohort.X, k, exclude=codes of {design.unit!r}), rows in the "
            "order of the cohort."
        )


def _spread(n: int, most: int) -> np.ndarray:
    """Return at most ``most`` of n positions, evenly spread."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def longer_lists(X: np.ndarray, design: Design, k: int) -> Search:
    """Return the search that gives lists with a longer reserve."""

    def search(queries: np.ndarray, reserve: int) -> Neighbours:
        if _stratified(design):
            return _search_within(X, design, k, queries, reserve)
        return knn(X, k, exclude=design.groups, queries=queries, reserve=reserve)

    return search


def shortest_list(design: Design) -> int:
    """Return the number of candidates that the worst query has; with strata, in the stratum where that is most."""
    return int(candidates_by_stratum(design).max())


def scored_rows(design: Design, k: int) -> np.ndarray:
    """Return positions of the entries whose stratum has ``k`` candidates outside every group."""
    return np.flatnonzero(candidates_by_stratum(design)[design.within] >= k)


def candidates_by_stratum(design: Design) -> np.ndarray:
    """Return, for each stratum, its entries less those of its largest group: the candidates of its worst query."""
    cell, (stratum, _) = joint_codes(design.within, design.groups)
    largest = np.zeros(int(design.within.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, stratum, np.bincount(cell))
    return np.asarray(np.bincount(design.within) - largest)


def _stratified(design: Design) -> bool:
    return bool(design.within_names) or design.rows is not None


def _search_within(X: np.ndarray, design: Design, k: int, queries: np.ndarray, reserve: int) -> Neighbours:
    indices = np.full((len(queries), k + reserve), -1, dtype=np.int64)
    similarity = np.full(indices.shape, -np.inf, dtype=np.float32)
    order = np.argsort(design.within, kind="stable")
    ends = np.searchsorted(design.within[order], np.arange(int(design.within.max()) + 2))
    asked = design.within[queries]
    for stratum in np.unique(asked):
        entries = order[ends[stratum] : ends[stratum + 1]]
        mine = np.flatnonzero(asked == stratum)
        at = np.searchsorted(entries, queries[mine])
        rows = entries if design.rows is None else design.rows[entries]
        found = knn(part_of(X, rows), k, exclude=design.groups[entries], queries=at, reserve=reserve)
        indices[mine] = np.where(found.indices < 0, -1, entries[found.indices])
        similarity[mine] = found.similarity
    return Neighbours(indices, similarity, queries, k, len(design.within))
