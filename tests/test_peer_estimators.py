"""EconML's and DoWhy's estimators through the adapters: the packages themselves are run and compared."""

import dataclasses
import random

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import Nuisances, effect
from causalfm.estimators.peers.dowhy_adapters import dowhy_effect, dowhy_refutations, metadata_graph
from causalfm.estimators.peers.econml_adapters import ESTIMATORS, econml_effect, group_folds
from causalfm.estimators.peers.scalar_samples import ScalarSample, scalar_sample
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient", covariates="age")


def made(n_patients: int = 90, rows: int = 5, effect: float = 1.0, seed: int = 0) -> ScalarSample:
    """Site1 moves the score by ``effect``, twice as much in class b; biology and age confound."""
    rng = np.random.default_rng(seed)
    site = np.arange(n_patients) % 3
    b, age = rng.random(n_patients) < 0.3 + 0.4 * (site == 1), rng.normal(60, 10, n_patients)
    patient = np.repeat(np.arange(n_patients), rows)
    score = effect * (site == 1) * (1 + b) + 2.0 * b + 0.05 * age + rng.standard_normal(n_patients)
    obs = pd.DataFrame(
        {
            "site": np.array(["s0", "s1", "s2"])[site],
            "tumour": np.where(b, "b", "a"),
            "age": age,
            "patient": [f"p{i}" for i in range(n_patients)],
        }
    ).iloc[patient]
    cohort = Cohort(rng.standard_normal((len(patient), 1)), obs.reset_index(drop=True))
    values = score[patient] + rng.standard_normal(len(patient))
    return scalar_sample(cohort, GRAPH, treatment="site", outcome=values, name="score", given=["tumour", "age"])


def null(seed: int, n_patients: int = 60, rows: int = 40) -> ScalarSample:
    """No effect; the rows of a patient share most of their variance, and one treatment."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rows)
    site, tumour = np.arange(n_patients) % 2, (np.arange(n_patients) // 2) % 2
    score = (rng.standard_normal(n_patients) + 0.5 * tumour)[patient] + rng.standard_normal(len(patient))
    frame = pd.DataFrame(
        {
            "site": np.array(["s0", "s1"], dtype=object)[site][patient],
            "tumour": np.array(["a", "b"], dtype=object)[tumour][patient],
            "score": score,
        }
    )
    return ScalarSample(frame, patient, "patient", "site", "score", ("tumour",), reference="s0")


def rejections(cohorts: int, **settings) -> int:
    found = [econml_effect(null(seed), **settings).contrasts[0] for seed in range(cohorts)]
    return sum(c.low > 0 or c.high < 0 for c in found)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_econml_recovers_effect_and_heterogeneity(estimator: str) -> None:
    sample = dataclasses.replace(made(300, 2, effect=1.5), heterogeneity=("tumour",))
    frame = econml_effect(sample, estimator=estimator, clusters="aggregate").to_frame().set_index(["level", "among"])
    assert frame.index.tolist() == [(s, a) for s in ("s1", "s2") for a in ("", "tumour=a", "tumour=b")]
    for key, truth in {("s1", "tumour=a"): 1.5, ("s1", "tumour=b"): 3.0, ("s2", ""): 0.0}.items():
        assert frame.loc[key, "low"] - 0.3 < truth < frame.loc[key, "high"] + 0.3
    assert frame.loc[("s1", "tumour=b"), "value"] > frame.loc[("s1", "tumour=a"), "value"]
    assert (frame["n_groups"] == 300).all()


def test_econml_is_called_as_by_hand() -> None:
    from econml.dml import LinearDML
    from sklearn.linear_model import LogisticRegression, Ridge

    sample = made()
    found = econml_effect(sample, random_state=3)
    folds = group_folds(sample, 3, 3)
    by_hand = LinearDML(
        model_y=Ridge(1.0), model_t=LogisticRegression(max_iter=1000), discrete_treatment=True,
        categories=["s0", "s1", "s2"], cv=folds, random_state=3,
    ).fit(
        sample.frame["score"], sample.frame["site"].to_numpy(),
        W=np.c_[sample.frame["tumour"] == "b", sample.frame["age"]].astype(float),
    )  # fmt: skip
    low, high = by_hand.ate_interval(T0="s0", T1="s1", alpha=0.05)
    assert found.contrasts[0].value == pytest.approx(by_hand.ate(T0="s0", T1="s1"))
    assert (found.contrasts[0].low, found.contrasts[0].high) == pytest.approx((low, high))
    for train, test in folds:
        assert not set(sample.groups[train]) & set(sample.groups[test])


def test_continuous_treatment_gives_the_slope() -> None:
    rng = np.random.default_rng(0)
    tumour, site = rng.random(400) < 0.5, rng.standard_normal(400)
    dose = site + tumour + rng.standard_normal(400)
    score = 0.4 * dose + site + 2.0 * tumour + rng.standard_normal(400)
    frame = pd.DataFrame({"site": site, "stain": dose, "tumour": np.where(tumour, "b", "a"), "score": score})
    graph = CausalGraph(
        "site -> stain; tumour <-> stain; {site, stain, tumour} -> Z", biology="tumour", technical=["site", "stain"],
        group="patient", kinds={"site": "continuous", "stain": "continuous"},
    )  # fmt: skip
    sample = ScalarSample(frame, np.arange(400), "patient", "stain", "score", ("site", "tumour"))
    for found in (econml_effect(sample).contrasts, dowhy_effect(sample, graph).contrasts):
        assert [(c.level, c.reference) for c in found] == [("+1", "0")]
        assert found[0].low < 0.4 < found[0].high
        assert found[0].high - found[0].low < 0.3


def test_dowhy_linear_regression_is_least_squares_on_the_declared_set() -> None:
    import statsmodels.formula.api as smf

    sample = made(120, 1)
    found = dowhy_effect(sample, GRAPH)
    for contrast in found.contrasts:
        two = sample.frame[sample.frame["site"].isin(["s0", contrast.level])]
        fit = smf.ols(f"score ~ (site == '{contrast.level}') + tumour + age", two).fit()
        key = f"site == '{contrast.level}'[T.True]"
        assert contrast.value == pytest.approx(fit.params[key])
        assert (contrast.low, contrast.high) == pytest.approx(tuple(fit.conf_int().loc[key]), rel=1e-3)
    assert found.details["given"] == ["tumour", "age"]


@pytest.mark.parametrize(
    "method", ["propensity_score_weighting", "propensity_score_matching", "distance_matching", "doubly_robust"]
)
def test_dowhy_methods_by_name(method: str) -> None:
    found = dowhy_effect(made(900, 1, effect=1.5), GRAPH, estimator=f"backdoor.{method}")
    assert found.contrasts[0].value == pytest.approx(1.5 * 1.45, abs=0.6)
    assert found.contrasts[1].value == pytest.approx(0.0, abs=0.6)
    assert np.isnan(found.contrasts[0].low)
    assert "has no interval of its own here: clusters='bootstrap'" in found.sentence


def hidden_cause(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    instrument, hidden = rng.standard_normal(800), rng.standard_normal(800)
    scanner = instrument + hidden + rng.standard_normal(800)
    stain = 0.7 * scanner + rng.standard_normal(800)
    score = 2.0 * stain + 2.0 * hidden + rng.standard_normal(800)
    tumour = np.where(rng.random(800) < 0.5, "a", "b")
    return pd.DataFrame({"site": instrument, "scanner": scanner, "stain": stain, "tumour": tumour, "score": score})


HIDDEN = CausalGraph(
    "site -> scanner; scanner -> stain; stain -> Z; scanner <-> Z; tumour -> Z",
    biology="tumour", technical=["site", "scanner", "stain"], group="patient",
    kinds={"site": "continuous", "scanner": "continuous", "stain": "continuous"},
)  # fmt: skip


@pytest.mark.parametrize("method", ["iv.instrumental_variable", "frontdoor.two_stage_regression"])
def test_dowhy_finds_instrument_and_front_door_in_the_declared_graph(method: str) -> None:
    sample = ScalarSample(hidden_cause(), np.arange(800), "patient", "scanner", "score", ())
    assert dowhy_effect(sample, HIDDEN, estimator=method).contrasts[0].value == pytest.approx(1.4, abs=0.2)
    with pytest.raises(NotIdentifiedError, match="DoWhy finds no back-door set for scanner"):
        dowhy_effect(sample, HIDDEN, estimator="backdoor.linear_regression")


def test_the_outcome_takes_the_place_of_the_embedding() -> None:
    dag = metadata_graph(HIDDEN, "score")
    assert set(dag.predecessors("score")) == {"stain", "tumour", "scanner <-> Z"}
    assert "Z" not in dag


# --- clusters -------------------------------------------------------------------------------------------------------


def test_unclustered_intervals_reject_true_nulls_and_say_so() -> None:
    assert rejections(20) >= 7  # 64 % expected: P(X < 7) = .005 at 50 %
    sentence = econml_effect(null(0)).sentence
    assert "NOT clustered" in sentence
    assert "clusters='aggregate' or clusters='bootstrap'" in sentence


@pytest.mark.slow
def test_aggregated_and_resampled_units_keep_the_level() -> None:
    assert rejections(40, clusters="aggregate") <= 7  # P(X > 7) = .0007 at 5 %
    assert rejections(8, clusters="bootstrap", n_bootstrap=20) <= 3  # P(X > 3) = .0004
    found = econml_effect(null(0), clusters="bootstrap", n_bootstrap=20)
    assert "20 resamples of 60 whole patients" in found.sentence
    assert found.details["n_bootstrap"] == 20
    assert "averages of 60 patients" in econml_effect(null(0), clusters="aggregate").sentence


def test_rows_repeated_within_patients_change_nothing_once_aggregated() -> None:
    sample = made(60, 2)
    twice = sample.take(np.repeat(np.arange(len(sample.frame)), 2))
    one, two = (econml_effect(s, clusters="aggregate").contrasts for s in (sample, twice))
    for a, b in zip(one, two, strict=True):
        assert (a.value, a.low) == pytest.approx((b.value, b.low))


def test_resamples_hold_whole_units_of_every_level() -> None:
    sample = made(30, 3)
    drawn = sample.resampled(np.random.default_rng(0))
    counts = np.bincount(drawn.groups, minlength=30)
    assert set(counts % 3) == {0}
    assert drawn.frame["site"].value_counts().to_dict() == {"s0": 30, "s1": 30, "s2": 30}
    for code in np.flatnonzero(counts):
        rows = sample.frame[sample.groups == code]
        assert set(drawn.frame["score"][drawn.groups == code]) == set(rows["score"])


def test_seeds_repeat_and_leave_no_trace() -> None:
    sample = dataclasses.replace(made(60, 2), heterogeneity=("tumour",))
    state, drawn = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    settings = {"estimator": "econml.CausalForestDML", "clusters": "aggregate", "random_state": 4}
    assert econml_effect(sample, **settings) == econml_effect(sample, **settings)
    dowhy_effect(sample, GRAPH)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert random.getstate() == drawn


# --- refuters of DoWhy ----------------------------------------------------------------------------------------------


def test_dowhy_refuters() -> None:
    rows = dowhy_refutations(made(120, 1, effect=2.0), GRAPH, n_simulations=15)
    frame = pd.DataFrame(rows).set_index(["level", "name"])
    assert list(frame.loc["s1"].index) == ["placebo factor", "random common cause", "data subset"]
    assert (frame["p_value"] > 0.01).all()  # with a seed handed over DoWhy prints 0 for the subset
    assert abs(frame.loc[("s1", "placebo factor"), "after"]) < 0.6 < frame.loc[("s1", "placebo factor"), "before"]
    for name in ("random common cause", "data subset"):
        row = frame.loc[("s1", name)]
        assert row["after"] == pytest.approx(row["before"], abs=0.3)


# --- the same door ----------------------------------------------------------------------------------------------


def scored(n_patients: int = 90, rows: int = 3) -> Cohort:
    sample = made(n_patients, rows)
    X = sample.frame[["score"]].to_numpy()
    obs = sample.frame.assign(patient=[f"SENTINEL{g}" for g in sample.groups])
    return Cohort(np.column_stack([X, X**2]), obs)


def ask(cohort: Cohort, **settings):
    return effect(cohort, GRAPH, treatment="site", confirm=False, **{"outcome": "score", **settings})


def test_effect_takes_econml_by_name() -> None:
    cohort = scored()
    found = ask(cohort, estimator="econml.LinearDRLearner", heterogeneity=["tumour"], clusters="aggregate")
    given = found.details["given"]
    sample = scalar_sample(
        cohort,
        GRAPH,
        treatment="site",
        outcome=cohort.obs["score"],
        name="score",
        given=given,
        heterogeneity=["tumour"],
    )
    direct = econml_effect(sample, estimator="econml.LinearDRLearner", folds=5, clusters="aggregate")
    assert found.rows() == direct.rows()
    assert (found.reference, found.outcome, found.treatment) == ("s0", "score", "site")
    assert "averages of 90 patients" in found.details["sentence"]
    assert "SENTINEL" not in str(found.to_dict()) + str(found)
    assert np.isnan(found.joint.value)
    with pytest.raises(DataError, match="no group influences to work with"):
        found.directions()


def test_effect_takes_dowhy_by_name() -> None:
    found = ask(scored(), estimator="backdoor.linear_regression", reference="s2")
    assert found.to_frame()["level"].tolist() == ["s0", "s1"]
    assert "NOT clustered" in found.details["sentence"]
    frame = hidden_cause()
    cohort = Cohort(frame[["score"]].to_numpy(), frame.assign(patient=np.arange(800).astype(str)))
    for estimator in ("iv.instrumental_variable", "frontdoor.two_stage_regression"):
        door = effect(cohort, HIDDEN, treatment="scanner", outcome="score", estimator=estimator)
        assert door.rows()[0]["value"] == pytest.approx(1.4, abs=0.2)
        assert "Identified by DoWhy" in door.overlap.sentence
    with pytest.raises(NotIdentifiedError, match="the path 'scanner <-> Z' stays open"):
        effect(cohort, HIDDEN, treatment="scanner", outcome="score", estimator="backdoor.linear_regression")


def test_nuisances_of_ones_own() -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    own = Nuisances(outcome=LinearRegression(), propensity=LogisticRegression(C=100.0, max_iter=5000))
    plain, mine = (ask(scored(), estimator="econml.LinearDML", nuisances=n) for n in (None, own))
    assert plain.rows()[0]["value"] != mine.rows()[0]["value"]
    assert plain.rows()[0]["value"] == pytest.approx(mine.rows()[0]["value"], abs=0.3)


def test_peers_are_refuted() -> None:
    told = ask(scored(), estimator="backdoor.linear_regression", clusters="aggregate").refute(n_draws=20)
    assert [row.name for row in told.attempts] == 2 * ["placebo factor", "random common cause", "data subset"]
    assert told.verdict == "pass"
    unclustered = ask(scored(60, 12), estimator="econml.LinearDML", folds=2).refute(n_draws=20).attempts
    assert unclustered[0].verdict == "fail"
    assert "its errors are too small, choose clusters= by patient" in unclustered[0].sentence
    assert unclustered[1].verdict == "pass"
    with pytest.raises(DataError, match="has three refuters of its own"):
        ask(scored(), estimator="econml.LinearDML").refute(outcomes="age")


@pytest.mark.slow  # EconML is fitted again for every draw
def test_peers_whose_errors_are_clustered_pass() -> None:
    clustered = ask(scored(60, 12), estimator="econml.LinearDML", folds=2, clusters="aggregate").refute(n_draws=20)
    assert clustered.attempts[0].verdict == "pass"


def test_the_door_refuses_what_a_package_does_not_take() -> None:
    cohort = scored()
    with pytest.raises(DataError, match="takes one number per row and outcome 'Z' has 2"):
        ask(cohort, estimator="econml.LinearDML", outcome="Z")
    with pytest.raises(DataError, match="takes one treatment, not 2"):
        effect(cohort, GRAPH, treatment=["site", "age"], outcome="score", estimator="econml.LinearDML")
    with pytest.raises(DataError, match="takes neither heterogeneity= nor nuisances="):
        ask(cohort, estimator="backdoor.linear_regression", heterogeneity=["tumour"])
    with pytest.raises(DataError, match="takes neither trim= nor coding="):
        ask(cohort, estimator="econml.LinearDML", coding="effect")
    with pytest.raises(DataError, match="estimates total effects"):
        ask(cohort, estimator="backdoor.linear_regression", effect="direct")
    with pytest.raises(DataError, match="estimator='aipw' is clustered by the graph's group already"):
        ask(cohort, estimator="aipw", clusters="bootstrap")


# --- errors ---------------------------------------------------------------------------------------------------------


def test_errors_name_the_way_out() -> None:
    sample = made(30, 2)
    with pytest.raises(DataError, match=r"choose econml\.LinearDML, econml\.SparseLinearDML"):
        econml_effect(sample, estimator="econml.XLearner")
    with pytest.raises(DataError, match=r"needs heterogeneity=\[...\]: the columns of tumour, age"):
        econml_effect(sample, estimator="econml.CausalForestDML")
    with pytest.raises(DataError, match="clusters='rows' is not available"):
        econml_effect(sample, clusters="rows")
    with pytest.raises(DataError, match=r"DoWhy's begin with backdoor\., iv\., frontdoor\."):
        dowhy_effect(sample, GRAPH, estimator="ols")
    with pytest.raises(DataError, match=r"DoWhy cannot run backdoor\.nonsense here"):
        dowhy_effect(sample, GRAPH, estimator="backdoor.nonsense")
    with pytest.raises(NotIdentifiedError, match="DoWhy finds no instrument for site"):
        dowhy_effect(sample, GRAPH, estimator="iv.instrumental_variable")
    rare = sample.take(np.flatnonzero((sample.frame["site"] != "s2") | (sample.groups < 7)))
    with pytest.raises(DataError, match="site=s2 has 2 patients for 3 folds: choose fewer folds"):
        econml_effect(rare)
    few = sample.take(np.flatnonzero(sample.groups < 9))
    with pytest.raises(DataError, match="needs at least 10 patients; there are 9"):
        econml_effect(few, clusters="aggregate")


def test_units_that_have_no_average_are_refused_without_naming_them() -> None:
    sample = made(30, 2)
    frame = sample.frame.copy()
    frame.loc[0, "tumour"] = "c"
    with pytest.raises(DataError, match="'tumour' takes several values within 1 of 30 patients") as caught:
        econml_effect(dataclasses.replace(sample, frame=frame), clusters="aggregate")
    assert "p0" not in str(caught.value)


def test_samples_refuse_what_is_no_outcome() -> None:
    cohort = Cohort(np.zeros((6, 1)) + np.arange(6.0)[:, None], pd.DataFrame(
        {"site": list("ababab"), "tumour": list("xxyyxx"), "age": np.arange(6.0) + 0.5, "patient": list("uvwxyz")}
    ))  # fmt: skip
    make = {"treatment": "site", "given": ["tumour"]}
    with pytest.raises(DataError, match=r"shape \(5,\): it must be one finite number for each of 6 rows"):
        scalar_sample(cohort, GRAPH, outcome=np.zeros(5), **make)
    with pytest.raises(DataError, match="as a column of the graph is"):
        scalar_sample(cohort, GRAPH, outcome=np.zeros(6), name="age", **make)
    with pytest.raises(DataError, match="heterogeneity names 'age'; the effect is known by tumour"):
        scalar_sample(cohort, GRAPH, outcome=np.zeros(6), heterogeneity=["age"], **make)
    with pytest.raises(DataError, match="reference='c' is not a level of site: a, b"):
        scalar_sample(cohort, GRAPH, outcome=np.zeros(6), reference="c", **make)
