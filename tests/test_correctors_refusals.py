"""What correctors refuse: levels that cannot be compared, bad arguments, settings changed after the fit."""

import corrector_samples
import numpy as np
import pytest
from corrector_samples import ALL, STREAMS, applied, sample, scm

from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import ComBat, LinearEraser, MeanAligner, NuisanceSubspace, SCMCorrector, TransportAligner

rows = corrector_samples.rows  # a fixture


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
    assert corrector.report_.trimmed.split(". ")[0].endswith(f" {name}")  # 'y' and 'group' are in other words too


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


def test_covariances_that_no_memory_holds_are_refused_before_the_work():
    X, y = np.zeros((2000, 1536), dtype=np.float32), np.arange(2000) // 2
    with pytest.raises(DataError, match=r"1000 levels with a covariance of 1536 x 1536 each take 19 GB"):
        LinearEraser(form="quadratic").fit(X, y)


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
