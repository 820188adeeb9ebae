import json

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import effect
from causalfm.estimators.refuting import refuters as module
from causalfm.estimators.refuting.placebos import noise_outcome, permuted_outcome, placebo_factor, pseudo_levels
from causalfm.estimators.refuting.refutation import rate_verdict
from causalfm.estimators.refuting.refuted_units import part_of, with_levels, with_outcome
from causalfm.estimators.refuting.stability import _with_causes, data_subset, split_half
from causalfm.graph import CausalGraph
from causalfm.resampling import permutations_within

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", group="patient", covariates="age")
PLACEBOS = (placebo_factor, noise_outcome, permuted_outcome, pseudo_levels, split_half)


def scm(**settings) -> Cohort:
    defaults = {"n_groups": 80, "d": 8, "n_sites": 4, "site_effect": 1.0, "biology_effect": 2.0, "confounding": 0.3}
    return linear_scm(**{**defaults, **settings})[0]


def of(cohort: Cohort, graph: CausalGraph = GRAPH, **settings):
    return effect(cohort, graph, treatment="site", confirm=False, **settings)


def subject(cohort: Cohort, graph: CausalGraph = GRAPH, n_draws: int = 20, seed: int = 0, **settings):
    return module._again(of(cohort, graph, **settings), n_draws, seed)[0]


# --- all draws at once are the estimator, draw by draw -------------------------------------------------------------


@pytest.mark.parametrize("graph", [GRAPH, AGED], ids=["strata", "covariate"])
def test_draws_at_once_are_the_estimator_called_again(graph: CausalGraph) -> None:
    found = subject(scm(n_groups=60, n_sites=3, age_effect=0.5, age_by_site=0.5), graph)
    units, exact = found.units, graph is GRAPH
    moves = np.concatenate(list(permutations_within(units.stratum, 20, 0)))
    again = [found.answer(with_levels(units, units.level.codes[row])).value for row in moves]
    row = placebo_factor(found)
    close = {"rel": 1e-9} if exact else {"abs": 0.06}  # slopes are those of the estimate, not of the placebo
    assert row.after == pytest.approx(np.sign(np.mean(again)) * np.sqrt(abs(np.mean(again))), **close)
    moves = np.concatenate(list(permutations_within(np.zeros(len(units), dtype=int), 20, 0)))
    again = [found.answer(with_outcome(units, units.Z[np.argsort(row)])).value for row in moves]
    if exact:
        assert permuted_outcome(found).after == pytest.approx(np.sign(np.mean(again)) * np.sqrt(abs(np.mean(again))))


@pytest.mark.parametrize("graph", [GRAPH, AGED], ids=["strata", "covariate"])
def test_an_added_cause_is_a_rank_one_change(graph: CausalGraph) -> None:
    import dataclasses

    found = subject(scm(n_groups=60, n_sites=3, age_effect=0.5, age_by_site=0.5), graph)
    causes = np.random.default_rng(1).standard_normal((5, len(found.units)))
    fast = _with_causes(found, causes)
    for value, cause in zip(fast, causes, strict=True):
        widened = dataclasses.replace(found.units, covariates=np.column_stack([found.units.covariates, cause]))
        assert value == pytest.approx(
            found.answer(widened).value, abs=0.01 * found.norm.value
        )  # traces are not refitted


def test_subsets_keep_four_fifths_of_every_cell_and_halves_make_the_whole() -> None:
    found = subject(scm(), n_draws=400)
    assert data_subset(found).after == pytest.approx(np.sqrt(found.norm.value), rel=0.01)
    assert split_half(found).after == pytest.approx(np.sqrt(found.norm.value), rel=0.02)
    rows = np.flatnonzero(np.arange(80) % 10 != 0)
    assert len(part_of(found.units, rows)) == 72


# --- calibration ----------------------------------------------------------------------------------------------------

DESIGNS = {
    "plain": {},
    "size and variance by site": {"size_by_site": 3.0, "variance_by_site": 2.0, "groups_by_site": 2.0},
    "few": {"n_groups": 24, "n_sites": 3},
    "one outcome": {"d": 1, "variance_by_site": 1.0},
    "isotropic": {"decay": 0.0, "d": 64, "n_groups": 40, "variance_by_site": 1.0},
}


@pytest.mark.parametrize("design", DESIGNS)
def test_placebos_are_rejected_at_the_nominal_rate(design: str) -> None:
    rejected, draws = np.zeros(len(PLACEBOS)), np.zeros(len(PLACEBOS))
    for seed in range(15):
        found = subject(scm(**DESIGNS[design], random_state=seed), n_draws=80, seed=seed)
        for i, refuter in enumerate(PLACEBOS):
            row = refuter(found)
            rejected[i] += row.details["rejected"]
            draws[i] += row.details["draws"]
    assert (rejected <= 0.075 * draws).all(), rejected / draws  # 1,200 draws: .05 + 4 standard errors
    assert (rejected[[0, 1, 2]] >= 0.02 * draws[[0, 1, 2]]).all(), rejected / draws


def test_the_rate_rule_can_fail() -> None:
    assert [rate_verdict(k, 200) for k in (0, 10, 25, 40)] == ["pass", "pass", "pass", "fail"]
    assert rate_verdict(100, 1000) == "fail"


def test_an_estimator_whose_errors_are_too_small_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from causalfm.estimators.refuting import placebos

    found = subject(scm(), n_draws=100, estimator="ridge")
    assert placebo_factor(found).verdict == "pass"
    monkeypatch.setattr(
        placebos, "rejects", lambda norm: dataclasses.replace(norm, noise=norm.noise / 2, bounds={}).bound(0.95) > 0
    )
    row = placebo_factor(found)
    assert row.verdict == "fail"
    assert "far more than its errors allow" in row.sentence


# --- power ----------------------------------------------------------------------------------------------------------


def hidden_cause(strength: float, seed: int) -> Cohort:
    """Sites differ in a hidden stage that moves the embedding; purity shows the stage and no site changes it."""
    rng = np.random.default_rng(seed)
    site, b = np.repeat([0, 1, 2], 40), np.tile([0, 1], 60)
    stage = strength * (site - 1) + rng.standard_normal(120)
    Z = np.outer(b, np.ones(6)) + np.outer(stage, np.linspace(0.2, 1, 6)) + rng.standard_normal((120, 6))
    obs = pd.DataFrame(
        {
            "patient": [f"SENTINEL{i}" for i in range(120)],
            "site": np.array(["s0", "s1", "s2"])[site],
            "tumour": np.array(["a", "b"])[b],
            "purity": stage + 0.5 * rng.standard_normal(120),
            "sex": rng.choice(["f", "m"], 120),
            "parity": rng.choice(["even", "odd"], 120),
            "stage": np.where(stage > 0, "late", "early"),
        }
    )
    return Cohort(Z, obs)


def test_a_hidden_cause_is_flagged_by_its_negative_control_and_by_nothing_else() -> None:
    flagged = 0
    for seed in range(10):
        found = of(hidden_cause(0.7, seed)).refute(outcomes="purity", n_draws=60)
        verdicts = {row.name: row.verdict for row in found.attempts}
        flagged += verdicts.pop("negative control outcome: purity") == "fail"
        assert "fail" not in verdicts.values()  # made-up factors cannot see it: docs/effects.md says so
    assert flagged >= 9
    assert found.verdict == "fail"
    assert "does not stand up to: negative control outcome: purity" in found.sentence
    assert "'changes' purity, which it cannot" in found.attempts[-1].sentence


def test_negative_controls_without_effect_are_not_flagged() -> None:
    failed = 0
    for seed in range(20):
        settings = {"outcomes": ["purity", "sex"], "exposures": "parity", "refuters": (), "n_draws": 20}
        found = of(hidden_cause(0.0, seed)).refute(**settings)
        failed += sum(row.verdict == "fail" for row in found.attempts)
        assert len(found.attempts) == 3
    assert failed <= 4  # of 60: a failure needs a lower bound above the margin


def test_an_exposure_with_an_effect_is_flagged() -> None:
    found = of(hidden_cause(0.7, 0)).refute(exposures="stage", refuters=())
    assert found.attempts[0].verdict == "fail"
    assert "moves the outcome by more than 25% of the distance of site" in found.attempts[0].sentence


# --- contract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["ridge", "aipw", "partially-linear"])
def test_every_estimator_is_run_again(estimator: str) -> None:
    found = of(scm(), estimator=estimator).refute(n_draws=20)
    assert found.verdict == "pass"
    assert [row.name for row in found.attempts] == list(module.REFUTERS)
    frame = found.to_frame()
    assert frame["before"].nunique() == 1
    assert (frame["after"].iloc[[1, 2, 6]] / frame["before"].iloc[0] - 1).abs().max() < 0.1
    assert frame["after"].iloc[[0, 3, 4, 5]].max() < 0.5 * frame["before"].iloc[0]


def test_a_scalar_outcome() -> None:
    cohort = scm(site_effect=2.0)
    cohort = cohort.replace(obs=cohort.obs.assign(score=cohort.X[:, 0]))
    found = of(cohort, outcome="score").refute(n_draws=50)
    assert found.outcome == "score"
    assert found.verdict == "pass"


def test_repeated_rows_of_a_patient_change_nothing_and_seeds_repeat() -> None:
    cohort = scm(n_groups=40, rows_per_group=2)
    rows = np.sort(np.r_[np.arange(80), np.arange(80)])
    twice = Cohort(cohort.X[rows], cohort.obs.iloc[rows].reset_index(drop=True))
    one, again, two = (of(c).refute(n_draws=20, outcomes="age") for c in (cohort, cohort, twice))
    assert one == again
    for a, b in zip(one.attempts, two.attempts, strict=True):
        assert (a.after, a.low, a.high) == pytest.approx((b.after, b.low, b.high), abs=1e-9)
        assert a.verdict == b.verdict


def test_nothing_identifies_patients() -> None:
    found = of(hidden_cause(0.7, 0)).refute(outcomes="purity", exposures="parity", n_draws=20)
    assert "SENTINEL" not in json.dumps(found.to_dict()) + found._repr_html_()


def test_errors() -> None:
    cohort = hidden_cause(0.0, 0)
    found = of(cohort)
    with pytest.raises(DataError, match="refuters='placebo' is not available: choose among placebo factor, random"):
        found.refute(refuters="placebo")
    with pytest.raises(DataError, match="n_draws=5"):
        found.refute(n_draws=5)
    with pytest.raises(DataError, match="'tumour' is compared or conditioned on"):
        found.refute(refuters=(), outcomes="tumour")
    with pytest.raises(DataError, match="'patient' is a unit") as caught:
        found.refute(refuters=(), outcomes="patient")
    assert "SENTINEL" not in str(caught.value)
    with pytest.raises(DataError, match="obs has no column 'weight'"):
        found.refute(refuters=(), outcomes="weight")
    scanned = CausalGraph.standard(biology="tumour", technical=["site", "stage"], group="patient")
    with pytest.raises(DataError, match="under the graph site changes 'stage'"):
        effect(cohort, scanned, treatment="site", confirm=False).refute(refuters=(), outcomes="stage")
    nested = scm(n_scanners=2, scanner_nested=True)
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    with pytest.raises(DataError, match="there is no effect to refute: Every level of site has a single level"):
        effect(nested, graph, treatment="scanner", confirm=False).refute()


def test_an_exposure_without_overlap_cannot_be_told() -> None:
    cohort = hidden_cause(0.0, 0)
    cohort = cohort.replace(obs=cohort.obs.assign(ward=cohort.obs["site"] + cohort.obs["tumour"]))
    (row,) = of(cohort).refute(refuters=(), exposures="ward").attempts
    assert row.verdict == "cannot tell"
    assert row.sentence == "No cell holds two levels of ward with 3 patients each."


def test_a_continuous_factor_is_sent_elsewhere() -> None:
    cohort = scm()
    graph = CausalGraph.standard(
        biology="tumour", technical=["site", "age"], group="patient", kinds={"age": "continuous"}
    )
    with pytest.raises(DataError, match="age is continuous: refuters compare levels between groups"):
        effect(cohort, graph, treatment="age", confirm=False).refute()
