"""Neighbours by diffusion distance on a neighbour graph, as kBET per label wants them. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from causalfm.neighbours import Neighbours

COMPONENTS = 100
BLOCK_ENTRIES = 2**22


def fuzzy_graph(distances: np.ndarray, indices: np.ndarray, queries: np.ndarray, n: int) -> sparse.csr_array:
    """Turn neighbour lists into UMAP's symmetric graph.

    An entry weighs ``exp(-(d - rho_i) / sigma_i)``, ``rho_i`` the distance of the nearest neighbour that is not a copy,
    ``sigma_i`` such that the weights of a list add up to ``log2(k + 1)``; the two directions of an edge are joined as
    ``a + b - a b``.

    Parameters
    ----------
    distances, indices
        ``(m, k)`` lists without the queries themselves.
    queries
        ``(m,)`` row positions of the queries.
    n
        Number of rows.

    Returns
    -------
    scipy.sparse.csr_array
        ``(n, n)``.

    References
    ----------
    McInnes, Healy and Melville, UMAP: uniform manifold approximation and projection, arXiv 1802.03426 (2018).
    """
    m, k = indices.shape
    d = distances.astype(np.float64)
    rho = np.where(d > 0, d, np.inf).min(axis=1)
    rho[np.isinf(rho)] = 0.0
    excess = np.maximum(d - rho[:, None], 0.0)
    low, high, sigma = np.zeros(m), np.full(m, np.inf), np.ones(m)
    for _ in range(64):
        over = np.exp(-excess / sigma[:, None]).sum(axis=1) > np.log2(k + 1)
        high, low = np.where(over, sigma, high), np.where(over, low, sigma)
        sigma = np.where(np.isinf(high), 2.0 * sigma, (low + high) / 2.0)
    scale = np.where(rho > 0, d.sum(axis=1) / (k + 1), d.sum() / (m * (k + 1)))
    sigma = np.maximum(sigma, 1e-3 * scale)
    weights = np.exp(-excess / np.maximum(sigma, 1e-300)[:, None])
    one_way = sparse.csr_array((weights.ravel(), (np.repeat(queries, k), indices.ravel())), shape=(n, n))
    return sparse.csr_array(one_way + one_way.T - one_way * one_way.T)


def diffusion_map(graph: sparse.csr_array, n_components: int, random_state: int) -> np.ndarray:
    """Return coordinates whose Euclidean distance is the diffusion distance summed over all step lengths.

    Parameters
    ----------
    graph
        ``(n, n)`` symmetric and connected.
    n_components
        Eigenvectors kept, at most ``n - 1``.
    random_state
        Seed of the solver's first vector.

    Returns
    -------
    numpy.ndarray
        ``(n, n_components)``: eigenvectors of the density-normalised transition matrix times ``e / (1 - e)``. The
        stationary one (``e = 1``) has factor 1.
    """
    from scipy.sparse.linalg import eigsh

    n_components = min(n_components, graph.shape[0] - 1)
    density = np.asarray(graph.sum(axis=0)).ravel()
    normed = _scaled(graph, 1.0 / density)
    steps = _scaled(normed, np.asarray(normed.sum(axis=0)).ravel() ** -0.5)
    if len(density) <= 3 * n_components:  # too small for the iterative solver
        values, vectors = np.linalg.eigh(steps.toarray())
        largest = np.sort(np.argsort(-np.abs(values), kind="stable")[:n_components])
        values, vectors = values[largest], vectors[:, largest]
    else:
        first = np.random.default_rng(random_state).standard_normal(len(density))
        values, vectors = eigsh(steps, k=n_components, which="LM", v0=first)
    factors = np.where(values > 1.0 - 1e-6, 1.0, values / np.where(values > 1.0 - 1e-6, 1.0, 1.0 - values))
    return np.asarray(vectors * factors)


def _scaled(graph: sparse.csr_array, by: np.ndarray) -> sparse.csr_array:
    scale = sparse.diags_array(by)
    return sparse.csr_array(scale @ graph @ scale)


def euclidean_lists(Y: np.ndarray, k: int, groups: np.ndarray, reserve: int) -> Neighbours:
    """Search the ``k`` nearest rows of other groups by Euclidean distance.

    Parameters
    ----------
    Y
        ``(n, p)`` coordinates.
    k
        Neighbours.
    groups
        ``(n,)`` integer codes; row numbers leave out the query only.
    reserve
        Further entries kept; -1 where the candidates run out.

    Returns
    -------
    Neighbours
        ``similarity`` is the negative distance.
    """
    n, width = len(Y), min(k + reserve, len(Y) - 1)
    squares = (Y**2).sum(axis=1)
    indices = np.full((n, k + reserve), -1, dtype=np.int64)
    similarity = np.full((n, k + reserve), -np.inf, dtype=np.float32)
    step = max(1, BLOCK_ENTRIES // n)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        d = np.maximum(squares[rows, None] + squares - 2.0 * (Y[rows] @ Y.T), 0.0)
        d[groups[rows, None] == groups] = np.inf
        near = np.argpartition(d, width - 1, axis=1)[:, :width]
        near.sort(axis=1)  # ties by position
        order = np.argsort(np.take_along_axis(d, near, axis=1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        found = np.take_along_axis(d, near, axis=1)
        indices[rows, :width] = np.where(np.isinf(found), -1, near)
        similarity[rows, :width] = -np.sqrt(found)
    return Neighbours(indices, similarity, np.arange(n), k, n)
