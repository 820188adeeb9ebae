"""The conditional form, rows compared within the levels of a factor's causes, and tables of two by two levels."""

import numpy as np
import pandas as pd
import pytest
from neighbourhood_cohorts import GRAPH, NESTED, clustered, codes_of, cohort_of

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.metrics import croma, de_jong_ratio, mari, neighbour_scalars, reference_index, robustness_index
from causalfm.neighbours import knn

RAW = {"standardised": False}


def scanned(rng, share_of_q: tuple[float, float], *, site: float, scanner: float, n: int = 24) -> Cohort:
    """Two hospitals with scanners P and Q in these shares; ``n`` patients of each class at each."""
    rows = [(b, s, q) for b in (0, 1) for s in (0, 1) for q in range(n)]
    b, s, rank = np.repeat(np.array(rows), 2, axis=0).T
    q = (rank < np.array(share_of_q)[s] * n).astype(int)
    p = np.repeat(np.arange(len(rows)), 2)
    X = rng.standard_normal((len(p), 10)) + 0.4 * rng.standard_normal((len(rows), 10))[p]
    X += 1.2 * np.eye(10)[b] + site * np.eye(10)[2 + s] + scanner * np.eye(10)[4 + q]
    return cohort_of(X, b, s, p, scanner=np.array(["P", "Q"])[q])


def test_a_hospital_is_not_mistaken_for_its_scanner() -> None:
    cohort = scanned(np.random.default_rng(0), (0.125, 0.875), site=4.0, scanner=0.0)
    given = {"confounder": "scanner", "k": 9}
    pooled, inside = (robustness_index(cohort, NESTED, **given, within=w) for w in ((), "auto"))
    assert pooled.high < pooled.chance  # the hospital sorts the neighbours, and so the scanners
    assert pooled.details["weighted"].high < 0.5
    assert inside.low > inside.chance  # within a hospital biology does
    assert pooled.details["standardised"].high < 0.5 < inside.details["standardised"].value
    assert {t["within"] for t in inside.details["standardised"].details["tables"]} == {"0", "1"}
    shifted = scanned(np.random.default_rng(0), (0.125, 0.875), site=4.0, scanner=4.0)
    assert robustness_index(shifted, NESTED, **given).high < 0.5
    for metric in (croma, mari):
        a, b = (metric(c, NESTED, confounder="scanner") for c in (cohort, shifted))
        assert a.value > a.chance
        assert b.high < min(b.chance, a.low)
        assert a.details["standardised"].low > b.details["standardised"].high


def test_within_is_the_sum_over_the_strata() -> None:
    cohort = scanned(np.random.default_rng(1), (0.3, 0.6), site=1.0, scanner=1.0)
    found = robustness_index(cohort, NESTED, confounder="scanner", k=7, **RAW)
    site = cohort.obs["site"].to_numpy()
    parts = [cohort[np.flatnonzero(site == level)] for level in ("0", "1")]
    alone = [robustness_index(part, NESTED, confounder="scanner", within=(), k=7, **RAW) for part in parts]
    counts = pd.DataFrame([one.details["counts"] for one in alone]).sum()
    assert found.details["counts"] == counts.to_dict()
    assert found.value == counts["SO"] / (counts["SO"] + counts["OS"])
    strata = [(one["stratum"], one["index"]) for one in found.details["strata"]]
    assert strata == [("0", alone[0].value), ("1", alone[1].value)]
    assert (found.n, found.n_groups) == (len(cohort), 96)
    so = os = 0.0
    for part in parts:
        b, q, g = codes_of(part, "tumour", "scanner", "patient")
        for i in range(len(part)):
            other = g != g[i]
            so += (other & (b == b[i]) & (q != q[i])).sum() / other.sum()
            os += (other & (b != b[i]) & (q == q[i])).sum() / other.sum()
    assert found.chance == pytest.approx(so / (so + os), abs=1e-12)
    margins = croma(cohort, NESTED, confounder="scanner", **RAW)
    medians = [croma(part, NESTED, confounder="scanner", within=(), **RAW) for part in parts]
    assert [one["median"] for one in margins.details["strata"]] == pytest.approx(
        [one.value for one in medians], abs=1e-6
    )
    weighted = mari(cohort, NESTED, confounder="scanner", k=7, tau=0.4, **RAW)
    assert min(one.value for one in alone) - 0.1 < weighted.value < max(one.value for one in alone) + 0.1


def test_strata_without_a_comparison_are_left_out_and_named() -> None:
    cohort = scanned(np.random.default_rng(2), (0.5, 1.0), site=1.0, scanner=0.5)
    found = robustness_index(cohort, NESTED, confounder="scanner", k=7)
    assert found.details["strata_left_out"] == [{"stratum": "1", "reason": "no tumour at two levels of scanner"}]
    assert (found.n, found.n_groups) == (96, 48)
    inside = cohort[np.flatnonzero(cohort.obs["site"] == "0")]
    alone = robustness_index(inside, NESTED, confounder="scanner", within=(), k=7)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert (found.influence.strata < 0).sum() == 48
    assert found.details["standardised"].value == alone.details["standardised"].value


def test_a_scanner_per_hospital_cannot_be_told_from_it() -> None:
    cohort = scanned(np.random.default_rng(3), (0.0, 1.0), site=1.0, scanner=1.0)
    for metric in (robustness_index, mari, de_jong_ratio, croma):
        found = metric(cohort, NESTED, confounder="scanner")
        assert np.isnan([found.value, found.low, found.high, found.chance]).all()
        assert found.details["reason"].startswith("cannot tell: no level of site holds two levels of scanner")
        assert found.details["standardised"].details["reason"].startswith("cannot tell")
        assert (found.n, found.n_groups) == (0, 0)
        assert len(found.details["strata_left_out"]) == 2
    assert np.isnan(neighbour_scalars(cohort, NESTED, confounder="scanner")["OOD_performance"].value)
    assert np.isfinite(robustness_index(cohort, NESTED, confounder="scanner", within=(), **RAW).value)


def test_small_strata_do_not_cut_everybody_and_are_named() -> None:
    cohort = scanned(np.random.default_rng(4), (0.5, 0.5), site=1.0, scanner=0.5)
    few = np.flatnonzero((cohort.obs["site"] == "0") | (np.arange(len(cohort)) % 24 < 4))
    found = robustness_index(cohort[few], NESTED, confounder="scanner", **RAW)
    assert found.details["curve"][-1]["k"] == 21  # a quarter of the 94 candidates at site 0, not of the 14 at site 1
    assert found.details["strata_left_out"] == [{"stratum": "1", "reason": "fewer than k=21 candidates"}]
    given = robustness_index(cohort[few], NESTED, confounder="scanner", k=3, **RAW)
    assert given.details["strata_left_out"] == []
    with pytest.raises(DataError, match="longest lists have 94"):
        robustness_index(cohort[few], NESTED, confounder="scanner", k=95, **RAW)
    with pytest.raises(DataError, match="within names"):
        robustness_index(cohort, NESTED, within=["tumour"])
    with pytest.raises(DataError, match="paired_2x2"):
        robustness_index(cohort, NESTED, design="2x2")


def test_a_shared_search_is_used_for_the_whole_cohort_only() -> None:
    cohort = scanned(np.random.default_rng(5), (0.4, 0.6), site=1.0, scanner=0.5)
    lists = knn(cohort.X, 20, exclude=codes_of(cohort)[2])
    for metric in (robustness_index, mari, de_jong_ratio):
        a, b = (metric(cohort, NESTED, confounder="scanner", k=7, neighbours=given, **RAW) for given in (None, lists))
        assert a.to_dict() == b.to_dict()


# --- tables ---------------------------------------------------------------------------------------------------------


def test_tables_count_a_row_once_in_each() -> None:
    cohort = clustered(np.random.default_rng(6), [[5, 4, 6], [6, 5, 0], [4, 6, 5]], tiles=3, biology=0.5, site=0.5)
    found = robustness_index(cohort, GRAPH, k=4, design="paired_2x2", **RAW)
    so = os = expected_so = expected_os = 0.0
    b, s, g = codes_of(cohort)
    for table in found.details["tables"]:
        inside = np.isin(b, [int(v) for v in table["classes"]]) & np.isin(s, [int(v) for v in table["levels"]])
        part = cohort[np.flatnonzero(inside)]
        alone = robustness_index(part, GRAPH, k=4, **RAW)
        assert (table["so"], table["os"]) == (alone.details["counts"]["SO"], alone.details["counts"]["OS"])
        so, os = so + table["so"], os + table["os"]
        bi, si, gi = b[inside], s[inside], g[inside]
        for i in range(len(part)):
            other = gi != gi[i]
            expected_so += (other & (bi == bi[i]) & (si != si[i])).sum() / other.sum()
            expected_os += (other & (bi != bi[i]) & (si == si[i])).sum() / other.sum()
    assert len(found.details["tables"]) == 5
    assert found.value == so / (so + os)
    assert found.chance == pytest.approx(expected_so / (expected_so + expected_os), abs=1e-12)
    assert (found.n, found.n_groups) == (len(cohort), 41)
    assert found.details["queries"] == sum(table["rows"] for table in found.details["tables"])


def test_tables_of_a_single_2_x_2_are_the_cohort() -> None:
    cohort = clustered(np.random.default_rng(7), [[8, 6], [6, 9]], biology=0.5, site=0.5)
    for metric in (robustness_index, mari, de_jong_ratio, croma):
        a, b = (metric(cohort, GRAPH, design=design, **RAW) for design in ("all", "paired_2x2"))
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=2e-6)


def test_tables_within_strata_and_too_small_tables() -> None:
    cohort = scanned(np.random.default_rng(8), (0.4, 0.6), site=1.0, scanner=0.5)
    found = robustness_index(cohort, NESTED, confounder="scanner", k=5, design="paired_2x2", **RAW)
    assert [table["within"] for table in found.details["tables"]] == ["0", "1"]
    plain = robustness_index(cohort, NESTED, confounder="scanner", k=5, **RAW)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))
    uneven = clustered(np.random.default_rng(9), [[9, 9, 1], [9, 9, 1]], tiles=2)
    found = robustness_index(uneven, GRAPH, k=45, design="paired_2x2", **RAW)
    assert len(found.details["tables"]) == 1
    assert [one["reason"] for one in found.details["tables_left_out"]] == ["fewer than k=45 candidates"] * 2
    incomplete = clustered(np.random.default_rng(9), [[9, 0], [0, 9]], tiles=2)
    none = robustness_index(incomplete, GRAPH, k=3, design="paired_2x2")
    assert none.details["reason"].startswith("cannot tell: no 2 x 2 table")


def test_reference_within_strata() -> None:
    cohort = scanned(np.random.default_rng(10), (0.5, 0.5), site=3.0, scanner=0.0, n=12)
    found = reference_index(cohort, NESTED, confounder="scanner")
    assert [(t["within"], t["groups_per_cell"]) for t in found.details["tables"]] == [("0", 6), ("1", 6)]
    parts = [cohort[np.flatnonzero(cohort.obs["site"] == level)] for level in ("0", "1")]
    alone = [reference_index(part, NESTED, confounder="scanner", within=()).value for part in parts]
    assert found.details["tables"][0]["value"] == alone[0]  # the same draws: the first table of either
    assert found.value == pytest.approx(np.mean(alone), abs=0.03)
