"""One cohort in every format, written as its own tools write it, reads back equal."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.io import read, write

COUNTS = (4, 1, 3)
SLIDES = ("t-1", "t-10", "t.2")  # sorted by name, as the readers without a table sort


def cohort(dtype="float32", d=5):
    rng = np.random.default_rng(1)
    n = sum(COUNTS)
    obs = pd.DataFrame({"slide": np.repeat(SLIDES, COUNTS)})
    obs["tile"] = np.concatenate([np.arange(c) for c in COUNTS])
    obs["x"], obs["y"] = rng.integers(0, 9999, size=(2, n))
    obs["site"] = np.repeat(["a", "b", "a"], COUNTS)
    obs = obs.astype({"slide": object, "site": object})  # as text is read, also with pandas 3
    return Cohort(rng.normal(size=(n, d)).astype(dtype), obs)


def parts(c):
    start = 0
    for slide, count in zip(SLIDES, COUNTS, strict=True):
        yield slide, slice(start, start + count), c.obs.iloc[start : start + count]
        start += count


def slide_table(c):
    return c.obs.drop_duplicates("slide")[["slide", "site"]].reset_index(drop=True)


def h5_folder(c, tmp, shape="rows", **layout):
    (tmp / "features").mkdir()
    for slide, rows, obs in parts(c):
        with h5py.File(tmp / "features" / f"{slide}.h5", "w") as file:
            X = c.X[rows] if shape == "rows" else c.X[rows][None]
            file.create_dataset("features", data=X, **({"chunks": (1, *X.shape[1:])} | layout if layout else {}))
            file.create_dataset("coords", data=obs[["x", "y"]].to_numpy())
    return read(tmp / "features", slide_table(c))


def parquet_folder(c, tmp):
    for site in ("a", "b"):
        (tmp / "d" / f"site={site}").mkdir(parents=True)
    for i, (_, rows, obs) in enumerate(parts(c)):
        table = pa.Table.from_pandas(obs.drop(columns="site").reset_index(drop=True))
        table = table.append_column("embedding", pa.array(list(c.X[rows]), pa.list_(pa.from_numpy_dtype(c.X.dtype))))
        pq.write_table(table, tmp / "d" / f"site={obs['site'].iloc[0]}" / f"{i}.parquet")
    (tmp / "d" / "_SUCCESS").touch()
    back = read(tmp / "d")  # site=a first
    order = back.obs.sort_values(["slide", "tile"], kind="stable").index
    return back[order.to_numpy()].replace(obs=back.obs.loc[order].reset_index(drop=True))


def plain_zarr(c, tmp, version, inside):
    path = tmp / "plain.zarr"
    if inside:
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.create_array("uni", data=c.X, chunks=(3, 2))
        group.create_array("other", data=np.ones(3))
        if version == 2:
            anndata.io.write_elem(group, "obs", c.to_anndata().obs)
            back = read(path)
            return back.replace(obs=back.obs.reset_index(drop=True))
    else:
        zarr.create_array(path, data=c.X, chunks=(3, 2), zarr_format=version)
    c.obs.to_parquet(tmp / "plain.zarr.obs.parquet")
    return read(path)


def croma(c, tmp):
    manifest = c.obs.assign(
        sample_id=[f"s{i}" for i in range(len(c))], image_path="p.png", label="l", group_id=c.obs["slide"]
    )
    manifest.to_csv(tmp / "manifest.csv", index=False)
    np.save(tmp / "UNI.npy", c.X)
    return read(tmp)


def eva(c, tmp):
    rows = []
    for slide, at, _ in parts(c):
        torch.save(list(torch.tensor(c.X[at])), tmp / f"{slide}.pt")
        rows.append({"origin": "p.svs", "embeddings": f"{slide}.pt", "target": 0, "split": "train", "slide": slide})
    pd.DataFrame(rows).to_csv(tmp / "manifest.csv", index=False)
    return read(tmp)


def slide2vec(c, tmp, suffix):
    (tmp / "tile_embeddings").mkdir()
    rows = []
    for slide, at, _ in parts(c):
        path = tmp / "tile_embeddings" / f"{slide}.{suffix}"
        if suffix == "pt":
            torch.save(torch.tensor(c.X[at]), path)
        else:
            np.savez_compressed(path, features=c.X[at], tile_index=np.arange(len(c.X[at])))
        # written on another machine
        rows.append({"sample_id": slide, "num_tiles": len(c.X[at]), "feature_status": "success", "encoder_name": "uni",
                     "annotation": "tissue", "feature_path": f"/gone/run/tile_embeddings/{path.name}"})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp / "process_list.csv", index=False)
    return read(tmp, slide_table(c))


def saved(suffix):
    return lambda c, tmp: read(write(c, tmp / f"c.{suffix}"))


FORMATS = {
    "npz": saved("npz"),
    "npy": saved("npy"),
    "parquet": saved("parquet"),
    "h5ad": saved("h5ad"),
    "zarr": saved("zarr"),
    "parquet folder": parquet_folder,
    "trident contiguous": h5_folder,
    "trident chunked": lambda c, tmp: h5_folder(c, tmp, maxshape=(None, c.d)),
    "trident gzip": lambda c, tmp: h5_folder(c, tmp, compression="gzip", fletcher32=True),
    "trident (1, n, d)": lambda c, tmp: h5_folder(c, tmp, shape="batch"),
    "zarr 2 array": lambda c, tmp: plain_zarr(c, tmp, 2, inside=False),
    "zarr 3 array": lambda c, tmp: plain_zarr(c, tmp, 3, inside=False),
    "zarr 2 group": lambda c, tmp: plain_zarr(c, tmp, 2, inside=True),
    "zarr 3 group": lambda c, tmp: plain_zarr(c, tmp, 3, inside=True),
    "croma": croma,
    "eva": eva,
    "slide2vec pt": lambda c, tmp: slide2vec(c, tmp, "pt"),
    "slide2vec npz": lambda c, tmp: slide2vec(c, tmp, "npz"),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", FORMATS)
def test_one_cohort_in_every_format(tmp_path, name, dtype):
    given = cohort(dtype)
    back = FORMATS[name](given, tmp_path)
    assert back.X.dtype == given.X.dtype
    assert back.X.tobytes() == given.X.tobytes()
    shared = [c for c in given.obs if c in back.obs]
    assert {"slide", "tile"} <= set(shared)
    # an index number is text in AnnData
    expected = given.obs[shared].set_axis(back.obs.index) if name in ("h5ad", "zarr") else given.obs[shared]
    pd.testing.assert_frame_equal(back.obs[shared], expected)
    assert back.obs.index.is_unique
    assert str(tmp_path) not in json.dumps(dict(back.info))


def test_h5ad_in_one_piece_stays_a_memory_map(tmp_path):
    path = write(cohort(), tmp_path / "c.h5ad")
    back = read(path)
    assert isinstance(back.X, np.memmap)
    adata = cohort().to_anndata()
    adata.write_h5ad(tmp_path / "z.h5ad", compression="gzip")
    assert type(read(tmp_path / "z.h5ad").X) is np.ndarray
    write(back, path)  # onto the file that is mapped
    np.testing.assert_array_equal(read(path).X, cohort().X)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_obsm_of_stored_anndata(tmp_path, suffix):
    adata = cohort().to_anndata()
    adata.obsm["X_uni"] = np.ones((8, 2))
    adata.obsm["table"] = pd.DataFrame({"u": np.arange(8.0), "v": 1.0}, index=adata.obs_names)
    adata.uns["junk"] = {"a": 1}
    if suffix == "h5ad":
        adata.write_h5ad(tmp_path / "a.h5ad")
    else:
        anndata.io.write_elem(zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2), "/", adata)
    path = tmp_path / f"a.{suffix}"
    assert read(path, key="X_uni").d == 2
    assert read(path, key="table").X.tolist() == [[float(i), 1.0] for i in range(8)]
    with pytest.raises(DataError, match=r"obsm has no key 'uni'. Keys: (X_uni, table|table, X_uni)"):
        read(path, key="uni")


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_stored_anndata_that_holds_no_embeddings(tmp_path, suffix):
    from scipy import sparse

    obs = pd.DataFrame(index=["a", "b"])
    for name, adata in {
        "sparse": anndata.AnnData(sparse.csr_matrix(np.eye(2)), obs=obs),
        "empty": anndata.AnnData(obs=obs),
    }.items():
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "h5ad":
            adata.write_h5ad(path)
        else:
            anndata.io.write_elem(zarr.open_group(path, mode="w", zarr_format=2), "/", adata)
        with pytest.raises(DataError, match={"sparse": "is sparse", "empty": "adata.X is empty"}[name]):
            read(path)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_columns_that_would_become_paths(tmp_path, suffix):
    odd = cohort().replace(obs=cohort().obs.rename(columns={"site": "site/stain"}))
    with pytest.raises(DataError, match="cannot hold 'site/stain': rename them"):
        write(odd, tmp_path / f"c.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_parquet_folders(tmp_path):
    for site, name in (("007", "b"), ("7", "a"), ("7", "c"), ("x%2Fy", "d")):
        folder = tmp_path / "d" / f"site={site}"
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"z0": [1.0], "name": [name]}).to_parquet(folder / f"{name}.parquet")
    (tmp_path / "d" / "site=7" / "_junk.parquet").write_text("not data")
    back = read(tmp_path / "d")
    assert back.obs["site"].tolist() == ["007", "7", "7", "x/y"]
    assert back.obs["name"].tolist() == ["b", "a", "c", "d"]
    assert back.info == {"source": ["d"], "format": "parquet"}
    pd.DataFrame({"z0": [1.0], "name": ["e"], "site": ["9"]}).to_parquet(tmp_path / "d" / "site=7" / "e.parquet")
    with pytest.raises(DataError, match=r"part 3 of 'd' has site both as a column and as a folder"):
        read(tmp_path / "d")


@pytest.mark.parametrize("content", ["damaged", "no embeddings", "gap", "ragged"])
def test_parts_are_not_called_by_name(tmp_path, content):
    path = tmp_path / "d" / "PAT-4711.parquet"
    path.parent.mkdir()
    pd.DataFrame({"z0": [1.0]}).to_parquet(tmp_path / "d" / "A.parquet")
    if content == "damaged":
        path.write_bytes(b"junk")
    else:
        columns = {"no embeddings": {"a": [1]}, "gap": {"z1": [1.0]}, "ragged": {"embedding": [[1.0], [1.0, 2.0]]}}
        pd.DataFrame(columns[content]).to_parquet(path)
    with pytest.raises(DataError, match="part 1 of 'd'") as caught:
        read(tmp_path / "d")
    assert "4711" not in str(caught.value)


def test_parts_of_two_dtypes(tmp_path):
    for dtype in ("float32", "float64"):
        write(cohort(dtype), tmp_path / f"{dtype}.parquet")
    with pytest.raises(DataError, match=r"one dtype: float32.parquet float32, float64.parquet float64"):
        read([tmp_path / "float32.parquet", tmp_path / "float64.parquet"])


def test_folders_that_are_nothing_or_too_much(tmp_path):
    with pytest.raises(DataError, match=r"holds none of these. Folders: a Zarr store"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"^there is no file or folder 'features' where you point"):
        read(tmp_path / "gone" / "features")
    with pytest.raises(DataError, match=r"^there is nothing at path 1 of 2"):
        read([tmp_path, tmp_path / "PAT-1.npz"])
    write(cohort(), tmp_path / "c.parquet")
    h5py.File(tmp_path / "s.h5", "w").close()
    with pytest.raises(DataError, match=r"could be parquet or trident: point at the file"):
        read(tmp_path)


def test_zarr_chunks_that_are_not_there(tmp_path):
    path = write(cohort(), tmp_path / "c.zarr")
    (path / "obs" / "tile" / "0").unlink()
    with pytest.raises(DataError, match=r"'c.zarr' cannot be read"):
        read(path)
    zarr.create_array(tmp_path / "p.zarr", data=cohort().X, chunks=(3, 2), shards=(6, 4), zarr_format=3)
    assert read(tmp_path / "p.zarr", cohort().obs).X.tobytes() == cohort().X.tobytes()
    (tmp_path / "p.zarr" / "c" / "1" / "0").unlink()
    with pytest.raises(DataError, match=r"1 chunk files of the embeddings are not there and would read as 0.0"):
        read(tmp_path / "p.zarr", cohort().obs)


def test_zarr_takes_the_place_of_stores_only(tmp_path):
    path = write(cohort(), tmp_path / "c.zarr")
    write(cohort("float64"), path)
    assert read(path).X.dtype == np.float64
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]
    (tmp_path / "link.zarr").symlink_to(path)
    write(cohort("float16"), tmp_path / "link.zarr")
    assert (tmp_path / "link.zarr").is_symlink()
    assert read(path).X.dtype == np.float16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.zarr", "link.zarr"]
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "d.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="no Zarr store: it is not replaced"):
        write(cohort(), tmp_path / "d.zarr")
    assert (tmp_path / "d.zarr" / "thesis.txt").exists()


def test_zarr_groups_with_several_arrays(tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("uni", data=np.ones((8, 2), "float32"))
    group.create_array("gigapath", data=np.ones((8, 3), "float32"))
    assert read(tmp_path / "g.zarr", cohort().obs, key="gigapath").d == 3
    with pytest.raises(DataError, match=r"name one array with key=. Keys: gigapath, uni"):
        read(tmp_path / "g.zarr", cohort().obs)
    with pytest.raises(DataError, match=r"pass their table with obs=.*'g.zarr.obs.parquet'"):
        read(tmp_path / "g.zarr", key="uni")
