import itertools
import json

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats.contingency import association

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import falsify_graph
from causalfm.invariance.implied import implied_independences
from causalfm.invariance.residual_products import _flipped, encode, independence_test, normal_scores, spline_basis
from causalfm.separation import latent_dag

ROLES = {"biology": "tumour", "group": "patient"}
STANDARD = CausalGraph.standard(technical=["site", "scanner"], covariates=["age"], **ROLES)
SEED = 8_500_000


# --- what a graph implies -------------------------------------------------------------------------------------------


def claims(arrows: str, technical="site", **more) -> list[str]:
    return [str(c) for c in implied_independences(CausalGraph(arrows, technical=technical, **ROLES, **more))]


def test_implied_independences_of_known_graphs() -> None:
    assert [str(c) for c in implied_independences(STANDARD)] == [
        "tumour independent of scanner given site",
        "scanner independent of age given site",
    ]
    assert claims("tumour <-> site; {tumour, site} -> Z") == []
    assert claims("{tumour, site} -> Z") == ["tumour independent of site"]
    assert claims("a -> b -> tumour; {tumour, site} -> Z; site <-> a") == [
        "tumour independent of site given b",
        "tumour independent of a given b",
        "site independent of b given a",
    ]
    assert claims("{tumour, site} -> {Z, S}", selected="S") == []  # selection opens the path


def random_graph(seed: int) -> CausalGraph:
    rng = np.random.default_rng(seed)
    nodes = ["tumour", "site", "a", "b", "c"]
    order = [nodes[i] for i in rng.permutation(5)]
    pairs = list(itertools.combinations(order, 2))
    edges = [f"{a} -> {b}" for a, b in pairs if rng.random() < 0.35]
    both = [f"{a} <-> {b}" for a, b in pairs if rng.random() < 0.2]
    return CausalGraph("; ".join([*edges, *both, "{tumour, site} -> Z", *nodes]), technical="site", **ROLES)


def test_implied_independences_against_all_subsets() -> None:
    found = 0
    for seed in range(30):
        graph = random_graph(seed)
        dag, listed = latent_dag(graph), {(c.a, c.b): c for c in implied_independences(graph)}
        for a, b in itertools.combinations(graph.measured, 2):
            rest = [n for n in graph.measured if n not in (a, b)]
            subsets = itertools.chain.from_iterable(itertools.combinations(rest, k) for k in range(4))
            separating = [set(s) for s in subsets if nx.is_d_separator(dag, {a}, {b}, set(s))]
            assert bool(separating) == ((a, b) in listed)
            if separating:
                own = set(listed[a, b].given)
                assert own in separating
                assert not any(other < own for other in separating)  # nothing can be left out
                found += 1
    assert found > 60


# --- the test of one independence -----------------------------------------------------------------------------------


def test_association_is_the_known_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 90), rng.integers(0, 4, 90)
    none, one = np.zeros((90, 0)), np.zeros(90, dtype=int)
    found = independence_test(encode(a, categorical=True), encode(b, categorical=True), one, none, n_permutations=9)
    table = np.histogram2d(a, b, bins=(3, 4))[0].astype(int)
    assert found[0] == pytest.approx(association(table, method="cramer") ** 2)
    x, y = rng.standard_normal((2, 90))
    y += 0.3 * x
    plain = independence_test(x[:, None], y[:, None], one, none, n_permutations=9)
    assert plain[0] == pytest.approx(stats.pearsonr(x, y).statistic ** 2)
    z = rng.standard_normal(90)
    design = np.column_stack([np.ones(90), z])
    rx, ry = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
    partial = independence_test(x[:, None], y[:, None], one, z[:, None], n_permutations=9)
    assert partial[0] == pytest.approx(stats.pearsonr(rx, ry).statistic ** 2)


def test_p_values_agree_with_the_usual_tests_in_large_tables() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
    b[:20] = a[:20]
    none, one = np.zeros((600, 0)), np.zeros(600, dtype=int)
    chi2 = stats.chi2_contingency(np.histogram2d(a, b, bins=(3, 3))[0]).pvalue
    assert 0.01 < chi2 < 0.5
    own = independence_test(encode(a, categorical=True), encode(b, categorical=True), one, none, n_permutations=1999)[1]
    assert abs(own - chi2) < 0.04
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 600)) + 0.2 * rng.standard_normal(600)
    pearson = stats.pearsonr(x, y).pvalue
    assert 0.01 < pearson < 0.9
    for covariates in (none, np.linspace(0, 1, 600)[:, None]):  # by permutation, and by sign flips
        own = independence_test(x[:, None], y[:, None], one, covariates, n_permutations=1999)[1]
        assert abs(own - pearson) < 0.04


def test_rows_of_a_patient_add_up() -> None:
    """The clustered form on equal rows is the test on patients."""
    rng = np.random.default_rng(1)
    x, y, w = rng.standard_normal((3, 80))
    groups = np.repeat(np.arange(80), rng.integers(1, 9, 80))
    one, basis = np.zeros(80, dtype=int), np.column_stack([w, w**2])
    patients = independence_test(x[:, None], y[:, None], one, basis, n_permutations=199)
    rows = independence_test(
        x[groups, None], y[groups, None], one[groups], basis[groups], groups=groups, n_permutations=199
    )
    assert rows[0] == pytest.approx(patients[0])
    assert abs(rows[1] - patients[1]) < 0.1


def test_a_column_that_does_not_vary_within_strata_cannot_be_tested() -> None:
    strata = np.repeat([0, 1, 2], 20)
    x, y = encode(strata // 2, categorical=True), np.random.default_rng(0).standard_normal((60, 1))
    assert np.isnan(independence_test(x, y, strata, np.zeros((60, 0)))).all()


def test_spline_basis_of_ties_constants_and_few_values() -> None:
    rng = np.random.default_rng(0)
    zeros = np.where(rng.random(100) < 0.9, 0.0, rng.random(100))  # quantiles coincide
    basis = spline_basis(np.column_stack([zeros, np.full(100, 3.0), np.arange(100) % 3, rng.random(100)]))
    assert np.isfinite(basis).all()
    assert basis.shape[1] < 20
    assert spline_basis(np.ones((5, 1))).shape == (5, 0)
    np.testing.assert_allclose(normal_scores(np.array([1.0, 7.0, 7.0, 100.0])), [-1.15, 0, 0, 1.15], atol=1e-2)


def draw(name: str, rng: np.random.Generator, n: int):
    """A null table: x and y share what is conditioned on and nothing else."""
    w, k, none, one = rng.standard_normal(n), rng.integers(0, 3, n), np.zeros((n, 0)), np.zeros(n, dtype=int)

    def label(z, levels, slope):
        p = np.exp(np.outer(z, np.linspace(-slope, slope, levels)))
        return encode((rng.random((n, 1)) > np.cumsum(p / p.sum(1, keepdims=True), 1)).sum(1), categorical=True)

    def number(mean, spread):
        return encode(mean + spread * rng.standard_normal(n), categorical=False)

    return {
        "labels": lambda: (label(one, 4, 0), label(one, 3, 0), one, none),
        "labels given a label": lambda: (label(k - 1, 4, 2), label(k - 1, 3, 2), k, none),
        "label and number given a label": lambda: (label(k - 1, 4, 2), number(k, 1 + k), k, none),
        "labels given a number": lambda: (label(w, 4, 2), label(w, 3, 2), one, spline_basis(w[:, None])),
        "numbers given a number": lambda: (number(w, 1), number(w**2, 0.5 + abs(w)), one, spline_basis(w[:, None])),
        "labels given both": lambda: (label(w + k - 1, 4, 1.5), label(w - k + 1, 3, 1), k, spline_basis(w[:, None])),
    }[name]()


@pytest.mark.parametrize(
    "name",
    [
        "labels", "labels given a label", "label and number given a label", "labels given a number",
        "numbers given a number", "labels given both",
    ],
)  # fmt: skip
def test_size(name: str) -> None:
    draws = 80
    p = np.array(
        [
            independence_test(*draw(name, np.random.default_rng(seed), 80), n_permutations=99, random_state=seed)[1]
            for seed in range(SEED, SEED + draws)
        ]
    )
    assert (p <= 0.05).mean() < 0.05 + 3.9 * np.sqrt(0.05 * 0.95 / draws)  # 99.9 % for six designs
    assert (p <= 0.5).mean() > 0.5 - 3.9 * np.sqrt(0.25 / draws)


# --- a graph against a table ----------------------------------------------------------------------------------------


def table(seed: int, n: int = 90, *, leak: float = 0.0, rows: tuple[int, int] = (1, 12)) -> Cohort:
    """Patients of three hospitals that see other cases; the scanner follows the site, and by ``leak`` the tumour."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, 3, n)
    age = rng.normal(60 + 4 * site, 10)
    tumour = (rng.random(n) < 1 / (1 + np.exp(-(age - 62) / 10 - site + 1))).astype(int)
    scanner = np.where(rng.random(n) < leak, tumour, rng.random(n) < 0.2 + 0.3 * site).astype(int)
    row = np.repeat(np.arange(n), rng.integers(*rows, n, endpoint=True))
    obs = pd.DataFrame({"site": site, "tumour": tumour, "scanner": scanner, "age": age}).loc[row].reset_index(drop=True)
    obs["patient"] = [f"secret-{i}" for i in row]
    return Cohort(rng.standard_normal((len(row), 2)), obs)


def test_a_true_graph_is_seldom_contradicted_and_rows_are_no_units() -> None:
    wrong, rows_wrong = [], []
    for seed in range(SEED, SEED + 60):
        cohort = table(seed)
        wrong.append(falsify_graph(cohort, STANDARD, n_permutations=59, random_state=seed).verdict == "fail")
        if len(rows_wrong) < 15:
            as_rows = cohort.replace(obs=cohort.obs.assign(patient=np.arange(len(cohort))))
            rows_wrong.append(falsify_graph(as_rows, STANDARD, n_permutations=59).verdict == "fail")
    assert np.mean(wrong) <= 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean(rows_wrong) > 0.5


def test_a_planted_violation_is_found_and_named() -> None:
    found = falsify_graph(table(SEED, 150, leak=0.6), STANDARD)
    assert found.verdict == "fail"
    assert found.sentence.startswith(
        "The declared graph implies tumour independent of scanner given site; the table contradicts it (p = 0.002 "
        "after Holm's correction"
    )
    frame = found.to_frame()
    assert frame["of"].tolist() == ["tumour, scanner", "scanner, age"]  # age acts on the tumour, so both fail
    assert frame["verdict"].tolist() == ["fail", "fail"]
    assert frame.loc[0, "n_groups"] == 150
    assert (frame["p_holm"] >= frame["p_value"]).all()
    json.dumps(found.to_dict(), allow_nan=False)
    power = [
        falsify_graph(table(seed, 120, leak=0.4), STANDARD, n_permutations=99).verdict == "fail" for seed in range(10)
    ]
    assert np.mean(power) > 0.8


def test_a_saturated_graph_says_that_it_cannot_fail() -> None:
    graph = CausalGraph.standard(technical="site", covariates=["age"], **ROLES)
    found = falsify_graph(table(0), graph)
    assert (found.verdict, found.tests, found.rows()) == ("cannot tell", (), [])
    assert "No table can contradict it" in found.sentence


def test_what_cannot_be_tested_says_why() -> None:
    cohort = table(1)
    nested = cohort.replace(obs=cohort.obs.assign(scanner=cohort.obs["site"]))
    found = falsify_graph(nested, STANDARD)
    assert [t.sentence for t in found.tests] == [
        "The declared graph implies tumour independent of scanner given site: cannot tell, tumour or scanner does not "
        "vary, or differs in every patient, given site.",
        "The declared graph implies scanner independent of age given site: cannot tell, scanner or age does not vary, "
        "or differs in every patient, given site.",
    ]
    assert found.sentence == "None of the 2 independences that the declared graph implies can be tested here."
    moved = cohort.obs.copy()
    twice = moved.index[moved["patient"].duplicated()][0]
    moved.loc[twice, "age"] += 1.0
    varying = falsify_graph(cohort.replace(obs=moved), STANDARD)
    assert varying.tests[1].sentence.endswith("cannot tell, age varies within patients.")
    assert not np.isnan(varying.tests[0].p_value)
    assert "secret" not in json.dumps(varying.to_dict())


def test_a_level_for_every_patient_cannot_be_tested() -> None:
    """Whatever is permuted, sixty sites of one patient each explain everything: no p-value of 1, but none."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"site": np.arange(60), "tumour": rng.integers(0, 2, 60), "patient": np.arange(60)})
    found = falsify_graph(Cohort(np.ones((60, 1)), obs), CausalGraph("{tumour, site} -> Z", technical="site", **ROLES))
    assert np.isnan(found.tests[0].p_value)
    assert found.tests[0].sentence.endswith("tumour or site does not vary, or differs in every patient.")


def test_flips_in_batches_are_the_flips() -> None:
    rng = np.random.default_rng(0)
    U, V, groups = rng.standard_normal((40, 2)), rng.standard_normal((40, 3)), np.arange(40) // 2
    signs = np.random.default_rng(7).choice([-1.0, 1.0], (150, 20))
    sums = np.stack([U[groups == g].T @ V[groups == g] for g in range(20)])
    expected = (np.einsum("bg,gpq->bpq", signs, sums) ** 2).sum(axis=(1, 2))
    assert _flipped(U, V, groups, 150, 7) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    graph = CausalGraph("{tumour, site} -> Z; a; b", technical="site", **ROLES)
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 60)
    obs = pd.DataFrame({"tumour": a, "site": rng.integers(0, 2, 60), "a": a, "b": rng.random(60)})
    found = falsify_graph(Cohort(np.ones((60, 1)), obs.assign(patient=np.arange(60))), graph, n_permutations=199)
    p = np.array([t.p_value for t in found.tests])
    order = np.argsort(p, kind="stable")
    holm = np.empty(6)
    holm[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * (6 - np.arange(6))))
    assert [t.details["p_holm"] for t in found.tests] == pytest.approx(holm.tolist())
    assert [t.of for t in found.tests if t.verdict == "fail"] == ["tumour, a"]


def test_too_few_permutations_for_holm() -> None:
    with pytest.raises(DataError, match="n_permutations=38: choose a whole number of at least 39: 2 independences"):
        falsify_graph(table(0), STANDARD, n_permutations=38)


def test_seeded_and_indifferent_to_rows() -> None:
    cohort = table(2)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (falsify_graph(cohort, STANDARD, n_permutations=99, random_state=5) for _ in range(2))
    assert first == again
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    order = np.random.default_rng(0).permutation(len(cohort))
    shuffled = falsify_graph(cohort[order], STANDARD, n_permutations=99, random_state=5)
    copies = np.r_[np.arange(len(cohort)), np.zeros(50, dtype=int)]
    more = Cohort(cohort.X[copies], cohort.obs.iloc[copies].reset_index(drop=True))
    twice = falsify_graph(more, STANDARD, n_permutations=99, random_state=5)
    for other in (shuffled, twice):
        assert [t.p_value for t in other.tests] == [t.p_value for t in first.tests]


def test_real_hospitals_differ_in_the_sex_of_their_patients(data_dir) -> None:
    from causalfm.datasets import tcga_hipt

    hospitals = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium", "Johns Hopkins"]
    cohort = tcga_hipt.load(data_dir, cancers=["LUAD", "LUSC"], hospitals=hospitals)
    cohort = cohort.handle_missing(["age", "is_female"], how="drop")
    graph = CausalGraph(
        "{age, is_female} -> project_id; {project_id, age, is_female, center} -> Z; center <-> age",
        biology="project_id",
        technical="center",
        group="case",
    )
    found = falsify_graph(cohort, graph)
    verdicts = {test.of: test.verdict for test in found.tests}
    assert verdicts["center, is_female"] == "fail"
    assert verdicts["age, is_female"] == "cannot tell"
