"""The contract of the correctors: what they read, refuse, state, and save."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from corrector_samples import ALL, SITE_WISE, STREAMS, applied, gaps, sample, with_ages
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import ComBat, LinearEraser, MeanAligner, NuisanceSubspace, SCMCorrector, TransportAligner
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group="patient")


@pytest.fixture(scope="module")
def rows():
    return sample(variance_by_site=0.4)[:2]


def given(obs, part=slice(None)):
    return {
        "biology": obs["tumour"].iloc[part],
        "covariates": obs[["age"]].iloc[part],
        "groups": obs["patient"].iloc[part],
    }


def scm(**settings):
    return SCMCorrector(GRAPH, **settings)


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


@pytest.mark.parametrize("name", [*SITE_WISE, "scm"])
def test_levels_are_asked_for(rows, name):
    X, obs = rows
    corrector = (scm() if name == "scm" else with_ages(name)).fit(X, obs["site"], **given(obs))
    with pytest.raises(DataError, match=r"transform\(X, factor=...\) needs them"):
        corrector.transform(X)


@pytest.mark.parametrize("name", ALL)
def test_pipelines_route_the_levels_where_routing_is_on(rows, name):
    X, obs = rows
    site, tumour = obs["site"].to_numpy(), obs["tumour"].to_numpy()
    with config_context(enable_metadata_routing=True):
        corrector = ALL[name]().set_fit_request(factor=True, biology=True)
        if hasattr(corrector, "unseen"):
            corrector.set_transform_request(factor=True)
        pipeline = make_pipeline(StandardScaler(), corrector, LogisticRegression())
        pipeline.fit(X, tumour, factor=site, biology=tumour)  # y is the outcome: the site travels beside it
        more = {"factor": site} if hasattr(corrector, "unseen") else {}
        scaled = StandardScaler().fit_transform(X)
        seen = applied(ALL[name]().fit(scaled, site, biology=tumour), scaled, site)
        np.testing.assert_allclose(pipeline[:-1].transform(X, **more), seen, atol=1e-10)
        params = {"factor": site, "biology": tumour}
        assert cross_val_score(pipeline, X, tumour, cv=3, params=params).min() > 0.5


def test_routing_stays_off(rows):
    X, obs = rows
    MeanAligner().fit_transform(X, obs["site"])
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        MeanAligner().set_transform_request(factor=True)


def test_label_free_correctors_take_their_place_in_a_pipeline_as_they_are(rows):
    X, obs = rows
    score = cross_val_score(make_pipeline(LinearEraser(), LogisticRegression()), X, obs["site"], cv=3).mean()
    assert score < 0.5 < cross_val_score(LogisticRegression(), X, obs["site"], cv=3).mean()


@pytest.mark.parametrize("name", [*ALL, "scm"])
def test_tables_come_back_as_tables(rows, name):
    X, obs = rows
    frame = pd.DataFrame(X, index=obs["patient"] + "-" + obs.index.astype(str), columns=[f"z{i}" for i in range(12)])
    corrector = (scm() if name == "scm" else with_ages(name)).set_output(transform="pandas")
    out = applied(corrector.fit(frame, obs["site"], **given(obs)), frame, obs["site"])
    assert isinstance(out, pd.DataFrame)
    assert out.index.equals(frame.index)
    assert list(out.columns) == list(corrector.get_feature_names_out()) == list(frame.columns)


@pytest.mark.parametrize("name", [*SITE_WISE, "scm"])
def test_levels_never_seen_follow_the_policy(rows, name):
    X, obs = rows
    make = (lambda **k: scm(**k)) if name == "scm" else SITE_WISE[name]
    met = obs["site"].where(obs["site"] != "site2", "elsewhere")
    new = (met == "elsewhere").to_numpy()
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    more = {"biology": obs["tumour"], "groups": obs["patient"]}
    out = {}
    for policy in ("refuse", "shrink", "adapt"):
        corrector = make(unseen=policy)
        if name == "scm":
            corrector.set_params(graph=graph)
        corrector.fit(X, obs["site"], **more)
        seen = applied(corrector, X, obs["site"])
        if policy == "refuse":
            with pytest.raises(DataError, match="elsewhere"):
                applied(corrector, X, met)
            continue
        out[policy] = applied(corrector, X, met)
        np.testing.assert_allclose(out[policy][~new], seen[~new], atol=1e-10)  # other rows are none of its business
        if policy == "shrink":  # nothing is known of the level: its rows keep their distances
            assert np.abs(out[policy][new] - X[new]).max() < 1.5
    before = {k: np.linalg.norm((v[new] - seen[new]).mean(axis=0)) for k, v in out.items()}
    assert before["adapt"] < 0.5 * before["shrink"]


@pytest.mark.parametrize("name", SITE_WISE)
def test_a_level_met_again_under_another_name_is_learned_again(rows, name):
    X, obs = rows
    met = obs["site"].where(obs["site"] != "site1", "again")
    corrector = SITE_WISE[name](unseen="adapt").fit(X, obs["site"], biology=obs["tumour"])
    seen = corrector.transform_given(X, obs["site"], biology=obs["tumour"])
    again = corrector.transform_given(X, met, biology=obs["tumour"])
    assert np.abs(again - seen).mean() < 0.05 * np.abs(seen - X).mean() + 0.02


def test_what_is_done_to_each_level_is_stated(rows):
    X, obs = rows
    corrector = MeanAligner(unseen="adapt").fit(X, obs["site"], **given(obs))
    account = corrector.account(["site0", "new", "new"])
    assert [(r["level"], r["rows"], r["seen"]) for r in account.rows()] == [("new", 2, False), ("site0", 1, True)]
    assert "mix of the fit" in account.rows()[0]["done"]
    report = corrector.report_
    assert report.unit == "groups"
    assert report.given == ("biology", "age")
    assert sum(r["weight"] for r in report.rows()) == pytest.approx(90)
    assert sum(r["rows"] for r in report.rows()) == 360
    assert "add up" in report.assumptions
    assert json.dumps(report.to_dict())
    assert LinearEraser().fit(X, obs["site"]).account(["other"]).rows()[0]["done"] == "erased without its level"
    two = (obs["site"] != "site2").to_numpy()
    corrector = MeanAligner(unseen="shrink").fit(X[two], obs["site"][two])
    with pytest.raises(DataError, match="at least 3 levels"):
        corrector.transform(X, factor=obs["site"])


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


@pytest.mark.parametrize("name", ALL)
def test_biology_that_goes_with_the_site_is_refused_with_the_table_and_can_be_trimmed(name):
    X, obs, _ = sample(n_groups=120, n_sites=4, confounding=0.0)
    alone = obs["site"].isin(["site0", "site1"]).to_numpy()
    biology = obs["tumour"].where(alone, np.where(obs["site"] == "site2", "class2", "class3"))
    with pytest.raises(NotIdentifiedError, match=r"Rows by level: site0: .*class0 60, class1 60.*site2: .*class2 120"):
        ALL[name]().fit(X, obs["site"], biology=biology)
    corrector = ALL[name](on_violation="trim").fit(X, obs["site"], biology=biology, groups=obs["patient"])
    assert corrector.levels_ == ("site0", "site1")
    assert "60 of 120 groups lie in the common support" in corrector.report_.trimmed
    part = ALL[name]().fit(X[alone], obs["site"][alone], biology=biology[alone], groups=obs["patient"][alone])
    levels = obs["site"][alone]
    np.testing.assert_allclose(applied(corrector, X[alone], levels), applied(part, X[alone], levels), atol=1e-10)
    with pytest.raises(DataError, match="nothing is left to compare"):
        ALL[name](on_violation="trim").fit(X, obs["site"], biology=obs["site"])
    if name in STREAMS:
        with pytest.raises(NotIdentifiedError, match=r"Rows by level: site0: site0 120, site1 0"):
            ALL[name]().partial_fit(X, obs["site"], biology=obs["site"])._solved()


@pytest.mark.parametrize("name", ["Z", "group", "y", "technical", "covariate Z", "a; b -> c", "{x}"])
def test_covariates_may_be_named_like_what_trimming_uses_inside(name):
    X, obs, _ = sample(n_groups=120, n_sites=4, confounding=0.0)
    alone = obs["site"].isin(["site0", "site1"]).to_numpy()
    biology = obs["tumour"].where(alone, np.where(obs["site"] == "site2", "class2", "class3"))
    levels, out = obs["site"][alone], []
    for label in ("age", name):
        covariates = obs[["age"]].set_axis([label], axis=1)
        corrector = MeanAligner(on_violation="trim").fit(
            X, obs["site"], biology=biology, covariates=covariates, groups=obs["patient"]
        )
        out.append(corrector.transform(X[alone], factor=levels))
    np.testing.assert_array_equal(out[0], out[1])
    assert name in corrector.report_.trimmed


def test_the_causal_model_refuses_and_trims_too():
    X, obs, _ = sample(n_groups=120, n_sites=4, confounding=0.0)
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    alone = obs["site"].isin(["site0", "site1"]).to_numpy()
    more = {
        "biology": obs["tumour"].where(alone, np.where(obs["site"] == "site2", "class2", "class3")),
        "groups": obs["patient"],
    }
    with pytest.raises(DataError, match="site2"):
        SCMCorrector(graph).fit(X, obs["site"], **more)
    corrector = SCMCorrector(graph, on_violation="trim").fit(X, obs["site"], **more)
    assert corrector.targets_ == [{"site": "site0"}, {"site": "site1"}]
    assert "60 of 120 patients" in corrector.trimmed_


@pytest.mark.parametrize(("group", "specimen"), [("patient", "patient"), (["slide", "patient"], "tissue")])
def test_the_causal_model_counts_patients_whatever_else_the_graph_names_of_them(rows, group, specimen):
    """A specimen that is the unit was numbered row by row, and so was the unit."""
    X, obs = rows
    graph = CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group=group, specimen=specimen)
    found, plain = (SCMCorrector(g).fit(X, obs["site"], **given(obs)) for g in (graph, GRAPH))
    assert found.scm_.fitted.n_groups == plain.scm_.fitted.n_groups == obs["patient"].nunique()
    np.testing.assert_array_equal(found.transform(X, obs["site"]), plain.transform(X, obs["site"]))


def test_the_causal_model_moves_technical_paths_only():
    X, obs, _ = sample(n_groups=240, n_scanners=2, scanner_effect=1.0, confounding=0.4)
    more = {"biology": obs["tumour"], "groups": obs["patient"]}
    factor, arrows = obs[["site", "scanner"]], "site -> scanner; {site, scanner, tumour} -> Z; "
    roles = {"biology": "tumour", "technical": ["site", "scanner"], "group": "patient"}
    causal, referral = (CausalGraph(arrows + a, **roles) for a in ("site -> tumour", "site <-> tumour"))
    out = [SCMCorrector(g).fit_transform(X, factor, **more) for g in (causal, referral)]
    np.testing.assert_allclose(out[0], out[1], atol=1e-12)  # case mix is no technical path
    for name in ("site", "scanner"):
        assert (
            np.abs(gaps(out[0], obs[name], obs["tumour"])).max() < 0.5 * np.abs(gaps(X, obs[name], obs["tumour"])).max()
        )
    held = SCMCorrector(referral, reference={"site": "site1", "scanner": "scanner0"}).fit(X, factor, **more)
    at_home = ((obs["site"] == "site1") & (obs["scanner"] == "scanner0")).to_numpy()
    moved = held.transform(X, factor=factor)
    np.testing.assert_allclose(moved[at_home], X[at_home], atol=1e-12)
    np.testing.assert_allclose(
        moved, held.scm_.counterfactual(held._cohort(X, factor, **more, covariates=None), held.targets_[0]).X
    )
    new = factor.assign(site=factor["site"].replace("site2", "elsewhere"))
    account = held.set_params(unseen="adapt").account(new).to_frame().set_index("level")
    assert account.loc["elsewhere + scanner1", "done"].startswith("new level: learned")
    assert account.loc["site0 + scanner1", "done"] == "moved to site=site1, scanner=scanner0"
    assert account["rows"].sum() == len(X)
    stretched = SCMCorrector(referral, mechanism="location-scale").fit(X, factor, **more)
    with pytest.raises(DataError, match="use transform_given"):
        stretched.transform(X, factor=factor)
    assert stretched.transform_given(X, factor, **more).shape == X.shape


ELSEWHERE = """
import sys
import numpy as np
from causalfm import estimators
cls, folder = getattr(estimators, sys.argv[1]), sys.argv[2]
data = np.load(folder + "/rows.npz")
corrector = cls.load(folder + "/corrector.safetensors")
more = {"factor": data["y"]} if hasattr(corrector, "unseen") else {}
np.save(folder + "/there.npy", corrector.transform(data["X"], **more))
"""


@pytest.mark.parametrize("name", [*ALL, "scm"])
def test_a_saved_corrector_does_the_same_elsewhere(rows, name, tmp_path):
    X, obs = rows
    corrector = (scm() if name == "scm" else with_ages(name)).fit(
        pd.DataFrame(X).add_prefix("z"), obs["site"], **given(obs)
    )
    corrector.save(tmp_path / "corrector.safetensors")
    again = type(corrector).load(tmp_path / "corrector.safetensors")
    here = applied(corrector, pd.DataFrame(X).add_prefix("z"), obs["site"])
    np.testing.assert_array_equal(applied(again, pd.DataFrame(X).add_prefix("z"), obs["site"]), here)
    assert again.get_feature_names_out().tolist() == [f"z{i}" for i in range(12)]
    if name != "scm":
        assert again.report_ == corrector.report_
        assert again.get_params() == corrector.get_params()
        assert hasattr(again, "partial_fit") == (name in STREAMS)
    if name in STREAMS:
        with pytest.raises(DataError, match="read from a file"):
            again.partial_fit(pd.DataFrame(X).add_prefix("z"), obs["site"], **given(obs))
    content = (tmp_path / "corrector.safetensors").read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]  # two bytes of the arrays may spell anything
    assert header.startswith(b"{")
    assert b"p7" not in header
    if name in ("leace", "combat", "scm"):  # a process costs seconds
        bare = (scm() if name == "scm" else with_ages(name)).fit(X, obs["site"], **given(obs))
        bare.save(tmp_path / "corrector.safetensors")
        np.savez(tmp_path / "rows.npz", X=X, y=obs["site"].to_numpy(str))
        code = [sys.executable, "-c", ELSEWHERE, type(bare).__name__, str(tmp_path)]
        done = subprocess.run(code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), applied(bare, X, obs["site"]))


@pytest.mark.parametrize("policy", ["adapt", "shrink"])
@pytest.mark.parametrize("name", SITE_WISE)
def test_a_saved_corrector_does_the_same_at_new_levels(rows, name, policy, tmp_path):
    X, obs = rows
    corrector = with_ages(name, unseen=policy).fit(X, obs["site"], **given(obs))
    corrector.save(tmp_path / "corrector.safetensors")
    again = type(corrector).load(tmp_path / "corrector.safetensors")
    for key, value in corrector.solution_.items():
        assert np.shape(again.solution_[key]) == np.shape(value), key  # a number stays a number
    new = np.full(len(X), "elsewhere")
    np.testing.assert_array_equal(again.transform(X, factor=new), corrector.transform(X, factor=new))


def edit(path, change, header=None):
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    change(arrays)
    if header is not None:
        metadata["header"] = json.dumps({**json.loads(metadata["header"]), **header}, sort_keys=True)
    save_file(arrays, path, metadata=metadata)


def nudge(arrays):
    arrays["shift"][0, 0] += 1e-3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: edit(p, nudge), "changed after it was saved"),
        (lambda p: edit(p, lambda a: None, header={"levels": ["a", "b", "c"]}), "changed after it was saved"),
        (
            lambda p: edit(p, lambda a: None, header={"schema": 9, "causalfm": "9.9"}),
            "schema 9, written by causalfm 9.9",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:-50]), "no saved ComBat, or is damaged"),
        (lambda p: p.write_bytes(b"\x80\x04pickle"), "damaged"),
        (lambda p: MeanAligner().fit(np.eye(4), [0, 0, 1, 1]).save(p), "holds a causalfm.MeanAligner"),
    ],
)
def test_a_file_that_is_not_what_was_saved_is_refused(rows, tmp_path, spoil, message):
    X, obs = rows
    path = tmp_path / "c.safetensors"
    ComBat().fit(X, obs["site"]).save(path)
    ComBat.load(path)
    spoil(path)
    with pytest.raises(DataError, match=message):
        ComBat.load(path)


SENTINEL = "Jane-Doe-1234"


@pytest.mark.parametrize("name", ALL)
def test_no_message_names_a_patient(rows, name):
    X, obs = rows
    for spoilt, message in (
        ([SENTINEL] * (len(X) - 1), "groups has 359 values and X has 360"),
        (np.where(np.arange(len(X)) == 3, None, SENTINEL), r"'groups' has 1 missing values of 360 \(row 3\)"),
    ):
        with pytest.raises(DataError, match=message) as error:
            ALL[name]().fit(X, obs["site"], groups=spoilt)
        assert SENTINEL not in str(error.value)
    with pytest.raises(DataError, match="varies within 1 of 1 levels of the independent unit") as error:
        ALL[name](on_violation="trim").fit(X, obs["site"], biology=obs["site"], groups=[SENTINEL] * len(X))
    assert SENTINEL not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, o: MeanAligner(shrinkage="some").fit(X, o["site"]), "shrinkage='some'"),
        (lambda X, o: MeanAligner(unseen="guess").fit(X, o["site"]), "unseen='guess'"),
        (lambda X, o: MeanAligner(on_violation="warn").fit(X, o["site"]), "on_violation='warn'"),
        (lambda X, o: MeanAligner(reference="site9").fit(X, o["site"]), "Did you mean 'site"),
        (lambda X, o: ComBat(prior="none").fit(X, o["site"]), "prior='none'"),
        (lambda X, o: ComBat(covbat=2.0).fit(X, o["site"]), r"share in \(0, 1\]"),
        (lambda X, o: ComBat().fit(X[:3], ["a", "a", "b"]), "fewer at b"),
        (lambda X, o: LinearEraser(form="cubic").fit(X, o["site"]), "form='cubic'"),
        (lambda X, o: NuisanceSubspace(n_directions=3).fit(X, o["site"]), "2 directions tell 3 levels apart"),
        (lambda X, o: MeanAligner().fit(X, None), "the target y is None"),
        (lambda X, o: MeanAligner().fit(X, o["site"], biology=o["tumour"][:5]), "biology has 5 values and X has 360"),
        (
            lambda X, o: MeanAligner().fit(X, o["site"].where(o.index != 4)),
            r"'y' has 1 missing values of 360 \(row 4\)",
        ),
        (
            lambda X, o: MeanAligner().fit(X, o["site"], covariates=o["age"].where(o.index != 4)),
            "not finite in row 4",
        ),
        (lambda X, o: MeanAligner().fit(X, o["site"], covariates=o[["age"]].set_axis(["a=b"], axis=1)), "without '='"),
        (
            lambda X, o: ComBat().fit(X, o["site"], biology=o["tumour"]).transform_given(X, o["site"]),
            "it had biology, here are none",
        ),
        (
            lambda X, o: (
                ComBat().fit(X, o["site"], biology=o["tumour"]).transform_given(X, o["site"], biology=["class7"] * 360)
            ),
            "levels that the fit never saw: 'class7'",
        ),
        (
            lambda X, o: (
                MeanAligner()
                .fit(X, o["site"], covariates=o[["age"]] > 50)
                .transform_given(X, o["site"], covariates=o[["age"]])
            ),
            "'age' had levels at the fit and has numbers here",
        ),
        (
            lambda X, o: (
                MeanAligner()
                .partial_fit(X, o["site"], covariates=o[["age"]])
                .partial_fit(X, o["site"], covariates=o[["age"]].astype(str))
            ),
            "'age' had numbers at the fit and has levels here",
        ),
        (lambda X, o: TransportAligner().fit(np.ones_like(X), o["site"]), "no covariance to move"),
        (lambda X, o: scm().fit(X, o["site"], biology=o["tumour"]), "covariates lacks 'age'"),
        (lambda X, o: scm().fit(X, o["site"]), "pass biology="),
        (
            lambda X, o: scm().fit(X, o["site"].where(o.index != 4), biology=o["tumour"], covariates=o),
            r"1 missing values of 360 \(row 4\): complete it, or leave these rows out",
        ),
        (
            lambda X, o: (
                scm()
                .fit(X, o["site"], biology=o["tumour"], covariates=o)
                .transform(X, factor=o["site"].replace("site1", "new"))
            ),
            "if technical, make the model with unseen='shrink' or 'adapt'",
        ),
        (lambda X, o: SCMCorrector().fit(X, o["site"]), "graph must be a CausalGraph"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_way_out(rows, call, message):
    X, obs = rows
    with pytest.raises(DataError, match=message):
        call(X, obs)


@pytest.mark.parametrize("name", ALL)
def test_a_fit_that_is_refused_leaves_nothing_of_an_earlier_one(rows, name):
    X, obs = rows
    corrector = ALL[name]().fit(X, obs["site"])
    with pytest.raises(NotIdentifiedError, match="Rows by level: other: "):
        corrector.fit(X, obs["site"].replace("site2", "other"), biology=obs["site"])
    with pytest.raises(NotIdentifiedError, match="Rows by level: other: "):
        applied(corrector, X, obs["site"].replace("site2", "other"))


@pytest.mark.parametrize(
    ("corrector", "change", "message"),
    [
        (
            LinearEraser(),
            {"form": "oracle"},
            "form='leace' at the fit and form='oracle' now: fit again, or set it back",
        ),
        (ComBat(), {"covbat": 0.9}, "covbat=None at the fit and covbat=0.9 now"),
        (MeanAligner(), {"reference": "site1"}, "reference=None at the fit"),
    ],
)
def test_settings_that_are_changed_after_the_fit_are_refused(rows, tmp_path, corrector, change, message):
    X, obs = rows
    corrector.fit(X, obs["site"])
    was = applied(corrector, X, obs["site"])
    corrector.set_params(**change)
    for call in (
        lambda: applied(corrector, X, obs["site"]),
        lambda: corrector.partial_fit(X, obs["site"]),
        lambda: corrector.save(tmp_path / "c.safetensors"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    corrector.set_params(**dict.fromkeys(change, "leace" if "form" in change else None))
    np.testing.assert_array_equal(applied(corrector, X, obs["site"]), was)
    corrector.set_params(unseen="adapt")  # what is done with new levels is no part of the fit
    np.testing.assert_array_equal(applied(corrector, X, obs["site"]), was)
    corrector.set_params(**change).fit(X, obs["site"])
    assert np.isfinite(applied(corrector, X, obs["site"])).all()


def test_new_rows_count_as_patients_where_the_fit_counted_them(rows):
    X, obs = rows
    part = (obs["site"] != "site2").to_numpy()
    moved = {}
    for copies in (1, 5):  # of every row, at the fit and at the new site alike: no more patients than before
        at = np.repeat(np.flatnonzero(part), copies)
        corrector = MeanAligner(shrinkage="empirical-bayes", unseen="adapt")
        corrector.fit(X[at], obs["site"].iloc[at], groups=obs["patient"].iloc[at])
        new = np.repeat(np.flatnonzero(~part)[:8], copies)
        moved[copies] = corrector.transform(X[new], factor=obs["site"].iloc[new])[::copies]
    np.testing.assert_allclose(moved[1], moved[5], atol=1e-8)


def test_covariances_that_no_memory_holds_are_refused_before_the_work():
    X, y = np.zeros((2000, 1536), dtype=np.float32), np.arange(2000) // 2
    with pytest.raises(DataError, match=r"1000 levels with a covariance of 1536 x 1536 each take 19 GB"):
        LinearEraser(form="quadratic").fit(X, y)


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


LOADED = """
import sys
import causalfm.estimators, causalfm.estimators.correctors
assert not {"sklearn", "torch", "safetensors"} & set(sys.modules), sorted({"sklearn", "torch"} & set(sys.modules))
causalfm.estimators.MeanAligner
assert "sklearn" in sys.modules
assert not {"torch", "econml", "dowhy", "matplotlib"} & set(sys.modules)
assert causalfm.estimators.MeanAligner is causalfm.estimators.correctors.MeanAligner
"""


def test_correctors_are_loaded_on_first_use():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
