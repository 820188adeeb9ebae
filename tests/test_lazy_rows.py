"""Dask arrays give the answers of arrays in memory, however they are cut, and read no more than the limit at once."""

import subprocess
import sys

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import causalfm as cfm
from causalfm import metrics, streamed_lists
from causalfm.auditing import audit_plan, row_sample
from causalfm.auditing.audit_plan import plan_audit
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import LinearEraser, MeanAligner
from causalfm.io import read, write
from causalfm.lazy_rows import LEAST, LazyRows, as_rows
from causalfm.metrics import held_rows
from causalfm.metrics.reference import reference_index
from causalfm.moments import cell_sums, ordered_blocks
from causalfm.neighbours import knn
from causalfm.selection import select_levels

D = 12


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    made, _ = linear_scm(n_groups=48, rows_per_group=(2, 6), d=D, n_scanners=2, site_effect=0.6, scanner_effect=0.4)
    return made.replace(X=made.X.astype(np.float32))


@pytest.fixture(scope="module")
def graph() -> cfm.CausalGraph:
    return cfm.CausalGraph.standard(
        biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient"
    )


def cut(X: np.ndarray, how: str) -> da.Array:
    n = len(X)
    rows = {"one row": 1, "uneven": (1, 50, 3, n - 54), "along d": 40, "empty chunk": (30, 0, n - 30)}[how]
    return da.from_array(X, chunks=(rows, (5, D - 5) if how == "along d" else -1))


WAYS = ("one row", "uneven", "along d", "empty chunk")


def stored(cohort: Cohort, how: str, folder) -> Cohort:
    """The same cohort outside memory."""
    if how in WAYS:
        return cohort.replace(X=cut(cohort.X, how))
    return read(write(cohort, folder / f"cohort{how}"), lazy=True)


@pytest.mark.parametrize("how", WAYS)
def test_rows_are_read_as_from_an_array(cohort, how):
    lazy, X = LazyRows(cut(cohort.X, how)), cohort.X
    rng = np.random.default_rng(0)
    for index in (
        slice(None),
        slice(3, 57),
        slice(-9, None),
        slice(2, 90, 7),
        slice(5, 5),
        rng.permutation(len(X))[:40],
        np.array([4, 4, -1]),
        rng.random(len(X)) < 0.3,
        np.empty(0, dtype=int),
        (slice(None), slice(2, 4)),
    ):
        np.testing.assert_array_equal(lazy[index], X[index])
    np.testing.assert_array_equal(np.asarray(lazy), X)
    assert lazy.nbytes == X.nbytes
    with pytest.raises(IndexError):
        lazy[np.array([len(X)])]


@pytest.mark.parametrize("how", [*WAYS, ".npy", ".parquet", ".h5ad", ".zarr"])
def test_engines_give_the_same_bits(cohort, how, tmp_path):
    lazy = stored(cohort, how, tmp_path)
    assert isinstance(lazy.X, LazyRows)
    codes = cohort.factor("patient", private=True).codes
    n = int(codes.max()) + 1
    here, there = (cell_sums(c.X, codes, n, block_bytes=8 * D * 33) for c in (cohort, lazy))
    np.testing.assert_array_equal(here.total, there.total)
    there.total[:] = 0.0  # what is remembered is not what was handed out
    np.testing.assert_array_equal(here.total, cell_sums(lazy.X, codes, n, block_bytes=8 * D * 33).total)
    assert cohort.fingerprint(["site"]) == lazy.fingerprint(["site"])
    order = np.argsort(codes, kind="stable")
    for a, b in zip(ordered_blocks(cohort.X, order), ordered_blocks(lazy.X, order), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
    found, want = (knn(c.X, 5, exclude=codes, reserve=4, queries=60) for c in (lazy, cohort))
    np.testing.assert_array_equal(found.indices, want.indices)
    np.testing.assert_allclose(found.similarity, want.similarity, atol=1e-6)


@pytest.mark.parametrize("reserve", [0, 70])
def test_a_search_in_stages_keeps_the_first_of_equals(monkeypatch, reserve):
    """Blocks of seven rows, every row there twice, products without rounding: hardly anything but ties."""
    monkeypatch.setattr(streamed_lists, "CANDIDATES", 7)
    monkeypatch.setattr(streamed_lists, "QUERIES", 25)
    X = np.repeat(np.random.default_rng(0).choice([-1.0, 1.0], (60, 16)).astype(np.float32), 2, axis=0)
    groups = np.repeat(np.arange(12), 10)
    here, there = (knn(Z, 40, exclude=groups, reserve=reserve, queries=60) for Z in (X, da.from_array(X, (1, -1))))
    np.testing.assert_array_equal(here.indices, there.indices)
    np.testing.assert_array_equal(here.similarity, there.similarity)
    assert (np.diff(here.similarity, axis=1) == 0).any()


def test_what_is_left_of_a_cohort_stays_where_it_was(cohort):
    obs = cohort.obs.assign(site=cohort.obs["site"].astype(object))
    obs.iloc[3, obs.columns.get_loc("site")] = None
    lazy = cohort.replace(X=cut(cohort.X, "uneven"), obs=obs)
    level = str(cohort.obs["site"].iloc[0])
    for found in (lazy.handle_missing(["site"], "drop"), select_levels(lazy, {"site": level})):
        assert isinstance(found.X, LazyRows)
        np.testing.assert_array_equal(np.asarray(found.X), cohort[np.isin(obs.index, found.obs.index)].X)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(cohort, dtype):
    X = cohort.X.astype(dtype)
    codes = cohort.factor("patient", private=True).codes
    here, there = (cell_sums(as_rows(Z), codes, int(codes.max()) + 1) for Z in (X, cut(X, "uneven")))
    np.testing.assert_array_equal(here.total, there.total)


QUESTIONS = {
    "index": lambda c, g: metrics.robustness_index(c, g, confounder="site").to_dict(),
    "within": lambda c, g: metrics.robustness_index(c, g, confounder="scanner", standardised=False).to_dict(),
    "reference": lambda c, g: reference_index(c, g, confounder="site", draws=3).to_dict(),
    "ilisi": lambda c, g: metrics.ilisi(c, g, confounder="site", k=15, standardised=False).to_dict(),
    "croma": lambda c, g: metrics.croma(c, g, confounder="site").to_dict(),
    "silhouette": lambda c, g: metrics.silhouette_label(c, g, standardised=False).to_dict(),
    "pcr": lambda c, g: metrics.pc_regression(c, g, standardised=False).to_dict(),
    "collapse": lambda c, g: [e.to_dict() for e in metrics.feature_collapse(c, g, confounder="site")],
    "readout": lambda c, g: metrics.readout(c, g, of="site").to_dict(),
    "mean": lambda c, g: cfm.invariance_test(c, g, of="site", method="mean", n_permutations=99).to_dict(),
    "mmd": lambda c, g: cfm.invariance_test(c, g, of="site", method="mmd", n_permutations=99).to_dict(),
    "effect": lambda c, g: cfm.effect(c, g, treatment="site").to_dict(),
    "scm": lambda c, g: moved(c, g),
    "mean aligner": lambda c, g: corrected(MeanAligner(), c),
    "eraser": lambda c, g: corrected(LinearEraser(), c),
}


def moved(cohort, graph):
    level = cohort.factor("site").levels[0]
    return np.asarray(cfm.EmbeddingSCM(graph).fit(cohort).counterfactual(cohort, do={"site": level}).X).tolist()


def corrected(corrector, cohort):
    X = cohort.X.array if isinstance(cohort.X, LazyRows) else cohort.X
    y, groups = cohort.obs["site"], cohort.obs["patient"]
    corrector.fit(X, y, biology=cohort.obs["tumour"], groups=groups)
    needs = corrector._needs_factor()
    return np.asarray(corrector.transform(X, factor=y) if needs else corrector.transform(X)).tolist()


def assert_same(a, b, where=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9, nan_ok=True), where
    else:
        assert a == b, where


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_have_the_same_answer(cohort, graph, name):
    ask = QUESTIONS[name]
    assert_same(ask(cohort, graph), ask(cohort.replace(X=cut(cohort.X, "uneven")), graph))


@pytest.fixture(scope="module")
def one_factor() -> cfm.CausalGraph:
    return cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")


@pytest.fixture(scope="module")
def whole(cohort, one_factor):
    return cfm.audit(cohort, one_factor)


def test_an_audit_of_a_sample_says_so_and_tests_all_rows(cohort, one_factor, whole, monkeypatch):
    monkeypatch.setattr(row_sample, "ROWS", 150)
    monkeypatch.setattr(row_sample, "QUERIES", 90)
    found = cfm.audit(cohort.replace(X=cut(cohort.X, "uneven")), one_factor)
    for a, b in zip(whole.findings, found.findings, strict=True):
        if a.question in ("overlap", "invariance", "effect"):
            assert_same(a.to_dict(), b.to_dict())
            assert "rows asked" not in b.details
        elif not b.sentence.startswith("Cannot tell:"):
            assert f"of {len(cohort):,} rows" in b.sentence
            assert b.sentence.endswith(b.details["rows asked"])
    site = next(f for f in found.findings if f.question == "neighbourhood" and f.factor == "site")
    same = next(f for f in whole.findings if f.question == "neighbourhood" and f.factor == "site")
    assert (site.value, site.low, site.high) == pytest.approx((same.value, same.low, same.high))  # tables of all rows
    assert found.data["fingerprint"] == whole.data["fingerprint"]


def test_of_more_patients_than_rows_drawn_each_has_one_at_most(cohort, graph, monkeypatch):
    monkeypatch.setattr(row_sample, "ROWS", 30)
    drawn = row_sample.row_sample(cohort.replace(X=cut(cohort.X, "uneven")), graph, 0)
    assert drawn.rows.obs["patient"].nunique() == len(drawn.rows) == 30
    assert f"30 of {len(cohort)} rows, one of each of 30 of the 48 patients, drawn at random" in drawn.note
    other = row_sample.row_sample(cohort.replace(X=cut(cohort.X, "uneven")), graph, 1)
    assert set(other.rows.obs.index) != set(drawn.rows.obs.index)


def test_tables_that_do_not_fit_together_are_read_in_turn(cohort, graph, monkeypatch):
    lazy = cohort.replace(X=cut(cohort.X, "uneven"))
    lazy.X.limit = held_rows.SHARE * cohort.X[:60].nbytes
    held = []

    def seen(positions, rows):
        held.append(len(positions))
        return HeldRows(positions, rows)

    HeldRows = held_rows.HeldRows
    monkeypatch.setattr(held_rows, "HeldRows", seen)
    found = reference_index(lazy, graph, confounder="site", draws=3)
    assert len(held) > 1
    assert_same(found.to_dict(), reference_index(cohort, graph, confounder="site", draws=3).to_dict())


def test_a_small_cohort_outside_memory_is_audited_as_any_other(cohort):
    read_in = row_sample.in_memory_if_small(cohort.replace(X=cut(cohort.X, "one row")))
    assert isinstance(read_in.X, np.ndarray)
    np.testing.assert_array_equal(read_in.X, cohort.X)


def test_the_plan_says_what_is_read(cohort, graph):
    lazy = Cohort(LazyRows(cut(cohort.X, "uneven"), 2**28), cohort.obs)
    plan = plan_audit(lazy, graph, model=True, workers=2)
    assert plan.read == cohort.X.nbytes * sum(p.times for p in plan.passes)
    assert f"{len(cohort):,} rows" in plan.lines()[0]
    assert sum(p.times for p in plan.passes) == 2  # so few are read into memory
    plan.refuse_what_does_not_fit()
    with pytest.raises(DataError, match="rows drawn and the sums by unit take"):
        type(plan)(**{**plan.__dict__, "held": 2**28 + 1}).refuse_what_does_not_fit()
    with pytest.raises(DataError, match="sums by unit take"):
        type(plan)(**{**plan.__dict__, "sums": 2**28}).refuse_what_does_not_fit()
    with pytest.raises(DataError, match="lazy=True"):
        plan_audit(cohort, graph)


@pytest.mark.parametrize("head", [None, lambda Z: np.column_stack([Z[:, 0] > 0, Z[:, 0] <= 0]) * 0.8 + 0.1])
def test_the_plan_counts_the_passes(monkeypatch, graph, head):
    for module in (row_sample, audit_plan):
        monkeypatch.setattr(module, "ROWS", 240)
        monkeypatch.setattr(module, "QUERIES", 50)
    made, _ = linear_scm(
        n_groups=48, rows_per_group=40, d=D, n_sites=3, n_scanners=2, site_effect=0.6, scanner_effect=0.4
    )
    lazy = made.replace(X=da.from_array(made.X.astype(np.float32), chunks=(60, -1)))
    plan = plan_audit(lazy, graph, model=head is not None)
    before = lazy.X.bytes_read - lazy.X.nbytes  # the check for finite values
    cfm.audit(lazy, graph, model=head)
    assert (lazy.X.bytes_read - before) / lazy.X.nbytes == pytest.approx(sum(p.times for p in plan.passes), abs=0.5)


def test_what_cannot_be_read_is_refused_with_a_way_out(cohort):
    X = cohort.X.copy()
    X[len(X) - 2, 3] = np.nan
    with pytest.raises(DataError, match=rf"rows? {len(X) - 2}"):
        cohort.replace(X=cut(X, "uneven"))
    unknown = cut(cohort.X, "one row")
    unknown = unknown[unknown[:, 0] > 0]
    with pytest.raises(DataError, match="compute_chunk_sizes"):
        Cohort(unknown, cohort.obs)
    with pytest.raises(DataError, match="too small"):
        LazyRows(cut(cohort.X, "uneven"), 1000)
    large = da.zeros((2**16, 1024), chunks=(2**15, 1024), dtype=np.float32)
    with pytest.raises(DataError, match="smaller chunks"):
        LazyRows(large, LEAST)
    rows = LazyRows(large.rechunk((2**12, 1024)), LEAST)
    with pytest.raises(DataError, match="memory limit"):
        np.asarray(rows)
    assert isinstance(rows.part(slice(2**15)), LazyRows)
    assert isinstance(rows.part(np.arange(100)), np.ndarray)
    with pytest.raises(DataError, match="ascending"):
        rows.part(np.arange(2**15)[::-1])


def test_what_has_no_direction_is_named(cohort):
    X = cohort.X.copy()
    X[7] = 0.0
    with pytest.raises(DataError, match="row 7"):
        knn(cut(X, "one row"), 3)


def test_files_that_must_be_read_whole_say_so(cohort, tmp_path):
    with pytest.raises(DataError, match="lazy=True reads"):
        read(write(cohort, tmp_path / "cohort.npz"), lazy=True)
    with pytest.raises(DataError, match="lazy=True with it"):
        read(write(cohort, tmp_path / "cohort.npy"), memory_limit=2**30)


def test_parts_of_parquet_stay_outside_memory(cohort, tmp_path):
    half = len(cohort) // 2
    (tmp_path / "parts").mkdir()
    for name, rows in (("a", slice(half)), ("b", slice(half, None))):
        write(cohort[rows], tmp_path / "parts" / f"{name}.parquet")
    lazy = read(tmp_path / "parts", lazy=True)
    np.testing.assert_array_equal(np.asarray(lazy.X), cohort.X)
    assert lazy.obs["site"].tolist() == cohort.obs["site"].tolist()


def test_lists_of_other_lengths_are_refused_though_they_add_up(tmp_path):
    """Two lists that are too short and too long by as much shifted the numbers between them into other rows."""
    rng = np.random.default_rng(0)
    values = [rng.random(length).tolist() for length in (4, 4, 3, 5, 4)]
    pq.write_table(pa.table({"embedding": values, "site": list("abcde")}), tmp_path / "l.parquet", row_group_size=2)
    for lazy in (False, True):
        with pytest.raises(DataError, match="one length; rows 2, 3 differ"):
            read(tmp_path / "l.parquet", lazy=lazy)


def test_dask_is_imported_by_nobody_who_does_not_need_it():
    code = (
        "import sys, numpy as np, pandas as pd; sys.modules['dask'] = None\n"
        "import causalfm as cfm; from causalfm.cohort import Cohort; from causalfm.neighbours import knn\n"
        "from causalfm.errors import MissingDependencyError\n"
        "from causalfm.lazy_rows import import_dask\n"
        "c = Cohort(np.eye(4, dtype=np.float32), pd.DataFrame({'a': list('xxyy')})); knn(c.X, 1); c.aggregate('a')\n"
        "assert 'dask.array' not in sys.modules and 'distributed' not in sys.modules\n"
        "try: import_dask()\n"
        "except MissingDependencyError as error: assert 'causalfm[scale]' in str(error)\n"
        "else: raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
