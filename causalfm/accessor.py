"""``adata.cfm``: the questions of causalfm on an AnnData, with the answers kept in it.

Importing this module is what registers the accessor; nothing else of causalfm imports it, and it imports AnnData.

References
----------
anndata 0.12, ``anndata.register_anndata_namespace``. scanpy, ``scanpy.pp.neighbors``: ``obsp[<key>_distances]``,
``obsp[<key>_connectivities]`` and ``uns[<key>]`` with the names of the two and ``params``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anndata
from anndata import AnnData

from causalfm.cohort import Cohort
from causalfm.errors import GraphError, MissingDependencyError
from causalfm.graph import CausalGraph
from causalfm.results import plain

if TYPE_CHECKING:
    from causalfm.auditing import Audit
    from causalfm.estimators import Effect
    from causalfm.neighbours import Neighbours
    from causalfm.results import Estimate, TestResult

STORED = "causalfm"  # uns: JSON text under the name of each answer, and the graph that was declared
GRAPH = "graph"
LISTS = "cfm"
ROLES = ("biology", "technical", "group", "covariates", "specimen", "kinds", "declared_by")


class CausalNamespace:
    """Ask an AnnData what causalfm asks a cohort.

    Each method takes the roles of columns of ``adata.obs`` (``biology=``, ``technical=``, ``group=``, and
    ``covariates=``, ``specimen=``, ``kinds=``, ``declared_by=`` of :meth:`causalfm.CausalGraph.standard`) or a whole
    ``graph=``; what was declared last is kept and stands where neither is given. ``obsm=`` names the embeddings
    (``"X_uni"``); None is ``adata.X``. All other settings are those of the function of that name.

    Answers are returned, and kept as JSON in ``adata.uns["causalfm"][key_added]``: they are saved with the AnnData and
    hold no value of its index or of the group. A subset keeps the answers of the whole, as everything in ``uns``.

    Parameters
    ----------
    adata
        Rows are tiles, slides or patients; one row per embedding.

    Examples
    --------
    >>> import causalfm.accessor
    >>> adata.cfm.declare(biology="tumour", technical=["site", "scanner"], group="patient")  # doctest: +SKIP
    >>> adata.cfm.audit(obsm="X_uni").verdict  # doctest: +SKIP
    >>> adata.cfm.knn(15, obsm="X_uni")  # doctest: +SKIP
    >>> scanpy.tl.umap(adata, neighbors_key="cfm")  # doctest: +SKIP
    """

    def __init__(self, adata: AnnData) -> None:
        self._adata = adata

    def declare(self, graph: CausalGraph | None = None, **roles: Any) -> CausalGraph:
        """Declare the causal graph: the usual one of these roles, or any.

        Parameters
        ----------
        graph
            A whole graph; then no roles are given.
        **roles
            Those of :meth:`causalfm.CausalGraph.standard`.

        Returns
        -------
        CausalGraph
            Also kept, as JSON, in ``adata.uns["causalfm"]["graph"]``.

        Raises
        ------
        GraphError
            Both are given, or roles are missing or do not fit.
        """
        if graph is not None and roles:
            raise GraphError(f"graph= says everything: leave {', '.join(roles)} out, or pass roles without graph=.")
        if graph is None:
            missing = [name for name in ROLES[:3] if name not in roles]
            if missing:
                raise GraphError(
                    f"{', '.join(missing)} not declared: pass biology=, technical= and group= (columns of adata.obs), "
                    "or graph=, here or once with adata.cfm.declare(...)."
                )
            graph = CausalGraph.standard(**roles)
        self._keep(GRAPH, graph.to_dict())
        return graph

    @property
    def graph(self) -> CausalGraph:
        """The graph that was declared last.

        Raises
        ------
        GraphError
            None was.
        """
        kept = self._adata.uns.get(STORED, {})
        return CausalGraph.from_dict(json.loads(kept[GRAPH])) if GRAPH in kept else self.declare()

    def cohort(self, obsm: str | None = None) -> Cohort:
        """Return the embeddings and ``obs`` as a :class:`causalfm.Cohort`."""
        return Cohort.from_anndata(self._adata, obsm=obsm)

    def audit(self, *, obsm: str | None = None, key_added: str = "audit", **settings: Any) -> Audit:
        """Audit the embeddings (:func:`causalfm.audit`); ``causalfm.auditing.Audit.from_dict`` reads the kept one."""
        from causalfm.auditing import audit

        found: Audit = self._ask(audit, obsm, key_added, settings)
        return found

    def invariance_test(
        self, of: str, *, obsm: str | None = None, key_added: str = "invariance_test", **settings: Any
    ) -> TestResult:
        """Test whether the embeddings depend on a technical factor (:func:`causalfm.invariance_test`)."""
        from causalfm.invariance import invariance_test

        found: TestResult = self._ask(invariance_test, obsm, key_added, {"of": of, **settings})
        return found

    def effect(self, treatment: str, *, obsm: str | None = None, key_added: str = "effect", **settings: Any) -> Effect:
        """Estimate the causal effect of a factor (:func:`causalfm.effect`)."""
        from causalfm.estimators import effect

        found: Effect = self._ask(effect, obsm, key_added, {"treatment": treatment, **settings})
        return found

    def robustness_index(
        self, *, obsm: str | None = None, key_added: str = "robustness_index", **settings: Any
    ) -> Estimate:
        """Measure whether neighbours share the biology or the site (:func:`causalfm.metrics.robustness_index`)."""
        from causalfm.metrics import robustness_index

        found: Estimate = self._ask(robustness_index, obsm, key_added, settings)
        return found

    def knn(
        self,
        k: int = 15,
        *,
        obsm: str | None = None,
        exclude: str | None = None,
        key_added: str = LISTS,
        device: str | None = None,
    ) -> Neighbours:
        """Find the nearest rows of *other* groups, and keep them where scanpy keeps neighbours.

        Parameters
        ----------
        k
            Neighbours per row, the row itself not counted (scanpy's ``n_neighbors`` counts it).
        obsm
            Embeddings; None: ``adata.X``.
        exclude
            Column of the unit whose rows are no neighbours of each other (the patient); None: the group of the graph
            that was declared, or the row alone where there is none.
        key_added
            ``uns[key]``, ``obsp[key + "_distances"]`` (1 - cosine) and ``obsp[key + "_connectivities"]`` (1 where one
            of two rows lists the other).
        device
            See :func:`causalfm.knn`.

        Returns
        -------
        Neighbours
            Of all rows. ``scanpy.tl.umap(adata, neighbors_key="cfm")`` and other tools use what is kept.
        """
        import numpy as np
        from scipy import sparse

        from causalfm.neighbours import knn

        cohort, unit = self.cohort(obsm), exclude
        if unit is None and GRAPH in self._adata.uns.get(STORED, {}):
            unit = self.graph.group
        codes = None if unit is None else cohort.factor(unit, private=True).codes
        found = knn(cohort.X, k, exclude=codes, device=device)
        n, starts = len(cohort), np.arange(len(cohort) + 1) * k
        far = np.maximum(1.0 - found.similarity.ravel(), 0.0)  # rounding alone makes a similarity larger than 1
        distances = sparse.csr_matrix((far, found.indices.ravel(), starts), shape=(n, n))
        listed = sparse.csr_matrix((np.ones(n * k, dtype=np.float32), found.indices.ravel(), starts), shape=(n, n))
        distances.sort_indices()
        names = {"connectivities_key": f"{key_added}_connectivities", "distances_key": f"{key_added}_distances"}
        params: dict[str, Any] = {"n_neighbors": k + 1, "method": "causalfm", "metric": "cosine", "random_state": 0}
        params |= {"use_rep": obsm or "X"} | ({} if unit is None else {"exclude": unit})
        self._adata.obsp[names["distances_key"]] = distances
        self._adata.obsp[names["connectivities_key"]] = listed.maximum(listed.T).tocsr()
        self._adata.uns[key_added] = {**names, "params": params}
        return found

    def _ask(self, question: Callable[..., Any], obsm: str | None, key_added: str, settings: dict[str, Any]) -> Any:
        given = {name: settings.pop(name) for name in (*ROLES, GRAPH) if name in settings}
        graph = self.declare(**given) if given else self.graph
        found = question(self.cohort(obsm), graph, **settings)
        self._keep(key_added, found.to_dict())
        return found

    def _keep(self, name: str, record: Any) -> None:
        """Keep one record; text is what every version of h5ad and Zarr can hold."""
        self._adata.uns[STORED] = {**self._adata.uns.get(STORED, {}), name: json.dumps(plain(record))}


def _register() -> None:
    register = getattr(anndata, "register_anndata_namespace", None)
    if register is None:
        raise MissingDependencyError(
            f"anndata {version('anndata')} has no accessors: pip install 'anndata>=0.12', or build the cohort with "
            "causalfm.Cohort.from_anndata(adata, obsm=...)."
        )
    register("cfm")(CausalNamespace)


_register()
