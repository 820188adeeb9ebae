"""Rows, fitted and corrected: any precision, tables, parts, patients that weigh the same, constant dimensions."""

import corrector_samples
import numpy as np
import pandas as pd
import pytest
from corrector_samples import ALL, STREAMS, applied, given, scm, with_ages

from causalfm.errors import DataError
from causalfm.estimators import ComBat, MeanAligner

rows = corrector_samples.rows  # a fixture


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_parts_give_what_all_rows_at_once_give(rows, name, grouped):
    X, obs = rows
    X = X + 1e4  # far from 0: sums of squares must not drown
    whole, parts = ALL[name](), ALL[name]()
    more = given(obs) if grouped else {"biology": obs["tumour"]}
    expected = applied(whole.fit(X, obs["site"], **more), X, obs["site"])
    order = np.argsort(
        obs["site"].to_numpy() + obs["patient"].to_numpy(), kind="stable"
    )  # site by site: levels arrive late
    for part in np.array_split(order.reshape(-1, 4), 7):
        part = part.ravel()
        parts.partial_fit(X[part], obs["site"].iloc[part], **{k: v.iloc[part] for k, v in more.items()})
    np.testing.assert_allclose(applied(parts, X, obs["site"]), expected, rtol=0, atol=1e-6)
    assert set(parts.report_.given) == set(whole.report_.given)


def test_parts_that_do_not_fit_together_leave_the_corrector_as_it_was(rows):
    X, obs = rows
    corrector = ComBat().partial_fit(X, obs["site"], biology=obs["tumour"])
    before = corrector.moments_.fingerprint()
    spoiled = X.copy()
    spoiled[7, 3] = np.nan
    for call, message in (
        (lambda: corrector.partial_fit(X, obs["site"]), "it had biology, here are none"),
        (lambda: corrector.partial_fit(spoiled, obs["site"], biology=obs["tumour"]), r"1 of 360 rows \(row 7\)"),
        (lambda: corrector.partial_fit(X, obs["site"], biology=obs["tumour"], groups=obs["patient"]), "or with none"),
    ):
        with pytest.raises(DataError, match=message):
            call()
        assert corrector.moments_.fingerprint() == before
    with pytest.raises(DataError, match="compares all rows"):
        ComBat(on_violation="trim").partial_fit(X, obs["site"])
    with pytest.raises(DataError, match="in all parts"):
        MeanAligner().partial_fit(X, ["a"] * len(X)).transform(X, factor=["a"] * len(X))


@pytest.mark.parametrize("name", [*ALL, "scm"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_read_in_any_precision_and_left_as_they_are(rows, name, dtype):
    X, obs = rows
    X = X.astype(dtype)
    kept = X.copy()
    corrector = scm() if name == "scm" else with_ages(name)
    out = applied(corrector.fit(X, obs["site"], **given(obs)), X, obs["site"])
    np.testing.assert_array_equal(X, kept)
    assert out.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert not np.shares_memory(out, X)
    exact = applied(
        corrector.fit(kept.astype(np.float64), obs["site"], **given(obs)), kept.astype(np.float64), obs["site"]
    )
    np.testing.assert_allclose(out, exact, atol=1e-5)


@pytest.mark.parametrize("name", [*ALL, "scm"])
def test_rows_that_are_not_finite_are_refused_by_position(rows, name):
    X, obs = rows
    bad = X.copy()
    bad[5, 0], bad[17, 2] = np.nan, -np.inf
    corrector = scm() if name == "scm" else with_ages(name)
    with pytest.raises(DataError, match=r"2 of 360 rows \(rows 5, 17\)"):
        corrector.fit(bad, obs["site"], **given(obs))
    corrector.fit(X, obs["site"], **given(obs))
    with pytest.raises(DataError, match=r"2 of 360 rows \(rows 5, 17\)"):
        applied(corrector, bad, obs["site"])


@pytest.mark.parametrize("name", [*ALL, "scm"])
def test_tables_come_back_as_tables(rows, name):
    X, obs = rows
    frame = pd.DataFrame(X, index=obs["patient"] + "-" + obs.index.astype(str), columns=[f"z{i}" for i in range(12)])
    corrector = (scm() if name == "scm" else with_ages(name)).set_output(transform="pandas")
    out = applied(corrector.fit(frame, obs["site"], **given(obs)), frame, obs["site"])
    assert isinstance(out, pd.DataFrame)
    assert out.index.equals(frame.index)
    assert list(out.columns) == list(corrector.get_feature_names_out()) == list(frame.columns)


def test_rows_weigh_equally_and_with_groups_patients_do(rows):
    X, obs = rows
    copies = np.concatenate([np.arange(len(X)), np.flatnonzero(obs["patient"] == "p0").repeat(50)])
    many, table = X[copies], obs.iloc[copies]
    for groups in (None, "patient"):
        fits = [
            MeanAligner()
            .fit(V, t["site"], biology=t["tumour"], groups=None if groups is None else t[groups])
            .solution_["shift"]
            for V, t in ((X, obs), (many, table))
        ]
        same = np.abs(fits[0] - fits[1]).max() < 1e-9
        assert same == (groups is not None)


def test_nothing_is_learned_from_rows_that_are_corrected(rows):
    X, obs = rows
    for name, make in ALL.items():
        corrector = make().fit(X[:240], obs["site"][:240], biology=obs["tumour"][:240])
        before = {k: v.copy() for k, v in corrector.solution_.items()}
        alone = applied(corrector, X[240:250], obs["site"][240:250])
        together = applied(corrector, X[240:], obs["site"][240:])[:10]
        np.testing.assert_allclose(alone, together, atol=1e-12, err_msg=name)
        assert all(np.array_equal(before[k], corrector.solution_[k]) for k in before)


def test_constant_dimensions_come_back_constant(rows):
    X, obs = rows
    X = np.column_stack([X, np.full(len(X), 3.0), np.where(obs["site"] == "site0", 1.0, 2.0)])
    for name in ALL:
        out = applied(ALL[name]().fit(X, obs["site"]), X, obs["site"])
        assert np.isfinite(out).all(), name
        np.testing.assert_allclose(out[:, 12], 3.0, atol=1e-6, err_msg=name)
        if name in ("mean", "combat", "oracle"):
            np.testing.assert_allclose(np.ptp(out[:, 13]), 0.0, atol=1e-6, err_msg=name)
