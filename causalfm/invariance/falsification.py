"""Falsification of the declared graph: the independences that it implies for its columns, against the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.cohort import Cohort
from causalfm.confidence import CHECK_ALPHA
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.implied import Independence, implied_independences
from causalfm.invariance.residual_products import encode, independence_test, spline_basis
from causalfm.invariance.several import holm
from causalfm.results import Result, TestResult, Verdict, worst

PER_TERM = 20  # patients for each term of the regressions
MOST_TERMS = 400  # of one regression: 100,000 patients then take ten seconds and 1.8 GB


@dataclass(frozen=True)
class Falsification(Result):
    """Outcome of confronting a graph with a table.

    Attributes
    ----------
    verdict
        ``"fail"``: the table contradicts an independence that the graph implies; else ``"cannot tell"``: a graph is
        never confirmed by what it survives.
    sentence
        The same in words.
    tests
        One per implied independence; ``details["p_holm"]`` is the p-value that counts, ``details["association"]`` the
        share of variance in common.
    """

    verdict: Verdict
    sentence: str
    tests: tuple[TestResult, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per implied independence."""
        return [{**test.rows()[0], **{k: test.details[k] for k in ("p_holm", "association")}} for test in self.tests]


def falsify_graph(
    cohort: Cohort, graph: CausalGraph, *, n_permutations: int = 999, random_state: int = 0
) -> Falsification:
    """Test every independence among the columns of the table that the declared graph implies.

    The embedding takes no part. Columns are read once per patient; one that varies within patients cannot be tested.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    n_permutations
        Permutations of patients within strata, or sign flips, per test.
    random_state
        Seed.

    Returns
    -------
    Falsification
        A failed independence is a finding: an arrow is missing, or a common cause, or rows were selected.

    Raises
    ------
    GraphError, DataError
        The cohort does not fit the graph, or an argument is out of range: too few permutations for Holm's correction.

    Notes
    -----
    Independences: :func:`causalfm.invariance.implied.implied_independences`; test:
    :func:`causalfm.invariance.residual_products.independence_test`; Holm's correction at 5 % over those tested.
    Assumptions: patients are independent; continuous columns act smoothly on the others, and additively where there are
    fewer than 20 patients for each term of a curve per stratum, or more than 400 terms.

    References
    ----------
    Pearl, Causality, 2nd ed. (2009), section 1.2; Holm, Scand. J. Statist. 6 (1979) 65-70.
    """
    check_inputs(cohort, graph)
    check_seed(random_state)
    graph.check(cohort)
    claims = implied_independences(graph)
    why = f"{len(claims)} independences are tested together"
    check_whole(n_permutations, "n_permutations", fewest_permutations(graph), why=why)
    columns = {name: _per_unit(cohort, graph, name) for name in graph.measured}
    tests = _concluded([_tested(claim, columns, cohort, graph, n_permutations, random_state) for claim in claims])
    failed = [test.sentence for test in tests if test.verdict == "fail"]
    told = sum(not np.isnan(test.p_value) for test in tests)
    sentence = " ".join(failed)
    if not claims:
        sentence = (
            "The declared graph implies no independence among its columns: any two are joined, or share a cause that "
            "is not measured. No table can contradict it."
        )
    elif not told:
        sentence = f"None of the {len(tests)} independences that the declared graph implies can be tested here."
    elif not failed:
        sentence = (
            f"The table contradicts none of the {told} independences among its columns that could be tested, of "
            f"{len(tests)} that the declared graph implies. This does not confirm the graph."
        )
    return Falsification(worst([test.verdict for test in tests]), sentence, tuple(tests))


def fewest_permutations(graph: CausalGraph) -> int:
    """Return how many permutations Holm's correction needs: with fewer nothing could be significant."""
    return max(1, int(np.ceil(len(implied_independences(graph)) / CHECK_ALPHA)) - 1)


@dataclass(frozen=True, eq=False)
class _Column:
    """One value per patient, as codes or numbers; ``varying`` counts the patients that have several."""

    values: np.ndarray
    categorical: bool
    varying: int


def _per_unit(cohort: Cohort, graph: CausalGraph, name: str) -> _Column:
    groups = cohort.factor(graph.group, private=True)
    first = np.unique(groups.codes, return_index=True)[1]
    categorical = graph.kind(name, cohort) != "continuous"
    values = cohort.factor(name).codes if categorical else cohort.numeric(name)
    return _Column(values[first], categorical, graph.varies_within_group(cohort, name))


def _tested(
    claim: Independence,
    columns: Mapping[str, _Column],
    cohort: Cohort,
    graph: CausalGraph,
    n_permutations: int,
    random_state: int,
) -> TestResult:
    a, b, conditions = columns[claim.a], columns[claim.b], [columns[name] for name in claim.given]
    strata = np.zeros(len(a.values), dtype=np.int64)
    if codes := [c.values for c in conditions if c.categorical]:
        strata = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    numbers = [c.values for c in conditions if not c.categorical]
    basis = spline_basis(np.stack(numbers, axis=1)) if numbers else np.zeros((len(strata), 0))
    onehot = np.eye(int(strata.max()) + 1)[strata]
    terms = onehot.shape[1] * basis.shape[1]
    if terms <= min(MOST_TERMS, len(onehot) / PER_TERM):  # a curve for each stratum, if there is room
        basis = (onehot[:, :, None] * basis[:, None, :]).reshape(len(onehot), -1)
    varying = [name for name in (claim.a, claim.b, *claim.given) if columns[name].varying]
    association = p_value = nan = float("nan")
    reason = f"{', '.join(varying)} varies within {graph.group}s" if varying else ""
    if not varying:
        association, p_value = independence_test(
            encode(a.values, categorical=a.categorical),
            encode(b.values, categorical=b.categorical),
            strata,
            basis,
            n_permutations=n_permutations,
            random_state=random_state,
        )
        if np.isnan(p_value):
            within = f" given {', '.join(claim.given)}" if claim.given else ""
            reason = f"{claim.a} or {claim.b} does not vary, or differs in every {graph.group},{within}".rstrip(",")
    return TestResult(
        statistic=association,
        p_value=p_value,
        effect=None,
        verdict="cannot tell",
        sentence=f"The declared graph implies {claim}",  # _concluded says how it ends
        of=f"{claim.a}, {claim.b}",
        given=claim.given,
        effect_kind="independence",
        method="sign flips" if basis.shape[1] else "permutation within strata",
        n=len(cohort),
        n_groups=len(strata),
        unit=graph.group,
        details={"association": association, "p_holm": nan, "n_permutations": n_permutations, "reason": reason},
    )


def _concluded(tests: Sequence[TestResult]) -> list[TestResult]:
    """Correct the p-values of the tests that were possible (Holm), and end every sentence."""
    corrected = holm([test.p_value for test in tests]).tolist()
    return [_ended(test, p) for test, p in zip(tests, corrected, strict=True)]


def _ended(test: TestResult, corrected: float) -> TestResult:
    """Give a test its verdict by the corrected p-value, ``nan`` where it was not possible."""
    if np.isnan(corrected):
        return dataclasses.replace(test, sentence=f"{test.sentence}: cannot tell, {test.details['reason']}.")
    verdict: Verdict = "fail" if corrected <= CHECK_ALPHA else "cannot tell"
    seen = "contradicts" if verdict == "fail" else "does not contradict"
    numbers = (
        f"(p = {corrected:.3g} after Holm's correction, {test.details['association']:.2g} of the variance in "
        f"common, {test.n_groups} {test.unit}s)"
    )
    ending = ": an arrow or a common cause is missing, or rows were selected." if verdict == "fail" else "."
    sentence = f"{test.sentence}; the table {seen} it {numbers}{ending}"
    return dataclasses.replace(test, verdict=verdict, sentence=sentence, details={**test.details, "p_holm": corrected})
