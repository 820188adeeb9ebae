from itertools import combinations_with_replacement, pairwise

import numpy as np
import pandas as pd
import pytest
from neighbourhood_cohorts import GRAPH, clustered, codes_of, cohort_of
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import t

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import reference_index, robustness_index
from causalfm.metrics.deletion import deletion_of
from causalfm.metrics.design import pair_variance, stratified_variance
from causalfm.metrics.typed import OS, SO, kind_channels, neighbour_kinds, vote_accuracy
from causalfm.neighbours import Neighbours, knn

# --- limits ---------------------------------------------------------------------------------------------------------


def corners(rng, *, axis: np.ndarray) -> np.ndarray:
    return np.eye(4)[axis] + 0.01 * rng.standard_normal((len(axis), 4))


def test_limits_one_and_zero() -> None:
    rng = np.random.default_rng(0)
    b, s = np.tile([0, 0, 1, 1], 10), np.tile([0, 1, 0, 1], 10)
    one = robustness_index(cohort_of(corners(rng, axis=b), b, s, range(40)), GRAPH, k=15, standardised=False)
    zero = robustness_index(cohort_of(corners(rng, axis=s), b, s, range(40)), GRAPH, k=15, standardised=False)
    assert (one.value, zero.value) == (1.0, 0.0)
    # no spread to see is not a perfect interval: the rule of three on the patient that is met in most entries
    found = knn(corners(np.random.default_rng(0), axis=b).astype(np.float32), 15, exclude=np.arange(40))
    typed = neighbour_kinds(found, b, s) == SO
    met = typed.sum(1) + np.bincount(found.indices[typed], minlength=40)
    bound = -np.log(0.025) * met.max() / typed.sum()
    assert bound == pytest.approx(-np.log(0.025) * 2 / 40, rel=0.35)
    assert (one.low, one.high) == pytest.approx((1 - bound, 1))
    assert zero.low == 0
    assert zero.high == pytest.approx(bound, rel=0.35)
    assert "one-sided" in one.details["interval"]
    assert one.details["weighted"].low < one.details["weighted"].high == 1


def test_one_so_and_one_os_at_the_same_distance_give_one_half() -> None:
    X = [[1, 0, 0], [1, 1, 0], [1, -1, 0]]
    half = robustness_index(cohort_of(X, [0, 0, 1], [0, 1, 0], range(3)), GRAPH, k=2, standardised=False)
    assert half.value == 0.5
    assert half.details["counts"] == {"SS": 0, "SO": 2, "OS": 2, "OO": 2}


def test_no_typed_neighbour_is_undefined_with_a_reason() -> None:
    b, s = np.tile([0, 0, 1, 1], 10), np.tile([0, 1, 0, 1], 10)
    cohort = cohort_of(corners(np.random.default_rng(0), axis=2 * b + s), b, s, range(40))
    estimate = robustness_index(cohort, GRAPH, k=5)
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert "nothing to compare" in estimate.details["reason"]
    assert estimate.details["support"] == 0
    assert 0.4 < estimate.chance < 0.6
    assert np.isnan(estimate.details["standardised"].value)
    assert "typed neighbour" in estimate.details["standardised"].details["reason"]


# --- chance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[90, 90], [10, 10]], 0.820),
        ([[90, 10], [90, 10]], 0.180),
        ([[20] * 3] * 6, 0.286),
        ([[20] * 10] * 2, 0.900),
    ],
)
def test_noise_gives_the_closed_form_and_not_one_half(counts, expected) -> None:
    cohort = clustered(np.random.default_rng(1), counts, tiles=2, patient=0)
    estimate = robustness_index(cohort, GRAPH, k=15, standardised=False)
    assert estimate.chance == pytest.approx(expected, abs=0.004)
    assert estimate.value == pytest.approx(estimate.chance, abs=0.02)


def test_chance_counts_candidates_outside_the_group() -> None:
    rng = np.random.default_rng(2)
    b, s, p = rng.integers(0, 3, 60), rng.integers(0, 2, 60), rng.integers(0, 9, 60)  # biology varies within patients
    so = os = 0.0
    for i in range(60):
        other = p != p[i]
        so += (other & (b == b[i]) & (s != s[i])).sum() / other.sum()
        os += (other & (b != b[i]) & (s == s[i])).sum() / other.sum()
    estimate = robustness_index(cohort_of(rng.standard_normal((60, 4)), b, s, p), GRAPH, k=3, standardised=False)
    assert estimate.chance == pytest.approx(so / (so + os), abs=1e-12)


# --- jackknife ------------------------------------------------------------------------------------------------------


def plain_counts(cohort: Cohort, k: int, keep: np.ndarray) -> np.ndarray:
    b, s, p = (code[keep] for code in codes_of(cohort))
    found = knn(cohort.X[keep], k, exclude=p)
    kinds = neighbour_kinds(found, b, s)
    return np.array([(kinds == SO).sum(), (kinds == OS).sum()])


@pytest.mark.parametrize(("reserve", "must_search"), [(0, True), (1, True), (40, False)])
def test_deletion_equals_a_new_search_without_the_patient(reserve: int, must_search: bool) -> None:
    rng = np.random.default_rng(3)
    p = np.repeat(np.arange(14), rng.integers(1, 12, 14))  # from one tile to eleven: short reserves are exhausted
    X = 0.6 * rng.standard_normal((len(p), 5)) + 2 * rng.standard_normal((14, 5))[p]
    cohort = cohort_of(X, (p * 7 % 5) % 2, p % 3, p)
    b, s, g = codes_of(cohort)
    searches = []

    def search(queries: np.ndarray, more: int) -> Neighbours:
        searches.append(len(queries))
        return knn(cohort.X, 4, exclude=g, queries=queries, reserve=more)

    found = knn(cohort.X, 4, exclude=g, reserve=reserve)
    totals, deletion = deletion_of(found, g, 4, kind_channels(b, s, [SO, OS]), search, 14)
    everything = plain_counts(cohort, 4, np.ones(len(p), dtype=bool))
    brute = np.array([plain_counts(cohort, 4, g != unit) - everything for unit in range(14)])
    np.testing.assert_array_equal(totals, everything)
    np.testing.assert_array_equal(deletion.effects, brute)
    assert bool(searches) is must_search


def test_interval_equals_brute_force() -> None:
    cohort = clustered(np.random.default_rng(4), [[3, 5, 1], [4, 4, 5]], d=6, tiles=3, biology=0.5, site=0.5)
    g = codes_of(cohort)[2]
    estimate = robustness_index(cohort, GRAPH, k=6, standardised=False)
    left = np.array([plain_counts(cohort, 6, g != unit) for unit in range(22)])
    pseudo = (22 * estimate.value - 21 * left[:, 0] / left.sum(1)) / 22
    cell = cohort.obs.groupby("patient")[["tumour", "site"]].first().agg("x".join, axis=1)
    stratum = cell.replace("0x2", "0x0")  # the patient alone in its cell joins the smallest stratum
    assert stratum.value_counts().to_dict() == {"0x0": 4, "0x1": 5, "1x0": 4, "1x1": 4, "1x2": 5}
    parts = [(part.var() * len(part), len(part)) for _, part in pd.Series(pseudo, stratum.index).groupby(stratum)]
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v**2 / (n - 1) for v, n in parts)
    base = per_query(cohort, 6, np.ones(len(g), dtype=bool))
    so, os = base.sum(0)
    pairs = np.zeros((22, 22))
    for h in range(22):
        change = per_query(cohort, 6, g != h) - base[g != h]
        np.add.at(pairs[:, h], g[g != h], change @ [os, -so] / (so + os) ** 2)
    pair_part = brute_pair_variance(pairs, stratum.to_numpy())
    variance = max(variance - pair_part, variance / 2)
    half = t.ppf(0.975, df) * variance**0.5 / (estimate.value * (1 - estimate.value))
    assert estimate.low == pytest.approx(expit(logit(estimate.value) - half), abs=1e-12)
    assert estimate.high == pytest.approx(expit(logit(estimate.value) + half), abs=1e-12)
    assert estimate.n_groups == 22


def per_query(cohort: Cohort, k: int, keep: np.ndarray) -> np.ndarray:
    b, s, p = (code[keep] for code in codes_of(cohort))
    kinds = neighbour_kinds(knn(cohort.X[keep], k, exclude=p), b, s)
    return np.stack([(kinds == SO).sum(1), (kinds == OS).sum(1)], axis=1)


def brute_pair_variance(pairs: np.ndarray, strata: np.ndarray) -> float:
    """Residual variance of a least-squares fit of both units' main effects, block by block, times the pairs."""
    both, total = pairs + pairs.T, 0.0
    names = np.unique(strata)
    for a, b in combinations_with_replacement(names, 2):
        rows, columns = np.flatnonzero(strata == a), np.flatnonzero(strata == b)
        cells = [(i, j) for i in rows for j in columns if a != b or i < j]
        fit = np.zeros((len(cells), 2 * len(strata)))
        for line, (i, j) in zip(fit, cells, strict=True):
            line[i] = 1
            line[j if a == b else j + len(strata)] = 1
        y = np.array([both[i, j] for i, j in cells])
        residual = y - fit @ np.linalg.lstsq(fit, y, rcond=None)[0]
        freedom = len(cells) - np.linalg.matrix_rank(fit)
        total += residual @ residual * len(cells) / freedom if freedom else 0.0
    return total


@pytest.mark.parametrize("sizes", [(4, 5, 6), (2, 3, 7), (9,)])
def test_pair_variance_is_the_residual_of_a_two_way_fit(sizes: tuple[int, ...]) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    pairs = sparse.random_array((len(strata), len(strata)), density=0.4, rng=np.random.default_rng(0), format="csr")
    pairs.setdiag(0)
    assert pair_variance(pairs, strata) == pytest.approx(brute_pair_variance(pairs.toarray(), strata), rel=1e-9)


def test_stratified_variance_pools_units_that_are_alone() -> None:
    effects = np.array([1.0, 3.0, 2.0, 7.0, 5.0])
    assert stratified_variance(effects, np.zeros(5, int)) == pytest.approx((5 / 4 * ((effects - 3.6) ** 2).sum(), 4))
    parts = 2 * ((effects[:2] - 2) ** 2).sum(), 3 / 2 * ((effects[2:] - 14 / 3) ** 2).sum()
    df = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2)
    assert stratified_variance(effects, np.array([0, 0, 1, 2, 3])) == pytest.approx((sum(parts), df))
    assert stratified_variance(effects, np.arange(5))[1] == 4
    assert np.isnan(stratified_variance(effects[:1], np.zeros(1, int))[0])


def test_degrees_of_freedom_are_those_of_the_strata_with_the_spread() -> None:
    strata = np.repeat([0, 1], [3, 30])
    small, equal = np.zeros(33), np.tile([1.0, -1.0, 0.0], 11)
    small[:2] = 1.0, -1.0
    assert stratified_variance(small, strata) == pytest.approx((3.0, 2.0))  # 3 / 2 * 2, all of it from three units
    parts = 3 / 2 * 2, 30 / 29 * 20
    assert stratified_variance(equal, strata)[1] == pytest.approx(
        sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 29)
    )
    assert stratified_variance(np.zeros(33), strata) == (0.0, 31.0)


def test_k_without_a_spare_patient_has_a_value_but_no_interval() -> None:
    cohort = clustered(np.random.default_rng(5), [[2, 2], [2, 2]], tiles=2)
    estimate = robustness_index(cohort, GRAPH, k=14, standardised=False)
    assert 0 < estimate.value < 1
    assert np.isnan(estimate.low)
    assert "choose a smaller k" in estimate.details["interval"]


# --- choice of k ----------------------------------------------------------------------------------------------------


def test_vote_ties_go_to_the_class_of_the_nearest_member() -> None:
    labels = np.array([0, 2, 1, 1, 2, 0])
    found = Neighbours(np.array([[1, 2, 3, 4, 5]]), np.ones((1, 5), np.float32), np.array([0]), 5, 6)
    winners = []
    for k in (1, 2, 3, 4, 5):
        hit = [c for c in (0, 1, 2) if vote_accuracy(found, np.r_[c, labels[1:]], [k])[0] == 1]
        winners.append(hit)
    assert winners == [[2], [2], [1], [2], [2]]


def test_auto_k_is_the_best_vote_without_the_own_patient_and_the_smallest_of_equals() -> None:
    cohort = clustered(np.random.default_rng(6), [[15, 10], [10, 15]], tiles=3, biology=0.4, site=0.4)
    estimate = robustness_index(cohort, GRAPH, standardised=False)
    curve = pd.DataFrame(estimate.details["curve"])
    assert curve["k"].tolist() == [1, 3, 5, 7, 9, 11, 21, 31]  # a quarter of 147 candidates is 36
    assert estimate.details["k"] == curve["k"][curve["biology_accuracy"].idxmax()]
    assert estimate.value == curve.set_index("k")["value"][estimate.details["k"]]
    b, _, g = codes_of(cohort)
    similarity = cohort.X @ cohort.X.T / np.outer(*[np.linalg.norm(cohort.X, axis=1)] * 2)
    similarity[g[:, None] == g] = -2
    top = b[np.argsort(-similarity, axis=1)[:, :7]]
    vote = (top.mean(1) > 0.5).astype(int)
    by_hand = np.mean([(vote[b == c] == c).mean() for c in (0, 1)])
    assert curve.set_index("k")["biology_accuracy"][7] == pytest.approx(by_hand, abs=1e-12)
    easy = clustered(np.random.default_rng(6), [[15, 10], [10, 15]], tiles=3, biology=9)
    assert robustness_index(easy, GRAPH, standardised=False).details["k"] == 1
    assert robustness_index(cohort, GRAPH, max_k=9, standardised=False).details["curve"][-1]["k"] == 7


# --- contract -------------------------------------------------------------------------------------------------------


def test_invariances() -> None:
    rng = np.random.default_rng(7)
    cohort = clustered(rng, [[8, 5], [5, 8]], biology=0.5, site=0.5)
    base = robustness_index(cohort, GRAPH, k=9, standardised=False)
    order = rng.permutation(len(cohort))
    renamed = cohort.obs.assign(
        tumour=cohort.obs["tumour"].map({"0": "z", "1": "a"}), patient="x" + cohort.obs["patient"].str[::-1]
    )
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0].astype(np.float32)
    scale = rng.uniform(0.1, 10, (len(cohort), 1)).astype(np.float32)
    for other in (cohort[order], cohort.replace(obs=renamed), cohort.replace(X=(cohort.X @ rotation) * scale)):
        estimate = robustness_index(other, GRAPH, k=9, standardised=False)
        assert estimate.value == base.value
        assert (estimate.low, estimate.high, estimate.chance) == pytest.approx((base.low, base.high, base.chance))
    twice = robustness_index(cohort, GRAPH, k=9, standardised=False)
    assert twice.to_dict() == base.to_dict()


def test_a_given_search_gives_the_same_estimate_and_a_wrong_one_is_refused() -> None:
    cohort = clustered(np.random.default_rng(8), [[8, 5], [5, 8]], biology=0.5, site=0.5)
    g = codes_of(cohort)[2]
    base = robustness_index(cohort, GRAPH, k=5, standardised=False)
    given = knn(cohort.X, 12, exclude=g)
    assert robustness_index(cohort, GRAPH, k=5, neighbours=given, standardised=False).to_dict() == base.to_dict()
    assert robustness_index(cohort, GRAPH, neighbours=given, standardised=False).details["curve"][-1]["k"] == 11
    with pytest.raises(DataError, match="own patient"):
        robustness_index(cohort, GRAPH, k=5, neighbours=knn(cohort.X, 12))
    with pytest.raises(DataError, match="needs k=13"):
        robustness_index(cohort, GRAPH, k=13, neighbours=given)


def test_a_sample_of_queries_scores_these_rows_only() -> None:
    cohort = clustered(np.random.default_rng(9), [[20, 12], [12, 20]], biology=0.6, site=0.6)
    b, s, g = codes_of(cohort)
    sample = knn(cohort.X, 7, exclude=g, queries=50, random_state=1)
    estimate = robustness_index(cohort, GRAPH, k=7, neighbours=sample, standardised=False)
    full = robustness_index(cohort, GRAPH, k=7, standardised=False)
    kinds = neighbour_kinds(knn(cohort.X, 7, exclude=g), b, s)[sample.queries]
    assert estimate.details["counts"]["SO"] == (kinds == SO).sum()
    assert estimate.high - estimate.low > full.high - full.low
    assert estimate.details["queries"] == 50


def test_errors_name_the_column_and_never_the_patient() -> None:
    cohort = clustered(np.random.default_rng(10), [[4, 4], [4, 4]])
    for change, message in [
        ({"site": "A"}, "one level only"),
        ({"tumour": None}, "missing"),
        ({"patient": [None] + ["id-1"] * (len(cohort) - 1)}, "missing"),
        ({"patient": "id-1"}, "shortest candidate list"),
    ]:
        bad = cohort.replace(obs=cohort.obs.assign(**change))
        with pytest.raises(DataError, match=message) as error:
            robustness_index(bad, GRAPH, k=3)
        assert "id-" not in str(error.value)
    with pytest.raises(DataError, match="no column 'scanner'"):
        robustness_index(cohort, GRAPH, confounder="scanner")
    with pytest.raises(DataError, match="k=31"):
        robustness_index(cohort, GRAPH, k=31)
    with pytest.raises(DataError, match="positive whole number"):
        robustness_index(cohort, GRAPH, k=2.5)
    with pytest.raises(DataError, match="quarter"):
        robustness_index(cohort, GRAPH, max_k=1)


# --- reference version ----------------------------------------------------------------------------------------------


def test_reference_does_not_move_with_the_class_shares() -> None:
    raw, reference = [], []
    for counts in ([[30, 30], [30, 30]], [[54, 54], [6, 6]], [[50, 20], [10, 40]]):
        cohorts = [
            clustered(np.random.default_rng(seed), counts, biology=0.4, site=0.4, patient=0) for seed in range(4)
        ]
        estimates = [robustness_index(cohort, GRAPH, k=15) for cohort in cohorts]
        raw.append(np.mean([estimate.value for estimate in estimates]))
        reference.append(np.mean([estimate.details["standardised"].value for estimate in estimates]))
    assert raw[1] - raw[0] > 0.15
    assert reference == pytest.approx([0.5] * 3, abs=0.04)


def test_reference_orders_by_strength() -> None:
    values = [
        reference_index(clustered(np.random.default_rng(12), [[20, 8], [8, 20]], biology=b, site=s), GRAPH).value
        for b, s in ((0.4, 1.2), (0.8, 0.8), (1.2, 0.4))
    ]
    assert all(after - before > 0.2 for before, after in pairwise(values))


def test_reference_of_noise_is_its_computed_chance_also_when_patients_hold_both_classes() -> None:
    rng = np.random.default_rng(13)
    single = reference_index(clustered(rng, [[40, 10, 20], [10, 40, 20]], patient=0), GRAPH)
    assert single.chance == 0.5
    assert single.value == pytest.approx(0.5, abs=0.03)
    p = np.repeat(np.arange(12), 8)
    both = [
        reference_index(cohort_of(rng.standard_normal((96, 8)), np.tile([0, 1], 48), p % 2, p), GRAPH, draws=1)
        for _ in range(30)
    ]
    # 6 patients per cell, each in both classes of its site: 24 SO candidates against 20 OS ones
    assert both[0].chance == pytest.approx(24 / 44, abs=1e-12)
    assert np.mean([estimate.value for estimate in both]) == pytest.approx(24 / 44, abs=0.02)


def test_reference_on_a_balanced_cohort_is_the_index_itself() -> None:
    cohort = clustered(np.random.default_rng(14), [[12, 12], [12, 12]], tiles=1, biology=0.6, site=0.6)
    reference = reference_index(cohort, GRAPH, fraction=0.5, draws=1)
    raw = robustness_index(cohort, GRAPH, k=6, standardised=False)
    assert reference.details["tables"][0]["k"] == 6
    assert reference.value == raw.value
    assert (reference.low, reference.high) == pytest.approx((raw.low, raw.high), abs=0.01)


def test_reference_reports_tables_rows_and_what_was_left_out() -> None:
    cohort = clustered(np.random.default_rng(15), [[12, 9, 2], [9, 12, 8]], tiles=4, biology=0.5, site=0.5)
    drop = np.flatnonzero(cohort.obs["patient"] == "id-0")[1:]  # one patient keeps a single tile
    reference = reference_index(cohort[np.setdiff1d(np.arange(len(cohort)), drop)], GRAPH)
    (table,) = reference.details["tables"]
    assert (table["groups_per_cell"], table["rows_per_group"], table["left_out"]) == (9, 4, 1)
    assert (table["rows_per_cell"], table["k"]) == (36, 7)
    assert [d["levels"] for d in reference.details["dropped"]] == [["0", "2"], ["1", "2"]]
    assert "0 x 2 has 2 of 3" in reference.details["dropped"][0]["reason"]
    assert reference.n_groups == 41
    capped = reference_index(cohort, GRAPH, max_rows=20).details["tables"][0]
    assert (capped["groups_per_cell"], capped["rows_per_group"]) == (9, 2)


def test_no_complete_table_cannot_tell() -> None:
    cohort = clustered(np.random.default_rng(16), [[12, 0], [0, 12]])
    estimate = robustness_index(cohort, GRAPH, k=3).details["standardised"]
    assert np.isnan([estimate.value, estimate.low, estimate.high, estimate.chance]).all()
    assert estimate.details["reason"].startswith("cannot tell")
    assert (estimate.n, estimate.n_groups) == (0, 0)
    with pytest.raises(DataError, match="min_groups"):
        reference_index(cohort, GRAPH, min_groups=1)


def test_reference_is_reproducible_and_seeds_differ_little() -> None:
    cohort = clustered(np.random.default_rng(17), [[30, 10], [10, 30]], biology=0.7, site=0.7)
    first, again, other = (reference_index(cohort, GRAPH, random_state=seed) for seed in (0, 0, 1))
    assert first.to_dict() == again.to_dict()
    assert first.value != other.value
    assert first.value == pytest.approx(other.value, abs=0.03)


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*RI/MaRI support:RuntimeWarning")
def test_tcga_equals_croma_to_all_digits(data_dir) -> None:
    from croma import RI

    from causalfm.datasets import tcga_hipt

    hospitals = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
    cohort = tcga_hipt.load(data_dir, cancers=["BRCA", "COAD", "LUAD", "STAD"], hospitals=hospitals)
    graph = CausalGraph.standard(biology="project_id", technical=["center"], group="case")
    text = {c: cohort.obs[c].astype(object).astype(str).to_numpy() for c in ("slide", "project_id", "case", "center")}
    manifest = pd.DataFrame(
        {"sample_id": text["slide"], "image_path": text["slide"], "label": text["project_id"]}
        | {"group_id": text["case"], "center": text["center"]}
    )
    given = {11: 0.14185921547555078, 21: 0.13792293233082706, 51: 0.15558636794862438}
    features = np.asarray(cohort.X, dtype=np.float32)
    for k, value in given.items():
        ours = robustness_index(cohort, graph, k=k, standardised=False)
        peer = RI.compute(features, manifest, confounder_column="center", k_candidates=[k])
        assert ours.value == pytest.approx(peer.value, abs=1e-9)
        assert ours.value == pytest.approx(value, abs=1e-9)
        assert ours.details["support"] == pytest.approx(peer.support, abs=1e-9)
        assert ours.chance == pytest.approx(0.489, abs=5e-4)
        assert ours.low < ours.value < ours.high < 0.25
    reference = reference_index(cohort, graph)
    assert len(reference.details["tables"]) + len(reference.details["dropped"]) == 36
    assert reference.high < 0.25 < reference.chance
