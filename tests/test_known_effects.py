"""Effects whose truth is known from an experiment or from a published simulation.

LaLonde's job training: an experiment (445 men) and the same trained men set against 15,992 men of a survey (CPS-1). The
numbers are those of Angrist and Pischke, Mostly Harmless Econometrics (2009), table 3.3.3 (its rows that adjust the
survey for personal facts code them in a way we could not find out, and are left out), after LaLonde (Am. Econ. Rev. 76,
1986, 604-620) and Dehejia and Wahba (J. Am. Statist. Assoc. 94, 1999, 1053-1062). The data come inside the package
causaldata. IHDP: Hill's response surface A (J. Comput. Graph. Statist. 20, 2011, 217-240), effect 4 for every child, on
the covariates inside econml.
"""

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.estimators import Effect, effect
from causalfm.estimators.peers.dowhy_adapters import dowhy_effect
from causalfm.estimators.peers.econml_adapters import econml_effect
from causalfm.estimators.peers.scalar_samples import ScalarSample, scalar_sample
from causalfm.graph import CausalGraph

PERSONS = ("age", "educ", "black", "hisp", "marr", "nodegree")
PUBLISHED = {  # dollars and standard errors
    (False, ()): (1794, 633),
    (False, ("re75",)): (1750, 632),
    (False, (*PERSONS, "re75")): (1636, 638),
    (False, (*PERSONS, "re74", "re75")): (1676, 639),
    (True, ()): (-8498, 712),
    (True, ("re75",)): (-78, 537),
}


def lalonde(observational: bool) -> pd.DataFrame:
    from causaldata import cps_mixtape, nsw_mixtape

    frame = nsw_mixtape.load_pandas().data
    if observational:
        frame = pd.concat([frame[frame["treat"] == 1], cps_mixtape.load_pandas().data])
    return frame.reset_index(drop=True).astype({"data_id": str})


def trained(observational: bool, given: tuple[str, ...]) -> tuple[ScalarSample, CausalGraph]:
    frame = lalonde(observational)
    frame = frame.assign(training=np.where(frame["treat"] == 1, "yes", "no"), person=np.arange(len(frame)).astype(str))
    names = ", ".join(("black", *(c for c in given if c != "black")))
    graph = CausalGraph(
        f"{{{names}}} -> training; {{{names}, training}} -> Z", biology="black", technical="training", group="person",
        kinds=dict.fromkeys(set(given) - {"black"}, "continuous"),
    )  # fmt: skip
    cohort = Cohort(frame[["re78"]].to_numpy(float), frame.assign(black=frame["black"].map({0: "no", 1: "yes"})))
    return scalar_sample(cohort, graph, treatment="training", outcome=frame["re78"], name="earned", given=given), graph


@pytest.mark.parametrize(
    ("observational", "given"),
    PUBLISHED,
    ids=lambda v: {True: "survey", False: "experiment"}[v] if isinstance(v, bool) else "+".join(v) or "raw",
)
def test_lalonde_as_published(observational: bool, given: tuple[str, ...]) -> None:
    sample, graph = trained(observational, given)
    (found,) = dowhy_effect(sample, graph).contrasts
    value, se = PUBLISHED[observational, given]
    assert found.value == pytest.approx(value, abs=1.0)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(se, abs=0.01 * se)
    assert (found.level, found.reference) == ("yes", "no")


ALL = (*PERSONS, "re74", "re75")
NUMBERS = ("age", "educ", "re74", "re75")


def earned(observational: bool, estimator: str, given: tuple[str, ...] = ALL) -> Effect:
    """Ask for the effect of training with this library's own estimators."""
    frame = lalonde(observational)
    facts = {c: frame[c].map({0: "no", 1: "yes"}).astype(object) for c in PERSONS if c not in NUMBERS}
    obs = frame.assign(
        **facts, training=np.where(frame["treat"] == 1, "yes", "no"), person=np.arange(len(frame)).astype(str)
    )
    names = ", ".join(given)
    graph = CausalGraph(
        f"{{{names}}} -> training; {{{names}, training}} -> Z", biology="black", technical="training", group="person",
        kinds={c: "continuous" for c in given if c in NUMBERS},
    )  # fmt: skip
    cohort = Cohort(frame[["re78"]].to_numpy(float), obs)
    return effect(
        cohort, graph, treatment="training", outcome="re78", reference="no", estimator=estimator, confirm=False
    )


@pytest.mark.parametrize("estimator", ["standardisation", "ridge", "aipw", "partially-linear"])
def test_every_estimator_agrees_with_the_experiment(estimator: str) -> None:
    (row,) = earned(False, estimator).rows()
    assert row["value"] == pytest.approx(1794, abs=400)
    assert row["low"] < 1794 < row["high"]


def test_the_survey_comes_back_to_the_experiment_once_adjusted() -> None:
    (raw,), (adjusted,) = (earned(True, "standardisation", given).rows() for given in (("black",), ALL))
    assert raw["high"] < -5000
    assert adjusted["value"] == pytest.approx(1794, abs=500)
    assert adjusted["low"] < 1794 < adjusted["high"]
    (partial,) = earned(True, "partially-linear").rows()
    assert partial["low"] < 1794 < partial["high"]
    weighted = earned(True, "aipw")  # few men of the survey are like those trained, and it says so
    assert weighted.details["effective_groups"]["yes"] < 30
    (row,) = weighted.rows()
    assert row["high"] - row["low"] > 5000


def test_econml_on_lalondes_survey_comes_near_the_experiment() -> None:
    found = econml_effect(trained(True, (*PERSONS, "re74", "re75"))[0]).contrasts[0]
    assert found.low < 1794 < found.high
    assert found.low > -8498 / 2


def test_a_published_simulation_with_effect_four() -> None:
    from econml.data.dgps import ihdp_surface_A

    inside = 0
    for seed in range(10):
        Y, T, X, truth = ihdp_surface_A(random_state=seed)
        assert np.ptp(truth) < 1e-9
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
        frame = frame.assign(treat=np.where(T == 1, "yes", "no"), score=Y)
        sample = ScalarSample(
            frame, np.arange(len(frame)), "child", "treat", "score", tuple(frame.columns[:-2]), reference="no"
        )
        (found,) = econml_effect(sample).contrasts
        inside += found.low < truth[0] < found.high
    assert inside >= 7  # P(X < 7) = .001 at 95 %
