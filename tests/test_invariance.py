import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.mean import mean_test
from causalfm.units import patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def scm(**settings) -> Cohort:
    defaults = {"n_groups": 80, "d": 8, "n_sites": 4, "site_effect": 1.0, "biology_effect": 2.0, "confounding": 0.3}
    return linear_scm(**{**defaults, **settings})[0]


def run(cohort: Cohort, graph: CausalGraph = GRAPH, of="site", **settings):
    return invariance_test(cohort, graph, of=of, n_permutations=settings.pop("n_permutations", 199), **settings)


def scanner_follows_site(seed: int) -> Cohort:
    """The site acts on Z and favours a scanner; the scanner does nothing."""
    rng = np.random.default_rng(seed)
    site, tumour = np.repeat([0, 1], 60), np.tile([0, 1], 60)
    scanner = (rng.random(120) < np.where(site, 0.75, 0.25)).astype(int)
    Z = rng.standard_normal((120, 5))
    Z[:, 0] += 2.0 * site
    Z[:, 1] += 2.0 * tumour
    obs = pd.DataFrame({"tumour": tumour, "site": site, "scanner": scanner}).astype(str)
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in range(120)]))


# --- the conditioning set on data -----------------------------------------------------------------------------------

SITE_ONLY = CausalGraph(
    "site <-> tumour; site -> scanner; {tumour, site} -> Z",
    biology="tumour", technical=["site", "scanner"], group="patient",
)  # fmt: skip


@pytest.mark.parametrize("graph", [SITE_ONLY, SCANNED], ids=["no edge", "edge declared"])
def test_an_idle_scanner_is_invariant_given_the_site_only(graph: CausalGraph) -> None:
    given, alone = [], []
    for seed in range(12):
        cohort = scanner_follows_site(seed)
        result = run(cohort, graph, "scanner", n_permutations=99)
        assert "site" in result.given
        given.append(result.p_value)
        units = patient_units(cohort, graph, ("scanner",), ("tumour",))
        alone.append(mean_test(units, n_permutations=99)[1])
    assert sum(p <= 0.05 for p in given) <= 3
    assert sum(p <= 0.05 for p in alone) >= 11


def test_total_and_direct_effect_of_a_site_that_acts_through_its_scanners() -> None:
    rng = np.random.default_rng(0)
    cohort = scanner_follows_site(1)
    Z = rng.standard_normal((120, 5))
    Z[:, 0] += 3.0 * (cohort.obs["scanner"] == "1").to_numpy()
    Z[:, 1] += 2.0 * (cohort.obs["tumour"] == "1").to_numpy()
    cohort = cohort.replace(X=Z)
    total, direct = run(cohort, SCANNED, effect="total"), run(cohort, SCANNED, effect="direct")
    assert (total.given, total.verdict) == (("tumour",), "fail")
    assert set(direct.given) == {"tumour", "scanner"}
    assert (direct.verdict, direct.effect.low) == ("cannot tell", 0.0)
    assert direct.p_value > 0.05


def test_causal_direction_needs_no_conditioning() -> None:
    graph = CausalGraph(
        "Z2 -> Z; tumour -> Z2; site -> Z", biology="tumour", technical="site", covariates="Z2", group="patient"
    )
    cohort = scm(confounding=0.0)
    cohort = cohort.replace(obs=cohort.obs.assign(Z2=cohort.obs["tumour"]))
    assert () in [tuple(s) for s in run(cohort, graph).details["valid_sets"]]
    result = run(cohort, graph, given=[])
    assert result.given == ()
    assert "given" not in result.sentence


def test_own_set() -> None:
    cohort = scanner_follows_site(0)
    assert run(cohort, SCANNED, "scanner", given="site").given == ("site",)
    with pytest.raises(
        GraphError, match=r"given=\['tumour'\] is not a valid conditioning set.*Valid: \{site, tumour\}"
    ):
        run(cohort, SCANNED, "scanner", given=["tumour"])


# --- abstentions ----------------------------------------------------------------------------------------------------


def test_nested_scanner_names_the_joint_question() -> None:
    cohort = scm(n_scanners=2, scanner_nested=True)
    result = run(cohort, SCANNED, "scanner")
    assert (result.verdict, result.effect) == ("cannot tell", None)
    assert np.isnan([result.statistic, result.p_value]).all()
    assert result.sentence.startswith("Cannot tell scanner from site.")
    assert "of=['site', 'scanner']" in result.sentence
    joint = run(cohort, SCANNED, ["site", "scanner"])
    assert (joint.of, joint.verdict) == ("site + scanner", "fail")


def test_nothing_overlaps() -> None:
    obs = pd.DataFrame(
        {"tumour": ["a"] * 9 + ["b"] * 9, "site": ["A"] * 9 + ["B"] * 9, "patient": np.arange(18).astype(str)}
    )
    result = run(Cohort(np.random.default_rng(0).standard_normal((18, 3)), obs))
    assert (result.verdict, result.effect) == ("cannot tell", None)
    assert "No stratum of tumour holds two levels of site with 3 patients each." in result.sentence


def test_selection_that_cannot_be_recovered_from() -> None:
    graph = CausalGraph(
        "site <-> tumour; {site, tumour} -> Z; tumour -> S; Z <-> S",
        biology="tumour", technical="site", group="patient", selected="S",
    )  # fmt: skip
    result = run(scm(), graph)
    assert (result.verdict, result.effect) == ("cannot tell", None)
    assert "selection biases the effect" in result.sentence


def test_unknown_method() -> None:
    with pytest.raises(DataError, match="method='magic' is not known"):
        run(scm(), method="magic")


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_margin_decides() -> None:
    weak, strong = scm(n_groups=200, site_effect=0.1), scm(n_groups=200, site_effect=1.0)  # biology 2
    passed, failed, unsettled = run(weak, margin=0.5), run(strong, margin=0.2), run(scm(n_groups=40), margin=0.6)
    assert (passed.verdict, failed.verdict, unsettled.verdict) == ("pass", "fail", "cannot tell")
    assert "is below 0.5 times the distance between classes" in passed.sentence
    assert "is above 0.2 times the distance between classes" in failed.sentence
    assert "is not settled" in unsettled.sentence
    for result in (passed, failed, unsettled):
        low, high = result.details["margin_bounds"]
        assert low < high
        assert {"pass": high < 0, "fail": low > 0, "cannot tell": low <= 0 <= high}[result.verdict]


def test_a_small_p_value_alone_does_not_fail() -> None:
    result = run(scm(n_groups=200, site_effect=0.6), margin=0.9)
    assert result.p_value < 0.01
    assert result.verdict == "pass"


def test_without_a_margin_it_never_passes() -> None:
    null, there = run(scm(site_effect=0.0)), run(scm())
    assert (null.verdict, there.verdict) == ("cannot tell", "fail")
    assert null.sentence.endswith("without a margin absence cannot be shown.")
    assert there.sentence.startswith("The mean embedding depends on site given tumour (p = 0.005, 199 permutations")


def test_margin_without_biology_cannot_tell() -> None:
    result = run(scm(biology_effect=0.0), margin=1.0)
    assert result.verdict == "cannot tell"
    assert "The distance between classes is not told from zero" in result.sentence


# --- contract -------------------------------------------------------------------------------------------------------


def test_details_say_what_was_tested() -> None:
    result = run(scm(), margin=0.5)
    assert result.details["valid_sets"] == [["tumour"]]
    assert result.details["overlap"]["verdict"] == "pass"
    assert (result.details["tested_groups"], result.n_groups, result.n) == (80, 80, 400)
    assert "biology that was not declared" in result.details["caveat"]
    ratio = result.details["ratio_to_biology"]
    assert ratio[1] < ratio[0] < ratio[2]
    assert result.to_frame().loc[0, "p_value"] == result.p_value


def test_half_precision_and_text_ids() -> None:
    cohort = scm(rows_per_group=1)
    half = cohort.replace(X=cohort.X.astype(np.float16))
    assert run(half).effect.value == pytest.approx(run(cohort).effect.value, rel=0.02)


# --- once wrong -------------------------------------------------------------------------------------------------------

AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")


def two_sites() -> tuple[np.ndarray, pd.DataFrame]:
    site, tumour = np.repeat(["a", "b"], 30), np.tile(["x", "y"], 30)
    Z = np.random.default_rng(1).standard_normal((60, 6))
    Z[:, 0] += 3.0 * (site == "a")
    Z[:, 1] += 4.0 * (tumour == "x")
    return Z, pd.DataFrame({"site": site, "tumour": tumour, "patient": [f"p{i}" for i in range(60)]})


def test_a_covariate_that_gives_the_site_away_cannot_tell() -> None:
    Z, obs = two_sites()
    result = run(Cohort(Z, obs.assign(age=50.0 + 20.0 * (obs["site"] == "a"))), AGED)
    assert result.verdict == "cannot tell"


@pytest.mark.parametrize(("collapsed", "verdict"), [("everywhere", "cannot tell"), ("within cells", "fail")])
def test_an_embedding_without_variance_within_cells(collapsed: str, verdict: str) -> None:
    _, obs = two_sites()
    cell = 2 * (obs["site"] == "a") + (obs["tumour"] == "x")
    Z = np.ones((60, 4)) if collapsed == "everywhere" else np.eye(4)[cell.to_numpy(int)]
    assert run(Cohort(Z, obs), margin=1.0).verdict == verdict


def test_a_pass_does_not_cover_levels_left_out() -> None:
    Z, obs = two_sites()
    extra = pd.DataFrame({"site": "c", "tumour": "x", "patient": [f"c{i}" for i in range(10)]})
    Z[:, 0] -= 3.0 * (obs["site"] == "a").to_numpy()
    shifted = np.random.default_rng(2).standard_normal((10, 6)) + np.array([4.0, 4, 0, 0, 0, 0])
    result = run(Cohort(np.vstack([Z, shifted]), pd.concat([obs, extra], ignore_index=True)), margin=1.0)
    assert result.p_value < 0.01
    assert result.verdict != "pass"
    assert "No dependence" not in result.sentence
