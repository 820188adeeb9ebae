"""What a file says of its own rows is not contradicted in silence; what parts say is kept or compared."""

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.io import read, write
from causalfm.selection import select_levels


def three(index=None, **columns):
    return Cohort(np.eye(3, dtype="float32"), pd.DataFrame({"site": list("abc"), **columns}, index=index))


@pytest.mark.parametrize("fmt", ["npz", "npy", "parquet", "h5ad", "zarr"])
def test_a_given_table_in_another_order(tmp_path, fmt):
    cohort = three(["p1", "p2", "p3"])
    path = write(cohort, tmp_path / f"c.{fmt}")
    with pytest.raises(DataError, match=r"different row ids in the index \(rows 0, 2\)") as caught:
        read(path, cohort.obs.iloc[::-1])
    assert "p1" not in str(caught.value)
    assert read(path, cohort.obs).obs["site"].tolist() == list("abc")
    assert read(path, cohort.obs.iloc[::-1].reset_index(drop=True)).obs["site"].tolist() == list("cba")
    assert read(path, cohort.obs.iloc[::-1].set_index(pd.Index(["q", "r", "s"]))).obs["site"].tolist() == list("cba")


def test_a_given_table_in_another_order_for_parts(tmp_path):
    paths = [write(three([f"{i}a", f"{i}b", f"{i}c"]), tmp_path / f"{i}.h5ad") for i in range(2)]
    obs = read(paths).obs
    assert read(paths, obs).obs.equals(obs)
    with pytest.raises(DataError, match=r"different row ids in the index \(rows 0, 1, 2, 3, 4 and 1 more\)"):
        read(paths, obs.iloc[[3, 4, 5, 0, 1, 2]])


@pytest.mark.parametrize("fmt", ["npz", "parquet", "h5ad", "zarr"])
@pytest.mark.parametrize("index", [None, pd.Index([0, 1, 2])])
def test_numbered_parts(tmp_path, fmt, index):
    paths = [write(three(index), tmp_path / f"{i}.{fmt}") for i in range(2)]
    assert read(paths).obs["site"].tolist() == list("abcabc")
    assert read(paths).obs.index.tolist() == list(range(6))


def test_parts_that_repeat_ids(tmp_path):
    paths = [write(three(["1001", "1002", f"{i}"]), tmp_path / f"{i}.h5ad") for i in range(2)]
    with pytest.raises(
        DataError, match=r"2 row ids occur in more than one part.*pass the table of each part with obs="
    ):
        read(paths)
    assert len(read(paths, [three().obs, three().obs])) == 6


def test_ordered_levels_that_differ_between_parts(tmp_path):
    levels = (["low", "high"], ["low", "mid", "high"])
    grades = [pd.Categorical(["low", "high", "low"], names, ordered=True) for names in levels]
    paths = [write(three(grade=grade), tmp_path / f"{i}.npz") for i, grade in enumerate(grades)]
    with pytest.raises(DataError, match=r"part 2 of the table has other levels .* ordered column 'grade' than part 1"):
        read(paths)
    assert read([paths[0], paths[0]]).obs["grade"].dtype == grades[0].dtype


def test_names_of_files_in_a_list_are_not_kept(tmp_path):
    paths = [write(three(), tmp_path / f"PAT-{i}.npz") for i in range(2)]
    assert read(paths).info["source"] == [f"{tmp_path.name}: 2 files"]
    assert read(paths[0]).info["source"] == ["PAT-0.npz"]


def test_the_column_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DataError, match=r"convert its columns to plain types \(age\)"):
        write(three(age=pd.cut([1, 2, 3], 2)), tmp_path / "c.h5ad")


def test_a_covariate_in_two_spellings_is_still_a_number(tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    ages = [("61.5", "61.50", "70")[i % 3] for i in range(n)]
    frame = pd.DataFrame({"site": np.arange(n) % 2, "tumour": np.arange(n) // 2 % 2, "patient": np.arange(n)})
    numbers = frame.assign(age=[float(a) for a in ages])
    frame.assign(age=ages).to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "x.npy", rng.normal(size=(n, 4)))
    roles = {"biology": "tumour", "technical": "site", "group": "patient", "covariates": "age"}
    graph = cfm.CausalGraph.standard(**roles, kinds={"age": "continuous"})
    cohort = read(tmp_path / "x.npy", tmp_path / "t.csv")
    assert cohort.obs["age"].tolist() == ages
    tests = [cfm.invariance_test(c, graph, of="site", n_permutations=9) for c in (cohort, cohort.replace(obs=numbers))]
    assert tests[0].p_value == tests[1].p_value


def test_levels_of_undeclared_columns_are_not_shown():
    cohort = three(slide=["PAT-1", "PAT-2", "PAT-3"])
    with pytest.raises(DataError, match=r"column 'slide' lacks 1 of the levels asked for and has 3") as caught:
        select_levels(cohort, {"slide": "PAT1"}, public=["site"])
    assert "PAT" not in str(caught.value)


def test_selections_are_recorded_one_after_the_other():
    kept = select_levels(select_levels(three(), {"site": ["a", "b"]}), {"site": "a"}).info["kept"]
    assert kept == [{"columns": ["site"], "rows_left_out": 1}] * 2
