import gzip
import pickle
import traceback

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.io import read, write

SENTINEL = "PATIENT-4711"
FILES = ("npz", "npy", "parquet", "h5ad")
FORMATS = (*FILES, "zarr")


def make(dtype="float32", n=7, d=5):
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {
            "site": list("aabbcca")[:n],
            "stage": pd.Categorical(list("hlhlhlh")[:n], ["l", "never", "h"], ordered=True),
            "block": pd.Categorical([3, 1, 3, 1, 3, 1, 3][:n], [3, 2, 1]),
            "age": [61.5, np.nan, 70, 45, 80, 33, 52][:n],
            "tiles": np.arange(n),
            "flag": [True, False] * 3 + [True],
            "count": pd.array([1, None, 3, 4, 5, 6, 7], dtype="Int64"),
        },
        index=pd.Index([f"slide {i}" for i in range(n)], dtype=object, name="slide"),
    )
    obs = obs.astype({"site": object})  # as text is read, also with pandas 3
    return Cohort(rng.normal(size=(n, d)).astype(dtype), obs, {"encoder": "uni"})


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_round_trip_is_exact(tmp_path, fmt, dtype):
    cohort = make(dtype)
    path = write(cohort, tmp_path / f"uni.{fmt}")
    back = read(path)
    assert back.X.dtype == cohort.X.dtype
    assert back.X.tobytes() == cohort.X.tobytes()
    pd.testing.assert_frame_equal(back.obs, cohort.obs)
    assert back.info == {"source": [f"uni.{fmt}"], "format": fmt}
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("fmt", FORMATS)
def test_missing_text_and_a_numbered_index(tmp_path, fmt):
    cohort = Cohort(np.eye(3), pd.DataFrame({"site": ["a", None, "a"], "slide": ["x", "y", "z"]}))
    back = read(write(cohort, str(tmp_path / f"m.{fmt}")))
    assert back.obs["site"].isna().tolist() == [False, True, False]
    assert back.obs["site"].dropna().tolist() == ["a", "a"]
    assert back.obs["slide"].tolist() == ["x", "y", "z"]
    assert back.obs.index.tolist() == ([0, 1, 2] if fmt not in ("h5ad", "zarr") else ["0", "1", "2"])


def test_an_index_named_like_a_column(tmp_path):
    obs = pd.DataFrame({"slide": ["x", "y"]}, index=pd.Index(["x", "y"], name="slide"))
    for fmt in FORMATS:
        back = read(write(Cohort(np.eye(2), obs), tmp_path / f"n.{fmt}"))
        assert back.obs.index.tolist() == back.obs["slide"].tolist() == ["x", "y"]


def test_a_single_npy_stays_a_memory_map(tmp_path):
    path = write(make("float16"), tmp_path / "uni.npy")
    cohort = read(path)
    assert isinstance(cohort.X, np.memmap)
    assert isinstance(cohort[1:3].X, np.memmap)
    write(cohort, path)  # onto the file that is mapped
    np.testing.assert_array_equal(read(path).X, make("float16").X)


def test_parts_follow_each_other(tmp_path):
    cohort = make()
    for i, rows in enumerate((slice(0, 3), slice(3, 7))):
        np.savez(tmp_path / f"{i}.npz", emb=cohort.X[rows])
        cohort.obs.iloc[rows].to_csv(tmp_path / f"{i}.csv.gz")
        write(cohort[rows], tmp_path / f"{i}.parquet")
    parts = [tmp_path / "0.npz", str(tmp_path / "1.npz")]
    from_csv = read(parts, [tmp_path / "0.csv.gz", tmp_path / "1.csv.gz"])
    np.testing.assert_array_equal(from_csv.X, cohort.X)
    assert from_csv.obs.index.tolist() == list(range(7))
    assert from_csv.obs["slide"].tolist() == cohort.obs.index.tolist()
    assert from_csv.info["source"] == [f"{tmp_path.name}: 2 files"] * 2  # names of files can be patients
    np.testing.assert_array_equal(read(parts[::-1], cohort.obs).X, cohort.X[[3, 4, 5, 6, 0, 1, 2]])
    whole = read([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    pd.testing.assert_frame_equal(whole.obs, cohort.obs)
    with pytest.raises(DataError, match="X has 7 rows and obs has 3"):
        read(parts, tmp_path / "0.csv.gz")


def test_parts_that_do_not_fit(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    np.save(tmp_path / "b.npy", np.ones((2, 4)))
    obs = pd.DataFrame({"site": [1, 2]})
    with pytest.raises(DataError, match=r"a.npy \(2, 3\), b.npy \(2, 4\)"):
        read([tmp_path / "a.npy", tmp_path / "b.npy"], [obs, obs])
    with pytest.raises(DataError, match="part 2 of the table has other columns than part 1: scanner"):
        read([tmp_path / "a.npy", tmp_path / "a.npy"], [obs, obs.assign(scanner=1)])
    np.savez(tmp_path / "c.npz", X=np.ones((2, 3)))
    with pytest.raises(DataError, match=r"given: .npy, .npz"):
        read([tmp_path / "a.npy", tmp_path / "c.npz"], [obs, obs])


def test_parquet_from_elsewhere(tmp_path):
    frame = pd.DataFrame(np.arange(24, dtype="float32").reshape(2, 12), columns=[f"z{j}" for j in range(12)])
    frame.insert(0, "site", ["a", "b"])
    frame.to_parquet(tmp_path / "columns.parquet")
    cohort = read(tmp_path / "columns.parquet")
    np.testing.assert_array_equal(cohort.X, np.arange(24).reshape(2, 12))
    assert (cohort.X.dtype, cohort.obs.columns.tolist()) == (np.float32, ["site"])
    frame.drop(columns="z4").to_parquet(tmp_path / "gap.parquet")
    with pytest.raises(DataError, match=r"z0 .. z10 must be complete; z11 is there"):
        read(tmp_path / "gap.parquet")

    def lists(values, **kinds):
        pq.write_table(
            pa.table({"embedding": pa.array(values, **kinds), "site": ["a", "b", "c"]}), tmp_path / "l.parquet"
        )
        return tmp_path / "l.parquet"

    cohort = read(lists([[1.0, 2], [3, 4], [5, 6]]))  # ragged-capable lists, as pandas writes them
    np.testing.assert_array_equal(cohort.X, [[1, 2], [3, 4], [5, 6]])
    with pytest.raises(DataError, match=r"one length; rows 1, 2 differ"):
        read(lists([[1.0, 2], [3], None]))
    with pytest.raises(DataError, match=r"NaN or infinite values in 1 of 3 rows \(row 1\)"):
        read(lists([[1.0, 2], [3, None], [4, 5]]))
    with pytest.raises(DataError, match="int64"):
        read(lists([[1, 2], [3, 4], [5, 6]]))
    with pytest.raises(DataError, match="holds string, not one list"):
        read(lists(["1 2", "3 4", "5 6"]))
    pd.DataFrame({"site": ["a"]}).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="neither a list column 'embedding'"):
        read(tmp_path / "none.parquet")


def test_obs_replaces_the_table_inside(tmp_path):
    path = write(make(), tmp_path / "uni.parquet")
    obs = pd.DataFrame({"scanner": range(7)})
    assert read(path, obs).obs.columns.tolist() == ["scanner"]


def test_key_names_an_array(tmp_path):
    np.savez(tmp_path / "two.npz", shell=np.ones((2, 4)), color=np.zeros((2, 3)))
    obs = pd.DataFrame({"site": [1, 2]})
    assert read(tmp_path / "two.npz", obs, key="color").d == 3
    for key in (None, "colour"):
        with pytest.raises(DataError, match="Keys: shell, color"):
            read(tmp_path / "two.npz", obs, key=key)
    adata = make().to_anndata()
    adata.obsm["X_uni"] = np.ones((7, 2))
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert read(tmp_path / "a.h5ad", key="X_uni").d == 2
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match=r"'x.npy' needs none"):
        read(tmp_path / "x.npy", obs, key="X")


def test_embeddings_without_a_table(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match=r"pass their table with obs=.*'x.npy.obs.parquet'"):
        read(tmp_path / "x.npy")


class Trap:
    """Unpickling this raises; a reader that loads it fails the test with something else than a DataError."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("kind", ["object array", "pickle named npz", "object npy"])
def test_pickles_are_refused_and_never_loaded(tmp_path, kind):
    path = tmp_path / ("x.npy" if kind == "object npy" else "x.npz")
    if kind == "object array":
        np.savez(path, X=np.array([Trap(), Trap()], dtype=object))
    elif kind == "object npy":
        np.save(path, np.array([Trap(), Trap()], dtype=object))
    else:
        path.write_bytes(pickle.dumps({"X": Trap()}))
    with pytest.raises(DataError, match=r"pickled.*never unpickles"):
        read(path, pd.DataFrame({"site": [1, 2]}))


@pytest.mark.parametrize("fmt", FILES)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "missing"])
def test_damaged_files_name_the_file_and_the_way_out(tmp_path, fmt, damage):
    path = write(make(n=7, d=200), tmp_path / f"uni.{fmt}")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        noise = np.random.default_rng(0).bytes(4000)
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": noise}[damage])
    with pytest.raises(DataError, match=rf"'uni.{fmt}'.*(again|check the path|np.savez)") as caught:
        read(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (f"patient,site\n{SENTINEL},a,b\n{SENTINEL},c,d\n".encode(), "more fields than the header"),
        (f"patient,site\n{SENTINEL},a\n{SENTINEL},c,d\n".encode(), "Expected 2 fields in line 3, saw 3"),
        ("patient,site\nM\u00fcller,a\nx,b\n".encode("latin-1"), "not UTF-8"),
        ("patient,site\nx,a\ny,b\n".encode("utf-16"), "not UTF-8"),
        (b"\n\n", "cannot be read"),
    ],
)
def test_unreadable_tables(tmp_path, content, message):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "x.npy", tmp_path / "t.csv")
    assert "t.csv" in str(caught.value)
    assert SENTINEL not in "".join(traceback.format_exception(caught.value))  # nor in what pandas said


def test_tables_of_all_kinds(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    (tmp_path / "bom.csv").write_bytes("\ufeffsite,id\nÅrhus,1\nb,2\n".encode())
    assert read(tmp_path / "x.npy", tmp_path / "bom.csv").obs["site"].tolist() == ["Århus", "b"]
    pd.DataFrame({"site": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "x.npy", tmp_path / "t.parquet").obs["site"].tolist() == ["a", "b"]
    (tmp_path / "t.xlsx").write_text("no")
    with pytest.raises(DataError, match=r"'t.xlsx': the table is read from .csv"):
        read(tmp_path / "x.npy", tmp_path / "t.xlsx")
    packed = gzip.compress(b"site\na\nb\n")
    (tmp_path / "t.csv.gz").write_bytes(packed[:-6])
    with pytest.raises(DataError, match=r"'t.csv.gz' cannot be read"):
        read(tmp_path / "x.npy", tmp_path / "t.csv.gz")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_text_is_object_under_the_strings_of_pandas_3(tmp_path, kind):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    frame = pd.DataFrame({"site": ["a", None, "b"]}, index=pd.Index(["p", "q", "r"], name="id"))
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv")
    with pd.option_context("future.infer_string", True):
        obs = read(tmp_path / "x.npy", tmp_path / f"t.{kind}").obs
        assert obs["site"].dtype == object
        assert obs.index.dtype != "str"
        assert obs["site"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("fmt", FILES)
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, fmt):
    path = write(make(), tmp_path / f"uni.{fmt}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    mixed = make().obs.assign(patient=[SENTINEL, 1, 2, 3, 4, 5, 6])
    with pytest.raises(DataError, match="mixed types: patient") as caught:
        write(make().replace(obs=mixed), path)
    assert SENTINEL not in "".join(traceback.format_exception(caught.value))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_kill_between_writing_and_renaming_keeps_the_old_file(tmp_path, monkeypatch):
    path = write(make(), tmp_path / "uni.parquet")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(DataError, match="No space left"):
        write(make("float64"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["uni.parquet"]


def test_names_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match=r"written as .npz, .npy, .parquet, .h5ad"):
        write(make(), tmp_path / "uni.csv")
    clash = make().replace(obs=make().obs.assign(embedding=1))
    with pytest.raises(DataError, match="column 'embedding'"):
        write(clash, tmp_path / "uni.parquet")
    (tmp_path / "uni").write_text("x")
    with pytest.raises(DataError, match="given: no ending"):
        read(tmp_path / "uni")


def test_real_parts(data_dir):
    parts = [data_dir / f"amibr_efficientnet_lite0_f16_part{i}.npz" for i in range(3)]
    cohort = read(parts, data_dir / "amibr_metadata.csv.gz")
    assert (cohort.X.shape, cohort.X.dtype) == ((3720, 1280), np.float16)
    assert cohort.factor("patient", private=True).n_levels == 202


def test_patients_007_and_7_stay_two(tmp_path):
    np.save(tmp_path / "z.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "t.csv").write_text("patient,age,score\n007,61,1.0\n7,62,1\n08,63,2.5\n8,64,3\n")
    cohort = read(tmp_path / "z.npy", tmp_path / "t.csv")
    assert cohort.factor("patient").n_levels == 4
    assert cohort.numeric("age").tolist() == [61, 62, 63, 64]
    assert cohort.numeric("score").tolist() == [1.0, 1.0, 2.5, 3.0]
