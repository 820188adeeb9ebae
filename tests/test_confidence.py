"""The confidence level: read where an interval is made, for a whole audit at once."""

import dataclasses
import math
import threading

import numpy as np
import pytest

import causalfm as cfm
from causalfm.auditing import design_checks, load_policy
from causalfm.confidence import (
    alpha_in_force,
    bounds_in_force,
    level_in_force,
    percent,
    using_alpha,
    usual_alpha,
)
from causalfm.datasets.linear_scm import linear_scm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.metrics.recall import balanced_accuracy
from causalfm.results import plain
from causalfm.shift.costs.rates import Rate

SIZE = {"n_groups": 160, "new_groups": 60, "rows_per_group": 2, "d": 8, "n_sites": 8}


def test_the_level_holds_inside_the_block_and_is_given_back():
    assert (alpha_in_force(), level_in_force(), bounds_in_force()) == (0.05, 0.95, 0.9)
    with using_alpha(0.01):
        assert (alpha_in_force(), level_in_force()) == (0.01, 0.99)
        with using_alpha(0.2):
            assert bounds_in_force() == pytest.approx(0.6)
        with pytest.raises(DataError, match="n_groups >= n_sites"), using_alpha(0.2):
            linear_scm(n_groups=0)
        assert alpha_in_force() == 0.01
        assert level_in_force(0.5) == 0.5, "an explicit level wins"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(alpha_in_force()))
        thread.start()
        thread.join()
        assert seen == [0.05], "another thread has the default: intervals are made where the block was entered"
    assert alpha_in_force() == 0.05


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, 1.0, float("nan"), True])
def test_an_alpha_that_is_none(alpha):
    with pytest.raises(DataError, match="alpha="), using_alpha(alpha):
        pass


@pytest.mark.parametrize(
    ("alpha", "text"), [(0.05, "95%"), (0.01, "99%"), (0.001, "99.9%"), (0.2, "80%"), (0.1, "90%"), (0.025, "97.5%")]
)
def test_the_level_in_words(alpha, text):
    assert percent(alpha) == text


def test_what_is_usual_is_not_narrowed_by_a_large_alpha():
    assert usual_alpha() == 0.05
    for alpha, usual in ((0.2, 0.05), (0.01, 0.01)):
        with using_alpha(alpha):
            assert usual_alpha() == usual


def test_an_explicit_level_is_the_same_whatever_is_in_force():
    rate, hits = Rate(0.8, 40.0, 39.0, 40), np.array([1, 0, 1, 1, 0, 1, 1, 1] * 4, dtype=bool)
    sample = hits, np.arange(32) % 2, np.arange(32) // 2, np.ones(32)
    plainly = rate.interval(0.9), balanced_accuracy(*sample, level=0.9)[2:], rate.interval()
    with using_alpha(0.01):
        assert rate.interval(0.9) == plainly[0]
        assert balanced_accuracy(*sample, level=0.9)[2:] == plainly[1]
        wide = rate.interval()
    assert wide == rate.interval(0.99)
    assert wide[0] < plainly[2][0] < plainly[2][1] < wide[1]


def at(alpha, **more):
    return dataclasses.replace(load_policy(), alpha=alpha, permutations=99, subgroups=("age",), **more)


def model(X):
    p = 1.0 / (1.0 + np.exp(-X[:, 0]))
    return np.stack([1.0 - p, p], axis=1)


@pytest.fixture(scope="module")
def audits():
    """Audits at two or three levels: a cohort with a model, a deployment with labels and one without."""
    kept = design_checks.MOST_WORK
    design_checks.MOST_WORK = 0.0  # what the design could see stays at 5 %, and takes most of the time
    cohort, _ = linear_scm(n_groups=60, rows_per_group=2, d=6, n_sites=3, site_effect=0.6, random_state=3)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
    scanner, calm = (planted_shift(*kind, random_state=1, **SIZE)[:3] for kind in (("scanner", 2.5), ("nothing",)))
    bare = scanner[1].replace(obs=scanner[1].obs.drop(columns="tumour"))
    moved = {"deployment": scanner, "without labels": (scanner[0], bare, scanner[2]), "nothing": calm}
    try:
        found = {
            (kind, alpha): cfm.audit(reference, declared, deployment=new, policy=at(alpha))
            for kind, (reference, new, declared) in moved.items()
            for alpha in (0.2, 0.05, 0.01)
        }
        return found | {
            ("cohort", alpha): cfm.audit(cohort, graph, model=model, policy=at(alpha)) for alpha in (0.05, 0.01)
        }
    finally:
        design_checks.MOST_WORK = kept


def pairs(narrow, wide):
    """Findings of two audits that answer the same question; a wide one can ask one more (expected cost)."""
    found = {(f.question, f.factor): f for f in wide.findings}
    return [(f, found[f.question, f.factor]) for f in narrow.findings if (f.question, f.factor) in found]


KINDS = ["cohort", "deployment", "without labels", "nothing"]


@pytest.mark.parametrize(
    ("kind", "before", "after"), [*((kind, 0.05, 0.01) for kind in KINDS), *((kind, 0.2, 0.05) for kind in KINDS[1:])]
)
def test_a_smaller_alpha_widens_and_never_decides(audits, kind, before, after):
    narrow, wide = audits[kind, before], audits[kind, after]
    assert {f.question for f in narrow.findings} <= {f.question for f in wide.findings}
    for one, other in pairs(narrow, wide):
        about = f"{one.question} of {one.factor}"
        assert plain(one.value) == plain(other.value), about
        assert (one.n, one.n_groups, one.margin) == (other.n, other.n_groups, other.margin) or math.isnan(one.margin)
        if one.verdict == "cannot tell":
            assert other.verdict == "cannot tell", about
        else:
            assert other.verdict in (one.verdict, "cannot tell"), about
        if math.isnan(one.low):
            assert math.isnan(other.low), about
        elif not math.isnan(other.low):  # a ratio whose denominator is no longer told from zero has none
            assert other.low <= one.low, about
            assert other.high >= one.high, about


def test_most_intervals_are_strictly_wider(audits):
    ends = [
        (one.high - one.low, other.high - other.low)
        for kind in KINDS
        for one, other in pairs(audits[kind, 0.05], audits[kind, 0.01])
        if not (math.isnan(one.low) or math.isnan(other.low))
    ]
    assert len(ends) > 12
    assert sum(wide > narrow for narrow, wide in ends) > 0.9 * len(ends)


def intervals(value, where=""):
    """Every (low, value, high) of a nested result, under its path."""
    if isinstance(value, dict):
        ends = [value.get(key) for key in ("low", "value", "high")]
        if all(isinstance(end, float) for end in ends):
            yield where, ends
        for key, part in value.items():
            yield from intervals(part, f"{where}/{key}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from intervals(part, f"{where}/{i}")


FIXED = ("back-test", "signals", "disagreements", "self-check")  # what a verdict stands on


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_in_the_details_follow_too(audits, kind):
    """A constant that was overlooked would leave an interval of the details as it was."""
    same, every = [], 0
    for one, other in pairs(audits[kind, 0.05], audits[kind, 0.01]):
        before, after = (dict(intervals(plain(f.details))) for f in (one, other))
        for where, (low, _, high) in before.items():
            if where in after and not any(word in where for word in FIXED):
                every += 1
                assert after[where][0] <= low + 1e-12, (one.question, where)
                assert after[where][2] >= high - 1e-12, (one.question, where)
                if after[where] == [low, after[where][1], high] and high > low:
                    same.append((one.question, where))
    assert every >= 5
    assert not same


def test_reports_say_the_level(audits):
    told = " ".join(audits["cohort", 0.01].assumptions)
    assert "Intervals are 99%" in told
    assert "95%" not in told
    told = " ".join(audits["deployment", 0.2].assumptions)
    assert "Intervals are 80%" in told
    assert "one-sided 80% bound, an end of the 60% interval" in told
    assert "judged by ranges of 95%" in told
    assert audits["cohort", 0.01].policy["alpha"] == 0.01


def test_a_comparison_has_no_policy_and_stays_at_95_percent():
    cohort, _ = linear_scm(n_groups=24, rows_per_group=2, d=4, n_sites=2, site_effect=0.6, random_state=3)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    noise = np.random.default_rng(0).normal(size=cohort.X.shape).astype(cohort.X.dtype)
    both = {"a": cohort, "b": cohort.replace(X=cohort.X + noise)}
    found = []
    for alpha in (0.05, 0.2):
        with using_alpha(alpha):
            found.append(cfm.compare(both, graph, metrics=["robustness_index"], k=5))
    assert [board.rows() for board in found[0].boards] == [board.rows() for board in found[1].boards]
