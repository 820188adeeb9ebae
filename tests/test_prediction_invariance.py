import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.invariance import prediction_invariance
from causalfm.invariance.score_gaps import equal_score_gaps
from causalfm.invariance.signatures import KINDS, signature

ROLES = {"biology": "tumour", "group": "patient"}
ANTI = CausalGraph.standard(technical="site", **ROLES)
CAUSAL = CausalGraph("tumour <-> Z; site <-> tumour; site -> Z", technical="site", **ROLES)
SEED = 8_500_000


def frame(p: np.ndarray, obs: pd.DataFrame, classes=("t0", "t1")) -> pd.DataFrame:
    values = np.stack([1.0 - p, p], axis=1) if p.ndim == 1 else p
    return pd.DataFrame(values, index=obs.index, columns=list(classes))


def scored(
    seed: int,
    n: int = 120,
    *,
    sites: int = 2,
    prevalence: tuple[float, ...] = (0.5, 0.5),
    shift: float = 0.0,
    squeeze: float = 1.0,
    rows: int = 6,
) -> tuple[pd.DataFrame, Cohort]:
    """Anti-causal: the class causes the score; the last site shifts the log-odds or squeezes them."""
    rng = np.random.default_rng(seed)
    site = np.arange(n) % sites
    y = (rng.random(n) < np.resize(prevalence, sites)[site]).astype(int)
    last = site == sites - 1
    row = np.repeat(np.arange(n), rng.integers(1, rows, n, endpoint=True))
    u = 1.2 * (2 * y - 1) + rng.standard_normal(n)
    logit = 2.0 * np.where(last, squeeze * u + shift, u)[row] + 0.5 * rng.standard_normal(len(row))
    obs = pd.DataFrame({"site": site, "tumour": [f"t{i}" for i in y], "patient": [f"secret-{i}" for i in range(n)]})
    obs = obs.loc[row].set_index(pd.Index([f"secret-row-{i}" for i in range(len(row))]))
    return frame(1.0 / (1.0 + np.exp(-logit)), obs), Cohort(np.ones((len(row), 1)), obs)


def latent(seed: int, n: int = 100, *, off: float = 0.0) -> tuple[pd.DataFrame, Cohort]:
    """Calibrated: given the score the class does not depend on the site, though sites see other scores."""
    rng = np.random.default_rng(seed)
    v = 1.5 * rng.standard_normal(n)
    site = (rng.random(n) < 1.0 / (1.0 + np.exp(-v))).astype(int)
    row = np.repeat(np.arange(n), rng.integers(1, 6, n, endpoint=True))
    u = v[row] + rng.standard_normal(len(row))
    y = rng.random(len(row)) < 1.0 / (1.0 + np.exp(-u - off * site[row]))
    obs = pd.DataFrame({"site": site[row], "tumour": np.where(y, "t1", "t0"), "patient": row})
    return frame(1.0 / (1.0 + np.exp(-u)), obs), Cohort(np.ones((len(row), 1)), obs)


def ask(data: tuple[pd.DataFrame, Cohort], graph: CausalGraph = ANTI, **settings):
    return prediction_invariance(*data, graph, **{"of": "site", "n_permutations": 99, **settings})


# --- the graph decides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrows", "more", "direction", "association", "preferred", "implied"),
    [
        ("tumour <-> site; {tumour, site} -> Z", {}, "anti-causal", ("confounded",), "separation", {"separation"}),
        ("tumour <-> {Z, site}; site -> Z", {}, "causal", ("confounded",), "independence", {"independence"}),
        (
            "tumour <-> Z; site -> Z; {site, tumour} -> S", {"selected": "S"},
            "causal", ("selected",), "separation", {"separation"},
        ),
        (
            "{tumour, site} -> {Z, S}", {"selected": "S"},
            "anti-causal", ("selected",), "separation", {"separation"},
        ),
        (
            "{tumour, site} -> Z", {},
            "anti-causal", (), "separation", {"independence", "separation", "sufficiency"},
        ),
        ("tumour <-> Z; site", {}, "causal", (), "independence", set(KINDS)),
        ("site -> tumour; {tumour, site} -> Z", {}, "anti-causal", ("caused",), "separation", {"separation"}),
        ("tumour -> Z; site <-> Z", {}, "anti-causal", (), None, set()),
    ],
)  # fmt: skip
def test_signatures(arrows, more, direction, association, preferred, implied) -> None:
    """The first three are the cases of Veitch et al. (2021)."""
    found = signature(CausalGraph(arrows, technical="site", **ROLES, **more), ["site"])
    assert (found.direction, found.association, found.preferred) == (direction, association, preferred)
    assert {kind for kind in KINDS if found.sets[kind]} == implied
    for kind in KINDS:
        assert f"({kind})" in found.sentence


def test_covariates_and_technical_children_enter_the_set() -> None:
    graph = CausalGraph.standard(technical=["site", "scanner"], covariates=["age"], **ROLES)
    assert signature(graph, ["site"]).sets["separation"] == (("tumour", "age"),)
    assert signature(graph, ["scanner"]).sets["separation"][0] == ("site", "tumour", "age")
    assert "given tumour and age (separation)" in signature(graph, ["site"]).sentence


def test_auto_takes_what_the_design_implies_and_says_why() -> None:
    anti, causal = ask(scored(0)), ask(scored(0), CAUSAL)
    assert (anti.effect_kind, anti.given) == ("separation", ("tumour",))
    assert (causal.effect_kind, causal.given) == ("independence", ())
    assert anti.details["not_implied"] == ["independence", "sufficiency", "stability"]
    assert "The design is anti-causal: tumour is a cause of the embedding; site and tumour have a common cause" in (
        anti.sentence
    )
    other = ask(scored(0), kind="sufficiency")
    assert "The declared graph does not imply sufficiency: a gap is then no sign that the model reacts." in (
        other.sentence
    )
    nothing = ask(scored(0), CausalGraph("tumour -> Z; site <-> Z", technical="site", **ROLES))
    assert (nothing.verdict, nothing.effect) == ("cannot tell", None)
    assert "implies nothing of this kind" in nothing.sentence


# --- numbers --------------------------------------------------------------------------------------------------------


def test_gaps_are_welch_intervals_of_patient_means() -> None:
    predictions, cohort = scored(1, shift=0.5)
    result = ask((predictions, cohort), margin=0.1)
    means = (
        cohort.obs.assign(p=predictions["t1"]).groupby("patient").agg({"p": "mean", "site": "first", "tumour": "first"})
    )
    assert len(result.details["gaps"]) == 2  # one pair, two classes of patients, one column
    for row in result.details["gaps"]:
        a, b = (means["p"][(means["tumour"] == row["among"]) & (means["site"] == s)] for s in (0, 1))
        low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - 0.05 / 2)
        assert [row["value"], row["low"], row["high"]] == pytest.approx([a.mean() - b.mean(), low, high])
        assert (row["levels"], row["class"]) == (["0", "1"], "t1")
    worst = max(result.details["gaps"], key=lambda row: (max(row["low"], -row["high"], 0.0), abs(row["value"])))
    assert (result.effect.value, result.effect.low) == (worst["value"], worst["low"])
    ends = []
    for tumour in ("t0", "t1"):
        a, b = (means["p"][(means["tumour"] == tumour) & (means["site"] == s)] for s in (0, 1))
        ends += [*stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)]
    assert result.details["margin_bounds"][1] == pytest.approx(np.abs(ends).max())
    assert result.p_value == pytest.approx(min(1.0, 2 * min(t["p_value"] for t in result.details["tests"])))


def test_equal_score_gaps_are_clustered_regression_coefficients() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    s = (groups % 3 == 0).astype(float)
    f = rng.random(len(groups)) + 0.2 * s
    y = (rng.random(len(groups)) < 0.3 + 0.3 * f + 0.1 * s).astype(float)
    basis = np.column_stack([f, f**2])
    gaps = equal_score_gaps(y[:, None], s[:, None], basis, groups, ["x"])
    weights = 1.0 / np.bincount(groups)[groups]
    peer = sm.WLS(y, np.column_stack([s, np.ones(len(y)), basis]), weights=weights).fit(
        cov_type="cluster", cov_kwds={"groups": groups}
    )
    assert gaps.values[0, 0] == pytest.approx(peer.params[0])
    assert gaps.errors[0, 0] == pytest.approx(peer.bse[0], rel=0.05)
    assert gaps.df[0, 0] == 19


def test_stability_reports_calibration_in_the_large_of_every_site() -> None:
    predictions, cohort = latent(0, off=1.0)
    result = ask((predictions, cohort), kind="stability")
    error = predictions["t1"] - (cohort.obs["tumour"] == "t1")
    by_patient = error.groupby(cohort.obs["patient"]).mean()
    site = cohort.obs.groupby("patient")["site"].first()
    levels = {row["levels"][0]: row for row in result.details["levels"]}
    for s in (0, 1):
        own = by_patient[site == s]
        assert levels[str(s)]["value"] == pytest.approx(own.mean())
        reach = stats.t.isf(0.05 / 4, len(own) - 1) * own.sem()
        assert levels[str(s)]["high"] - own.mean() == pytest.approx(reach)


# --- right and wrong models -----------------------------------------------------------------------------------------


def rate(draws: int, make, **settings) -> float:
    return float(np.mean([ask(make(SEED + i), random_state=i, **settings).p_value <= 0.05 for i in range(draws)]))


@pytest.mark.parametrize(
    ("kind", "make", "graph"),
    [
        ("separation", lambda seed: scored(seed, prevalence=(0.3, 0.7)), ANTI),
        ("independence", scored, CAUSAL),
        ("sufficiency", latent, ANTI),
        ("stability", latent, ANTI),
    ],
)
def test_size(kind, make, graph) -> None:
    assert rate(80, make, kind=kind, graph=graph) < 0.05 + 3.7 * np.sqrt(0.05 * 0.95 / 80)  # 99.9 % for four cells


def test_rows_are_no_units() -> None:
    def of_rows(seed: int):
        predictions, cohort = scored(seed, rows=12)
        return predictions, cohort.replace(obs=cohort.obs.assign(patient=np.arange(len(cohort))))

    assert rate(15, of_rows) > 0.25


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("separation", lambda seed: scored(seed, shift=0.8)),
        ("separation", lambda seed: scored(seed, squeeze=0.3)),
        ("independence", lambda seed: scored(seed, shift=1.0)),
        ("sufficiency", lambda seed: latent(seed, 200, off=1.5)),
        ("stability", lambda seed: latent(seed, 200, off=1.5)),
    ],
    ids=["shift", "squeeze", "independence", "sufficiency", "stability"],
)
def test_power(kind, make) -> None:
    assert rate(10, make, kind=kind) >= 0.8


def drawn_from(graph: str, seed: int) -> tuple[pd.DataFrame, Cohort]:
    """Patients of Veitch et al.'s three designs with a score that does not react to the site."""
    rng, n = np.random.default_rng(seed), 4000

    def coin(log_odds: np.ndarray) -> np.ndarray:
        return rng.random(n) < 1.0 / (1.0 + np.exp(-log_odds))

    u, v, e = rng.standard_normal((3, n))
    kept = np.ones(n, dtype=bool)
    if graph == "anti-causal":
        site, y = coin(2 * v), coin(2 * v)
        x = 2.0 * y + e
    else:
        confounded = graph == "confounded"
        site, y, x = coin(2 * v if confounded else 0 * v), coin(2 * u + 2 * v * confounded), u + 0.4 * e
        kept = kept if confounded else rng.random(n) < np.where(y == site, 0.9, 0.2)
    first = np.flatnonzero(kept)[:200]
    row = np.repeat(first, rng.integers(1, 8, 200))
    score = 1.0 / (1.0 + np.exp(-2.0 * x[row] - 0.5 * rng.standard_normal(len(row))))
    obs = pd.DataFrame({"site": site[row].astype(int), "tumour": np.where(y[row], "t1", "t0"), "patient": row})
    return frame(score, obs), Cohort(np.ones((len(row), 1)), obs)


@pytest.mark.parametrize(
    ("name", "arrows", "more", "broken"),
    [
        ("anti-causal", "tumour <-> site; {tumour, site} -> Z", {}, "independence"),
        ("confounded", "tumour <-> {Z, site}; site -> Z", {}, "sufficiency"),
        ("selected", "tumour <-> Z; site -> Z; {site, tumour} -> S", {"selected": "S"}, "independence"),
    ],
)
def test_the_graph_picks_what_an_invariant_score_keeps(name: str, arrows: str, more: dict, broken: str) -> None:
    """Of 100 cohorts 2-7 % were rejected by the one picked, 98 % and more by the other."""
    graph = CausalGraph(arrows, technical="site", **ROLES, **more)
    share = {kind: rate(15, lambda seed: drawn_from(name, seed), graph=graph, kind=kind) for kind in ("auto", broken)}
    assert share["auto"] <= stats.binom.ppf(1 - 0.001 / 3, 15, 0.05) / 15
    assert share[broken] > 0.7


def test_opposite_gaps_within_classes_do_not_cancel() -> None:
    """A site where the model is less sure: no gap on the whole, one in each class."""
    data = scored(3, 200, squeeze=0.3)
    assert ask(data, kind="independence").p_value > 0.05
    result = ask(data)
    assert (result.p_value, result.verdict) == (0.02, "fail")
    gaps = {row["among"]: row["value"] for row in result.details["gaps"]}
    assert gaps["t0"] * gaps["t1"] < 0.0


def test_case_mix_breaks_sufficiency_and_not_separation() -> None:
    """With other prevalences an invariant score cannot be calibrated at both sites: the graph says so beforehand."""
    data = scored(SEED, 400, prevalence=(0.15, 0.85))
    separation, sufficiency = ask(data), ask(data, kind="sufficiency")
    assert separation.p_value > 0.05
    assert sufficiency.p_value <= 0.02
    assert "sufficiency" in separation.details["not_implied"]


def test_verdicts() -> None:
    harmless = scored(5, 600)
    assert ask(harmless, margin=0.2).verdict == "pass"
    assert ask(harmless).verdict == "cannot tell"
    assert "Without a margin absence cannot be shown." in ask(harmless).sentence
    harmful = scored(5, 600, shift=1.5)
    assert [ask(harmful, margin=m).verdict for m in (0.1, 0.9, None)] == ["fail", "pass", "fail"]
    assert "No gap reaches 0.9." in ask(harmful, margin=0.9).sentence
    assert ask(scored(5, 60), margin=0.05).verdict == "cannot tell"


def test_a_pass_does_not_cover_levels_left_out() -> None:
    predictions, cohort = scored(5, 600)
    obs = cohort.obs.copy()
    few = obs["patient"].isin(obs["patient"].unique()[:6]).to_numpy()
    obs["site"] = np.where(few, "third", obs["site"].astype(str))
    result = ask((predictions, cohort.replace(obs=obs)), margin=0.2)
    assert result.verdict == "cannot tell"
    assert result.details["margin_bounds"][1] < 0.2
    assert "Not compared: tumour=t0: site=third: fewer than 10 patients in all (" in result.sentence
    one = ask((predictions, cohort.replace(obs=obs)), kind="sufficiency")
    assert one.details["left_out"] == ["site=third: 6 patients"]


def test_nothing_to_compare_and_factors_within_patients() -> None:
    predictions, cohort = scored(0, 24)
    result = ask((predictions, cohort))
    assert (result.verdict, result.effect) == ("cannot tell", None)
    assert "no stratum of the cohort holds two levels of site with 10 patients" in result.sentence.lower()
    assert ask((predictions, cohort), minimum=3).effect is not None
    graph = CausalGraph.standard(technical=["site", "scanner"], **ROLES)
    scanned = cohort.replace(obs=cohort.obs.assign(scanner=np.arange(len(cohort)) % 2))
    within = ask((predictions, scanned), graph, of="scanner")
    assert within.verdict == "cannot tell"
    assert "predictions are compared between patients only" in within.sentence


def test_a_model_that_always_says_the_same() -> None:
    predictions, cohort = scored(0)
    constant = predictions * 0.0 + [0.7, 0.3]  # means of many 0.3 differ in the last digit
    for kind in KINDS[:2]:
        result = ask((constant, cohort), kind=kind, margin=0.05)
        assert (result.p_value, result.verdict, result.effect.value) == (1.0, "pass", 0.0)


def test_several_classes_and_covariates() -> None:
    rng = np.random.default_rng(0)
    n = 240
    obs = pd.DataFrame({"site": np.arange(n) % 2, "tumour": rng.integers(0, 3, n), "age": rng.normal(60, 10, n)})
    logits = 2.0 * np.eye(3)[obs["tumour"]] + rng.standard_normal((n, 3)) + 0.05 * (obs[["age"]].to_numpy() - 60)
    logits[:, 2] += 2.0 * obs["site"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cohort = Cohort(np.ones((n, 1)), obs.assign(patient=np.arange(n)))
    graph = CausalGraph.standard(technical="site", covariates=["age"], **ROLES)
    result = ask((frame(p, obs, "012"), cohort), graph)
    assert result.given == ("tumour", "age")
    assert len(result.details["gaps"]) == 9  # three classes of patients, three columns, one pair
    assert (result.verdict, result.effect.details["gap"][:29]) == ("fail", "predicted probability of 2, 0")
    assert ask((frame(p, obs, "012"), cohort), graph, kind="sufficiency").effect.value != 0.0


# --- input ----------------------------------------------------------------------------------------------------------


def test_rows_and_columns_are_brought_into_order() -> None:
    predictions, cohort = scored(2, shift=0.3)
    result = ask((predictions, cohort))
    order = np.random.default_rng(0).permutation(len(cohort))
    assert ask((predictions.iloc[order][["t1", "t0"]], cohort)) == result
    assert ask((predictions, cohort[order])).effect.value == pytest.approx(result.effect.value)
    copies = np.r_[np.arange(len(cohort)), np.arange(len(cohort))]
    obs, again = (t.iloc[copies].reset_index(drop=True) for t in (cohort.obs, predictions))
    twice = ask((again, Cohort(cohort.X[copies], obs)))
    assert (twice.p_value, twice.effect.low) == pytest.approx((result.p_value, result.effect.low))
    json.dumps(result.to_dict(), allow_nan=False)
    assert "secret" not in json.dumps(result.to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.rename(columns={"t1": "T1"}), "lacks the classes t1 and has columns that are no class: T1"),
        (lambda p: p[["t1"]], "lacks the classes t0"),
        (lambda p: p.assign(t2=0.0), "has columns that are no class: t2"),
        (lambda p: p.iloc[:-2], r"2 of \d+ rows of the cohort have no prediction under their id \(rows \d+, \d+\)"),
        (
            lambda p: pd.concat([p, p.iloc[3:4]]),
            r"2 of \d+ rows of predictions have an id that occurs twice \(rows 3, ",
        ),
        (lambda p: pd.concat([p, p.iloc[3:4].rename(index=lambda i: "secret-x")]), "1 of .* id that is not in the coh"),
        (lambda p: p.assign(t0=p["t0"] + 0.1), r"do not add up to one in \d+ of \d+ rows of the cohort \(rows 0, 1, 2"),
        (lambda p: p.assign(t1=p["t1"].where(p.index != p.index[4])), r"1 of \d+ rows of the cohort \(row 4\)"),
        (lambda p: p.assign(t0=np.inf, t1=-np.inf), r"\d+ of \d+ rows of the cohort \(rows 0, 1"),
        (lambda p: p.set_index([p.index, p.index]), "index of other levels than the cohort's table"),
        (lambda p: p.to_numpy(), "predictions must be a DataFrame, not ndarray"),
        (lambda p: p.assign(t0="high"), "predictions holds text"),
    ],
)
def test_bad_predictions(change, message) -> None:
    predictions, cohort = scored(0, 24)
    with pytest.raises(DataError, match=message) as error:
        ask((change(predictions), cohort))
    assert "secret" not in str(error.value)


def test_bad_settings() -> None:
    with pytest.raises(GraphError, match="'tumour' is what is predicted"):
        ask(scored(0, 24), of="tumour")
    for settings, message in (
        ({"kind": "fairness"}, "kind='fairness' is not known: choose 'auto' or one of 'independence'"),
        ({"margin": 0.0}, "margin=0.0: choose a finite number above 0"),
        ({"minimum": 2}, "minimum=2: choose a whole number of at least 3"),
    ):
        with pytest.raises(DataError, match=message):
            ask(scored(0, 24), **settings)


# --- real slides ----------------------------------------------------------------------------------------------------


def test_tcga_lung_cancers_at_nine_hospitals(data_dir) -> None:
    """A cross-fitted head on HIPT embeddings: scores depend on the hospital within squamous cell carcinoma."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from causalfm.datasets import tcga_hipt

    cohort = tcga_hipt.load(data_dir, cancers=["LUAD", "LUSC"]).handle_missing(["center", "case"], how="drop")
    patients = cohort.obs.drop_duplicates("case").groupby(["center", "project_id"]).size().unstack(fill_value=0)
    cohort = cohort[cohort.obs["center"].isin(patients.index[(patients >= 10).all(axis=1)]).to_numpy()]
    y, p = cohort.obs["project_id"].to_numpy(str), np.zeros((len(cohort), 2))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(cohort.X, y, cohort.obs["case"]):
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(cohort.X[train], y[train])
        p[test] = head.predict_proba(cohort.X[test])
    predictions = frame(p, cohort.obs, head.classes_)
    graph = CausalGraph.standard(biology="project_id", technical="center", group="case")
    result = prediction_invariance(predictions, cohort, graph, of="center", n_permutations=199)
    assert (result.effect_kind, result.verdict, result.n_groups) == ("separation", "fail", 549)
    assert result.p_value <= 0.02
    assert result.effect.details["gap"].endswith("among project_id=TCGA-LUSC")
    assert -0.35 < result.effect.value < -0.2
    assert prediction_invariance(predictions, cohort, graph, of="center", kind="sufficiency").p_value > 0.1
