"""Slide files and slide tables: every slide in both, or an error that counts and names no slide."""

import re

import h5py
import numpy as np
import pandas as pd
import pytest

from causalfm.errors import DataError
from causalfm.io import read

NAMES = ["PAT-9.1", "PAT-10", "PAT-2"]


def slide(folder, name, /, n=3, d=4, dtype="float32", **attributes):
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        X = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
        file.create_dataset("features", data=X)
        file.create_dataset("coords", data=np.arange(2 * n).reshape(n, 2))
        for key, value in ({"encoder": "uni"} | attributes).items():
            file["features" if key == "encoder" else "coords"].attrs[key] = value
    return X


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        slide(tmp_path / "f", name, n=i + 2, patch_size=256, name=name, savetodir="/home/x")
    return tmp_path / "f"


def table(**columns):
    return pd.DataFrame({"site": ["a", "b", "c"], **columns})


def test_rows_follow_the_slide_table(folder):
    back = read(folder, table(slide_id=NAMES))
    assert back.obs["slide"].tolist() == back.obs["slide_id"].tolist() == np.repeat(NAMES, [2, 3, 4]).tolist()
    assert back.obs["site"].tolist() == list("aabbbcccc")
    assert back.obs["tile"].tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert back.obs["y"].tolist() == [1, 3, 1, 3, 5, 1, 3, 5, 7]
    assert back.info == {
        "source": ["f"],
        "format": "trident",
        "patches": {"encoder": "uni", "patch_size": 256},  # not the slide's name, not its folder
    }


def test_without_a_table_files_come_sorted(folder):
    back = read(folder)
    assert back.obs["slide"].drop_duplicates().tolist() == sorted(NAMES)
    assert back.obs.columns.tolist() == ["slide", "tile", "x", "y"]
    single = read(folder / "PAT-2.h5")
    assert (len(single), single.info["source"]) == (4, ["f"])


@pytest.mark.parametrize(
    "columns",
    [
        {"slide": NAMES, "case": ["p", "q", "q"]},
        {"wsi": [f"{n}.svs" for n in NAMES]},
        {"case": ["p", "p", "q"], "file": NAMES},
    ],
)
def test_the_column_of_slides_is_found(folder, columns):
    back = read(folder, table(**columns))
    assert back.obs.groupby("slide")["site"].first().to_dict() == dict(zip(NAMES, "abc", strict=True))


def test_the_index_and_a_csv_name_slides_too(folder, tmp_path):
    frame = table().set_index(pd.Index(NAMES, name="id"))
    frame.to_csv(tmp_path / "t.csv")
    for given in (frame, tmp_path / "t.csv"):
        assert read(folder, given).obs["site"].tolist() == list("aabbbcccc")


def test_numbers_with_zeros_stay_names(tmp_path):
    for name in ("007", "08"):
        slide(tmp_path / "n", name)
    (tmp_path / "t.csv").write_text("slide,site\n08,b\n007,a\n")
    assert read(tmp_path / "n", tmp_path / "t.csv").obs["slide"].tolist() == ["08"] * 3 + ["007"] * 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*NAMES, "PAT-77"], r"By slide: 1 of 4 rows have no file \(row 3\)\. Take these rows"),
        (NAMES[:2], r"1 of 3 files have no row \(file 1, sorted by name\)"),
        ([*NAMES, NAMES[0]], r"2 rows name the slide of another row \(rows 0, 3\)"),
        (["x", "y", "z"], r"no column of the slide table \(slide\) holds the names of the 3 files"),
    ],
)
def test_slides_in_one_of_both(folder, names, message):
    with pytest.raises(DataError, match=message) as caught:
        read(folder, pd.DataFrame({"slide": names}))
    assert "PAT" not in str(caught.value)


@pytest.mark.parametrize("other", ["a", "slide_id", "sample_id", None])
def test_two_columns_that_fit_in_two_ways(folder, other):
    frame = pd.DataFrame({"slide": NAMES, "b": NAMES[::-1]}).rename(columns={"b": other or "b"})
    frame = frame if other else frame.set_index("b").rename_axis(None)
    with pytest.raises(DataError, match=rf"in different ways: slide, {other or 'the index'}\. Keep the right one"):
        read(folder, frame)


@pytest.mark.parametrize("index", [None, [2, 0, 1], [0, 1, 2]])
def test_numbering_names_no_slides(tmp_path, index):
    X = [slide(tmp_path / "n", str(i), n=i + 1) for i in range(3)]
    frame = pd.DataFrame({"wsi": ["2", "0", "1"], "site": list("abc")}, index=index)
    back = read(tmp_path / "n", frame)
    np.testing.assert_array_equal(back.X, np.concatenate([X[2], X[0], X[1]]))
    assert back.obs["site"].tolist() == list("aaabcc")
    with pytest.raises(DataError, match="no column of the slide table"):
        read(tmp_path / "n", frame[["site"]])


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (6,), (1, 3, 3), (3, 1, 2), (2, 3, 2)])
def test_coordinates_of_other_shapes(tmp_path, shape):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = np.ones((3, 4), "float32")
        file["coords"] = np.zeros(shape)
    with pytest.raises(DataError, match=rf"slide file 0 of 1 holds 'coords' of shape {re.escape(str(shape))}; they"):
        read(tmp_path)


def test_coordinates_in_a_batch(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = np.ones((1, 3, 4), "float32")
        file["coords"] = np.arange(6).reshape(1, 3, 2)
    assert read(tmp_path).obs[["x", "y"]].to_numpy().tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("features", "coords"), [((0,), (0, 2)), ((0, 4), (0,)), ((1, 0, 4), (0, 2)), ((0, 4), (0, 2))]
)
def test_slides_without_tiles(folder, features, coords):
    with h5py.File(folder / "PAT-99.h5", "w") as file:
        file["features"] = np.zeros(features, "float32")
        file["coords"] = np.zeros(coords)
    with pytest.raises(DataError, match=r"1 of 4 slide files hold no tiles \(file 3\): pass a list of the other files"):
        read(folder)
    assert len(read([folder / f"{name}.h5" for name in NAMES])) == 9


def test_tables_that_lie_beside_the_slides(folder):
    n = len(read(folder))
    table(slide=NAMES).to_parquet(folder / "slides.parquet")
    table(slide=NAMES).to_csv(folder / "manifest.csv")
    assert len(read(folder, folder / "slides.parquet")) == n
    pd.DataFrame({"z0": [1.0]}).to_parquet(folder / "z.parquet")
    with pytest.raises(DataError, match=r"could be parquet or trident: .*pass sorted\(folder.glob\('\*.h5'\)\)"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 5}, r"differ in dimensions \(4, 5\): file 3 from file 0"),
        ({"dtype": "float16"}, r"differ in dtype \(float16, float32\)"),
        ({"encoder": "virchow"}, r"differ in encoder \(uni, virchow\)"),
        ({"n": 0}, r"1 of 4 slide files hold no tiles \(file 3\)"),
    ],
)
def test_files_that_are_no_one_matrix(folder, change, message):
    slide(folder, "PAT-99", **change)
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert "PAT" not in str(caught.value)


def test_attributes_that_differ_are_listed(folder):
    slide(folder, "PAT-99", patch_size=512)
    assert read(folder).info["patches"] == {"encoder": "uni", "patch_size": [256, 512]}


def test_one_vector_per_slide(tmp_path):
    for i in range(3):
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["features"] = np.full(4, i, "float16")
            file["coords"] = np.zeros((9, 2))  # of the tiles that were pooled
    back = read(tmp_path, pd.DataFrame({"slide": ["s2", "s0", "s1"], "site": list("abc")}))
    assert back.X[:, 0].tolist() == [2, 0, 1]
    assert back.obs.columns.tolist() == ["slide", "site"]
    slide(tmp_path, "s9", dtype="float16")
    with pytest.raises(DataError, match="whether they hold tiles or one vector per slide"):
        read(tmp_path)


def test_another_name_for_features(folder, tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["embedding"] = np.ones((2, 3))
    assert read(tmp_path / "s.h5", key="embedding").X.shape == (2, 3)
    with pytest.raises(DataError, match=r"slide file 0 of 1 has no data set 'features'.*Data sets: embedding"):
        read(tmp_path / "s.h5")


def test_data_that_was_never_written(tmp_path):
    for name, kind in {"killed": {}, "resized": {"chunks": (1, 3), "maxshape": (None, 3)}}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            features = file.create_dataset("features", shape=(4, 3), dtype="f4", **kind)
            if kind:
                features[:3] = 1
        with pytest.raises(DataError, match="slide file 0 of 1 cannot be read"):
            read(tmp_path / f"{name}.h5")


def test_values_that_are_not_finite(folder):
    with h5py.File(folder / "PAT-2.h5", "a") as file:
        file["features"][1, 2] = np.nan
        file["features"][3, 0] = -np.inf
    with pytest.raises(DataError, match=r"NaN or infinite values in 2 of 9 rows \(rows 6, 8\)"):
        read(folder, table(slide=NAMES))


def test_features_and_coordinates_that_disagree(folder):
    with h5py.File(folder / "PAT-2.h5", "a") as file:
        del file["coords"]
        file["coords"] = np.zeros((3, 2))
    with pytest.raises(DataError, match="slide file 1 of 3 holds 4 features and 3 coordinates"):
        read(folder)


def test_damaged_and_empty_files_are_named_by_position(folder):
    (folder / "PAT-10.h5").write_bytes((folder / "PAT-10.h5").read_bytes()[:1500])
    with pytest.raises(DataError, match=r"^slide file 0 of 3 cannot be read"):
        read(folder)
    (folder / "PAT-10.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"^slide file 0 of 3 is empty"):
        read(folder)


def test_table_columns_that_come_with_the_tiles(folder):
    with pytest.raises(DataError, match=r"columns that come with the tiles: x\. Rename them"):
        read(folder, table(slide=NAMES, x=[1, 2, 3]))
