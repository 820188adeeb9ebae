"""Which form of a penalty the declared graph implies: the rules of the invariance test of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from causalfm.arguments import check_choice
from causalfm.training.kernel_penalties import conditional_hsic, conditional_mmd, hsic, mmd

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

FAMILIES = {"mmd": (mmd, conditional_mmd), "hsic": (hsic, conditional_hsic)}


@dataclass(frozen=True)
class PenaltyChoice:
    """What the design implies for a model that does not react to a factor.

    Attributes
    ----------
    penalty
        The function.
    form
        ``"marginal"`` or ``"conditional"``.
    given
        Columns within whose joint levels features shall not depend on the factor: the strata of a conditional form.
    of
        The factor; several are crossed.
    reason
        What the graph implies, what it does not, and what was chosen.
    """

    penalty: Callable[..., torch.Tensor]
    form: str
    given: tuple[str, ...]
    of: tuple[str, ...]
    reason: str


def penalty_for(graph: CausalGraph, of: str | Sequence[str] | None = None, *, family: str = "mmd") -> PenaltyChoice:
    """Choose the marginal or the conditional form of a penalty from the declared graph.

    Parameters
    ----------
    graph
        Declared graph.
    of
        Technical factor; several are crossed. Default: the first.
    family
        ``"mmd"`` or ``"hsic"``.

    Returns
    -------
    PenaltyChoice
        Conditional on biology where the design is anti-causal or rows are selected; marginal where the label is read
        off the image and only confounded; conditional on a covariate where that must be conditioned on.

    Raises
    ------
    GraphError
        A factor that is no measured node; a design that implies neither form.

    Notes
    -----
    The signature is that of :func:`causalfm.invariance.signatures.signature`, by which
    :func:`causalfm.invariance.prediction_invariance` tests: what is trained for is what is tested. It is necessary for
    predictions that do not react to the factor, not sufficient. The graph module needs networkx.

    References
    ----------
    Veitch, D'Amour, Yadlowsky, Eisenstein: Counterfactual invariance to spurious correlations. NeurIPS 2021.
    """
    from causalfm.arrows import names
    from causalfm.graph_checks import graph_error
    from causalfm.invariance.signatures import signature

    check_choice(family, "family", tuple(FAMILIES))
    factors = names(of) or graph.technical[:1]
    implied = signature(graph, factors)
    name = " + ".join(factors)
    if implied.preferred not in ("independence", "separation"):
        message = (
            f"{implied.sentence} So no penalty on the dependence of features on {name} is right: measure what is "
            "missing, or train with vrex, irm or group_dro, which read risks only."
        )
        raise graph_error(graph, message)
    given = implied.sets[implied.preferred][0]
    form = "conditional" if given else "marginal"
    penalty = FAMILIES[family][bool(given)]
    told = f"within the joint levels of {', '.join(given)}" if given else "over all rows"
    return PenaltyChoice(penalty, form, given, factors, f"{implied.sentence} Chosen: {penalty.__name__}, {told}.")
