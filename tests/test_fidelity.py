"""Fidelity of counterfactual rows: values worked out by hand, alignment, intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import causalfm as cfm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm.counterpart_scores import RowScores, relative_error, share_within
from causalfm.scm.counterparts import counterparts_of

GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient", specimen="tissue")


def views(n_patients=6, tiles=2, d=5, seed=0):
    """The same tissues at the site where they were seen and at the other one."""
    rng = np.random.default_rng(seed)
    n = n_patients * tiles
    patient = np.repeat(np.arange(n_patients), tiles)
    obs = pd.DataFrame(
        {
            "slide": [f"x{g}" for g in patient],
            "patient": [f"p{g}" for g in patient],
            "tissue": [f"t{i}" for i in range(n)],
            "tumour": [f"c{g % 2}" for g in patient],
            "site": [f"s{g // 2 % 2}" for g in patient],
            "scanner": "A",
        }
    )
    other = obs.assign(site=np.where(obs["site"] == "s0", "s1", "s0"))
    Z = rng.standard_normal((n, d))
    return cfm.Cohort(Z, obs), cfm.Cohort(Z + rng.standard_normal((n, d)), other)


COVERED = (lambda source, truth: counterparts_of({"p": truth}, truth, source, GRAPH, None))(*views(24))


def scores_of(noise, change):
    error, distance = (np.square(a).sum(axis=1) for a in (noise, change))
    return RowScores(error, distance, np.ones(48), sparse.csr_array((48, 24)), np.ones(48))


def test_a_perfect_prediction_has_no_error_and_doing_nothing_has_one():
    source, truth = views()
    perfect = cfm.scm.fidelity(truth, truth, GRAPH, source=source)
    assert perfect.get().value == 0.0
    assert perfect.get(quantity="retrieval").value == 1.0
    assert perfect.get("do nothing").value == 1.0
    assert perfect.get("do nothing").chance == 1.0
    assert (perfect.factor, perfect.n, perfect.n_groups, perfect.unit) == ("site", 12, 6, "patient")


def test_relative_error_is_a_ratio_of_patient_means():
    source, truth = views()
    part = np.array([0, 2, 3, 4, 6, 7, 8, 9, 10, 11])  # patients 0 and 2 with one row, the others with two
    source, truth = source[part], truth[part]
    moved = truth.replace(X=truth.X + 0.3 * source.X)
    result = cfm.scm.fidelity({"half": moved}, truth, GRAPH, source=source)
    error, distance = ((a.X - truth.X) ** 2 for a in (moved, source))
    by = truth.obs["patient"].to_numpy()
    above, below = (pd.Series(v.sum(axis=1)).groupby(by).mean() for v in (error, distance))
    assert result.get("half").value == pytest.approx(above.sum() / below.sum(), rel=1e-12)
    without = (above.sum() - above) / (below.sum() - below)
    effects = 5 / 6 * (result.get("half").value - without)
    np.testing.assert_allclose(result.get("half").influence.effects, effects, rtol=1e-9)
    at = (truth.obs["site"] == "s1") & (truth.obs["tumour"] == "c0")
    above, below = (pd.Series(v.sum(axis=1))[at.to_numpy()].groupby(by[at]).mean() for v in (error, distance))
    assert result.get(target="s1", biology="c0").value == pytest.approx(above.sum() / below.sum(), rel=1e-12)
    frame = result.to_frame()
    assert len(frame) == 2 * 2 * 9  # quantities, methods, (all and two levels) x (all and two classes)
    assert set(frame["unit"]) == {"patient"}


def test_retrieval_by_construction():
    """Tissue i of four points along axis i; two of the four predictions point along a neighbour's axis."""
    obs = pd.DataFrame({"patient": list("abcd"), "tissue": list("abcd"), "tumour": list("xyxy"), "scanner": "A"})
    source, truth = (cfm.Cohort(np.eye(4) * k, obs.assign(site=s)) for s, k in (("s0", 1.0), ("s1", 3.0)))
    moved = truth.replace(X=np.eye(4)[[0, 1, 3, 2]] * 2.0)
    result = cfm.scm.fidelity(moved, truth, GRAPH, source=source)
    found = result.get(quantity="retrieval")
    assert (found.value, found.chance) == (0.5, 0.25)
    assert result.get("do nothing", "retrieval").value == 1.0  # cosine does not see the length
    assert result.get(quantity="retrieval", biology="x").value == 0.5
    tied = cfm.scm.fidelity(truth.replace(X=np.ones((4, 4))), truth, GRAPH, source=source)
    assert tied.get(quantity="retrieval").value == pytest.approx(0.25)  # all as near: found by chance
    # without a one of three is missed twice; without d, which was ahead of c, c ties with a and b: (1 + 1 + 1/3) / 3
    effects = found.influence.effects
    without = found.value - effects * 4 / 3
    np.testing.assert_allclose(without, [1 / 3, 1 / 3, 7 / 9, 7 / 9])


def test_rows_that_stay_are_candidates_and_no_queries():
    source, truth = views()
    stays = truth.obs["tissue"].isin(["t0", "t1"]).to_numpy()
    X = np.where(stays[:, None], source.X, truth.X)
    truth = cfm.Cohort(X, truth.obs.assign(site=np.where(stays, source.obs["site"], truth.obs["site"])))
    result = cfm.scm.fidelity(truth, truth, GRAPH, source=source)
    assert (result.n, result.n_groups, result.details["unchanged"]) == (10, 5, 2)
    own = int((truth.obs["site"] == "s0").sum())
    assert result.get(quantity="retrieval", target="s0").chance == pytest.approx(1 / own)
    assert result.get().influence.strata.min() == -1  # the first patient asks nothing


def test_the_same_truth_may_be_predicted_from_two_sources():
    source, truth = views()
    both = [
        cfm.Cohort(
            np.concatenate([c.X, c.X + shift]), pd.concat([c.obs, c.obs.assign(site=site)]).reset_index(drop=True)
        )
        for c, shift, site in ((source, 1.0, "s9"), (truth, 0.0, truth.obs["site"]))
    ]
    result = cfm.scm.fidelity(both[1], both[1], GRAPH, source=both[0])
    assert result.n == 24
    assert result.get(quantity="retrieval", target="s0").chance == 1 / 4  # tissues at that level, each once
    assert result.get(quantity="retrieval", target="s1").chance == 1 / 8


def test_paired_difference_of_methods():
    source, truth = views(40)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(truth.X.shape)
    methods = {name: truth.replace(X=truth.X + k * noise) for name, k in (("near", 0.5), ("far", 0.6))}
    result = cfm.scm.fidelity(methods, truth, GRAPH, source=source)
    gap = result.difference("far", "near")
    assert gap.value == pytest.approx(result.get("far").value - result.get("near").value, rel=1e-12)
    assert 0 < gap.low < gap.value < gap.high
    assert gap.high - gap.low < 0.5 * (result.get("far").high - result.get("far").low)  # the rows are shared
    against = result.difference("near", "do nothing")
    assert against.high < 0


def test_intervals_cover():
    """Relative error in 400 cohorts of 24 patients whose two rows share most of their error."""
    inside = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        noise = 0.8 * np.repeat(rng.standard_normal((24, 4)), 2, axis=0) + 0.6 * rng.standard_normal((48, 4))
        change = rng.standard_normal((48, 4))
        estimate = relative_error(scores_of(noise, change), COVERED, COVERED.moved)
        inside += estimate.low <= 1.0 <= estimate.high
    assert inside / 400 >= 0.91, inside / 400  # binomial 99.9 % band of .95


def test_coverage_of_rows():
    source, truth = views()
    rows = counterparts_of({"p": truth}, truth, source, GRAPH, None)
    share = share_within(np.arange(12) / 11, rows, rows.moved, 0.95)
    assert share.value == pytest.approx(0.5)
    assert share.low < 0.5 < share.high


def altered(column, value, which=(1,)):
    def change(cohort):
        values = cohort.obs[column].astype(object).to_numpy().copy()
        values[list(which)] = value
        return cohort.replace(obs=cohort.obs.assign(**{column: values}))

    return change


def call(predicted=None, truth=None, source=None, graph=GRAPH, **options):
    seen, true = views()
    own = [true if predicted is None else predicted(true), true if truth is None else truth(true)]
    return cfm.scm.fidelity(*own, graph, source=seen if source is None else source(seen), **options)


SLIDES = CausalGraph.standard(biology="tumour", technical="site", group="patient", specimen="slide")
SHUFFLED = np.array([1, 0, *range(2, 12)])
BAD = {
    "other order": (lambda: call(predicted=lambda c: c[SHUFFLED]), "'tissue'", "2 of 12 rows", "another order", "sort"),
    "source in other order": (lambda: call(source=lambda c: c[SHUFFLED]), "source", "another order"),
    "other tissue": (lambda: call(predicted=altered("tissue", "t99")), "row 1", "1 of its rows", "select the same"),
    "fewer rows": (lambda: call(predicted=lambda c: c[:11]), "11 rows", "truth 12"),
    "another encoder": (lambda: call(predicted=lambda c: c.replace(X=c.X[:, :3])), "3 dimensions", "x 5"),
    "another level": (lambda: call(predicted=altered("site", "s7")), "'site'", "1 of 12 rows"),
    "another class": (lambda: call(source=altered("tumour", "c7")), "'tumour'", "source"),
    "nothing changes": (lambda: call(source=lambda c: views()[1]), "'site' is the same", "12 rows"),
    "two truths": (
        lambda: call(*[altered("tissue", "t0")] * 2, altered("tissue", "t0")),
        "twice at the same 'site'",
        "row 1",
    ),
    "no specimen": (
        lambda: call(graph=CausalGraph.standard(biology="tumour", technical="site", group="patient")),
        "no specimen",
    ),
    "no truth": (lambda: call(truth=lambda c: c.X), "truth must be a Cohort"),
    "no prediction": (lambda: call(predicted=lambda c: {}), "pass a cohort"),
    "taken name": (lambda: call(predicted=lambda c: {"do nothing": c}), "'do nothing'"),
    "biology as factor": (lambda: call(factor="tumour"), "'tumour'", "biology"),
    "unknown factor": (lambda: call(factor="stian"), "'stian'"),
    "specimen in two patients": (
        lambda: call(*[altered("patient", "p5", (0,))] * 3, graph=SLIDES),
        "1 of 6 levels of 'slide'",
        "row 0",
    ),
    "zero row": (lambda: call(predicted=lambda c: c.replace(X=c.X * 0.0)), "zero or non-finite rows"),
    "no such method": (lambda: call().get("prediktion"), "method='prediktion'", "Did you mean 'prediction'?"),
    "no such level": (lambda: call().get(target="s5"), "target='s5'", "s0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls(name):
    ask, *words = BAD[name]
    with pytest.raises(DataError) as caught:
        ask()
    for word in words:
        assert word in str(caught.value)
    for secret in ("t99", "p0"):
        assert secret not in str(caught.value)
