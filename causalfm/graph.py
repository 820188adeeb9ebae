"""The causal graph: declared once, every question is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from causalfm.arrows import EMBEDDING, Arrows, Pair, names, parse_arrows, render_arrows, standard_arrows
from causalfm.column_kinds import infer_kind
from causalfm.errors import GraphError
from causalfm.graph_checks import check_cohort, check_roles, graph_error, rows_that_vary
from causalfm.graph_records import graph_of, key_of, record_of

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.identification import Adjustment

Kind = Literal["categorical", "ordinal", "continuous", "multi-label"]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class CausalGraph:
    """What causes what, the roles of columns, and the independent unit.

    Parameters
    ----------
    arrows
        Arrow notation, see :func:`causalfm.arrows.parse_arrows`. The embedding is the node ``Z``; the other nodes are
        columns of the cohort's table. ``a <-> b`` is an unmeasured common cause.
    biology
        Column with the biological label.
    technical
        Technical factors, the hospital or site first.
    group
        The independent unit, usually the patient; or nested units, finest first, the independent one last. No nodes.
    covariates
        Further measured nodes; by default every node without another role.
    specimen
        Column that marks the same tissue seen more than once. Not a node.
    selected
        Selection nodes: effects of being in the data at all. Always conditioned on; they have no column.
    kinds
        ``"categorical"``, ``"ordinal"``, ``"continuous"`` or ``"multi-label"`` per column; inferred if not given.
    declared_by
        Who declared the graph, for reports; graphs that two people declare alike are equal.

    Attributes
    ----------
    biology, technical, covariates, specimen, selected, kinds, declared_by
        As declared; sequences are tuples.
    group, groups
        The independent unit, and all units from the finest to the coarsest.
    nodes, edges, bidirected
        The parsed graph: names, ``(cause, effect)`` pairs, pairs with an unmeasured common cause.

    Raises
    ------
    GraphError
        Arrows that cannot be read, a cycle, a role that is not a node, a node without a role, overlapping roles, ``Z``
        missing or with an arrow out of it, a unit or a specimen among the nodes.
    """

    biology: str
    technical: tuple[str, ...]
    covariates: tuple[str, ...]
    group: str
    groups: tuple[str, ...]
    specimen: str | None
    selected: tuple[str, ...]
    kinds: Mapping[str, Kind]
    nodes: tuple[str, ...]
    edges: tuple[Pair, ...]
    bidirected: tuple[Pair, ...]
    declared_by: str

    def __init__(
        self,
        arrows: str,
        *,
        biology: str,
        technical: str | Sequence[str],
        group: str | Sequence[str],
        covariates: str | Sequence[str] | None = None,
        specimen: str | None = None,
        selected: str | Sequence[str] | None = None,
        kinds: Mapping[str, Kind] | None = None,
        declared_by: str = "",
    ) -> None:
        parsed = parse_arrows(arrows)
        factors, hidden, groups = names(technical), names(selected), names(group)
        taken = (EMBEDDING, biology, *factors, *hidden)
        others = tuple(n for n in parsed.nodes if n not in taken) if covariates is None else names(covariates)
        self.__dict__.update(  # frozen: set once, here
            biology=biology,
            technical=factors,
            covariates=others,
            group=groups[-1] if groups else "",
            groups=groups,
            specimen=specimen,
            selected=hidden,
            kinds=dict(kinds or {}),
            nodes=parsed.nodes,
            edges=parsed.edges,
            bidirected=parsed.bidirected,
            declared_by=declared_by,
        )
        check_roles(self)

    @classmethod
    def standard(
        cls,
        *,
        biology: str,
        technical: str | Sequence[str],
        group: str | Sequence[str],
        covariates: str | Sequence[str] = (),
        specimen: str | None = None,
        kinds: Mapping[str, Kind] | None = None,
        declared_by: str = "",
    ) -> CausalGraph:
        """Build the usual graph.

        The first technical factor (the site) causes the others; biology, covariates and technical factors cause ``Z``;
        covariates cause biology. Which patients a site sees is association, not causation: site <-> biology and
        site <-> covariates. The causal effect of the site on ``Z`` is then technical only.

        Parameters: those of the class.
        """
        factors, others = names(technical), names(covariates)
        if not factors:
            raise GraphError("technical is empty: name at least one technical factor, the site first.")
        return cls(
            standard_arrows(biology, factors, others),
            biology=biology,
            technical=factors,
            group=group,
            covariates=others,
            specimen=specimen,
            kinds=kinds,
            declared_by=declared_by,
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """Nodes that are columns: biology, technical factors, covariates."""
        return (self.biology, *self.technical, *self.covariates)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of ``obs`` that the graph needs; selection nodes need none."""
        return tuple(dict.fromkeys((*self.measured, *names(self.specimen), *self.groups)))

    def parents(self, node: str) -> tuple[str, ...]:
        """Return the direct causes of a node, in the order of ``nodes``."""
        self._require(node)
        return tuple(n for n in self.nodes if (n, node) in self.edges)

    def children(self, node: str) -> tuple[str, ...]:
        """Return the direct effects of a node, in the order of ``nodes``."""
        self._require(node)
        return tuple(n for n in self.nodes if (node, n) in self.edges)

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Return every direct and indirect cause of a node, in the order of ``nodes``."""
        return self._closure(node, self.parents)

    def descendants(self, node: str) -> tuple[str, ...]:
        """Return everything that a node causes, directly or not, in the order of ``nodes``."""
        return self._closure(node, self.children)

    def technical_ancestors(self, of: str) -> tuple[str, ...]:
        """Return the technical factors that cause ``of``, in the order declared."""
        return tuple(t for t in self.technical if t in self.ancestors(of))

    def technical_descendants(self, of: str) -> tuple[str, ...]:
        """Return the technical factors that ``of`` causes, in the order declared."""
        return tuple(t for t in self.technical if t in self.descendants(of))

    def invariance(self, of: str | Sequence[str], effect: Literal["total", "direct"] = "total") -> Adjustment:
        """Return what to condition on when testing that ``Z`` does not depend on a factor.

        Parameters
        ----------
        of
            Measured node; several make the joint question.
        effect
            ``"total"``: neither the factor nor what it changes technically reaches ``Z``; ``"direct"``: the factor does
            so only through its technical descendants, which are conditioned on.

        Returns
        -------
        Adjustment
            The preferred set, all valid sets, a smallest one.

        Raises
        ------
        GraphError
            A node that cannot be tested.
        NotIdentifiedError
            A path stays open whatever is conditioned on; the message names it.
        """
        from causalfm.identification import identify

        return identify(self, names(of), effect, "invariance")

    def adjustment_set(self, treatment: str | Sequence[str], outcome: str = EMBEDDING) -> Adjustment:
        """Return what to adjust for in the total effect of a node on ``Z`` (back-door criterion).

        Parameters
        ----------
        treatment
            Measured node, or several.
        outcome
            ``"Z"``, or a column that is read off the embedding: it inherits the parents of ``Z``. A node of the graph
            has causes of its own and is refused.

        Returns
        -------
        Adjustment
            The preferred set is that of :meth:`invariance` wherever one set serves both questions.

        Raises
        ------
        GraphError, NotIdentifiedError
            The question does not fit; a path stays open whatever is adjusted for, and the message names it.
        """
        from causalfm.identification import identify

        if outcome != EMBEDDING and outcome in self.nodes:
            raise graph_error(
                self,
                f"outcome {outcome!r} is a node with causes of its own: ask for Z, or for a column computed from Z.",
            )
        return identify(self, names(treatment), "total", "effect")

    def is_valid_adjustment(self, treatment: str | Sequence[str], given: str | Sequence[str]) -> bool:
        """Say whether ``given``, with the selection nodes, blocks every back-door path and holds no effect."""
        from causalfm.identification import is_valid_back_door

        return is_valid_back_door(self, names(treatment), names(given))

    def confirm(self, treatment: str | Sequence[str], given: str | Sequence[str]) -> bool:
        """Ask DoWhy whether ``given`` is a valid back-door set for the effect on ``Z``: its import takes seconds."""
        from causalfm.identification import dowhy_confirms

        return dowhy_confirms(self, names(treatment), names(given))

    def kind(self, column: str, cohort: Cohort) -> Kind:
        """Return the declared kind of a column of ``obs``, else the one its values suggest.

        Ordered categories are ordinal; text, booleans, categories, integers (of at most 20 values in a covariate) and
        numbers of at most two values are categorical; other numbers and dates are continuous.
        """
        role = (self.biology, *self.technical)
        return self.kinds.get(column) or infer_kind(cohort.column(column), factor=column in role)

    def check(self, cohort: Cohort, *, doses: bool = False) -> None:
        """Refuse a cohort that does not fit the graph: see :func:`causalfm.graph_checks.check_cohort`."""
        check_cohort(self, cohort, doses=doses)

    def varies_within_group(self, cohort: Cohort, column: str) -> int:
        """Count the independent units in which a column takes more than one value."""
        return rows_that_vary(cohort, column, self.group)[1]

    def to_dict(self) -> dict[str, Any]:
        """Return arrows, roles and edges as plain, JSON-ready data."""
        return record_of(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CausalGraph:
        """Build the graph that :meth:`to_dict` wrote: see :func:`causalfm.graph_records.graph_of`."""
        return graph_of(record)

    def _require(self, node: str) -> None:
        if node not in self.nodes:
            raise graph_error(self, f"{node!r} is not a node of the graph.")

    def _closure(self, node: str, step: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        found: set[str] = set()
        todo = list(step(node))
        while todo:
            found.add(here := todo.pop())
            todo += [n for n in step(here) if n not in found]
        return tuple(n for n in self.nodes if n in found)

    def __eq__(self, other: object) -> bool:
        return key_of(self) == key_of(other) if isinstance(other, CausalGraph) else NotImplemented

    def __hash__(self) -> int:
        return hash(key_of(self))

    def __str__(self) -> str:
        return render_arrows(Arrows(self.nodes, self.edges, self.bidirected))

    def __repr__(self) -> str:
        return (
            f"CausalGraph({str(self)!r}, biology={self.biology!r}, technical={self.technical!r}, group={self.groups!r})"
        )
