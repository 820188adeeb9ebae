"""Neighbourhood and mixing metrics against plain loops, on a cohort with all that real ones have.

Patients of 1 and of 60 rows, two classes within a patient, a site with one patient, a class at one site only, copies,
and three technical factors of which one is nested in another.
"""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from mixing_samples import GRAPH, NESTED, clustered, cohort_of
from scipy.optimize import brentq
from scipy.stats import binom, chi2

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.metrics import mixing_reference
from causalfm.metrics.balanced import Draw
from causalfm.metrics.batch_panels import kbet_tests
from causalfm.metrics.connectivity import connected_shares
from causalfm.metrics.design import design_of
from causalfm.metrics.lisi_weights import distances_of, lisi
from causalfm.metrics.margin_lists import margin_changes, margins_of
from causalfm.metrics.mixing_reference import DrawScore
from causalfm.metrics.nearest_typed import unit_loader
from causalfm.metrics.silhouette_widths import Comparison, silhouette_widths
from causalfm.neighbours import knn


def awkward() -> Cohort:
    rng = np.random.default_rng(5)
    codes = [(s, [b], int(rng.integers(1, 7))) for s in range(3) for b in range(3) for _ in range(4 if s < 2 else 2)]
    codes = [one for one in codes if not (one[1] == [2] and one[0] > 0)]
    codes += [(0, [0], 1), (1, [1], 60), (0, [0, 1], 8), (1, [1, 0], 9), (3, [0], 4)]
    rows = [(p, s, b[t % len(b)]) for p, (s, b, n) in enumerate(codes) for t in range(n)]
    p, s, b = rng.permutation(np.array(rows)).T
    X = rng.standard_normal((len(p), 6)) + 0.6 * rng.standard_normal((len(codes), 6))[p]
    X += 1.5 * np.eye(6)[b] + 1.2 * np.eye(6)[3 + np.minimum(s, 2)]
    X[3] = X[0]
    scanner = [f"{site}-{patient % 2}" for patient, site in zip(p, s, strict=True)]
    return cohort_of(X, b, s, p, scanner=scanner, stain=rng.choice(["u", "v"], len(p)))


class Loops:
    """Every metric by its definition, one row at a time."""

    def __init__(self, cohort: Cohort, confounder: str, within: str | None) -> None:
        self.b, self.c, self.g = (cohort.factor(name).codes for name in ("tumour", confounder, "patient"))
        self.w = np.zeros_like(self.b) if within is None else cohort.factor(within).codes
        unit = cohort.X / np.linalg.norm(cohort.X.astype(float), axis=1, keepdims=True)
        self.S = unit @ unit.T
        self.n = len(cohort)
        self.lists = [
            sorted((j for j in range(self.n) if self.fits(i, j)), key=lambda j: -self.S[i, j]) for i in range(self.n)
        ]

    def fits(self, i: int, j: int) -> bool:
        return bool(self.g[i] != self.g[j] and self.w[i] == self.w[j])

    def kind(self, i: int, j: int) -> str:
        return ("S" if self.b[i] == self.b[j] else "O") + ("S" if self.c[i] == self.c[j] else "O")

    def longest(self, i: int) -> int:
        """Candidates of the worst query of the row's stratum."""
        return min(len(self.lists[j]) for j in range(self.n) if self.w[j] == self.w[i])

    def compared(self, i: int) -> bool:
        cells = {(x, y) for x, y, w in zip(self.b, self.c, self.w, strict=True) if w == self.w[i]}
        so = any((x, z) in cells for x, y in cells for z in self.c if z != y)
        return so and any((z, y) in cells for x, y in cells for z in self.b if z != x)

    def typed(self, k: int, tau: float = np.inf) -> dict[str, float]:
        sums = dict.fromkeys(("SS", "SO", "OS", "OO"), 0.0)
        for i in range(self.n):
            if self.compared(i) and self.longest(i) >= k:
                for j in self.lists[i][:k]:
                    sums[self.kind(i, j)] += np.exp(-max(1 - self.S[i, j], 0) / tau)
        return sums

    def margins(self, m: int) -> np.ndarray:
        out = []
        for i in filter(self.compared, range(self.n)):
            near = {t: [1 - self.S[i, j] for j in self.lists[i] if self.kind(i, j) == t][:m] for t in ("SO", "OS")}
            if len(near["SO"]) == len(near["OS"]) == m:
                so, os = sum(near["SO"]), sum(near["OS"])
                out.append((os - so) / (os + so))
        return np.array(out)

    def scored(self, codes: np.ndarray, k: int) -> list[tuple[int, np.ndarray]]:
        rows = [(i, np.unique(codes[self.w == self.w[i]])) for i in range(self.n) if self.longest(i) >= k]
        return [(i, levels) for i, levels in rows if len(levels) > 1]

    def lisi(self, codes: np.ndarray, k: int) -> float:
        values = []
        for i, levels in self.scored(codes, k):
            d = np.sqrt(np.maximum(2 - 2 * self.S[i, self.lists[i][:k]], 0))

            def weights(beta: float, d: np.ndarray = d) -> np.ndarray:
                raw = np.exp(-np.exp(beta) * (d - d.min()))
                return raw / raw.sum()

            w = weights(brentq(lambda beta, f=weights: -(f(beta) @ np.log(f(beta) + 1e-300)) - np.log(k // 3), -9, 9))
            shares = np.array([w[codes[self.lists[i][:k]] == level].sum() for level in levels])
            values.append((1 / (shares**2).sum() - 1) / (len(levels) - 1))
        return float(np.median(values))

    def kbet(self, k: int) -> float:
        passed = []
        for i, levels in self.scored(self.c, k):
            expected = k * np.array([(self.c[self.w == self.w[i]] == level).mean() for level in levels])
            found = np.array([(self.c[self.lists[i][:k]] == level).sum() for level in levels])
            passed.append(chi2.sf(((found - expected) ** 2 / expected).sum(), len(levels) - 1) >= 0.05)
        return float(np.mean(passed))

    def connectivity(self, k: int) -> float:
        shares = []
        rows = [i for i in range(self.n) if self.longest(i) >= k]
        for cell in {(self.b[i], self.w[i]) for i in rows}:
            mine = [i for i in rows if (self.b[i], self.w[i]) == cell]
            graph = nx.DiGraph((i, j) for i in mine for j in self.lists[i][:k] if self.b[j] == self.b[i])
            graph.add_nodes_from(mine)
            shares.append(max(map(len, nx.strongly_connected_components(graph))) / len(mine))
        return float(np.mean(shares))

    def batch(self, *, nearest: bool) -> float:
        scores: dict[tuple[int, int], list[float]] = {}
        for i in range(self.n):
            own = [1 - self.S[i, j] for j in self.lists[i] if self.kind(i, j) == "SS"]
            levels = {self.c[j] for j in self.lists[i] if self.kind(i, j) == "SO"}
            sides = [
                [1 - self.S[i, j] for j in self.lists[i] if self.kind(i, j) == "SO" and self.c[j] == x] for x in levels
            ]
            if own and sides:
                b = min(map(np.mean, sides)) if nearest else np.mean(np.concatenate(sides))
                width = (b - np.mean(own)) / max(b, np.mean(own))
                scores.setdefault((self.b[i], self.w[i]), []).append(1 - abs(width))
        return float(np.mean([np.mean(one) for one in scores.values()]))


@pytest.mark.parametrize(
    ("graph", "confounder", "within"),
    [(GRAPH, "site", None), (NESTED, "scanner", "site"), (NESTED, "stain", "site")],
)
def test_every_value_is_that_of_plain_loops(graph, confounder: str, within: str | None) -> None:
    cohort = awkward()
    loops = Loops(cohort, confounder, within)
    options = {"confounder": confounder, "standardised": False}
    for k in (3, 9):
        sums, near = loops.typed(k), loops.typed(k, 0.1)
        found = metrics.robustness_index(cohort, graph, k=k, **options)
        assert found.details["counts"] == sums
        assert found.value == pytest.approx(sums["SO"] / (sums["SO"] + sums["OS"]), abs=1e-6)
        found = metrics.de_jong_ratio(cohort, graph, k=k, **options)
        assert found.value == pytest.approx((sums["SS"] + sums["SO"]) / (sums["SS"] + sums["OS"]), abs=1e-6)
        found = metrics.mari(cohort, graph, k=k, tau=0.1, **options)
        assert found.value == pytest.approx(near["SO"] / (near["SO"] + near["OS"]), abs=1e-6)
    margins = loops.margins(3)
    found = metrics.croma(cohort, graph, m=3, **options)
    low = np.percentile(margins, 10)
    assert found.value == pytest.approx(np.median(margins), abs=1e-6)
    assert found.details["f0"].value == pytest.approx((margins <= 0).mean(), abs=1e-9)
    assert found.details["ltm"].value == pytest.approx(margins[margins <= low].mean(), abs=1e-6)
    k = 12
    assert metrics.ilisi(cohort, graph, k=k, **options).value == pytest.approx(loops.lisi(loops.c, k), abs=1e-5)
    assert metrics.clisi(cohort, graph, k=k, **options).value == pytest.approx(1 - loops.lisi(loops.b, k), abs=1e-5)
    assert metrics.kbet(cohort, graph, k=k, **options).value == pytest.approx(loops.kbet(k), abs=1e-9)
    found = metrics.graph_connectivity(cohort, graph, k=k, confounder=confounder)
    assert found.value == pytest.approx(loops.connectivity(k), abs=1e-9)
    assert metrics.silhouette_batch(cohort, graph, **options).value == pytest.approx(
        loops.batch(nearest=True), abs=1e-5
    )
    assert metrics.bras(cohort, graph, **options).value == pytest.approx(loops.batch(nearest=False), abs=1e-5)


def test_variance_is_taken_where_the_factor_varies_only() -> None:
    """Hospitals with one scanner say nothing about scanners: their variance must not dilute the scanner's."""
    cohort = awkward()
    site, patient = cohort.obs["site"], cohort.factor("patient").codes
    one = cohort.replace(obs=cohort.obs.assign(scanner=site))
    void = metrics.pc_regression(one, NESTED, confounder="scanner")
    assert np.isnan(void.value)
    assert "one level of scanner only within each of site" in void.details["reason"]
    assert np.isnan(metrics.pcr_comparison(one, one, NESTED, confounder="scanner").value)
    some = cohort.replace(obs=cohort.obs.assign(scanner=site.where(site.isin(["0", "3"]), cohort.obs["scanner"])))

    def share(part: Cohort) -> float:
        between = total = 0.0
        for hospital in ("1", "2"):
            rows = (part.obs["site"] == hospital).to_numpy()
            X, scanner = part.X[rows].astype(float), part.obs["scanner"][rows].to_numpy()
            total += ((X - X.mean(0)) ** 2).sum()
            between += sum(
                (scanner == s).sum() * ((X[scanner == s].mean(0) - X.mean(0)) ** 2).sum() for s in np.unique(scanner)
            )
        return between / total

    found = metrics.pc_regression(some, NESTED, confounder="scanner", standardised=False)
    assert found.value == pytest.approx(share(some), abs=1e-10)
    assert found.details["left_out"] == site.isin(["0", "3"]).sum()
    assert found.chance < 2.5 * found.value
    left = np.array([share(some[np.flatnonzero(patient != p)]) for p in range(patient.max() + 1)])
    np.testing.assert_allclose(found.influence.effects, (len(left) - 1) / len(left) * (found.value - left), atol=1e-10)
    alone = some[np.flatnonzero(site.isin(["1", "2"]))]
    assert found.chance == pytest.approx(
        metrics.pc_regression(alone, NESTED, confounder="scanner", standardised=False).chance, abs=0.05
    )


def test_array_functions_refuse_lists_that_have_ended() -> None:
    cohort = awkward()
    codes, patient = cohort.factor("site").codes, cohort.factor("patient").codes
    lists = knn(cohort.X, 5, exclude=patient, reserve=len(cohort))
    for call in (
        lambda: lisi(distances_of(lists.similarity), lists.indices, lists.queries, codes),
        lambda: kbet_tests(lists.indices, codes),
        lambda: connected_shares(lists.indices, lists.queries, codes),
    ):
        with pytest.raises(DataError, match="lists have ended"):
            call()


def test_a_list_whose_weight_goes_with_one_patient_is_no_obstacle() -> None:
    """Copies of a query, all of one patient, hold all the weight of its list; without them the logarithm had none."""
    rng = np.random.default_rng(1)
    cohort = clustered(rng, [[8, 8], [8, 8]], tiles=4, biology=0.3, site=0.3)
    X, groups = cohort.X.astype(float), cohort.factor("patient").codes
    X[4:8], X[40:44] = (X[i] + 0.01 * rng.standard_normal((4, 12)) for i in (0, 20))
    cohort = cohort.replace(X=X)

    def below(part: Cohort, column: str, middle: float) -> float:
        found = knn(part.X, 9, exclude=part.factor("patient").codes)
        values = lisi(distances_of(found.similarity), found.indices, found.queries, part.factor(column).codes) - 1
        return float((values <= middle).mean()) if middle else float(np.median(values)) + 1e-9

    for metric, column in ((metrics.ilisi, "site"), (metrics.clisi, "tumour")):
        found = metric(cohort, GRAPH, k=9, standardised=False)
        middle = below(cohort, column, 0.0)
        left = [below(cohort[np.flatnonzero(groups != g)], column, middle) for g in range(32)]
        assert abs(np.corrcoef(found.influence.effects, left)[0, 1]) > 0.9  # right to first order; 0.97 without copies
        assert found.low < found.value < found.high


def test_intervals_end_where_the_metric_does() -> None:
    cohort = clustered(np.random.default_rng(2), [[2, 2], [2, 2]], tiles=3, biology=0.3, site=0.3)
    found = metrics.clustering_score(cohort, GRAPH, runs=2, cap=4, min_groups=2, max_rows=6)
    assert -1.5 <= found.low <= found.value <= found.high <= 1.5
    tail = metrics.croma(awkward(), GRAPH, m=1, standardised=False).details["ltm"]
    assert tail.low == -1
    assert tail.value <= tail.high <= 1
    rng = np.random.default_rng(3)
    before = clustered(rng, [[3, 3], [3, 3]], site=0.5)
    after = before.replace(X=rng.standard_normal(before.X.shape))
    assert metrics.pcr_comparison(before, after, GRAPH).high <= 1


def test_parts_of_a_patient_are_taken_away_one_by_one() -> None:
    """A patient scanned at two sites is two units of a balanced table, each with its own sums of distances."""
    rng = np.random.default_rng(4)
    groups, part = np.repeat(np.arange(8), 4), np.tile([0, 0, 1, 1], 8)
    X, label = rng.standard_normal((32, 5)), groups % 2
    same = Comparison(np.zeros(32, dtype=np.int64), label, 2)
    found = silhouette_widths(X, groups, {"label": same}, bundles=2 * groups + part)["label"]
    for unit in range(16):
        left = np.flatnonzero(2 * groups + part != unit)
        one = Comparison(same.outer[left], label[left], 2)
        values = silhouette_widths(X[left], groups[left], {"label": one})["label"].values
        change = np.bincount(label[left], values - found.values[left], 2)
        np.testing.assert_allclose(found.sums[:, unit], change, atol=1e-5)
    b, s, p = np.array([(p // 6, t % 2, p) for p in range(12) for t in range(4)]).T  # everybody at both sites
    cohort = cohort_of(rng.standard_normal((48, 5)) + np.eye(5)[b], b, s, p)
    standard = metrics.silhouette_label(cohort, GRAPH, exclude_groups=False).details["standardised"]
    assert standard.low < standard.value < standard.high


def test_a_draw_in_which_nobody_has_a_margin() -> None:
    """In one dimension all rows of a small draw may point the same way: nobody has a distance above 0."""
    four = np.arange(16) % 4
    cohort = cohort_of(np.ones((16, 1)), four // 2, four % 2, np.arange(16))
    design, load = design_of(cohort, GRAPH), unit_loader(cohort.X)
    found = margins_of(load, design, 1, np.arange(16), None)
    assert found.undefined["all at distance 0"] == 1
    assert [len(one) for one in margin_changes(load, design, found, 1, design.groups)] == [0, 0, 0]


def test_more_tables_than_were_foreseen(monkeypatch) -> None:
    """21 classes in 16 hospitals make 25,200 tables; seeds for 16,384 draws were made ahead."""
    seeds = []

    def score(draw: Draw, seed: int) -> DrawScore:
        seeds.append(seed)
        return DrawScore(0.5, 0.5, np.full(4, 0.5), np.zeros((4, 4)))

    four = np.arange(4)
    draw = Draw(np.eye(4), four // 2, four % 2, four, four, four, 1)
    monkeypatch.setattr(
        mixing_reference,
        "balanced_versions",
        lambda X, design, ratios, scored, balance: [[scored(draw) for _ in range(2**14 + 1)]],
    )
    design = design_of(awkward(), GRAPH)
    assert len(mixing_reference.mixing_reference("metric", draw.X, design, score, 0)) == 2**14 + 1
    assert len(set(seeds)) > 16_000


def test_intervals_of_sampled_queries_cover() -> None:
    """60 patients of 20 rows, 200 of 1,200 queries: covered 93-98 % in 150 cohorts of two designs, nine metrics.

    Here fewer and smaller ones; the truth is the mean of the full searches of independent cohorts.
    """
    cohorts, found = 50, {"ri": [], "kbet": []}
    for i in range(cohorts):
        cohort = clustered(np.random.default_rng([11, i]), [[12, 12], [6, 6]], d=8, tiles=8, biology=0.4, site=0.4)
        patient = cohort.factor("patient").codes
        lists = [knn(cohort.X, 30, exclude=patient, reserve=16, queries=m, random_state=i) for m in (60, None)]
        options = {"standardised": False}
        found["ri"].append([metrics.robustness_index(cohort, GRAPH, k=9, neighbours=one, **options) for one in lists])
        found["kbet"].append([metrics.kbet(cohort, GRAPH, k=20, neighbours=one, **options) for one in lists])
    for name, pairs in found.items():
        truth = np.mean([full.value for _, full in pairs])
        covered = sum(part.low <= truth <= part.high for part, _ in pairs)
        assert covered >= binom.ppf(0.001 / 2, cohorts, 0.95), name
        width = [np.mean([e.high - e.low for e in column]) for column in zip(*pairs, strict=True)]
        assert width[0] > 1.05 * width[1], name  # the sample adds to the interval


def test_a_table_with_unused_levels_and_other_types_gives_the_same() -> None:
    cohort = awkward()
    obs = cohort.obs.assign(
        tumour=pd.Categorical(cohort.obs["tumour"], categories=["none", "0", "1", "2", "unused"]),
        site=cohort.obs["site"].astype(int),
        patient=cohort.obs["patient"].factorize(sort=True)[0],
    )
    other = Cohort(cohort.X.astype(np.float64), obs)
    for name in ("robustness_index", "croma", "ilisi", "clisi", "kbet", "silhouette_label", "bras", "pc_regression"):
        options = {"k": 9} if name in ("robustness_index", "ilisi", "clisi", "kbet") else {}
        one, two = (getattr(metrics, name)(x, GRAPH, standardised=False, **options) for x in (cohort, other))
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-6), name
