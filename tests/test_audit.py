"""The audit end to end: what it says on real data, and when it must not say anything."""

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm import metrics
from causalfm.auditing import Audit, family, load_policy
from causalfm.auditing.unseen_levels import unseen_levels
from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import CausalFMError, DataError, GraphError

CANCERS = ["BRCA", "COAD", "LUAD", "STAD"]
# only tcga_audit, made once, looks at the self-check
pytestmark = pytest.mark.usefixtures("without_self_checks")

HOSPITALS = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
TCGA = cfm.CausalGraph.standard(biology="project_id", technical=["center"], group="case")


def only(audit: Audit, question: str, factor: str | None = None):
    found = [f for f in audit.findings if f.question == question and factor in (None, f.factor)]
    assert len(found) == 1, (question, factor, [(f.question, f.factor) for f in audit.findings])
    return found[0]


@pytest.fixture(scope="module")
def tcga(data_dir) -> Cohort:
    return tcga_hipt.load(data_dir, cancers=CANCERS, hospitals=HOSPITALS)


@pytest.fixture(scope="module")
def tcga_audit(tcga: Cohort) -> Audit:
    return cfm.audit(tcga, TCGA)


def test_on_tcga_the_hospital_dominates(tcga_audit: Audit) -> None:
    assert (tcga_audit.verdict, tcga_audit.exit_code) == ("fail", 1)
    assert "center dominates these embeddings" in tcga_audit.headline
    assert (tcga_audit.data["rows"], tcga_audit.data["units"]) == (785, 771)
    probes = {row["probe"]: row for row in only(tcga_audit, "readout").details["probes"]}
    assert probes["logistic"]["balanced accuracy"] == pytest.approx(0.983, abs=0.01)
    biology = {row["probe"]: row for row in only(tcga_audit, "biology").details["probes"]}
    assert biology["logistic"]["balanced accuracy"] == pytest.approx(0.899, abs=0.015)
    near = only(tcga_audit, "neighbourhood")
    curve = {row["k"]: row["value"] for row in near.details["curve"]}
    for k, value in {11: 0.14185921547555078, 21: 0.13792293233082706, 51: 0.15558636794862438}.items():
        assert curve[k] == pytest.approx(value, abs=1e-9)
    assert near.details["as published (whole cohort)"]["chance"] == pytest.approx(0.489, abs=5e-4)
    assert near.chance == pytest.approx(0.5)
    check = only(tcga_audit, "invariance").details["self-check"]
    assert check["size at 5%"]["low"] < 0.07
    assert 0.1 < check["distance seen with 80% power"]["value"] < 0.2
    effect = only(tcga_audit, "effect")
    assert effect.low > 1.0  # the hospital moves the embedding further than the cancer does
    assert effect.details["dowhy_confirms"] is True
    assert only(tcga_audit, "overlap").verdict == "cannot tell"  # two patients of STAD at Christiana


def test_one_class_in_one_hospital_only_cannot_tell_and_names_the_rest(tcga: Cohort) -> None:
    alone = (tcga.obs["project_id"] != "TCGA-LUAD") | (tcga.obs["center"] == "Asterand")
    audit = cfm.audit(tcga[alone.to_numpy()], TCGA)
    overlap = only(audit, "overlap")
    assert overlap.verdict == "cannot tell"
    assert "project_id=TCGA-LUAD" in overlap.sentence.split("is compared between")[0]
    assert any(row["project_id"] == "TCGA-LUAD" and row["center"] == "Asterand" for row in overlap.details["left_out"])
    assert "is compared between" in overlap.sentence
    rest = overlap.sentence.split("is compared between")[1]
    assert "LUAD" not in rest
    assert "TCGA-BRCA" in rest
    assert audit.exit_code == 1


def test_a_cohort_where_nothing_overlaps_cannot_tell() -> None:
    cohort, _ = linear_scm(n_groups=40, site_effect=1.0, random_state=1)
    obs = cohort.obs.assign(tumour=cohort.obs["site"].map(lambda s: f"class of {s}"))
    audit = cfm.audit(cohort.replace(obs=obs), GRAPH)
    assert {f.verdict for f in audit.findings} == {"cannot tell"}
    assert audit.exit_code == 3
    assert "no stratum of tumour holds two levels of site" in only(audit, "overlap").sentence.lower()


def test_scanner_nested_in_site_asks_the_joint_question() -> None:
    cohort, _ = linear_scm(n_groups=60, n_scanners=2, scanner_nested=True, scanner_effect=1.0, random_state=2)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    audit = cfm.audit(cohort, graph)
    overlap = only(audit, "overlap", "scanner")
    assert overlap.verdict == "cannot tell"
    assert overlap.sentence.startswith("Cannot tell scanner from site")
    joint = only(audit, "effect", "site + scanner")
    assert joint.value > 0
    assert np.isfinite([joint.low, joint.high]).all()
    assert only(audit, "invariance", "site + scanner").value <= 0.01
    assert not [f for f in audit.findings if f.factor == "scanner" and f.question in ("effect", "readout")]


def test_an_embedding_without_site_passes() -> None:
    cohort, _ = linear_scm(n_groups=400, rows_per_group=2, biology_effect=2.0, confounding=0.3, random_state=3)
    audit = cfm.audit(cohort, GRAPH)
    assert audit.verdict == "pass", [(f.question, f.verdict, f.sentence) for f in audit.findings]
    assert audit.headline.startswith("No technical factor exceeds")
    assert audit.exit_code == 0


def test_noise_is_neither_biology_nor_site() -> None:
    cohort, _ = linear_scm(n_groups=80, biology_effect=0.0, random_state=4)
    audit = cfm.audit(cohort, GRAPH)
    assert only(audit, "biology").verdict != "pass"
    assert only(audit, "effect").verdict == "cannot tell"  # nothing to measure the site against
    assert audit.verdict != "pass"


def test_biology_within_patients_is_answered_with_the_patient_as_unit() -> None:
    cohort, _ = linear_scm(
        n_groups=60, biology_within_group=True, confounding=0.5, site_effect=1.0, rows_per_group=(6, 12), random_state=5
    )
    audit = cfm.audit(cohort, GRAPH)
    effect = only(audit, "effect")
    assert effect.n_groups == 60
    assert effect.low < 1.0 < effect.high
    assert audit.exit_code == 1


def test_inputs_and_the_callers_generator_are_left_as_they_were() -> None:
    cohort, _ = linear_scm(n_groups=40, site_effect=0.5, n_scanners=2, random_state=6)
    graph = cfm.CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient"
    )
    X, obs = cohort.X.copy(), cohort.obs.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    cfm.audit(cohort, graph, random_state=7)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    np.testing.assert_array_equal(cohort.X, X)
    pd.testing.assert_frame_equal(cohort.obs, obs)


def test_steps_are_announced() -> None:
    cohort, _ = linear_scm(n_groups=32, random_state=8)
    seen: list[tuple[str, int, int]] = []
    audit = cfm.audit(cohort, GRAPH, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert seen[-1] == ("done", len(seen) - 1, len(seen) - 1)
    assert len(audit.provenance["timings"]) == len(seen) - 1


def test_hostile_names_stay_text_and_no_patient_is_named(tmp_path, capsys) -> None:
    cohort, _ = linear_scm(n_groups=40, site_effect=1.0, n_scanners=2, random_state=9)
    hostile = "<script>alert(1)</script>"
    obs = cohort.obs.assign(site=cohort.obs["site"].replace({"site0": hostile, "site1": 'a, "b" | c\n'}))
    obs["patient"] = "SENTINEL-" + obs["patient"]
    obs.index = [f"SENTINEL-row-{i}" for i in range(len(obs))]
    graph = cfm.CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient"
    )
    audit = cfm.audit(cohort.replace(obs=obs), graph)
    page = audit.to_html(tmp_path / "report.html")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    everything = [page, audit.to_json(), audit.to_markdown(), audit._repr_html_(), repr(audit), str(audit.to_dict())]
    everything += [str(audit.to_frame()), capsys.readouterr().out]
    assert not [text for text in everything if "SENTINEL" in text]


def bad(**changes) -> Cohort:
    cohort, _ = linear_scm(n_groups=24, n_scanners=2, random_state=10)
    obs = cohort.obs.assign(patient="SENTINEL-" + cohort.obs["patient"])
    obs.index = [f"SENTINEL-row-{i}" for i in range(len(obs))]
    for column, change in changes.items():
        obs[column] = change(obs)
    return cohort.replace(obs=obs)


def with_gaps(obs: pd.DataFrame) -> pd.Series:
    return obs["site"].where(np.arange(len(obs)) % 10 != 3)


BAD = {
    "unknown column": (lambda: cfm.audit(bad(), graph_of(technical=["hospital"])), "hospital"),
    "unknown patient column": (lambda: cfm.audit(bad(), graph_of(group="case")), "case"),
    "one level only": (
        lambda: cfm.audit(bad(site=lambda o: "Northfield"), graph_of()),
        "one level.*Northfield|only.*level",
    ),
    "missing factor values": (lambda: cfm.audit(bad(site=with_gaps), graph_of()), "missing values.*rows 3, 13"),
    "site varies within patients": (
        lambda: cfm.audit(bad(site=lambda o: o["site"].where(np.arange(len(o)) != 1, "elsewhere")), graph_of()),
        "1 of 24",
    ),
    "continuous biology": (lambda: cfm.audit(bad(), graph_of(biology="age")), "age"),
    "no such missing policy": (
        lambda: cfm.audit(bad(site=with_gaps), graph_of(), missing="guess"),
        "error.*level.*drop",
    ),
    "no such method": (lambda: cfm.invariance_test(bad(), graph_of(), of="site", method="fisher"), "method='mean'"),
    "no such estimator": (lambda: cfm.effect(bad(), graph_of(), treatment="site", estimator="ipw"), "standardisation"),
    "no such outcome": (lambda: cfm.effect(bad(), graph_of(), treatment="site", outcome="agee"), "outcome='Z'"),
    "no such reference": (lambda: cfm.effect(bad(), graph_of(), treatment="site", reference="x"), "site0"),
    "k beyond the candidates": (lambda: cfm.metrics.robustness_index(bad(), graph_of(), k=10_000), "10000"),
}


def graph_of(**changes):
    return cfm.CausalGraph.standard(**{"biology": "tumour", "technical": ["site"], "group": "patient", **changes})


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_patients_are_not(case: str) -> None:
    run, message = BAD[case]
    with pytest.raises(CausalFMError, match=f"(?is){message}") as caught:
        run()
    assert "SENTINEL" not in str(caught.value)
    assert isinstance(caught.value, DataError | GraphError)


def test_missing_values_are_treated_as_asked_and_reported() -> None:
    dropped = cfm.audit(bad(site=with_gaps), graph_of(), missing="drop")
    assert dropped.data["rows"] == 108
    assert dropped.data["info_missing"][0]["rows_dropped"] == 12
    assert "rows dropped" in dropped.to_html()
    kept = bad(site=lambda o: o["site"].where(~o["patient"].isin(o["patient"].unique()[:6])))
    level = cfm.audit(kept, graph_of(), missing="level")
    assert "(missing)" in level.tables["site"]["levels"]


def test_a_policy_decides_and_is_recorded(tmp_path) -> None:
    cohort, _ = linear_scm(n_groups=120, site_effect=0.8, biology_effect=2.0, random_state=11)
    strict, lax = tmp_path / "strict.yaml", tmp_path / "lax.yaml"
    strict.write_text("version: 1\nname: strict\neffect_ratio: 0.05\n")
    lax.write_text("version: 1\nname: lax\neffect_ratio: 5.0\n")
    verdicts = {}
    for path in (strict, lax):
        policy = load_policy(path)
        found = cfm.audit(cohort, GRAPH, policy=policy)
        verdicts[policy.name] = only(found, "effect").verdict
        assert policy.sha256 in found.to_html()
    assert verdicts == {"strict": "fail", "lax": "pass"}


# --- once wrong -----------------------------------------------------------------------------------------------------


def test_an_embedding_that_cannot_beat_the_site_still_carries_biology() -> None:
    """Knowing the site names 92 % of the classes here; an embedding without any site information cannot reach that."""
    cohort, _ = linear_scm(n_groups=160, n_sites=2, confounding=0.85, biology_effect=0.6, random_state=1)
    audit = cfm.audit(cohort, GRAPH)
    assert only(audit, "biology").verdict != "fail"
    assert only(audit, "readout").verdict != "fail"
    assert "0 of" not in audit.headline


def test_a_covariate_that_differs_between_sites_is_no_failure_of_the_site() -> None:
    cohort, _ = linear_scm(
        n_groups=160, age_by_site=3.0, age_effect=2.0, biology_effect=1.0, confounding=0.2, random_state=1
    )
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
    audit = cfm.audit(cohort, graph)
    assert [f.question for f in audit.findings if f.verdict == "fail"] == []
    assert "age" in only(audit, "readout").sentence


def test_a_collapsed_embedding_and_a_tiny_cohort_end_in_a_report() -> None:
    cohort, _ = linear_scm(n_groups=40, random_state=1)
    assert cfm.audit(cohort.replace(X=np.ones_like(cohort.X)), GRAPH).verdict != "pass"
    tiny, _ = linear_scm(n_groups=4, n_sites=2, rows_per_group=1, random_state=2)
    assert cfm.audit(tiny, GRAPH).exit_code == 3


def test_measures_beside_the_headline(tcga_audit: Audit, tcga: Cohort) -> None:
    """Clusters and collapse stand in the neighbourhood's table, levels left out of training beside the biology."""
    rows = {row["measure"]: row for row in only(tcga_audit, "neighbourhood").details["other measures"]}
    score = rows["clustering score"]
    assert -1.0 < score["low"] < score["value"] < score["high"] < -0.5  # PathoROB's HIPT: clusters are not classes
    assert score["note"].startswith("27 of 27 tables")
    variance = rows["variance by case"]
    assert 0.0 < variance["low"] < variance["value"] < 1.0
    assert rows["own case among voters"]["value"] == pytest.approx(0.0, abs=0.01)  # 14 of 771 cases have two rows
    for row in rows.values():
        assert np.isfinite(row["low"]) or row["note"], row
    biology = only(tcga_audit, "biology")
    table = {row["center"]: row for row in biology.details["project_id at a center left out of training"]}
    gap = metrics.transfer_gap(tcga, TCGA)
    assert (table["mean of 4"]["gap"], table["mean of 4"]["low"]) == (gap.value, gap.low)
    assert list(table) == ["mean of 4", *HOSPITALS, "a new level"]
    worst = table["Indivumed"]
    assert worst["note"] == "loses most"
    assert worst["gap"] == worst["accuracy, level seen"] - worst["accuracy, level left out"] > 0.4
    assert table["a new level"]["note"].startswith("cannot tell: 4 levels judged")
    assert "most at Indivumed: 83% if it was in training, 25% if not" in biology.sentence
    page = tcga_audit.to_html()
    assert "project_id at a center left out of training" in page  # not "project id": it is the column's name


def test_a_level_left_out_that_costs_nothing_or_cannot_be_judged() -> None:
    cohort, _ = linear_scm(n_groups=80, n_sites=3, biology_effect=3.0, site_effect=0.0, random_state=3)
    sentence, tables = unseen_levels(cohort, GRAPH, 0)
    assert "is not shown to lose balanced accuracy" in sentence
    assert "most at" not in sentence
    alone = cohort.obs.assign(tumour=cohort.obs["site"].map(lambda s: f"class of {s}"))
    sentence, tables = unseen_levels(cohort.replace(obs=alone), GRAPH, 0)
    assert "cannot tell: no level of site holds two classes" in sentence
    (row,) = tables["tumour at a site left out of training"]
    assert row["note"].startswith("cannot tell")


def test_collapse_of_large_cohorts_is_measured_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, _ = linear_scm(n_groups=40, rows_per_group=5, d=8, random_state=3)
    monkeypatch.setattr(family, "COLLAPSE_ROWS", 100)
    rows = family._collapse(cohort, GRAPH, "site", 0)
    assert [row["measure"] for row in rows] == ["own patient among voters", "variance by patient"]
    assert all(row["note"].startswith("of 80 rows, as many of each patient") for row in rows)
