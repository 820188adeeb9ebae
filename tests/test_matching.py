import json
import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.discrete.discrete_model import MNLogit

from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.mean import mean_test
from causalfm.matching import effective_sizes, propensities, separated_levels, vector_matching
from causalfm.positivity import overlap
from causalfm.standardisation import standardised_means
from causalfm.trimming import common_support
from causalfm.units import patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
SEED = 8_500_000


def three_levels(seed: int, per_level: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(3), per_level)
    return level, rng.standard_normal((len(level), 2)) + 0.7 * level[:, None] * [1.0, -0.5]


def cohort_of(ages: dict[tuple[str, str], list[float]], rows: int = 1) -> Cohort:
    """``{(tumour, site): ages of its patients}``."""
    patients = [(*key, age) for key, values in ages.items() for age in values]
    obs = pd.DataFrame(patients, columns=["tumour", "site", "age"]).astype({"age": float})
    obs["patient"] = [f"secret-{i}" for i in range(len(obs))]
    obs = obs.loc[np.repeat(np.arange(len(obs)), rows)].reset_index(drop=True)
    return Cohort(np.random.default_rng(0).standard_normal((len(obs), 3)), obs)


# --- propensities and the published rule ----------------------------------------------------------------------------


def test_propensities_are_those_of_multinomial_logistic_regression() -> None:
    level, X = three_levels(0)
    peer = MNLogit(level, np.column_stack([np.ones(len(X)), X])).fit(disp=False)
    np.testing.assert_allclose(propensities(level, X), peer.predict(), atol=1e-5)
    constant = np.column_stack([X, np.full(len(X), 7.0)])
    np.testing.assert_allclose(propensities(level, constant), propensities(level, X), atol=1e-9)
    np.testing.assert_allclose(propensities(level, constant[:, 2:]), 1 / 3)


def test_vector_matching_by_hand() -> None:
    level = np.array([0, 0, 0, 1, 1, 1])
    first = np.array([0.9, 0.6, 0.4, 0.6, 0.3, 0.1])
    # level 0 lies in [.4, .9], level 1 in [.1, .6]: both in [.4, .6]; the second column mirrors the first
    kept = vector_matching(level, np.stack([first, 1 - first], axis=1))
    assert kept.tolist() == [False, True, True, True, False, False]
    apart = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    assert not vector_matching(level, np.stack([apart, 1 - apart], axis=1)).any()


@pytest.mark.parametrize("seed", range(3))
def test_vector_matching_equals_hyppo(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hyppo.causal.propensity_model import GeneralisedPropensityModel

        level, X = three_levels(seed)
        peer = GeneralisedPropensityModel()
        peer.fit(level, pd.DataFrame(X, columns=["a", "b"]))
        theirs = peer.vector_match()
    kept = vector_matching(level, propensities(level, X))
    assert 10 < kept.sum() < len(level) - 10
    assert np.flatnonzero(kept).tolist() == sorted(int(i) for i in theirs)


def test_two_levels_and_one_covariate_give_the_common_range() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        level, x = np.arange(20) % 2, rng.standard_normal(20) + np.arange(20) % 2
        low = max(x[level == s].min() for s in (0, 1))
        high = min(x[level == s].max() for s in (0, 1))
        kept = vector_matching(level, propensities(level, x[:, None]))
        assert kept.tolist() == ((x >= low) & (x <= high)).tolist()


def test_names_order_and_scale_do_not_matter() -> None:
    level, X = three_levels(5)
    kept = vector_matching(level, propensities(level, X))
    order = np.random.default_rng(0).permutation(len(level))
    names = np.array([2, 0, 1])
    again = vector_matching(names[level][order], propensities(names[level][order], 1e4 * X[order] - 50.0))
    assert again.tolist() == kept[order].tolist()


def test_separated_levels_of_one_covariate_are_disjoint_ranges() -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        level = np.repeat(np.arange(4), 4)
        x = rng.standard_normal(16) + 1.2 * level
        ends = [(x[level == s].min(), x[level == s].max()) for s in range(4)]
        apart = [
            (a, b) for a in range(4) for b in range(a + 1, 4) if ends[a][1] < ends[b][0] or ends[b][1] < ends[a][0]
        ]
        assert separated_levels(level, x[:, None]) == apart
        found += len(apart)
    assert found > 10


def test_effective_sizes() -> None:
    counts = np.array([[8, 2], [4, 6]])
    stratum, level = np.repeat([0, 0, 1, 1], counts.ravel()), np.repeat([0, 1, 0, 1], counts.ravel())
    weights = standardised_means(level, (0, 1), stratum, (0, 1))
    np.testing.assert_allclose(effective_sizes(counts), weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1))
    np.testing.assert_allclose(effective_sizes(np.array([[6, 3], [4, 2]])), [10, 5])  # independent: nothing is lost


def test_levels_that_few_units_separate_by_chance_are_not_apart() -> None:
    rng, level = np.random.default_rng(0), np.repeat([0, 1], 5)
    separable = [X for X in rng.standard_normal((100, 10, 2)) if propensities(level, X).max(axis=1).min() > 0.99]
    assert len(separable) > 1
    ranges = [[np.r_[X[:5].min(0), X[5:].min(0)] > np.r_[X[5:].max(0), X[:5].max(0)]] for X in separable]
    assert [bool(separated_levels(level, X)) for X in separable] == [bool(np.any(r)) for r in ranges]
    shift = np.array([[0.3, -0.3]]) * np.repeat([-1, 1], 15)[:, None]
    along = rng.uniform(0, 1, (30, 1)) + shift  # disjoint across the diagonal, not along an axis
    assert separated_levels(np.repeat([0, 1], 15), along) == [(0, 1)]


# --- overlap uses the same propensities -----------------------------------------------------------------------------


def test_thousands_of_units_are_judged_without_overflow() -> None:
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((3000, 2))
    assert separated_levels(np.arange(3000) % 2, columns) == []
    sides = (columns.sum(axis=1) > 0).astype(int)
    assert separated_levels(sides, columns + 3.0 * (2 * sides - 1)[:, None] * np.array([1.0, -0.9])) == [(0, 1)]


def test_overlap_sees_covariates_that_separate_only_together() -> None:
    graph = CausalGraph.standard(biology="tumour", technical="site", covariates=["age", "bmi"], group="patient")
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, 40)
    site = np.arange(40) % 2
    obs = pd.DataFrame({"site": np.where(site, "B", "A"), "tumour": np.where(np.arange(40) % 4 < 2, "x", "y")})
    obs = obs.assign(age=a, bmi=a + np.where(site, 0.2, -0.2), patient=[f"secret-{i}" for i in range(40)])
    cohort = Cohort(rng.standard_normal((40, 2)), obs)
    found = overlap(cohort, graph, ["site"], ["tumour", "age", "bmi"])
    assert (found.comparable, found.verdict) == (False, "cannot tell")
    assert found.sentence.startswith("The ranges of age and bmi at site=A and B have nothing in common")
    for one in ("age", "bmi"):
        assert overlap(cohort, graph, ["site"], ["tumour", one]).comparable
    assert not common_support(cohort, graph, of="site", given=["tumour", "age", "bmi"]).comparable


# --- the cohort's common support ------------------------------------------------------------------------------------

AGES = {
    ("x", "A"): [40, 44, 50, 52, 56],
    ("x", "B"): [48, 51, 55, 62, 70],
    ("y", "A"): [39, 49, 52, 53, 54],
    ("y", "B"): [50, 51, 53, 55, 66],
    ("z", "A"): [50, 51, 52],
}


def test_account() -> None:
    support = common_support(cohort_of(AGES, rows=2), GRAPH, of="site")
    assert (support.verdict, support.comparable, support.total, support.unit) == ("cannot tell", True, 23, "patient")
    frame = support.to_frame().set_index(["stratum", "level"])
    assert frame["patients"].to_dict() == {(f"tumour={t}", s): len(v) for (t, s), v in AGES.items()}
    assert (frame["patients"] == frame[["outside_cells", "outside_support", "kept"]].sum(axis=1)).all()
    assert frame.loc[("tumour=z", "A"), "outside_cells"] == 3  # class z has one site only
    assert frame["outside_cells"].sum() == 3
    assert frame["kept"].sum() == support.kept == support.rows_kept.sum() / 2  # patients, not rows
    assert frame.loc[("tumour=x", "A"), "kept"] == 3  # 50, 52 and 56 of those with 48 to 56
    assert support.sentence == (
        f"{support.kept} of 23 patients lie in the common support of site given tumour, age. Dropped: 3 for cells that "
        f"cannot be compared, {20 - support.kept} for their covariates. What follows holds for the patients kept."
    )
    assert "secret" not in json.dumps(support.to_dict())
    assert set(support.effective_sizes) == {"A", "B"}


def test_trim_keeps_the_record_and_serves_other_encoders() -> None:
    cohort = cohort_of(AGES, rows=2)
    support = common_support(cohort, GRAPH, of="site")
    trimmed = support.trim(cohort)
    assert len(trimmed) == 2 * support.kept
    assert trimmed.info["trimmed"] == [{"factor": "site", "given": ["tumour", "age"], "kept": support.kept, "of": 23}]
    assert trimmed.obs.index.equals(cohort.obs.index[support.rows_kept])
    other = cohort.replace(X=cohort.X[:, :1])
    assert support.trim(other).obs.equals(trimmed.obs)
    assert invariance_test(trimmed, GRAPH, of="site", n_permutations=19).n_groups == support.kept
    with pytest.raises(DataError, match="the cohort has 4 rows"):
        support.trim(cohort[:4])


def test_rows_of_a_patient_and_row_order_do_not_matter() -> None:
    cohort = cohort_of(AGES)
    kept = common_support(cohort, GRAPH, of="site").rows_kept
    order = np.random.default_rng(0).permutation(23)
    assert common_support(cohort[order], GRAPH, of="site").rows_kept.tolist() == kept[order].tolist()
    copies = np.r_[np.arange(23), np.zeros(30, dtype=int)]
    again = Cohort(cohort.X[copies], cohort.obs.iloc[copies].reset_index(drop=True))
    assert common_support(again, GRAPH, of="site").rows_kept.tolist() == kept[copies].tolist()


def test_everybody_is_kept_where_nothing_differs() -> None:
    ages = [41.0, 50.0, 59.0]
    support = common_support(cohort_of({(t, s): ages for t in "xy" for s in "AB"}), GRAPH, of="site")
    assert (support.verdict, support.kept) == ("pass", 12)
    assert support.sentence == "12 of 12 patients lie in the common support of site given tumour, age."
    assert support.effective_sizes == pytest.approx({"A": 6.0, "B": 6.0})


def test_matching_starts_again_when_cells_fall_short() -> None:
    """In class y three patients overlap at A only because class x pulls the propensities; y then falls, and x stays."""
    ages = {**AGES, ("y", "A"): [20, 21, 22, 23], ("y", "B"): [80, 81, 82, 83]}
    del ages["z", "A"]
    both = cohort_of(ages)
    support = common_support(both, GRAPH, of="site")
    frame = support.to_frame().set_index(["stratum", "level"])
    assert frame.loc["tumour=y", "outside_cells"].tolist() == [4, 4]
    alone = both[(both.obs["tumour"] == "x").to_numpy()]
    x_only = vector_matching(
        (alone.obs["site"] == "B").to_numpy(int),
        propensities((alone.obs["site"] == "B").to_numpy(int), alone.obs[["age"]].to_numpy()),
    )
    assert support.kept == x_only.sum() == frame.loc["tumour=x", "kept"].sum()


def test_a_set_of_ones_own_must_be_valid() -> None:
    cohort = cohort_of(AGES)
    for given in (["tumour"], ["patient"]):  # age stays open; no node of the graph
        with pytest.raises(
            GraphError, match=r"is not a valid conditioning set under this graph\. Valid: \{tumour, age\}"
        ):
            common_support(cohort, GRAPH, of="site", given=given)
    assert common_support(cohort, GRAPH, of="site", given=["age", "tumour"]).kept > 0


def test_refusal_and_warning() -> None:
    apart = {(t, s): [40.0 + (30.0 if s == "B" else 0.0) + i for i in range(4)] for t in "xy" for s in "AB"}
    support = common_support(cohort_of(apart), GRAPH, of="site")
    assert (support.comparable, support.kept, support.verdict) == (False, 0, "cannot tell")
    assert "have nothing in common" in support.sentence
    with pytest.raises(DataError, match="nothing is left to compare: 0 of 16 patients") as error:
        support.trim(cohort_of(apart))
    assert "secret" not in str(error.value)
    few = {(t, "A"): [*range(-60, 0), 1, 2, 3] for t in "xy"} | {(t, "B"): [1, 2, 3, *range(10, 70)] for t in "xy"}
    found = common_support(cohort_of(few), GRAPH, of="site")
    assert (found.comparable, found.kept) == (True, 12)
    assert found.sentence.endswith("These are less than 5%.")
    short = common_support(cohort_of(few), GRAPH, of="site", minimum=4)
    assert (short.comparable, short.kept) == (False, 0)
    assert "No cell keeps enough patients" in short.sentence


def threshold_cohort(seed: int, n: int = 100) -> Cohort:
    """Site does nothing; a covariate acts as a threshold, in patients that the sites hardly share."""
    rng = np.random.default_rng(seed)
    site = np.arange(n) % 2
    x = rng.uniform(-1.2, 1.2, n) + 1.4 * (site - 0.5)
    Z = 0.3 * rng.standard_normal((n, 3))
    Z[:, 0] += np.tanh(6.0 * x)
    obs = pd.DataFrame({"site": site, "tumour": np.arange(n) // 2 % 2}).astype(str)
    return Cohort(Z, obs.assign(age=60.0 + 10.0 * x, patient=[f"p{i}" for i in range(n)]))


def test_trimming_restores_the_size_that_extrapolation_costs() -> None:
    draws, p_values = 60, []
    for seed in range(SEED, SEED + draws):
        cohort = threshold_cohort(seed)
        trimmed = common_support(cohort, GRAPH, of="site").trim(cohort)
        for part in (cohort, trimmed):
            units = patient_units(part, GRAPH, ["site"], ["tumour", "age"])
            p_values.append(mean_test(units, n_permutations=99, random_state=seed)[1])
    before, after = (np.array(p_values).reshape(-1, 2) <= 0.05).mean(axis=0)
    assert before > 0.15
    assert after < 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / draws)
