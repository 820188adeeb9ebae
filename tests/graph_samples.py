"""Graphs and linear models on them that several tests of the graph share."""

import itertools

import numpy as np

from causalfm.graph import CausalGraph

ROLES = {"biology": "tumour", "technical": ["site", "scanner", "stain"], "group": "patient"}


def standard(**changes):
    return CausalGraph.standard(**{**ROLES, "covariates": ["age"], **changes})


def short(arrows, **changes):
    return CausalGraph(arrows, **{"biology": "tumour", "technical": ["site"], "group": "patient", **changes})


def random_graph(rng, selection=False):
    """Nodes in a random or the usual causal order, Z last; unmeasured causes anywhere, rarely on Z."""
    nodes = ["site", "scanner", *rng.permutation(["tumour", "age", "sex"])]
    if rng.random() < 0.5:
        nodes = [str(n) for n in rng.permutation(nodes)]
    edges = [f'"{a}" -> "{b}"' for a, b in itertools.combinations(nodes, 2) if rng.random() < 0.3]
    edges += [f'"{a}" <-> "{b}"' for a, b in itertools.combinations(nodes, 2) if rng.random() < 0.25]
    edges += [f'"{n}" -> Z' for n in nodes if rng.random() < 0.7]
    edges += [f'"{n}" <-> Z' for n in nodes if rng.random() < 0.05]
    edges += ["Z", *nodes]
    if selection:
        edges += ["S", *(f'"{n}" -> S' for n in nodes if rng.random() < 0.4), *(["S <-> Z"] * (rng.random() < 0.2))]
    return short("; ".join(edges), technical=["site", "scanner"], selected="S" if selection else None)


class Linear:
    """Linear Gaussian model on a graph with random weights; ``null`` edges get weight zero."""

    def __init__(self, graph, rng, null=()):
        latents = [f"{a}<->{b}" for a, b in graph.bidirected]
        self.order = [*latents, *graph.nodes]
        edges = [e for e in graph.edges if e not in null]
        edges += [(u, n) for u, pair in zip(latents, graph.bidirected, strict=True) for n in pair]
        self.weights = np.zeros((len(self.order),) * 2)
        for a, b in edges:
            self.weights[self.at(a), self.at(b)] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        self.total = np.linalg.inv(np.eye(len(self.order)) - self.weights)
        self.covariance = self.total.T @ np.diag(rng.uniform(0.5, 1.5, len(self.order))) @ self.total

    def at(self, name):
        return self.order.index(name)

    def regress(self, x, given):
        """Coefficients of Z on x and given."""
        columns = [self.at(n) for n in (*x, *given)]
        inner = self.covariance[np.ix_(columns, columns)]
        return np.linalg.solve(inner, self.covariance[columns, self.at("Z")])[: len(x)]

    def partial(self, x, given):
        return self.regress((x,), given)[0]
