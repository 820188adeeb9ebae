"""What a comparison refuses: other rows, other columns, wrong arguments, encoders without name or company."""

import comparison_samples
import numpy as np
import pandas as pd
import pytest
from comparison_samples import GRAPH, INDEX

import causalfm as cfm
from causalfm.errors import DataError

encoders = comparison_samples.encoders  # a fixture


def shuffled(cohort: cfm.Cohort) -> cfm.Cohort:
    return cohort[np.random.default_rng(0).permutation(len(cohort))]


def with_ids(cohort: cfm.Cohort, ids) -> cfm.Cohort:
    obs = cohort.obs.assign(patient="SENTINEL-" + cohort.obs["patient"].astype(str))
    return cohort.replace(obs=obs.set_index(pd.Index([f"SENTINEL-{i}" for i in ids])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[: len(c) - 4], r"160 and 156 rows"),
        (
            lambda c: c.replace(obs=c.obs.assign(site=c.obs["site"].where(c.obs.index != 7, "site9"))),
            r"'site' \(row 7\)",
        ),
        (lambda c: with_ids(c, range(1, 161)), r"row ids that are not the same \(rows 0, 1"),
        (lambda c: with_ids(c[::-1], range(159, -1, -1)), r"row ids that are in another order"),
        (lambda c: shuffled(c).replace(obs=shuffled(c).obs.reset_index(drop=True)), r"differ in column"),
        (lambda c: c.replace(obs=c.obs.drop(columns="site")), r"no column 'site'"),
        (lambda c: "not a cohort", r"must be a Cohort"),
    ],
)
def test_rows_that_differ_are_refused_without_ids(encoders, change, message) -> None:
    plain = encoders["plain"]
    base = with_ids(plain, range(160)) if "ids" in message else plain
    with pytest.raises(DataError, match=message) as error:
        cfm.compare({"a": base, "b": change(plain)}, GRAPH, metrics=INDEX)
    assert "SENTINEL" not in str(error.value)


def test_categories_in_another_order_pair_the_same_patients(encoders) -> None:
    """Coded in its own order, the second table paired patients with others and had other tables, without a word."""
    plain, centred = encoders["plain"], encoders["centred"]
    obs = centred.obs.copy()
    for column in ("patient", "tumour", "site"):
        levels = sorted(obs[column].unique())
        obs[column] = pd.Categorical(obs[column], categories=np.random.default_rng(1).permutation(levels))
    asked = {"metrics": ["robustness_index", "reference_index", "biology_readout"]}
    expected, found = (
        cfm.compare({"a": plain, "b": other}, GRAPH, **asked).contrasts()
        for other in (centred, centred.replace(obs=obs))
    )
    pd.testing.assert_frame_equal(found, expected)


def test_patient_numbers_beyond_those_of_floats_are_not_equal(encoders) -> None:
    plain = encoders["plain"]
    number = 2**60 + pd.factorize(plain.obs["patient"])[0]
    a, b = (plain.replace(obs=plain.obs.assign(patient=number + shift)) for shift in (0, 1))
    with pytest.raises(DataError, match="differ in column 'patient'"):
        cfm.compare({"a": a, "b": b}, GRAPH, metrics=INDEX)


def test_the_same_table_in_other_types_is_the_same(encoders) -> None:
    plain = encoders["plain"]
    obs = plain.obs.assign(site=plain.obs["site"].astype("category"), extra=1.0)
    found = cfm.compare({"a": with_ids(plain, range(160)), "b": with_ids(plain.replace(obs=obs), range(160))}, GRAPH,
                        metrics=INDEX)  # fmt: skip
    text = found.to_html() + found.to_markdown() + found.to_json()
    assert "SENTINEL" not in text
    assert (found.contrasts()["difference"] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["robustnes_index"]}, "Did you mean 'robustness_index'"),
        ({"metrics": []}, "names no measure"),
        ({"metrics": {"mine": 3}}, "cannot be called"),
        ({"confounder": "tumour"}, "no technical factor"),
        ({"k": 0}, "whole number"),
        ({"random_state": -1}, "whole number"),
        ({"missing": "guess"}, "not a policy"),
    ],
)
def test_bad_arguments(encoders, arguments, message) -> None:
    with pytest.raises(DataError, match=message):
        cfm.compare(encoders, GRAPH, **arguments)


def test_encoders_need_names_and_company(encoders) -> None:
    for cohorts, message in [({"a": encoders["plain"]}, "nothing to compare"), ([1, 2], "dictionary"),
                             ({"": encoders["plain"], "b": encoders["plain"]}, "no name")]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            cfm.compare(cohorts, GRAPH)
    broken = encoders["plain"].replace(X=np.where(np.arange(160)[:, None] == 4, 0.0, encoders["plain"].X))
    with pytest.raises(DataError, match="encoder 'b': X has 1 zero or non-finite rows"):
        cfm.compare({"a": encoders["plain"], "b": broken}, GRAPH)


def test_missing_values_are_handled_alike(encoders) -> None:
    holed = {}
    for name, cohort in encoders.items():
        holed[name] = cohort.replace(obs=cohort.obs.assign(site=cohort.obs["site"].where(cohort.obs.index > 9)))
    with pytest.raises(DataError, match="missing"):
        cfm.compare(holed, GRAPH, metrics=INDEX)
    found = cfm.compare(holed, GRAPH, metrics=INDEX, missing="drop")
    assert found.data["rows"] == 150
