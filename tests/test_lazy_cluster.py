"""Several processes give the bits of one, also if one of them is killed on the way."""

import os
import signal
import sys
import threading
from contextlib import nullcontext

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from cluster_tasks import slow_sum
from command_line import typed

from causalfm import schedulers
from causalfm.clusters import client_of
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.io import read
from causalfm.lazy_rows import LazyRows
from causalfm.level_moments import LevelMoments
from causalfm.moments import cell_sums
from causalfm.neighbours import knn
from causalfm.row_tasks import cluster, map_blocks, spans
from causalfm.schedulers import IN_WORK, OWN, ROW, beside_table, bytes_of, limit_of_rows, scheduled

N, D = 6000, 16


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)).astype(np.float32), rng.integers(0, 40, N)


@pytest.fixture(scope="module")
def two_processes():
    with client_of("local:2") as client:
        yield client


@pytest.fixture
def local(two_processes, monkeypatch):
    """What ``local:2`` starts, started once for the tests of this file."""

    def started(where):
        assert where == "local:2"
        two_processes.wait_for_workers(2)
        return nullcontext(two_processes)

    monkeypatch.setattr(schedulers, "client_of", started)


def test_workers_change_no_bit_and_one_may_be_killed(rows, local):
    X, codes = rows
    regressors = np.column_stack([np.ones(N), X[:, 0].astype(float)])
    lazy = LazyRows(da.from_array(X, chunks=(700, -1), name=False))

    def answers(Z):
        moments = LevelMoments.empty(np.zeros(D), 40, 2, "full")
        moments.add(Z, codes, regressors, np.full(N, 0.5))
        found = knn(Z, 4, exclude=codes, queries=50)
        return cell_sums(Z, codes, 40, block_bytes=8 * D * 300).total, moments.fingerprint(), found.indices

    want = answers(X)
    with scheduled("local:2") as workers:
        assert workers == 2
        assert cluster() is not None
        for a, b in zip(want, answers(lazy), strict=True):
            np.testing.assert_array_equal(a, b)
        on_workers = LazyRows(cluster().persist(lazy.array))
        np.testing.assert_array_equal(want[0], cell_sums(on_workers, codes, 40, block_bytes=8 * D * 300).total)
        lazy.memo.clear()
        found = []
        pids = list(cluster().run(os.getpid).values())
        for i, (_, answer) in enumerate(map_blocks(lazy, spans(N, 300), slow_sum, aligned=(codes,), shared=(0.1,))):
            found.append(answer)
            if i == 1:
                threading.Thread(target=os.kill, args=(pids[0], signal.SIGKILL)).start()
        assert pids[0] not in {pid for *_, pid in found[12:]}
        np.testing.assert_array_equal(
            [total for total, *_ in found], [X[a].sum(axis=0, dtype=np.float64) for a in spans(N, 300)]
        )
        assert sum(count for _, count, _ in found) == codes.sum()
    assert cluster() is None


def test_schedulers_and_limits_are_read():
    assert bytes_of("4GiB") == 4 * 2**30
    assert bytes_of("800MB") == 800 * 10**6
    for wrong in ("4 parsecs", "1KiB", "-3GiB", "1.2.3GB"):
        with pytest.raises(Exception, match="memory-limit"):
            bytes_of(wrong)
    with pytest.raises(Exception, match="--scheduler"), scheduled("everywhere"):
        pass
    with scheduled("here") as workers:
        assert workers == 1
    with pytest.raises(DataError, match="no Dask scheduler"), scheduled("tcp://127.0.0.1:9"):
        pass


def test_the_command_gives_the_same_findings_with_any_number_of_processes(tmp_path, monkeypatch, capsys, local):
    import json

    from causalfm.auditing import audit_plan, row_sample
    from causalfm.datasets.linear_scm import linear_scm

    for module in (row_sample, audit_plan):
        monkeypatch.setattr(module, "ROWS", 160)
        monkeypatch.setattr(module, "QUERIES", 40)
    made, _ = linear_scm(n_groups=40, rows_per_group=(8, 12), d=8, n_sites=2, site_effect=0.6)
    zarr.create_array(tmp_path / "cohort.zarr", data=made.X.astype(np.float32), chunks=(50, 8))
    made.obs.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "policy.yaml").write_text("version: 1\nname: quick\npermutations: 99\n")
    found = []
    for scheduler in ("here", "local:2"):
        out = tmp_path / scheduler.replace(":", "-")
        roles = ["--biology", "tumour", "--technical", "site", "--group", "patient"]
        roles += ["--policy", str(tmp_path / "policy.yaml")]
        limits = ["--memory-limit", "4GiB", "--scheduler", scheduler, "--out", str(out)]
        limits += ["--obs", str(tmp_path / "rows.parquet"), "--keep", "tumour=class0", "--keep", "tumour=class1"]
        code = typed(monkeypatch, "audit", tmp_path / "cohort.zarr", *roles, *limits)
        assert code == 3, capsys.readouterr().err
        assert f"by {1 + (scheduler != 'here')} process" in capsys.readouterr().out
        found.append(json.loads((out / "report.json").read_text("utf-8"))["findings"])
    assert found[0] == found[1]
    assert any("160 of" in finding["sentence"] for finding in found[0])
    with pytest.raises(Exception, match="3 processes of this machine take 704 MiB each"):
        limit_of_rows("local:2", "1GiB")


def test_a_plan_comes_before_a_row_is_looked_at(tmp_path, monkeypatch, capsys):
    from causalfm.datasets.linear_scm import linear_scm

    made, _ = linear_scm(n_groups=40, rows_per_group=10, d=8, n_sites=2)
    X = made.X.astype(np.float32)
    X[-1, 0] = np.nan
    zarr.create_array(tmp_path / "cohort.zarr", data=X, chunks=(50, 8))
    made.obs.to_parquet(tmp_path / "rows.parquet")
    files = [str(tmp_path / "cohort.zarr"), "--obs", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "out")]
    roles = ["--biology", "tumour", "--technical", "site", "--group", "patient", "--memory-limit", "2GiB"]
    for more, code, said in ((["--plan-only"], 0, "Plan: 400 rows"), ([], 2, "row 399")):
        ended = typed(monkeypatch, "audit", *files, *roles, *more)
        told = capsys.readouterr()
        assert ended == code, told.err
        assert said in told.out + told.err
    assert not (tmp_path / "out" / "report.json").exists()


def test_the_plan_is_that_of_the_rows_left(tmp_path, monkeypatch, capsys):
    """What ``--missing`` says is done before the rows are counted, as the audit does it."""
    from causalfm.datasets.linear_scm import linear_scm

    made, _ = linear_scm(n_groups=40, rows_per_group=10, d=8, n_sites=2)
    zarr.create_array(tmp_path / "cohort.zarr", data=made.X.astype(np.float32), chunks=(50, 8))
    for column, how, code, said in (
        ("site", "drop", 0, "Plan: 393 rows"),
        ("site", "level", 0, "Plan: 400 rows"),
        ("site", "error", 2, "column 'site'"),
        ("patient", "drop", 0, "Plan: 393 rows"),
        ("patient", "level", 2, "unknown units cannot be told apart"),
    ):
        made.obs.assign(**{column: made.obs[column].astype(object).where(np.arange(400) % 60 > 0)}).to_parquet(
            tmp_path / "rows.parquet"
        )
        roles = ["--biology", "tumour", "--technical", "site", "--group", "patient", "--memory-limit", "2GiB"]
        asked = ["--obs", str(tmp_path / "rows.parquet"), "--missing", how, "--plan-only"]
        ended = typed(monkeypatch, "audit", tmp_path / "cohort.zarr", *roles, *asked)
        told = capsys.readouterr()
        assert ended == code, told.err
        assert said in " ".join((told.out + told.err).split())


def test_half_of_the_memory_that_is_available_is_taken_where_nobody_says(monkeypatch):
    monkeypatch.setattr(schedulers, "available_memory", lambda: 8 * 2**30)
    assert limit_of_rows("", "") == 4 * 2**30 - OWN
    assert limit_of_rows("local:2", "") == 4 * 2**30 - 3 * OWN
    monkeypatch.setattr(schedulers, "available_memory", lambda: 2**30)
    with pytest.raises(Exception, match="half of the memory that is available is 512 MiB: 1 process of this machine"):
        limit_of_rows("here", "")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_table_takes_what_it_is_said_to_take(tmp_path, rows, kind):
    """Text as a reader leaves it: a level that comes again is held once, ids are held each."""
    n = len(rows[0])
    table = pd.DataFrame(
        {"site": np.resize(["Utrecht", "Nijmegen"], n), "tile": [f"a name as long as {i}" for i in range(n)]}
    )
    getattr(table, f"to_{kind}")(tmp_path / f"rows.{kind}", index=False)
    np.save(tmp_path / "X.npy", rows[0])
    cohort = read(tmp_path / "X.npy", obs=tmp_path / f"rows.{kind}", lazy=True, memory_limit=2**30)
    held = 0
    for name in ("site", "tile"):
        column = cohort.obs[name]
        texts = {id(text): sys.getsizeof(text) for text in column} if column.dtype == object else {}
        held += (8 * n + sum(texts.values())) if texts else int(column.memory_usage(index=False, deep=True))
    others = sum(int(cohort.obs[c].memory_usage(index=False)) for c in cohort.obs.columns if c not in ("site", "tile"))
    taken = cohort.X.limit - beside_table(cohort).X.limit
    assert taken - ROW * n == pytest.approx(held + others, rel=0.01)


def test_each_process_has_its_share_of_the_limit(rows):
    X, codes = rows
    obs = pd.DataFrame({"patient": pd.Categorical(codes)})
    cohort = Cohort(LazyRows(da.from_array(X, chunks=(700, -1)), 2**30), obs)
    here, there = (beside_table(cohort, where).X.limit for where in ("here", "local:2"))
    assert 2**30 - here > ROW * N  # the table's
    assert here - there == 2 * (IN_WORK + 3 * 700 * D * 4)
    assert limit_of_rows("here", "4GiB") - limit_of_rows("local:2", "4GiB") == 2 * OWN
