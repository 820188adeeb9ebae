"""A robust head on the embeddings of a cohort, its penalty from the declared graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_choice
from causalfm.errors import DataError
from causalfm.training.head_steps import NAMES
from causalfm.training.penalty_choice import penalty_for
from causalfm.training.robust_head import RobustHead

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def train_head(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    penalty: str = "auto",
    of: str | Sequence[str] | None = None,
    **settings: Any,
) -> RobustHead:
    """Train a head that reads the biology from frozen embeddings.

    Parameters
    ----------
    cohort, graph
        Training rows and declared graph; patients (``graph.group``) weigh the same.
    penalty
        ``"auto"``: what :func:`penalty_for` chooses; or a name that :class:`RobustHead` knows.
    of
        Technical factor whose levels are the environments; several are crossed. Default: the first.
    settings
        Further settings of :class:`RobustHead`: ``strength``, ``hidden``, ``decay``, ``steps``, ``random_state`` ...

    Returns
    -------
    RobustHead
        Fitted; ``head.reason_`` says why this penalty.

    Raises
    ------
    GraphError, DataError
        The cohort does not fit the graph; ``"auto"`` where the graph implies no form; strata of continuous columns;
        settings that are not known.
    """
    from causalfm.arrows import names
    from causalfm.graph_checks import check_inputs
    from causalfm.strata import joint_factor
    from causalfm.trimming import refuse_numbers

    check_choice(penalty, "penalty", ("auto", *NAMES))
    check_inputs(cohort, graph)
    graph.check(cohort)
    factors = names(of) or graph.technical[:1]
    refuse_numbers(cohort, graph, factors)
    reason, given = f"penalty={penalty!r} was asked for.", None
    if penalty == "auto":
        choice = penalty_for(graph, factors)
        penalty, reason = choice.penalty.__name__, choice.reason
        if numbers := [name for name in choice.given if graph.kind(name, cohort) == "continuous"]:
            raise DataError(f"strata of {', '.join(numbers)} are needed, which is continuous: bin it with pandas.cut.")
        given = joint_factor(cohort, choice.given).codes if choice.given else None
    label, group = cohort.factor(graph.biology), cohort.factor(graph.group, private=True)
    head = RobustHead(penalty=penalty).set_params(**settings)
    head.fit(
        cohort.X,
        np.array(label.levels)[label.codes],
        env=joint_factor(cohort, factors).codes,
        given=given,
        groups=group.codes,
    )
    head.reason_ = reason
    head.record_ |= {
        "biology": graph.biology,
        "levels": list(label.levels),
        "of": {name: list(cohort.factor(name).levels) for name in factors},
        "fingerprint": cohort.fingerprint(graph.columns),
    }
    return head
