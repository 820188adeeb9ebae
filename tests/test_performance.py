"""Deconfounded performance: peers' scores, weights, intervals, what cannot be told."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from causalfm.errors import DataError
from causalfm.estimators import deconfounded_performance
from causalfm.estimators.deconfounding.weighted_scores import SCORES, gaps
from causalfm.graph import CausalGraph
from experiments.performance_coverage import AGED, aged_cohort, draw, judged, laid_out, table

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")


# --- scores and weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 3])
def test_scores_are_those_of_sklearn_with_the_weights(K: int) -> None:
    rng = np.random.default_rng(0)
    chances, site, y, patient = draw(rng, S=3, K=K)
    chances = np.round(chances, 1)  # ties
    scored, rows = laid_out(chances, site, y, patient)
    for w in (rows.found, rows.independent):
        area = (
            roc_auc_score(y, chances[:, 1], sample_weight=w)
            if K == 2
            else np.mean([roc_auc_score(y == k, chances[:, k], sample_weight=w) for k in range(K)])
        )
        assert SCORES["auc"](scored, w)[0] == pytest.approx(area)
        decided = chances.argmax(axis=1)
        assert SCORES["balanced_accuracy"](scored, w)[0] == pytest.approx(
            balanced_accuracy_score(y, decided, sample_weight=w)
        )
        assert SCORES["accuracy"](scored, w)[0] == pytest.approx(w @ (decided == y))
        assert SCORES["brier"](scored, w)[0] == pytest.approx(w @ ((chances - np.eye(K)[y]) ** 2).sum(axis=1))


def test_gradients_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    chances, site, y, patient = draw(rng, S=2, K=3, G=24)
    scored, rows = laid_out(chances, site, y, patient, rng.integers(0, 3, len(y)))
    for score in (*SCORES.values(), gaps):
        for w in (rows.found, rows.independent):
            slopes = score(scored, w)[1]
            for r in (0, 17, 40):
                moved = [w + sign * 1e-6 * (np.arange(len(w)) == r) for sign in (1, -1)]
                if score is not gaps:  # scores are functions of shares
                    moved = [m / m.sum() for m in moved]
                step = (score(scored, moved[0])[0] - score(scored, moved[1])[0]) / 2e-6
                assert slopes[r] == pytest.approx(step, abs=1e-6)


def test_the_independent_population_is_the_product_of_its_margins() -> None:
    rng = np.random.default_rng(2)
    cohort, predictions = table(*draw(rng, S=3, K=3, G=90))
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    obs, hit = cohort.obs, predictions.to_numpy().argmax(axis=1) == cohort.obs["tumour"].astype(int)
    p_site, p_class = (obs[name].value_counts(normalize=True) for name in ("site", "tumour"))
    cells = hit.groupby([obs["site"], obs["tumour"]]).mean()
    expected = sum(p_site[s] * p_class[t] * value for (s, t), value in cells.items())
    assert found["accuracy"].independent.value == pytest.approx(expected)
    assert found["accuracy"].found.value == pytest.approx(hit.mean())
    mass = obs.groupby(["site", "tumour"]).size() / len(obs)
    weight = sum((p_site[s] * p_class[t]) ** 2 / m for (s, t), m in mass.items())
    assert found.effective == pytest.approx(90 / weight)
    assert "a shortcut premium of" in found.sentence
    frame = found.to_frame()
    assert len(frame) == 15
    assert set(frame["population"]) == {"as found", "independent", "premium"}


def test_a_model_that_reads_the_site_only() -> None:
    chances, site, y, patient = draw(np.random.default_rng(3), G=200, lean=0.6)
    chances = np.where((site == 1)[:, None], [0.2, 0.8], [0.8, 0.2])
    cohort, predictions = table(chances, site, y, patient)
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found["accuracy"].found.value == pytest.approx(0.8)
    assert found["accuracy"].independent.value == pytest.approx(0.5)
    assert found["auc"].independent.value == pytest.approx(0.5)
    assert found["brier"].premium.value < 0
    assert found["squared_calibration_gap"].found.value == pytest.approx(0.0, abs=1e-9)  # said 0.8, right in 0.8
    assert found["squared_calibration_gap"].independent.value == pytest.approx(0.09)


def test_a_balanced_design_has_no_premium() -> None:
    cohort, predictions = table(*draw(np.random.default_rng(4), G=64, S=4, lean=0.0))
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert [(s.premium.value, s.premium.low, s.premium.high) for s in found.scores] == [(0.0, 0.0, 0.0)] * 5
    assert found.effective == pytest.approx(64)


def test_copies_of_the_rows_of_a_patient_change_nothing() -> None:
    parts = draw(np.random.default_rng(5), S=3)
    again = np.concatenate([np.arange(180), np.tile(np.flatnonzero(parts[3] == 7), 4)])
    one, two = (
        deconfounded_performance(c, GRAPH, predictions=p)
        for c, p in (table(*parts), table(*(part[again] for part in parts)))
    )
    for a, b in zip(one.scores, two.scores, strict=True):
        for x, z in ((a.found, b.found), (a.independent, b.independent), (a.premium, b.premium)):
            assert (z.value, z.low, z.high) == pytest.approx((x.value, x.low, x.high))


def test_order_of_rows_and_columns_does_not_matter() -> None:
    cohort, predictions = table(*draw(np.random.default_rng(6), S=3))
    order = np.random.default_rng(0).permutation(len(cohort))
    one = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    two = deconfounded_performance(cohort[order], GRAPH, predictions=predictions[["1", "0"]])
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(two.to_frame()[name], one.to_frame()[name], atol=1e-12)


# --- what cannot be told ----------------------------------------------------------------------------------------------


def test_a_class_at_one_site_only_cannot_be_told() -> None:
    chances, site, y, patient = draw(np.random.default_rng(7), S=2)
    cohort, predictions = table(chances, site, (site + 0 * y), patient)
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found.scores == ()
    assert found.sentence.startswith("Cannot tell: no two levels of site hold the same two classes of tumour")
    assert "tumour=0 is at 0 only" in found.sentence
    assert found.table == ({"site": "0", "0": 30, "1": 0}, {"site": "1", "0": 0, "1": 30})
    assert found.to_frame().empty
    with pytest.raises(DataError, match="there is no score 'accuracy'"):
        found["accuracy"]


def test_the_rest_is_told_without_it() -> None:
    chances, site, y, patient = draw(np.random.default_rng(8), S=3, K=3, G=120)
    y = np.where((y == 2) & (site != 2), 0, y)
    cohort, predictions = table(chances, site, y, patient)
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found.classes == ("0", "1")
    assert found.left_out == ("tumour=2 (patients: 0 at site=0, 0 at site=1)",)
    rest = f"left out of both, {(y == 2).sum()} of {len(y)} rows."
    assert f"Cannot tell for tumour=2 (patients: 0 at site=0, 0 at site=1): {rest}" in found.sentence
    assert found.n == int((y != 2).sum())
    chosen = chances[y != 2].argmax(axis=1) == y[y != 2]
    assert found["accuracy"].found.value == pytest.approx(chosen.mean())


def test_a_site_without_a_class_is_named_with_what_it_lacks() -> None:
    chances, site, y, patient = draw(np.random.default_rng(8), S=3, G=120)
    keep = (site != 2) | (y != 1) | (np.cumsum((site == 2) & (y == 1)) <= 4)  # rows of two patients
    cohort, predictions = table(chances[keep], site[keep], y[keep], patient[keep])
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found.levels == ("0", "1")
    assert found.left_out == ("site=2 (patients: 2 at tumour=1)",)
    assert f"{(site[keep] == 2).sum()} of {keep.sum()} rows" in found.sentence


def test_a_class_rich_site_does_not_hide_what_two_sites_share() -> None:
    """Site 0 holds the most patients in a complete table of its own; two levels are needed."""
    site = np.repeat([0, 0, 0, 1, 1], [60, 60, 60, 12, 12])
    y = np.repeat([0, 1, 2, 0, 1], [60, 60, 60, 12, 12])
    chances = np.random.default_rng(0).dirichlet(np.ones(3), 204)
    cohort, predictions = table(chances, site, y, np.arange(204))
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found.levels == ("0", "1")
    assert found.classes == ("0", "1")


def test_a_perfect_model_has_an_interval() -> None:
    _, site, y, patient = draw(np.random.default_rng(9))
    cohort, predictions = table(np.eye(2)[y], site, y, patient)
    one = deconfounded_performance(cohort, GRAPH, predictions=predictions)["accuracy"]
    assert one.found.value == one.independent.value == 1.0
    assert 0.9 < one.found.low < 1.0
    assert one.premium.low < 0.0 < one.premium.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either predictions= or model="),
        ({"of": "tumour"}, "biology or a unit"),
        ({"minimum": 2}, "minimum=2"),
        ({"random_state": -1}, "random_state=-1"),
        ({"model": lambda X: np.ones((len(X), 3)) / 3}, "3 scores"),
        ({"model": lambda X: np.ones((len(X), 2))}, "do not add up to one"),
    ],
)
def test_arguments(arguments, message: str) -> None:
    cohort, predictions = table(*draw(np.random.default_rng(0)))
    if message not in ("either predictions= or model=",) and "model" not in arguments:
        arguments = {"predictions": predictions, **arguments}
    with pytest.raises(DataError, match=message):
        deconfounded_performance(cohort, GRAPH, **arguments)


def test_a_model_in_place_of_predictions() -> None:
    from sklearn.linear_model import LogisticRegression

    _, site, y, patient = draw(np.random.default_rng(10))
    cohort, _ = table(np.eye(2)[y], site, y, patient)
    cohort = cohort.replace(X=cohort.X + y[:, None])
    fitted = LogisticRegression().fit(cohort.X, y)
    chances = pd.DataFrame(fitted.predict_proba(cohort.X), columns=["0", "1"])
    one = deconfounded_performance(cohort, GRAPH, model=fitted)
    two = deconfounded_performance(cohort, GRAPH, model=lambda X: fitted.predict_proba(X))
    three = deconfounded_performance(cohort, GRAPH, predictions=chances)
    assert one.to_dict() == two.to_dict() == three.to_dict()
    four = deconfounded_performance(
        cohort, GRAPH, model=lambda X: pd.DataFrame(fitted.predict_proba(X)[:, ::-1], columns=[1, 0])
    )
    assert four.to_dict() == one.to_dict()  # a table is read by its names


def test_classes_that_vary_within_patients() -> None:
    chances, site, _, patient = draw(np.random.default_rng(11), rows=6)
    y = (np.random.default_rng(0).random(len(site)) < np.where(site == 1, 0.7, 0.3)).astype(int)
    cohort, predictions = table(chances, site, y, patient)
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert all(s.premium.low < s.premium.value < s.premium.high for s in found.scores)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("G", "rows", "target"), [(20, 3, 0.9), (60, 3, 0.95), (300, 1, 0.95)])
def test_intervals_cover(G: int, rows: int, target: float) -> None:
    """Scores and premiums against those of 40,000 patients of the same design; a binomial 99.9 % band for 15 cells."""
    truth = judged(draw(np.random.default_rng(10**6), 40_000, rows=rows))
    rng, draws, hits = np.random.default_rng(0), 200, np.zeros((5, 3))
    for _ in range(draws):
        for i, (a, b) in enumerate(zip(judged(draw(rng, G, rows=rows)), truth, strict=True)):
            for j, (x, z) in enumerate(((a.found, b.found), (a.independent, b.independent), (a.premium, b.premium))):
                hits[i, j] += x.low <= z.value <= x.high
    assert hits.min() >= stats.binom.ppf(0.001 / 15, draws, target)


def test_adjusted_scores_allow_for_covariates() -> None:
    """The truth is that of patients who are sent to sites at random: 0.860; weighting by class alone gives 0.853."""
    plain, adjusted, covered = [], [], 0
    for seed in range(30):
        cohort, predictions = aged_cohort(seed)
        found = deconfounded_performance(cohort, AGED, predictions=predictions)
        plain.append(found["accuracy"].independent.value)
        adjusted.append(found["adjusted_accuracy"].independent.value)
        interval = found["adjusted_accuracy"].independent
        covered += interval.low <= 0.860 <= interval.high
        assert found.details["adjusted"] == "age"
    error = np.std(adjusted, ddof=1) / np.sqrt(30)
    assert np.mean(adjusted) == pytest.approx(0.860, abs=3.5 * error)
    assert error < 0.01
    assert covered >= stats.binom.ppf(0.001, 30, 0.95)


def test_without_covariates_there_is_nothing_to_adjust() -> None:
    cohort, predictions = table(*draw(np.random.default_rng(0)))
    found = deconfounded_performance(cohort, GRAPH, predictions=predictions)
    assert found.details["adjusted"].startswith("nothing beside biology")
    with pytest.raises(DataError, match="there is no score 'adjusted_accuracy'"):
        found["adjusted_accuracy"]
