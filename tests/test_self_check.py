import dataclasses

import numpy as np
import pytest

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.datasets import amibr, tcga_hipt
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import null_models, placebo, self_check
from causalfm.invariance.flipped_residuals import NullRows, draw_shifts, null_rows
from causalfm.invariance.mean import dimensions_filled, mean_design, mean_test
from causalfm.invariance.methods import METHODS, Question
from causalfm.invariance.null_models import mean_nulls, paired_nulls, row_nulls
from causalfm.invariance.paired_test import sign_flip_test
from causalfm.invariance.power import detectable_distance, power_curve
from causalfm.paired_units import paired_units
from causalfm.units import Units, patient_units
from experiments.calibration.rescans import rescanned

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")
ROWS = CausalGraph.standard(biology="tumour", technical="site", group="row")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def scm(**settings) -> Cohort:
    cohort, _ = linear_scm(**{"n_groups": 64, "d": 8, "n_sites": 2, **settings})
    return cohort.replace(obs=cohort.obs.assign(row=[f"r{i}" for i in range(len(cohort))]))


def units_of(cohort: Cohort, graph: CausalGraph = GRAPH, given=("tumour",)) -> Units:
    return patient_units(cohort, graph, ["site"], given)


def own(units: Units) -> np.ndarray:
    return np.arange(len(units))


# --- null cohorts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [("tumour",), ("tumour", "age")])
@pytest.mark.parametrize("distance", [0.0, 0.7])
def test_the_polynomial_is_the_test_itself(monkeypatch: pytest.MonkeyPatch, given: tuple, distance: float) -> None:
    """Every null cohort, shifted, goes through the test as it stands: same p-values, with and without covariates."""
    units = units_of(scm(n_groups=24, confounding=0.3), AGED, given)
    drawn, seeds, fills = [], [], []
    original, permute = NullRows.draw, null_models.permutations_within

    def draw(self, rng):
        drawn.append(original(self, rng))
        return drawn[-1]

    monkeypatch.setattr(NullRows, "draw", draw)
    monkeypatch.setattr(
        null_models, "permutations_within", lambda s, n, seed, **kw: seeds.append(seed) or permute(s, n, seed, **kw)
    )
    monkeypatch.setattr(null_models, "dimensions_filled", lambda Y: fills.append(dimensions_filled(Y)) or fills[-1])
    p_values = mean_nulls(units, own(units), 5, 39, 1)("random", distance)
    design = mean_design(units)
    rows = null_rows(units.Z[design.keep], design.onehot.argmax(axis=1), own(units), units.covariates[design.keep])
    shifts = draw_shifts(rows.residuals, 5, 2, 1)["random"]
    for i in range(5):
        monkeypatch.setattr("causalfm.invariance.mean.dimensions_filled", lambda _, i=i: fills[i])
        Z = drawn[i] + distance * shifts[i][units.level.codes]
        null = dataclasses.replace(units, Z=Z)
        assert p_values[i] == pytest.approx(mean_test(null, n_permutations=39, random_state=seeds[i])[1])


def test_null_cohorts_keep_sizes_and_spread_and_are_independent() -> None:
    rng = np.random.default_rng(0)
    cells = np.repeat([0, 1, 2], [4, 6, 10])
    spread = np.array([1.0, 4.0, 2.0])
    Z = rng.standard_normal((20, 400)) * spread[cells][:, None] + 7.0 * cells[:, None]
    rows = null_rows(Z, cells, np.arange(20), np.zeros((20, 0)))
    draws = np.stack([rows.draw(rng) for _ in range(1500)])
    assert np.abs(draws.mean(axis=0) / draws.std(axis=0)).max() < 6 / np.sqrt(1500)  # no cell differs from another
    inner = np.einsum("bgd,bhd->bgh", draws, draws)
    lengths = np.sqrt(np.diagonal(inner, axis1=1, axis2=2).mean(axis=0))
    assert lengths == pytest.approx(20.0 * spread[cells], rel=0.15)  # 400 dimensions
    same = (cells[:, None] == cells) & ~np.eye(20, dtype=bool)
    cosine = (inner / lengths[:, None] / lengths)[:, same]
    assert np.sqrt((cosine**2).mean()) == pytest.approx(1 / np.sqrt(400), rel=0.25)
    plain = (rows.residuals @ rows.residuals.T / lengths[:, None] / lengths)[same]
    assert np.sqrt((plain**2).mean()) > 0.12  # residuals alone: minus one over the patients less one


def test_flipped_residuals_alone_overstate_the_size_in_uneven_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Residuals of a cell of n correlate by -1 / (n - 1): 14.5 % by flips alone, 4.7 % with a new error (60 x 16).

    Of the test that permutes and does no more: what allows for unlike covariances allows for this correlation too.
    """
    monkeypatch.setattr("causalfm.invariance.mean.excess_variance", lambda *_: 1.0)
    alone, renewed = [], []
    for seed in range(30):
        cohort, _ = linear_scm(n_groups=64, d=256, decay=0.5, confounding=0.5, random_state=8_700_000 + seed)
        units = units_of(cohort)  # cells of 12 and 4 patients
        design = mean_design(units)
        cells = design.onehot.argmax(axis=1)
        assert design.keep.all()
        rows, rng = null_rows(units.Z, cells, own(units), units.covariates), np.random.default_rng(seed)
        n = np.bincount(cells)[cells][:, None]
        for _ in range(8):
            grown = rows.residuals * np.sqrt(n / (n - 1)) * rng.choice([-1.0, 1.0], (64, 1))
            for Z, found in ((grown, alone), (rows.draw(rng), renewed)):
                p_value = mean_test(dataclasses.replace(units, Z=Z), n_permutations=39, random_state=len(alone))[1]
                found.append(p_value <= 0.05)
    assert np.mean(alone) > 0.09
    assert np.mean(renewed) < 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / 240)
    assert np.mean(renewed) < 0.7 * np.mean(alone)


def test_covariates_take_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    cells, covariates = np.repeat([0, 1], 8), rng.standard_normal((16, 6))
    squares = []
    for _ in range(300):
        rows = null_rows(rng.standard_normal((16, 5)), cells, np.arange(16), covariates)
        squares.append((rows.residuals**2).sum() + 8 * rows.error.sum())
    assert np.mean(squares) == pytest.approx(16 * 5, rel=0.05)


def test_rows_of_a_cluster_move_together() -> None:
    cells, clusters = np.repeat([0, 1], 12), np.repeat(np.arange(8), 3)
    rows = null_rows(np.random.default_rng(0).standard_normal((24, 3)), cells, clusters, np.zeros((24, 0)))
    none = dataclasses.replace(rows, error=np.zeros(2))
    signs = none.draw(np.random.default_rng(3)) / rows.residuals
    assert np.abs(signs) == pytest.approx(np.ones((24, 3)))
    assert (np.sign(signs).reshape(8, -1) == np.sign(signs[::3, :1])).all()
    assert len(np.unique(np.sign(signs))) == 2


def test_shifts_have_the_distance_they_claim() -> None:
    R = np.random.default_rng(0).standard_normal((30, 4)) * [9.0, 3.0, 1.0, 0.1]
    for name, shifts in draw_shifts(R, 7, 3, 0).items():
        pairs = [((shifts[:, i] - shifts[:, j]) ** 2).sum(axis=1) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert np.mean(pairs, axis=0) == pytest.approx(np.ones(7))
        loudest = np.abs(shifts / np.linalg.norm(shifts, axis=2, keepdims=True)).mean(axis=(0, 1)).argmax()
        assert loudest == {"random": 0, "loud": 0, "quiet": 3}[name]


def test_any_method_run_anew_agrees_with_the_fast_pass() -> None:
    cohort = scm(n_groups=40, rows_per_group=3)
    question = Question(cohort, GRAPH, ("site",), ("tumour",), 39, 0)
    groups = cohort.factor("patient")
    slow = row_nulls(question, METHODS["mean"], groups.codes, 60)
    fast = mean_nulls(units_of(cohort), own(units_of(cohort)), 200, 39, 0)
    for distance in (0.0, 0.5):
        a, b = (np.mean(p("random", distance) <= 0.05) for p in (slow, fast))
        assert abs(a - b) < 4 * np.sqrt(0.25 / 60 * (0.2 if distance == 0.0 else 1.0))


def test_paired_null_cohorts_are_the_test_itself() -> None:
    cohort, _ = rescanned(n_scanners=3, missing=0.3, n_groups=15, d=5)
    within = paired_units(cohort, SCANNED, ["scanner"], ["site", "tumour"]).within
    p_values = paired_nulls(within, np.arange(15), 6, 39, 2)
    rng = np.random.default_rng([2, 1])
    seeds = rng.integers(2**32, size=6).tolist()
    R = within.residuals()
    shifts = draw_shifts(R.reshape(-1, 5), 6, 3, 2)
    for i, seed in enumerate(seeds):
        signs = 2.0 * rng.integers(0, 2, 15) - 1.0
        for name, distance in (("random", 0.0), ("loud", 0.4)):
            U = R * signs[:, None, None] + distance * within.A @ shifts[name][i]
            expected = sign_flip_test(dataclasses.replace(within, U=U), n_flips=39, random_state=seed)[1]
            assert p_values(name, distance)[i] == pytest.approx(expected)


# --- what the check says ----------------------------------------------------------------------------------------------


def test_a_valid_test_and_a_wrong_unit() -> None:
    """Rows of one patient are alike: with rows as units a true null is rejected in 97 %, and the check says so."""
    cohort = scm(n_sites=4, d=32, confounding=0.6, random_state=5)
    right, wrong = self_check(cohort, GRAPH, of="site"), self_check(cohort, ROWS, of="site", clusters="patient")
    assert right.size_low < 0.05 < right.size_high
    assert right.verdict != "fail"
    assert wrong.size > 0.9
    assert (wrong.verdict, wrong.unit, wrong.clusters) == ("fail", "row", "patient")
    assert np.isnan(wrong.detectable)
    assert "with rows as its unit it is not valid" in wrong.sentence
    assert self_check(cohort, ROWS, of="site").verdict != "fail"  # it cannot know what nobody declares


def test_the_detectable_distance_is_seen_in_four_of_five_new_cohorts() -> None:
    settings = {"n_groups": 80, "n_sites": 3, "biology_effect": 2.0, "rows_per_group": 3}
    found = self_check(scm(**settings), GRAPH, of="site", n_nulls=400)
    distance = found.details["detectable_distance"]["random"][0]
    seeds = [{"effect_seed": i, "random_state": 100 + i} for i in range(120)]
    units = [units_of(scm(**settings, **seed, site_effect=distance)) for seed in seeds]
    share = np.mean([mean_test(u, n_permutations=39)[1] <= 0.05 for u in units])
    assert abs(share - 0.8) < 4 * np.sqrt(0.16 / 120)
    assert found.detectable_low < found.detectable < found.detectable_high
    worst = found.details["detectable_distance"][found.details["direction"]][0]
    assert found.details["direction"] == "loud"  # a sum of squares sees it last
    assert found.detectable == pytest.approx(worst / found.details["distance_between_classes"])
    assert f"could not have seen less than {found.detectable:.2g} [" in found.sentence


def test_more_patients_see_smaller_distances() -> None:
    few, many = (self_check(scm(n_groups=n), GRAPH, of="site", n_nulls=60).detectable for n in (32, 200))
    assert many < 0.6 * few


def test_paired_designs_see_more() -> None:
    cohort, _ = rescanned(biology_effect=2.0, d=8, n_sites=2)
    paired = self_check(cohort, SCANNED, of="scanner")
    codes, level = cohort.factor("patient").codes, cohort.factor("scanner").codes
    one = cohort[level == np.random.default_rng(0).permutation(np.arange(40) % 2)[codes]]
    apart = self_check(one, SCANNED, of="scanner")
    assert paired.size_low <= 0.05
    assert paired.detectable < 0.7 * apart.detectable


@pytest.mark.parametrize("method", ["mmd", "dcorr"])
def test_methods_on_features(method: str) -> None:
    found = self_check(scm(n_groups=48), GRAPH, of="site", method=method, n_nulls=100)
    assert found.size_low <= 0.05 <= found.size_high + 0.03
    assert np.isfinite(found.details["detectable_distance"]["random"]).all()


def test_without_biology_distances_are_in_embedding_units() -> None:
    found = self_check(scm(biology_effect=0.0), GRAPH, of="site", n_nulls=40)
    assert np.isnan(found.detectable)
    assert "in units of the embedding (the distance between classes of tumour is not known)" in found.sentence


def test_large_cohorts_get_fewer_null_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causalfm.invariance.self_checks.BUDGET", 1e3)
    assert self_check(scm(n_groups=24), GRAPH, of="site").n_nulls == 50
    assert self_check(scm(n_groups=24), GRAPH, of="site", n_nulls=60).n_nulls == 60


def test_same_seed_same_check() -> None:
    first, same, other = (self_check(scm(), GRAPH, of="site", n_nulls=40, random_state=s) for s in (1, 1, 2))
    assert first == same
    assert first.details["curves"] != other.details["curves"]
    assert first.to_frame().loc[0, "size"] == first.size
    assert first.to_dict()["given"] == ["tumour"]


def test_bad_calls() -> None:
    cohort = scm()
    with pytest.raises(DataError, match="X does not vary between patients of a cell: there is no noise"):
        self_check(cohort.replace(X=np.ones_like(cohort.X)), GRAPH, of="site")
    with pytest.raises(DataError, match="lie in several levels of clusters='row'"):
        self_check(cohort, GRAPH, of="site", clusters="row")
    with pytest.raises(DataError, match="n_nulls=5"):
        self_check(cohort, GRAPH, of="site", n_nulls=5)
    nested = cohort.replace(obs=cohort.obs.assign(scanner=cohort.obs["site"]))
    with pytest.raises(DataError, match=r"there is no test to check\. Cannot tell scanner from site"):
        self_check(nested, SCANNED, of="scanner")


def test_power_curve_and_its_crossing() -> None:
    def p_values(direction: str, distance: float) -> np.ndarray:
        return np.where(np.arange(100) < min(distance, 2.0) * 50, 0.01, 0.5)

    distance, power = power_curve(p_values, "random", 0.3)
    assert power[0] == 0.0
    assert power[-1] >= 0.99
    value, low, high = detectable_distance(distance, power, 100)
    assert value == pytest.approx(1.6, abs=0.03)
    assert (low, high) == pytest.approx((2 * (0.8 - 0.0784), 2 * (0.8 + 0.0784)), abs=0.03)
    flat = power_curve(lambda *_: np.full(50, 0.5), "random", 0.3)
    assert detectable_distance(*flat, 50) == (np.inf, np.inf, np.inf)


# --- placebo ----------------------------------------------------------------------------------------------------------


def test_placebo_of_the_grouping() -> None:
    cohort = scm(n_sites=4, site_effect=3.0)  # what sites differ in plays no part
    right, wrong = placebo(cohort, GRAPH), placebo(cohort, ROWS, clusters="patient", n_splits=60)
    assert right.verdict == "pass"
    assert right.details["low"] <= 0.05 <= right.details["high"]
    assert len(right.details["p_values"]) == 200
    assert right.sentence.endswith("This checks the grouping only.")
    assert wrong.verdict == "fail"
    assert wrong.details["share"] > 0.6
    assert placebo(cohort, GRAPH).details == right.details


def test_placebo_splits_within_site_and_class() -> None:
    cohort = scm()
    for c, where in ((cohort, "site and tumour"), (scm(biology_within_group=True), "site")):
        sentence = placebo(c, GRAPH, n_splits=20, n_permutations=19).sentence
        assert sentence.startswith(f"Of 20 random splits of patients into halves within {where} ")
        assert ("tumour" in sentence) == ("tumour" in where)
    with pytest.raises(DataError, match="holds 4 patients: nothing to split"):
        placebo(scm(n_groups=12), GRAPH)


# --- real data --------------------------------------------------------------------------------------------------------


def test_hospital_given_cancer_on_tcga(data_dir) -> None:
    hospitals = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
    cohort = tcga_hipt.load(data_dir, cancers=["BRCA", "COAD", "LUAD", "STAD"], hospitals=hospitals)
    graph = CausalGraph.standard(biology="project_id", technical="center", group="case")
    found = self_check(cohort, graph, of="center", n_nulls=40)
    assert found.size_low < 0.07
    assert 0.1 < found.detectable < 0.2  # the hospitals lie 2.1 times the cancers' distance apart
    split = placebo(cohort, graph, n_splits=20, n_permutations=19)
    assert split.details["low"] <= 0.05


def test_scanner_given_label_on_amibr(data_dir) -> None:
    cohort = amibr.load(data_dir, "lite0")
    found = self_check(
        cohort, CausalGraph.standard(biology="label", technical="scanner", group="patient"), of="scanner"
    )
    assert found.verdict != "fail"
    assert 1.0 < found.detectable < 3.0
    assert found.n_groups == 135


def test_public_names() -> None:
    assert cfm.self_check is self_check
    assert cfm.equivalence_test.__module__ == "causalfm.invariance.equivalence"
