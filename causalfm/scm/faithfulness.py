"""Do predicted rows come near the true ones: the same tissue, re-scanned, re-stained or re-rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import did_you_mean
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.results import Estimate, Influence, Result

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

NOTHING = "do nothing"
QUANTITIES = ("relative_error", "retrieval")


@dataclass(frozen=True)
class Entry:
    """One estimate of a :class:`Fidelity`: of a method, at one target level and in one class (None: all)."""

    method: str
    target: str | None
    biology: str | None
    estimate: Estimate


@dataclass(frozen=True)
class Fidelity(Result):
    """Relative error and retrieval of predicted rows, by method, target level and class.

    Attributes
    ----------
    factor
        The factor that was set.
    methods
        Names; the last is ``"do nothing"``: rows as they were seen.
    entries
        All estimates.
    n, n_groups, unit
        Rows whose factor changed, their independent units, and what the unit is.
    details
        ``"unchanged"``: rows left out because their factor stays; ``"others"``: rows in which a method's table differs
        from the true one in another technical factor, which the model let follow.
    """

    factor: str
    methods: tuple[str, ...]
    entries: tuple[Entry, ...]
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def get(
        self,
        method: str | None = None,
        quantity: str = "relative_error",
        *,
        target: str | None = None,
        biology: str | None = None,
    ) -> Estimate:
        """Return one estimate.

        Parameters
        ----------
        method
            Name; None takes the first.
        quantity
            ``"relative_error"`` or ``"retrieval"``.
        target, biology
            Target level and class; None: all of them.

        Raises
        ------
        DataError
            No such estimate.
        """
        method = self.methods[0] if method is None else method
        wanted = {"method": method, "quantity": quantity, "target": target, "biology": biology}
        known: dict[str, list[Any]] = {name: [] for name in wanted}
        for e in self.entries:
            key = {"method": e.method, "quantity": e.estimate.name, "target": e.target, "biology": e.biology}
            if key == wanted:
                return e.estimate
            for name, value in key.items():
                known[name] += [] if value in known[name] else [value]
        name = next((n for n, value in wanted.items() if value not in known[n]), "target")
        near = did_you_mean(wanted[name], known[name])
        raise DataError(f"there is no estimate of {name}={wanted[name]!r}: choose among {known[name]}.{near}")

    def difference(
        self,
        method: str,
        other: str,
        quantity: str = "relative_error",
        *,
        target: str | None = None,
        biology: str | None = None,
    ) -> Estimate:
        """Estimate how much a method's quantity exceeds another's on the same rows, with a paired interval.

        Parameters
        ----------
        method, other
            Names.
        quantity, target, biology
            As for :meth:`get`.

        Returns
        -------
        Estimate
            ``method`` less ``other``; ``chance`` is 0.

        Raises
        ------
        DataError
            No such estimate.
        """
        from causalfm.metrics.design import interval_of

        a, b = (self.get(name, quantity, target=target, biology=biology) for name in (method, other))
        value, nan = a.value - b.value, float("nan")
        strata = next((e.influence.strata for e in (a, b) if e.influence is not None), None)
        low, high, note, influence = nan, nan, "none: neither estimate has an interval", None
        if strata is not None:
            parts = [np.zeros(len(strata)) if e.influence is None else e.influence.effects for e in (a, b)]
            influence = Influence(parts[0] - parts[1], strata)
            low, high, note = interval_of(value, influence, a.unit, index=False)
        details = {"of": method, "against": other, "interval": note}
        return Estimate(f"{quantity}_difference", value, low, high, 0.0, a.n, a.n_groups, a.unit, details, influence)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per estimate."""
        return [
            {
                "factor": self.factor,
                "method": e.method,
                "target": "all" if e.target is None else e.target,
                "biology": "all" if e.biology is None else e.biology,
                **e.estimate.rows()[0],
            }
            for e in self.entries
        ]


def fidelity(
    predicted: Cohort | Mapping[str, Cohort],
    truth: Cohort,
    graph: CausalGraph,
    *,
    source: Cohort,
    factor: str | None = None,
) -> Fidelity:
    """Compare counterfactual rows with what the same tissue truly looks like at the other level.

    Parameters
    ----------
    predicted
        Counterfactual rows, as :meth:`causalfm.EmbeddingSCM.counterfactual` returns them; several methods by name.
    truth
        The same tissue, re-scanned, re-stained or re-rendered, and encoded.
    graph
        Roles; ``specimen`` names the column that marks the same tissue.
    source
        The rows as they were seen, from which the prediction was made.
    factor
        The factor that was set; by default the graph's first technical one.

    Returns
    -------
    Fidelity
        ``relative_error``: squared distance of the truth from the prediction over that from the row as seen: 0 is
        perfect, 1 no better than doing nothing. ``retrieval``: share of rows whose nearest row (cosine), among all
        tissues that ``truth`` shows at the target level, is their own; chance is one over their number. Overall, per
        target level, per class, and per class at each level. Intervals are for new patients (each left out in turn, as
        query and as candidate) and the model as it was fitted.

    Raises
    ------
    DataError
        No specimen; rows that do not show the same tissue, with what differs; two true rows of one specimen at one
        level; nothing that changes; rows of zeros, which have no cosine.

    Notes
    -----
    The three cohorts are aligned row by row; specimen, patient, class and target level must agree. Rows whose factor
    stays are left out, and counted; their tissue remains a candidate. Patients weigh equally, rows equally within.
    A perfect prediction of a level that a scanner's noise blurs does not exist: the smallest reachable relative error
    is above 0. Retrieval by cosine can be high where the relative error is poor, and the reverse.

    Examples
    --------
    >>> moved = scm.counterfactual(slides, do={"scanner": "S60"})  # doctest: +SKIP
    >>> cfm.scm.fidelity(moved, rescanned, graph, source=slides, factor="scanner").to_frame()  # doctest: +SKIP
    """
    from causalfm.scm.counterpart_scores import relative_error, retrieval, row_scores
    from causalfm.scm.counterparts import counterparts_of

    methods = {"prediction": predicted} if isinstance(predicted, Cohort) else dict(predicted)
    if not methods or NOTHING in methods:
        raise DataError(f"predicted: pass a cohort, or cohorts by name, without the name {NOTHING!r}, which is added.")
    rows = counterparts_of(methods, truth, source, graph, factor)
    scores = {name: row_scores(cohort.X, truth.X, source.X, rows) for name, cohort in methods.items()}
    scores[NOTHING] = row_scores(source.X, truth.X, source.X, rows)
    entries = []
    for target in (None, *range(len(rows.targets))):
        for biology in (None, *range(len(rows.classes))):
            chosen = rows.moved.copy()
            chosen &= True if target is None else rows.target == target
            chosen &= True if biology is None else rows.biology == biology
            if not chosen.any():
                continue
            names = None if target is None else rows.targets[target], None if biology is None else rows.classes[biology]
            for name, score in scores.items():
                entries += [Entry(name, *names, of(score, rows, chosen)) for of in (relative_error, retrieval)]
    details = {"unchanged": int((~rows.moved).sum()), "others": rows.others}
    n_groups = len(np.unique(rows.group[rows.moved]))
    return Fidelity(rows.factor, tuple(scores), tuple(entries), int(rows.moved.sum()), n_groups, rows.unit, details)
