"""All refuters on one effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_positive, check_seed, check_whole, columns_of
from causalfm.errors import DataError
from causalfm.estimators.effect_questions import pose
from causalfm.estimators.estimating import Settings
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.peers.peer_refutation import peer_refutation
from causalfm.estimators.refuting.negative_controls import negative_exposure, negative_outcome
from causalfm.estimators.refuting.placebos import noise_outcome, permuted_outcome, placebo_factor, pseudo_levels
from causalfm.estimators.refuting.refutation import MARGIN, Refutation, collect
from causalfm.estimators.refuting.refuted_units import Refuted, refuted
from causalfm.estimators.refuting.stability import data_subset, random_cause, split_half
from causalfm.positivity import inside
from causalfm.units import patient_units

if TYPE_CHECKING:
    from causalfm.estimators.effect_result import Effect

REFUTERS = {
    "placebo factor": placebo_factor,
    "random common cause": random_cause,
    "data subset": data_subset,
    "dummy outcome": noise_outcome,
    "permuted outcome": permuted_outcome,
    "pseudo-levels": pseudo_levels,
    "split half": split_half,
}
LEAST_DRAWS = 20


def refute(
    effect: Effect,
    *,
    outcomes: str | Sequence[str] = (),
    exposures: str | Sequence[str] = (),
    refuters: str | Sequence[str] | None = None,
    n_draws: int = 200,
    margin: float = MARGIN,
    random_state: int = 0,
) -> Refutation:
    """Try to overturn an effect.

    Parameters
    ----------
    effect
        A result of :func:`causalfm.effect` that compares levels between groups.
    outcomes
        Negative control outcomes: columns of facts that the factor cannot change, such as age or sex.
    exposures
        Negative control exposures: categorical columns that cannot change the outcome.
    refuters
        Names of the other refuters (keys of ``REFUTERS``); default all.
    n_draws
        Draws of each refuter. Standardisation computes them at once; other estimators are run again for each. Those of
        other packages have three refuters.
    margin
        What may be left of a negative control: standard deviations for an outcome, share of the factor's own distance
        for an exposure.
    random_state
        Seed.

    Returns
    -------
    Refutation
        One row per attempt. ``before`` and ``after`` are joint distances: roots of mean squared distances between the
        levels.

    Raises
    ------
    DataError
        Nothing was estimated; contrasts within groups; a continuous treatment; unknown refuters or columns.

    Notes
    -----
    An estimator keeps an error rate of 5 % if no more made-up effects are rejected than a rate of 7 % makes likely.
    Made-up factors check the estimator and its errors; only negative controls can see an undeclared cause.

    References
    ----------
    Lipsitch, Tchetgen Tchetgen and Cohen, Epidemiology 21 (2010) 383-388.
    """
    check_seed(random_state)
    check_whole(n_draws, "n_draws", LEAST_DRAWS, why="an error rate is counted over them")
    check_positive(margin, "margin", "what may be left of a negative control")
    wanted = tuple(REFUTERS) if refuters is None else columns_of(refuters, "refuters")
    if unknown := [name for name in wanted if name not in REFUTERS]:
        raise DataError(f"refuters={unknown[0]!r} is not available: choose among {', '.join(REFUTERS)}.")
    if "sample" in effect._call:
        _refuse_for_peers(effect, refuters, outcomes, exposures)
        return peer_refutation(effect, n_draws, random_state)
    subject, patients, call = _again(effect, n_draws, random_state)
    attempts = [REFUTERS[name](subject) for name in wanted]
    cohort, graph = call["cohort"], call["graph"]
    for column in columns_of(outcomes, "outcomes"):
        attempts.append(negative_outcome(subject, patients, cohort, graph, column, margin))
    for column in columns_of(exposures, "exposures"):
        attempts.append(negative_exposure(subject, patients, cohort, graph, column, margin))
    return collect(effect.treatment, effect.outcome, effect.estimator, attempts)


def _refuse_for_peers(effect: Effect, *asked: Any) -> None:
    if any(value is not None and len(value) for value in asked):
        raise DataError(
            f"estimator={effect.estimator!r} has three refuters of its own: leave refuters=, outcomes= and exposures= "
            "out, or ask for a negative control as an outcome of effect() itself."
        )


def _again(effect: Effect, n_draws: int, random_state: int) -> tuple[Refuted, np.ndarray, dict[str, Any]]:
    """Lay the question out once more, with the positions of its patients and the call behind it."""
    call = dict(effect._call)
    if not effect.levels or not call:
        raise DataError(f"there is no effect to refute: {effect.details.get('reason', effect.overlap.sentence)}")
    if effect.overlap.paired or effect.overlap.continuous or effect.overlap.table is None:
        kind = "is compared within groups" if effect.overlap.paired else "is continuous"
        raise DataError(
            f"{effect.treatment} {kind}: refuters compare levels between groups. Ask causalfm.self_check for the "
            "errors of such a design."
        )
    given = call["arguments"]
    asked = ("treatment", "outcome", "score", "effect", "pool_rare", "minimum", "random_state")
    posed = pose(call["cohort"], call["graph"], **{name: given[name] for name in asked}, confirm=False)
    assert posed.found.table is not None
    settings = Settings(
        given["estimator"],
        given["folds"] if np.ndim(given["folds"]) == 0 else len(np.unique(given["folds"])),
        given["nuisances"] or Nuisances(),
        given["trim"],
        given["minimum"],
        given["random_state"],
    )
    units = patient_units(posed.cohort, posed.graph, posed.factors, posed.found.given)
    patients = np.flatnonzero(inside(units, posed.found.table))
    return refuted(units, posed.found.table, settings, n_draws, random_state), patients, call
