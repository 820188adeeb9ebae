"""For whom a new hospital costs more: levels, the worst of them, the gap, and what remains of it at fixed sites."""

import numpy as np
import pandas as pd
import pytest
import shift_samples
from scipy import stats
from shift_samples import GRAPH

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.shift import as_domains, subgroup_performance

same = shift_samples.same  # a fixture


def test_subgroups_count_by_hand_and_bound_the_worst(same):
    found = subgroup_performance(same, ["scanner", "age"], edges={"age": [55, 65]}, margin=0.3)
    assert [s.column for s in found] == ["scanner", "age"]
    scanner, age = found
    part = same.deployment
    hit = part.scores.argmax(axis=1) == part.labels
    for estimate in scanner.groups:
        rows = part.cohort.obs["scanner"].to_numpy() == estimate.details["level"]
        by_hand = np.mean([hit[rows & (part.units == g)].mean() for g in np.unique(part.units[rows])])
        assert estimate.value == pytest.approx(by_hand)
    assert [e.details["level"] for e in age.groups] == ["under 55", "55 to under 65", "65 and over"]
    assert age.worst.value == min(e.value for e in age.groups)
    single = next(e for e in age.groups if e.value == age.worst.value)
    assert age.worst.low <= single.low
    assert 0.0 <= age.gap.low <= age.gap.value <= age.gap.high
    assert scanner.groups[0].details["drop"].n > 0
    assert "By scanner" in scanner.sentence


def banded(kind, seed=0, n=1600):
    """Accuracy differs by sex: itself, or only because women are seen where the model is worse."""
    rng = np.random.default_rng(seed)
    side = {}
    for name in ("reference", "deployment"):
        site = rng.integers(2, size=n)
        women = rng.random(n) < np.where(site == 0, 0.2, 0.8)
        p = 0.95 - 0.25 * (site if kind == "technical" else women)
        right, y = rng.random(n) < p, rng.integers(2, size=n)
        score = np.where(right == (y == 1), 0.9, 0.1)
        obs = pd.DataFrame(
            {
                "patient": [f"{name}{i}" for i in range(n)],
                "site": [f"{name} {s}" for s in site],
                "tumour": [f"class{k}" for k in y],
                "sex": np.where(women, "f", "m"),
                "rare": np.where(np.arange(n) < 3, "few", "many"),
            },
            index=[f"{name}{i}" for i in range(n)],
        )
        table = pd.DataFrame({"class0": 1 - score, "class1": score}, index=obs.index)
        side[name] = Cohort(rng.standard_normal((n, 2)), obs), table
    tables = {name: table for name, (_, table) in side.items()}
    return as_domains(side["reference"][0], side["deployment"][0], GRAPH, predictions=tables)


def test_a_technical_gap_vanishes_at_fixed_sites_and_another_remains():
    technical = subgroup_performance(banded("technical"), "sex", margin=0.05)[0]
    assert technical.gap.low > 0.05
    assert technical.verdict == "fail"
    assert technical.gap_fixed_class.low > 0.05  # the classes are not why
    fixed = technical.gap_fixed_site_and_class
    assert fixed.low <= 0.0 <= fixed.high
    assert "where the patients are seen" in technical.sentence
    own = subgroup_performance(banded("own"), "sex", margin=0.05)[0]
    assert own.gap_fixed_site_and_class.low > 0.1
    assert "so it remains" in own.sentence


def test_small_cells_cannot_tell_and_bad_columns_are_refused():
    domains = banded("own")
    found = subgroup_performance(domains, "rare")[0]
    assert found.verdict == "cannot tell"
    assert np.isnan(found.groups[0].value)
    assert "of 10 that are needed" in found.groups[0].details["reason"]
    with pytest.raises(DataError, match="tells units apart"):
        subgroup_performance(domains, "patient")
    with pytest.raises(DataError, match="rise"):
        subgroup_performance(domains, "sex", edges={"sex": [3, 2]})
    with pytest.raises(DataError, match="no column"):
        subgroup_performance(domains, "nothing")


def test_a_level_cannot_be_judged_by_no_patient(same):
    with pytest.raises(DataError, match=r"minimum=0: .* at least 2: an interval needs two patients"):
        subgroup_performance(same, "age", minimum=0)


def test_the_worst_of_equal_levels_is_bounded_jointly():
    """Six levels without any gap: the bounds of the worst and of the gap hold together."""
    missed = [0, 0]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        domains = banded("own", seed=seed, n=240)
        obs = domains.deployment.cohort.obs
        flat = rng.random(len(obs)) < 0.85
        score = np.where(flat == (obs["tumour"] == "class1"), 0.9, 0.1)
        cohort = domains.deployment.cohort.replace(obs=obs.assign(lab=rng.integers(6, size=len(obs)).astype(str)))
        tables = {
            "reference": pd.DataFrame(
                domains.reference.scores, index=domains.reference.cohort.obs.index, columns=list(domains.classes)
            ),
            "deployment": pd.DataFrame({"class0": 1 - score, "class1": score}, index=obs.index),
        }
        lab = domains.reference.cohort.replace(obs=domains.reference.cohort.obs.assign(lab="0"))
        found = subgroup_performance(as_domains(lab, cohort, GRAPH, predictions=tables), "lab")[0]
        missed[0] += not found.worst.low <= 0.85 <= found.worst.high
        missed[1] += found.gap.low > 0.0
    assert max(missed) <= stats.binom.ppf(0.9995, 60, 0.05)
