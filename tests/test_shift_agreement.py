"""Parts of a deployment's report agree with each other, and do not depend on how rows and levels are written down."""

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.auditing import load_policy
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.shift import (
    as_domains,
    attribution,
    case_mix,
    column_shifts,
    label_free_performance,
    measured_performance,
    sign_reversals,
    support,
    support_split,
)

CALLS = {
    "measured": lambda d: measured_performance(d, margin=0.05),
    "label free": lambda d: label_free_performance(d, margin=0.05),
    "case mix": lambda d: case_mix(d, n_boot=40),
    "support": support,
    "attribution": attribution,
    "split": support_split,
    "reversals": sign_reversals,
}


@pytest.fixture(scope="module")
def cohorts():
    return planted_shift("covariate", n_groups=120, new_groups=40, n_sites=9, d=8, effect_seed=3)[:3]


@pytest.fixture(scope="module")
def domains(cohorts):
    return as_domains(*cohorts)


def doubled(cohort):
    """Give all rows of every third patient twice."""
    units = cohort.obs["patient"]
    again = np.flatnonzero(units.isin(np.unique(units)[::3]).to_numpy())
    rows = np.concatenate([np.arange(len(cohort)), again])
    obs = cohort.obs.iloc[rows].set_axis(pd.Index([f"row{i}" for i in range(len(rows))]))
    return cfm.Cohort(np.asarray(cohort.X)[rows], obs)


def numbers(value, path=""):
    """List the numbers of a result, but for counts of rows."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in numbers(one, f"{path}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, one in enumerate(value) for k, v in numbers(one, f"{path}[{i}]").items()}
    counts = path.endswith((".n", "rows")) or ".outside_rows" in path
    return {path: float(value)} if isinstance(value, int | float) and not counts else {}


@pytest.mark.parametrize("name", CALLS)
def test_rows_given_twice_change_nothing(cohorts, domains, name):
    reference, deployment, graph = cohorts
    call = CALLS[name]
    before = numbers(call(domains).to_dict())
    after = numbers(call(as_domains(doubled(reference), doubled(deployment), graph)).to_dict())
    assert before.keys() == after.keys()
    assert len(before) > 5
    off = [key for key in before if after[key] != pytest.approx(before[key], rel=1e-5, abs=1e-6, nan_ok=True)]
    assert not off


def test_no_class_is_special(cohorts, domains):
    """Indicators of all levels but the first called the other class the baseline, and gave other shares."""

    def swapped(cohort):
        return cohort.replace(obs=cohort.obs.assign(tumour=cohort.obs["tumour"].map({"class0": "z", "class1": "a"})))

    reference, deployment, graph = cohorts
    other = as_domains(swapped(reference), swapped(deployment), graph)
    for call in (attribution, support_split):
        mine, renamed = call(domains), call(other)
        assert renamed.verdict == mine.verdict
        assert numbers(renamed.to_dict()) == pytest.approx(numbers(mine.to_dict()), abs=1e-6, nan_ok=True)


def test_a_cause_without_overlap_does_not_silence_what_comes_after_it(domains):
    """Age is beyond the reference's; the tumour given age was too, but not the tumour."""
    found = attribution(domains)
    assert {"site", "age"} == set(found.details["left_out"])
    assert "P(tumour)" in [share.mechanism for share in found.shares if share.told]


def test_the_drop_has_one_interval(domains):
    drop = measured_performance(domains).drop
    for found in (attribution(domains), support_split(domains), sign_reversals(domains)):
        assert (found.drop, found.low, found.high) == pytest.approx((drop.value, drop.low, drop.high), abs=1e-12)


def test_a_small_drop_hides_nothing_whatever_its_sign():
    domains = as_domains(*planted_shift("nothing", n_groups=1500, new_groups=1500, rows_per_group=1, d=4)[:3])
    loose = sign_reversals(domains, margin=0.2)
    assert loose.verdict == "pass"
    assert max(w.high for w in loose.within) < 0.2
    assert sign_reversals(domains).verdict != "fail"
    assert support_split(domains, margin=0.2).verdict == "pass"
    assert support_split(domains, margin=-0.2).verdict == "fail"


def test_a_split_that_loses_more_than_the_margin_does_not_pass(domains):
    assert support_split(domains).verdict == "pass"  # no margin: it was answered
    assert support_split(domains, margin=0.01).verdict == "cannot tell"


def policy(folder, *columns):
    file = folder / "policy.yaml"
    file.write_text(f"version: 1\nname: p\nsubgroups: [{', '.join(columns)}]\nsubgroup_gap: 0.9\npermutations: 99\n")
    return load_policy(file)


def test_a_gap_of_the_reference_passes_no_deployment(cohorts, tmp_path):
    reference, deployment, graph = cohorts
    blind = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    audit = cfm.audit(reference, graph, deployment=blind, policy=policy(tmp_path, "scanner"))
    found = next(f for f in audit.findings if f.question == "subgroups")
    assert found.high < 0.9
    assert found.verdict == "cannot tell"
    assert "in the reference" in found.sentence


def test_a_subgroup_that_is_no_column_is_refused_by_policy_key(cohorts, tmp_path):
    reference, deployment, graph = cohorts
    with pytest.raises(DataError, match=r"policy key 'subgroups' names 'sexx', and the reference has no such column"):
        cfm.audit(reference, graph, deployment=deployment, policy=policy(tmp_path, "sexx"))
    less = deployment.replace(obs=deployment.obs.drop(columns="scanner"))
    plain = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    with pytest.raises(DataError, match=r"policy key 'subgroups' names 'scanner', and the deployment"):
        cfm.audit(reference, plain, deployment=less, policy=policy(tmp_path, "scanner"))


def test_findings_count_their_units_and_columns_say_no_interval_where_there_is_none(cohorts, tmp_path):
    reference, deployment, graph = cohorts
    audit = cfm.audit(reference, graph, deployment=deployment, policy=policy(tmp_path))
    assert {f.question: f.n_groups for f in audit.findings if f.question in ("why", "split", "reversal")} == {
        "why": 160,
        "split": 160,
        "reversal": 160,
    }
    one = deployment[(deployment.obs["patient"] == deployment.obs["patient"].iloc[0]).to_numpy()]
    assert "nan" not in column_shifts(as_domains(reference, one, graph)).sentence


def test_a_reference_of_five_patients_and_a_policy_without_any_drop_are_answered(cohorts, tmp_path):
    reference, deployment, graph = cohorts
    few = reference[reference.obs["patient"].isin(np.unique(reference.obs["patient"])[:5]).to_numpy()]
    assert as_domains(few, deployment, graph).n_reference_sites > 1
    file = tmp_path / "strict.yaml"
    file.write_text("version: 1\nname: p\nperformance_drop: 0\npermutations: 99\n")
    audit = cfm.audit(few, graph, deployment=deployment, policy=load_policy(file))
    by = {f.question: f for f in audit.findings}
    assert (by["cost"].margin, by["drift"].verdict) == (0.0, "cannot tell")


def test_missing_values_of_the_deployment_are_said_to_be_its_own_and_counted(cohorts):
    reference, deployment, graph = cohorts
    holes = deployment.replace(obs=deployment.obs.assign(age=deployment.obs["age"].where(np.arange(160) % 5 > 0)))
    with pytest.raises(DataError, match="deployment: column 'age' has 32 missing values"):
        cfm.audit(reference, graph, deployment=holes)
    audit = cfm.audit(reference, graph, deployment=holes, missing="drop")
    assert audit.data["deployment_rows"] == 128
    assert audit.data["deployment_info_missing"][0]["rows_dropped"] == 32
