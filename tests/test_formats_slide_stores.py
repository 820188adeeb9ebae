"""Slides of lazyslide (SpatialData) and folders of ``<slide>.pt``, laid out as their writers lay them out."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from anndata import AnnData
from anndata.io import write_elem

from causalfm.errors import DataError
from causalfm.io import read

pytestmark = pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")  # of anndata, when writing
NAMES = ["PAT-2", "PAT-10", "PAT-9.1"]
SPEC = {"height": 256, "width": 256, "stride_height": 256, "stride_width": 256, "mpp": 0.5, "tissue_name": "tissues"}


def rows(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype("float32")


def store(folder, name, X, *, tables=("uni_tiles",), region="tiles", order=None, zarr_format=3, **columns):
    """Write what wsidata 0.12 and spatialdata 0.7.3 write: tiles in ``order`` of their number, features by number."""
    n, path = len(X), folder / f"{name}.zarr"
    path.mkdir(parents=True)
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    root.attrs.put(
        {
            "spatialdata_attrs": {"version": "0.2", "spatialdata_software_version": "0.7.3"},
            "slide_properties": {"shape": [9, 9], "mpp": 0.25, "raw": json.dumps({"patient": name})},
            "tile_spec": {region: SPEC},
        }
    )
    number = np.arange(n)
    obs = pd.DataFrame({"tile_id": number, "library_id": pd.Categorical([region] * n)}, index=number.astype(str))
    group = root.create_group("tables")
    for table in tables:
        write_elem(group, table, AnnData(X, obs=obs))
        group[table].attrs.update({"region": region, "region_key": "library_id", "instance_key": "tile_id"})
    root.create_group(f"shapes/{region}")
    order = number if order is None else np.asarray(order)
    shapes = {"tile_id": order, "x": 256 * order, "y": 10 * order, "tissue_id": order // 2, **columns}
    frame = pa.table({**shapes, "geometry": [b"\1"] * n})
    pq.write_table(frame, path / "shapes" / region / "shapes.parquet")
    return path


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        store(tmp_path / "slides", name, rows(i + 2, seed=i))
    return tmp_path / "slides"


@pytest.mark.parametrize("key", [None, "uni", "uni_tiles"])
def test_stores_of_lazyslide(folder, key):
    table = pd.DataFrame({"wsi": [f"{n}.svs" for n in NAMES], "site": list("abc")})
    back = read(folder, table, key=key)
    np.testing.assert_array_equal(back.X, np.concatenate([rows(i + 2, seed=i) for i in range(3)]))
    assert back.obs["site"].tolist() == list("aabbbcccc")
    assert back.obs.columns.tolist() == ["wsi", "site", "slide", "tile", "x", "y", "tissue_id"]
    assert back.obs["x"].tolist() == [0, 256, 0, 256, 512, 0, 256, 512, 768]
    assert back.info == {
        "source": ["slides"],
        "format": "spatialdata",
        "patches": {"encoder": "uni", **{k: v for k, v in SPEC.items() if k != "tissue_name"}},
    }
    assert "PAT" not in str(back.info)


def test_one_store_and_stores_of_zarr_version_2(tmp_path):
    path = store(tmp_path / "old", "PAT-1", rows(3), zarr_format=2)
    back = read(path)
    assert (len(back), back.info["source"], back.info["format"]) == (3, ["old"], "spatialdata")
    assert read([path]).obs["slide"].tolist() == ["PAT-1"] * 3


def test_embeddings_find_their_tile_by_its_number(tmp_path):
    grade = pa.array(["c", "a", "b"]).dictionary_encode()
    path = store(tmp_path, "s", rows(3), order=[2, 0, 1], grade=grade)
    back = read(path)
    np.testing.assert_array_equal(back.X, rows(3))
    assert back.obs["y"].tolist() == [0, 10, 20]
    assert back.obs["grade"].tolist() == ["a", "b", "c"]


def test_columns_of_the_embeddings_stay_beside_those_of_the_tiles(tmp_path):
    path = store(tmp_path, "s", rows(4))
    obs = zarr.open_group(path, mode="r+")["tables/uni_tiles/obs"]
    write_elem(obs, "tissue_id", np.array([0, 0, 1, 1]))  # older versions of wsidata repeat it there
    write_elem(obs, "score", np.array([4.0, 3.0, 2.0, 1.0]))
    obs.attrs["column-order"] = [*obs.attrs["column-order"], "tissue_id", "score"]
    assert read(path).obs["score"].tolist() == [4.0, 3.0, 2.0, 1.0]
    write_elem(obs, "tissue_id", np.array([0, 0, 1, 7]))
    with pytest.raises(DataError, match="slide file 0 of 1 fills tissue_id differently"):
        read(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"tables": ("uni_tiles", "conch_tiles")}, r"name one table with key=\. Tables: conch_tiles, uni_tiles"),
        ({"tables": ()}, r"name one table with key=\. Tables: none"),
        ({"order": [0, 1, 7]}, r"holds 3 embeddings and 3 tiles; 1 embeddings have no tile \(row 2\)"),
        ({"order": [0, 1, 1]}, "cannot be read"),
        ({"slide": ["a", "b", "c"]}, "bring columns that number their tiles here: rename slide"),
    ],
)
def test_stores_that_are_not_whole(tmp_path, spoil, message):
    store(tmp_path / "x", "PAT-7", rows(3), **spoil)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "x")
    assert "PAT" not in str(caught.value)


def test_lost_chunks_and_other_encoders_are_told_without_the_slide(folder, tmp_path):
    with pytest.raises(DataError, match=r"slide file 0 of 3: name one table with key=\. Tables: uni_tiles"):
        read(folder, key="gigapath")
    store(folder, "PAT-0", rows(2), tables=("conch_tiles",))
    with pytest.raises(DataError, match=r"differ in encoder \(conch, uni\): files 1, 2, 3 from file 0"):
        read(folder)
    path = store(tmp_path, "PAT-4", rows(2))
    next(p for p in (path / "tables/uni_tiles/X").rglob("*") if p.is_file() and p.name != "zarr.json").unlink()
    with pytest.raises(DataError, match="slide file 0 of 1: 1 chunk files of the embeddings are not there") as caught:
        read(path)
    assert "PAT" not in str(caught.value)


def test_a_store_that_points_outside_itself_is_not_followed(tmp_path):
    path = store(tmp_path / "a", "s", rows(2))
    store(tmp_path / "b", "other", rows(2), region="tiles")
    zarr.open_group(path, mode="r+")["tables/uni_tiles"].attrs["region"] = "../../../b/other.zarr/shapes/tiles"
    assert read(path, key="uni_tiles").obs.columns.tolist() == ["slide", "tile"]


def trident(folder, name, features, *, encoder="uni_v1"):
    """Write what TRIDENT's ``save_h5`` writes: a chunk per row, None as text."""
    import h5py

    folder.mkdir(exist_ok=True)
    n = 3
    coords = np.arange(2 * n).reshape(n, 2)
    made = {"patch_size": 512, "level0_magnification": 40, "overlap": 0, "name": name, "savetodir": "/home/x"}
    with h5py.File(folder / f"{name}.h5", "w") as file:
        for key, value, attributes in (
            ("features", features, {"name": name, "savetodir": "/home/x", "encoder": encoder}),
            ("coords", coords, made),
        ):
            shape = value.shape
            data = file.create_dataset(
                key, shape=shape, maxshape=(None, *shape[1:]), chunks=(1, *shape[1:]), dtype=value.dtype
            )
            data[:] = value
            data.attrs.update(attributes)


def test_h5_as_trident_writes_it(tmp_path):
    trident(tmp_path / "tiles", "PAT-1", rows(3), encoder="None")  # an encoder of the user's own has no name
    back = read(tmp_path / "tiles")
    np.testing.assert_array_equal(back.X, rows(3))
    assert back.obs["y"].tolist() == [1, 3, 5]
    assert back.info["patches"] == {"patch_size": 512, "level0_magnification": 40, "overlap": 0}
    trident(tmp_path / "slides", "PAT-1", rows(1, d=8)[0])  # a slide encoder: coordinates of all its tiles stay beside
    back = read(tmp_path / "slides")
    assert (back.X.shape, back.obs.columns.tolist()) == ((1, 8), ["slide"])


@pytest.fixture(params=["trident", "clam", "slide2vec"])
def tensors(tmp_path, request):
    """TRIDENT saves arrays of NumPy, CLAM and slide2vec tensors, slide2vec with a record beside each."""
    path = tmp_path / "pt"
    path.mkdir()
    for i, name in enumerate(NAMES):
        X = rows(i + 2, seed=i).astype("float16" if request.param == "slide2vec" else "float32")
        torch.save(X if request.param == "trident" else torch.tensor(X), path / f"{name}.pt")
        if request.param == "slide2vec":
            (path / f"{name}.meta.json").write_text("{}")
    return path


def test_folders_of_tensors(tensors):
    back = read(tensors, pd.DataFrame({"slide_id": NAMES, "site": list("abc")}))
    np.testing.assert_allclose(back.X, np.concatenate([rows(i + 2, seed=i) for i in range(3)]), atol=2e-3)
    assert back.obs["site"].tolist() == list("aabbbcccc")
    assert back.obs["tile"].tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert back.info == {"source": ["pt"], "format": "pt"}
    with pytest.raises(DataError, match=r"1 of 3 files have no row"):
        read(tensors, pd.DataFrame({"slide_id": NAMES[:2]}))


def test_large_arrays_and_single_vectors(tmp_path):
    big = rows(300_000, d=1)
    (tmp_path / "big").mkdir()
    torch.save(big, tmp_path / "big" / "0.pt")
    np.testing.assert_array_equal(read(tmp_path / "big").X, big)
    (tmp_path / "slides").mkdir()
    for name in NAMES:
        torch.save(torch.ones(5), tmp_path / "slides" / f"{name}.pt")
    back = read(tmp_path / "slides")
    assert (back.X.shape, back.obs.columns.tolist()) == ((3, 5), ["slide"])
    torch.save(torch.ones(1, 5), tmp_path / "slides" / "more.pt")
    with pytest.raises(DataError, match="whether they hold tiles or one vector per slide"):
        read(tmp_path / "slides")


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


class Hidden(np.ndarray):
    """An array whose state would call what it likes."""

    def __reduce__(self):
        return (np.ndarray(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, [Trap()]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Trap(), "slide file 1 of 4 cannot be read"),
        (np.array([Trap()], dtype=object), "slide file 1 of 4 cannot be read"),
        (np.array([["a", "b"]]), "slide file 1 of 4 cannot be read"),
        (np.ones(2).view(Hidden), "slide file 1 of 4 cannot be read"),
        ({"features": torch.ones(2, 4)}, "holds a dict, not a tensor, an array or a list"),
        (np.ones((2, 3, 4), "float32"), r"array of shape \(2, 3, 4\): pool it"),
        (np.full((2, 4), np.nan, "float32"), r"NaN or infinite values in 2 of 11 rows"),
        (np.ones((0, 4), "float32"), r"1 of 4 slide files hold no tiles \(file 1\)"),
        (np.ones((2, 4), "float64"), r"differ in dtype \(float32, float64\)"),
    ],
)
def test_tensor_files_never_run_code_and_name_no_patient(tmp_path, content, message):
    for i, name in enumerate(NAMES):
        torch.save(rows(i + 2, seed=i), tmp_path / f"{name}.pt")
    torch.save(content, tmp_path / "PAT-15.pt")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "PAT" not in str(caught.value)


def test_folders_that_could_be_several(tmp_path):
    trident(tmp_path, "s", rows(3))
    torch.save(rows(3), tmp_path / "s.pt")
    store(tmp_path, "s", rows(3))
    with pytest.raises(
        DataError, match=r"could be pt or spatialdata or trident: point at the file, or pass sorted\(folder.glob"
    ):
        read(tmp_path)
    for ending, kind in (("h5", "trident"), ("pt", "pt"), ("zarr", "spatialdata")):
        assert read(sorted(tmp_path.glob(f"*.{ending}"))).info["format"] == kind


def test_stores_that_lazyslide_itself_wrote(tmp_path):
    """``lazyslide.zip``: wsidata 0.12.0, spatialdata 0.7.3, from ``open_wsi`` to ``write``, two slides."""
    with zipfile.ZipFile(Path(__file__).parent / "published" / "lazyslide.zip") as written:
        written.extractall(tmp_path)
    back = read(tmp_path, pd.DataFrame({"slide": ["S-10", "S-2"], "site": ["a", "b"]}), key="uni")
    np.testing.assert_array_equal(back.X, np.concatenate([np.load(tmp_path / f"{s}.npy") for s in ("S-10", "S-2")]))
    assert back.obs["site"].tolist() == list("aaaaabbbb")
    assert back.obs["x"].tolist() == [0, 100, 200, 300, 400, 0, 100, 200, 300]
    assert back.obs["contrast"].tolist() == [0.0, 1.5, 3.0, 4.5, 6.0, 0.0, 1.5, 3.0, 4.5]
    assert back.info["patches"] == {
        "encoder": "uni", "mpp": 0.5, "height": 64, "width": 64, "stride_height": 64, "stride_width": 64
    }  # fmt: skip
