"""From a question on the graph to a test, an effect and a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_positive
from causalfm.cohort import Cohort
from causalfm.confidence import alpha_in_force
from causalfm.dose_units import DoseUnits
from causalfm.factor_contrasts import Contrasts
from causalfm.graph import CausalGraph
from causalfm.invariance.exchangeable_units import pose_exchangeable
from causalfm.invariance.methods import Tested
from causalfm.invariance.posing import Posed, pose
from causalfm.paired_units import PairedUnits, contrast_units
from causalfm.positivity import MIN_GROUPS, Overlap
from causalfm.results import Estimate, TestResult, Verdict, verdict_against
from causalfm.standardisation import Standardised
from causalfm.units import Units

MARGIN_WORDS: dict[Verdict, str] = {
    "pass": "; even the largest distance between two levels is below {margin:g} times the distance between classes.",
    "fail": "; some distance between two levels ({pair} is the largest) is above {margin:g} times the distance between "
    "classes.",
    "cannot tell": "; whether the largest distance is above or below {margin:g} times that between classes is not "
    "settled.",
}

DOSE_WORDS: dict[Verdict, str] = {
    "pass": "; a change by one standard deviation moves it by less than {margin:g} times the distance between classes.",
    "fail": "; a change by one standard deviation moves it by more than {margin:g} times the distance between classes.",
    "cannot tell": "; whether a change by one standard deviation moves it by more or less than {margin:g} times the "
    "distance between classes is not settled.",
}


def invariance_test(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    effect: Literal["total", "direct"] = "total",
    given: Literal["auto"] | Sequence[str] = "auto",
    method: str = "mean",
    margin: float | None = None,
    n_permutations: int = 999,
    minimum: int = MIN_GROUPS,
    exchangeable: str | None = None,
    random_state: int = 0,
) -> TestResult:
    """Test whether the embedding depends on a technical factor, given what it may depend on.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph; it chooses the conditioning set.
    of
        Technical factor; several ask the joint question.
    effect
        ``"total"``: through its technical descendants too (site through scanner); ``"direct"``: given them.
    given
        ``"auto"``: the largest valid set that leaves something to compare. A set of one's own must be valid.
    method
        What is compared, see Notes: shifts of means (``"mean"``, ``"gcm"``, ``"c2st"``) or whole distributions
        (``"mmd"``, ``"energy"``, ``"hsic"``, ``"dcorr"``).
    margin
        Largest acceptable distance between two levels, in units of the root mean square distance between two classes of
        biology. None: the test can fail (an effect is there) but never pass.
    n_permutations
        Permutations of patients, or flips of their signs.
    minimum
        Least patients per cell.
    exchangeable
        Technical factor, such as the site, within whose levels ``of`` is constant: its levels become the units, and
        what else they do to the embedding is taken as exchangeable between levels of ``of``. At least eight are
        needed, three at each level compared; ``method="mean"`` only.
    random_state
        Seed of the permutations.

    Returns
    -------
    TestResult
        ``effect`` is the mean squared distance between levels, signed and debiased, in squared embedding units;
        ``details`` holds the ratio to biology, the valid alternatives to the conditioning set, what was left out and
        ``"per_level"``: units, median rows per unit and dispersion of each compared level.

    Raises
    ------
    GraphError, NotIdentifiedError
        The graph does not allow the question.
    DataError
        The cohort does not fit the graph, or an argument is out of range.

    Notes
    -----
    The verdict rests on bounds, never on the p-value alone: pass if the upper 95 % bound of the *largest* pair's
    squared distance minus ``margin^2`` times the biology's is below zero, fail if a lower bound is above it (Bonferroni
    over pairs). It is the same for ``mean``, ``gcm`` and ``c2st``; kernel methods measure it in their features.

    In every method patients are the units and weigh equally, categorical columns of the conditioning set form strata,
    and continuous ones are regressed out with splines, assumed to act additively. Patients are assumed independent.

    ``mean``
        Shifts of the mean embedding, by the sum of squares between levels, studentised by each cell's variance;
        patients permuted within strata [1]_. Levels may differ in spread and in rows per patient.
    ``mmd``, ``energy``
        Any difference between distributions: the same statistic of the patients' mean features of a Gaussian kernel
        [2]_ or of the distance kernel [3]_. Finds different spread and shape too, so that it rejects where patients of
        one level vary more. Exact features up to 1,024 rows, landmarks beyond.
    ``hsic``, ``dcorr``
        As these two, levels weighed by a kernel between them [2]_ [3]_: the order of an ordinal factor is used, and a
        continuous factor is answered.
    ``gcm``
        Linear: the largest generalised covariance of a level and a dimension of the embedding, given leave-one-patient-
        out regressions [4]_; signs of residuals flipped, assumed about symmetric, or patients many. Finds a shift in
        one of many dimensions and names it.
    ``c2st``
        A classifier, linear with a shrunken covariance, judged on patients left out [5]_; signs flipped as in ``gcm``.
        Finds shifts in directions in which patients vary little.

    A continuous factor is answered by ``mean`` (slope), ``hsic``, ``dcorr`` and ``gcm``; a factor that varies within
    patients by ``mean``, ``mmd`` and ``energy``, each patient its own control, signs flipped.

    References
    ----------
    .. [1] Chung and Romano, Ann. Statist. 41 (2013) 484-507; :func:`causalfm.invariance.mean.mean_test`.
    .. [2] Gretton et al., J. Mach. Learn. Res. 13 (2012) 723-773 (MMD); NIPS 20 (2008) 585-592 (HSIC).
    .. [3] Sejdinovic et al., Ann. Statist. 41 (2013) 2263-2291.
    .. [4] Shah and Peters, Ann. Statist. 48 (2020) 1514-1538.
    .. [5] Lopez-Paz and Oquab, ICLR 2017; Kim et al., Ann. Statist. 49 (2021) 411-434.
    """
    if margin is not None:
        check_positive(margin, "margin", "it is a share of the distance between classes; None asks without a margin")
    details = {"margin": margin}
    if exchangeable is None:
        posed = pose(cohort, graph, of, effect, given, method, n_permutations, minimum, random_state, details)
    else:
        posed = pose_exchangeable(
            cohort, graph, of, effect, given, method, n_permutations, minimum, random_state, details, exchangeable
        )
    return answer(posed, graph.biology, minimum, margin)[0]


def answer(posed: Posed, biology: str, minimum: int, margin: float | None) -> tuple[TestResult, Tested | None]:
    """Run the test of a question, if it can be, and decide.

    Parameters
    ----------
    posed
        The question.
    biology
        Name of the biology column.
    minimum, margin
        See :func:`invariance_test`.

    Returns
    -------
    result : TestResult
        The answer.
    tested : Tested or None
        Outcome of the method, with its draws.
    """
    if posed.question is None:
        return posed.base, None
    tested = posed.method(posed.question)
    return _decide(posed.base, tested, contrast_units(tested.units, biology, minimum), posed.found, margin), tested


def _decide(base: TestResult, tested: Tested, contrasts: Contrasts, found: Overlap, margin: float | None) -> TestResult:
    """Add the test, the size of the effect, the bounds and the verdict they give."""
    units = tested.units
    effect = size_of_effect(units, contrasts, found)
    low = effect.low
    details: dict[str, Any] = {
        **base.details,
        "target": found.target,
        "ratio_to_biology": tuple(np.sqrt(np.maximum(contrasts.ratio(), 0.0)).tolist()),
        "no_biology": contrasts.no_biology,
        **tested.details,
        "per_level": _per_level(units, contrasts),
    }
    if margin is None:
        verdict: Verdict = "fail" if low > 0 else "cannot tell"
        ending = "." if low > 0 else "; without a margin absence cannot be shown."
    else:
        bounds = details["margin_bounds"] = contrasts.margin_bounds(margin)
        verdict = verdict_against(bounds[0], bounds[1], 0.0)
        partly = verdict == "pass" and bool(found.left_out)  # a pass must hold for every level
        a, b = max(contrasts.pairs, key=lambda pair: contrasts.pairs[pair].value)
        pair = f"{units.level.levels[a]} to {units.level.levels[b]}"
        ending = (DOSE_WORDS if found.continuous else MARGIN_WORDS)[verdict].format(margin=margin, pair=pair)
        if np.isnan(bounds[0]):
            ending += f" {contrasts.no_biology or 'The distance between classes is not told from zero'}."
        if partly:
            verdict = "cannot tell"
            ending += f" This holds for {', '.join(found.levels)} only; not compared: {'; '.join(found.left_out)}."
    given = f" given {', '.join(found.given)}" if found.given else ""
    depends = low > 0 or tested.p_value <= alpha_in_force()
    seen = f"The {tested.subject} depends on {{}}{{}}" if depends else "No dependence on {}{} was found"
    numbers = f"(p = {tested.p_value:.3g}, {details['n_permutations']} {tested.draws} of {units.unit}s)"
    return dataclasses.replace(
        base,
        statistic=tested.statistic,
        p_value=tested.p_value,
        effect=effect,
        verdict=verdict,
        sentence=f"{seen.format(found.factor, given)} {numbers}{ending}",
        n=effect.n,
        n_groups=effect.n_groups,
        details=details,
    )


def size_of_effect(units: Units | PairedUnits, contrasts: Contrasts, found: Overlap) -> Estimate:
    """Return the mean squared distance between the compared levels, or the squared slope, as an estimate."""
    low, high = contrasts.joint.interval()
    return Estimate(
        name="squared_slope_per_sd" if found.continuous else "mean_squared_distance",
        value=contrasts.joint.value,
        low=low,
        high=high,
        chance=0.0,
        n=int(units.size[contrasts.groups].sum()),
        n_groups=len(contrasts.groups),
        unit=units.unit,
        details={"target": found.target},
    )


def _per_level(units: Units | PairedUnits, contrasts: Contrasts) -> list[dict[str, Any]]:
    """Size and dispersion of each compared level: both differ between sites, and both can be mistaken for an effect.

    Dispersion is the root of the trace of the patient covariance within cells, averaged over the level's cells with
    their degrees of freedom as weights. In a paired design levels share their patients: sizes only.
    """
    if isinstance(units, PairedUnits | DoseUnits):
        return units.per_level()
    assert isinstance(contrasts, Standardised)
    design, cells = contrasts.design, contrasts.design.cells
    level_of_cell = np.zeros(cells.n_cells, dtype=np.int64)
    level_of_cell[cells.codes] = design.level
    out = []
    for level in contrasts.levels:
        members, own = design.level == level, level_of_cell == level
        out.append(
            {
                "level": units.level.levels[level],
                f"{units.unit}s": int(members.sum()),
                f"rows per {units.unit}": float(np.median(units.size[design.rows[members]])),
                "dispersion": float(np.sqrt(np.average(cells.trace[own], weights=cells.df[own]))),
            }
        )
    return out
