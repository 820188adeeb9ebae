"""Manifests of croma, eva and slide2vec, made as these tools make them."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from croma.alignment import EMBEDDING_SOURCE_COLUMNS, build_embedding_source_manifest
from croma.metrics.pairs import load_manifest

from causalfm.errors import DataError
from causalfm.io import read

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def fingerprint(frame):
    """What croma 1.0.1 records: the five columns in this order, and the name of the confounder's column."""
    columns = ["sample_id", "label", "confounder", "group_id", "image_path"]
    payload = {
        "columns": columns,
        "rows": [[str(v).strip() for v in row] for row in frame[columns].itertuples(index=False, name=None)],
        "confounder_column": str(frame.attrs.get("confounder_column", "confounder")),
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.fixture(params=["confounder", "medical_center"])
def croma(tmp_path, request):
    """A folder whose manifest croma itself loads, and its record."""
    column = request.param
    pd.DataFrame(
        {
            "sample_id": [f"{i:03d}" for i in range(6)],
            "image_path": [f"{i}.png" for i in range(6)],
            "label": ["1", "0", "1", "0", "1", "0"],
            column: list("aabbcc"),
            "group_id": ["007", "7", "x", "x", " y", "z "],
        }
    ).to_csv(tmp_path / "manifest.csv", index=False)
    frame = load_manifest(str(tmp_path / "manifest.csv"), confounder_column=column)
    if column == "confounder":  # a tile set holds these columns alone
        frame = build_embedding_source_manifest(frame)[0]
        assert tuple(frame.columns) == EMBEDDING_SOURCE_COLUMNS
    np.save(tmp_path / "UNI.npy", X)
    record = {
        "manifest": "/home/someone/manifest.csv",
        "manifest_fingerprint": fingerprint(frame),
        "output_dtype": "float32",
        "output_shape": [6, 4],
        "checkpoint_revision": "a" * 40,
        "image_root": "/data/someone",
    }
    (tmp_path / "UNI.npy.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize("path", ["", "manifest.csv"])
def test_a_croma_tile_set(croma, path):
    back = read(croma / path)
    assert isinstance(back.X, np.memmap)
    np.testing.assert_array_equal(back.X, X)
    assert back.factor("group_id", private=True).n_levels == 5
    assert (back.info["format"], back.info["model"], back.info["fingerprint"]) == ("croma", "UNI", "confirmed")
    assert "someone" not in str(back.info)
    assert back.info["record"]["checkpoint_revision"] == "a" * 40


def test_a_table_given_for_a_croma_matrix(croma):
    manifest = pd.read_csv(croma / "manifest.csv", dtype=str)
    assert read(croma, manifest).info["fingerprint"] == "confirmed"
    assert read(croma, manifest.drop(columns="sample_id")).info["fingerprint"] == "none"
    with pytest.raises(DataError, match=r"different row ids in column 'sample_id' \(rows 0, 1"):
        read(croma, manifest.iloc[::-1].reset_index(drop=True))


def test_croma_folders_one_after_the_other(croma, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in croma.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    both = read([croma, other])
    assert (len(both), both.info["model"], both.info["fingerprint"]) == (12, "UNI", "confirmed")
    (other / "UNI.npy.json").unlink()
    assert read([croma, other]).info["fingerprint"] == "none"
    (other / "UNI.npy").rename(other / "CONCH.npy")
    with pytest.raises(DataError, match=r"the parts differ in model \(CONCH, UNI\)"):
        read([croma, other])


def test_croma_models_are_named(croma):
    np.save(croma / "Virchow2.npy", np.ones((6, 2), "float32"))
    with pytest.raises(DataError, match=r"name one model with key=. Models: UNI, Virchow2"):
        read(croma)
    back = read(croma, key="Virchow2")
    assert (back.d, back.info["fingerprint"]) == (2, "none")


def test_a_croma_manifest_that_changed(croma):
    lines = (croma / "manifest.csv").read_text().splitlines(keepends=True)
    (croma / "manifest.csv").write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(DataError, match=r"'UNI.npy' was made from another manifest than 'manifest.csv'"):
        read(croma)


@pytest.mark.parametrize(("name", "value"), [("output_shape", [5, 4]), ("output_dtype", "float16"), ("n_samples", 7)])
def test_a_croma_record_of_another_matrix(croma, name, value):
    record = json.loads((croma / "UNI.npy.json").read_text())
    (croma / "UNI.npy.json").write_text(json.dumps(record | {name: value}))
    with pytest.raises(DataError, match=f"its record says {name}"):
        read(croma)


def test_a_table_that_is_no_manifest(tmp_path):
    (tmp_path / "manifest.csv").write_text("slide,site\na,b\n")
    with pytest.raises(DataError, match=r"'manifest.csv' is no manifest.*A table of embeddings is passed as obs="):
        read(tmp_path)
    (tmp_path / "embeddings.csv").write_text("slide,z0,z1\na,0.5,1.5\n")
    with pytest.raises(DataError, match=r"embeddings in columns of a CSV are saved as an array first: np\.save"):
        read(tmp_path / "embeddings.csv")


@pytest.fixture
def eva(tmp_path):
    """Two patches of a slide in one file, lists of tensors as eva's writer saves them, in folders of its own."""
    files = {"a/1.pt": X[:1], "a/2.pt": X[1:4], "b/3.pt": X[4:6]}
    for name, rows in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save([torch.tensor(row) for row in rows], tmp_path / name)
    pd.DataFrame(
        {"origin": ["1.png", "2.png", "3.png"], "embeddings": list(files), "target": [0, 1, 1],
         "split": ["train", "train", "val"], "site": list("aab")}
    ).to_csv(tmp_path / "manifest.csv", index=False)  # fmt: skip
    return tmp_path


def test_an_eva_folder(eva):
    back = read(eva)
    np.testing.assert_array_equal(back.X, X)
    assert back.obs["target"].tolist() == [0, 1, 1, 1, 1, 1]
    assert back.obs["tile"].tolist() == [0, 0, 1, 2, 0, 1]
    assert back.obs["split"].tolist() == ["train"] * 4 + ["val"] * 2
    assert back.info["files_not_listed"] == 0
    lines = (eva / "manifest.csv").read_text().splitlines(keepends=True)
    (eva / "manifest.csv").write_text("".join(lines[:-1]))
    assert read(eva).info["files_not_listed"] == 1
    assert read([eva, eva]).info["files_not_listed"] == 2
    (eva / "manifest.csv").write_text("".join(lines))
    assert read(eva, pd.DataFrame({"site": range(6)})).obs.columns.tolist() == ["site"]


def test_eva_counts_tiles_where_each_file_holds_one(eva):
    for path in eva.rglob("*.pt"):
        torch.save([torch.ones(4)], path)
    assert read(eva).obs["tile"].tolist() == [0, 0, 0]


def test_a_file_under_two_rows(eva):
    text = (eva / "manifest.csv").read_text().replace("b/3.pt", "b/../a/1.pt")
    (eva / "manifest.csv").write_text(text)
    with pytest.raises(
        DataError, match=r"2 rows of 'manifest.csv' list a file that another row lists too \(rows 0, 2\)"
    ):
        read(eva)


def test_a_large_tensor_and_rows_of_one(tmp_path):
    big = np.random.default_rng(1).normal(size=(300_000, 1)).astype("float32")
    torch.save(torch.tensor(big), tmp_path / "0.pt")
    torch.save([torch.ones(1, 1)], tmp_path / "1.pt")
    (tmp_path / "manifest.csv").write_text("origin,embeddings,target,split\n0,0.pt,0,\n1,1.pt,1,\n")
    back = read(tmp_path)
    np.testing.assert_array_equal(back.X[:-1], big)
    assert back.X[-1] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(1, 4, dtype=torch.bfloat16), r"row 1 of 'manifest.csv' holds bfloat16"),
        ({"features": torch.ones(4)}, "holds a dict, not a tensor"),
        (torch.ones(2, 3, 4), r"an array of shape \(2, 3, 4\): pool it"),
        (torch.ones(1, 5), r"differ in dimensions or dtype \(4 x float32, 5 x float32\): row 1 from row 0"),
        (torch.ones(0, 4), r"1 files of 'manifest.csv' hold no embeddings \(row 1\)"),
        (torch.tensor([1.0, 2, 3, float("nan")]), r"NaN or infinite values in 1 of 4 rows \(row 1\)"),
        (torch.ones(1, 4, dtype=torch.int32), "differ in dimensions or dtype"),
    ],
)
def test_tensor_files_of_other_kinds(eva, content, message):
    torch.save(content, eva / "a/2.pt")
    with pytest.raises(DataError, match=message):
        read(eva)


def test_tensor_files_that_are_damaged_or_gone(eva):
    content = bytearray((eva / "a/2.pt").read_bytes())
    content[content.find(X[1].tobytes()) + 3] ^= 1  # PyTorch itself reads on
    (eva / "a/2.pt").write_bytes(content)
    assert not torch.equal(torch.load(eva / "a/2.pt", weights_only=True)[0], torch.tensor(X[1]))
    with pytest.raises(DataError, match=r"the file of row 1 of 'manifest.csv' cannot be read"):
        read(eva)
    (eva / "a/2.pt").unlink()
    with pytest.raises(DataError, match=r"the file of row 1 of 'manifest.csv' is not there"):
        read(eva)


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_tensor_files_never_run_code(eva):
    torch.save(Trap(), eva / "a/2.pt")
    with pytest.raises(DataError, match="cannot be read"):
        read(eva)


@pytest.fixture
def slide2vec(tmp_path):
    (tmp_path / "slide_embeddings").mkdir()
    rows = []
    for i, name in enumerate(["s-b", "s-a", "s-c"]):
        path = tmp_path / "slide_embeddings" / f"{name}.npz"
        np.savez_compressed(path, features=X[i])
        rows.append({"sample_id": name, "annotation": "tissue", "num_tiles": 9, "feature_status": "success",
                     "feature_path": str(path), "encoder_name": "prism", "error": ""})  # fmt: skip
    rows.append(rows[0] | {"sample_id": "s-d", "num_tiles": 0, "feature_status": "tbp", "feature_path": ""})
    pd.DataFrame(rows).to_csv(tmp_path / "process_list.csv", index=False)
    return tmp_path


def test_a_slide2vec_run(slide2vec):
    back = read(slide2vec)
    np.testing.assert_array_equal(back.X, X[:3])
    assert back.obs["sample_id"].tolist() == ["s-b", "s-a", "s-c"]
    assert back.info["slides_without_tiles"] == 1
    assert back.info["encoder"] == ["prism"]
    table = pd.DataFrame({"slide": ["s-a", "s-b", "s-c"], "site": list("xyz")})
    joined = read(slide2vec, table)
    np.testing.assert_array_equal(joined.X, X[[1, 0, 2]])
    assert joined.obs["site"].tolist() == list("xyz")
    with pytest.raises(DataError, match=r"1 of 4 rows have no file \(row 3\)"):
        read(slide2vec, pd.DataFrame({"slide": ["s-a", "s-b", "s-c", "s-d"]}))


def test_a_slide2vec_run_with_annotations(slide2vec):
    frame = (
        pd.read_csv(slide2vec / "process_list.csv").iloc[[0, 1, 2]].assign(annotation=["tumour", "tumour", "stroma"])
    )
    frame.loc[2, "sample_id"] = "s-b"
    frame.to_csv(slide2vec / "process_list.csv", index=False)
    joined = read(slide2vec / "process_list.csv", pd.DataFrame({"slide": ["s-a", "s-b"], "site": list("xy")}))
    np.testing.assert_array_equal(joined.X, X[[1, 0, 2]])
    assert joined.obs["annotation"].tolist() == ["tumour", "tumour", "stroma"]
    assert joined.obs["site"].tolist() == list("xyy")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("feature_status", "error", r"1 of 4 rows have no embeddings \(row 1, column 'feature_path'\)"),
        ("feature_path", None, r"1 of 4 rows have no embeddings \(row 1"),
        ("encoder_name", "uni", "several encoders: prism, uni"),
        ("feature_path", "gone.npz", r"the file of row 1 of 'process_list.csv' is not there"),
    ],
)
def test_slide2vec_runs_that_are_not_whole(slide2vec, column, value, message):
    frame = pd.read_csv(slide2vec / "process_list.csv")
    frame.loc[1, column] = value
    frame.to_csv(slide2vec / "process_list.csv", index=False)
    with pytest.raises(DataError, match=message):
        read(slide2vec)


@pytest.fixture
def tiles(tmp_path):
    """A run that lists paths relative to its own folder, a slide without tissue first."""
    run = tmp_path / "run"
    rows = [{"sample_id": "s-0", "num_tiles": 0, "feature_status": "tbp", "feature_path": ""}]
    for name, n in (("s-1", 2), ("s-2", 3)):
        for folder, value in ((run, 1.0), (tmp_path / "elsewhere", 9.0)):
            (folder / "tile_embeddings").mkdir(parents=True, exist_ok=True)
            torch.save(torch.full((n, 4), value), folder / "tile_embeddings" / f"{name}.pt")
        row = {"sample_id": name, "num_tiles": n, "feature_status": "success"}
        rows.append(row | {"feature_path": f"tile_embeddings/{name}.pt"})
    pd.DataFrame(rows).to_csv(run / "process_list.csv", index=False)
    return run


def test_files_of_the_run_itself_are_read(tiles, monkeypatch):
    monkeypatch.chdir(tiles.parent / "elsewhere")
    assert set(read(tiles).X.ravel()) == {1.0}
    frame = pd.read_csv(tiles / "process_list.csv")
    frame["feature_path"] = [None, *(str(tiles.parent / "elsewhere" / p) for p in frame["feature_path"][1:])]
    frame.to_csv(tiles / "process_list.csv", index=False)
    assert set(read(tiles).X.ravel()) == {1.0}
    (tiles / "tile_embeddings" / "s-1.pt").unlink()
    assert set(read(tiles).X[:2].ravel()) == {9.0}


def test_tile_counts_are_compared(tiles):
    torch.save(torch.ones(2, 4), tiles / "tile_embeddings" / "s-2.pt")
    with pytest.raises(DataError, match=r"1 files of 'process_list.csv' hold another number .* \(row 2\)"):
        read(tiles)
    with pytest.raises(DataError, match=r"'num_tiles' \(row 2\)"):  # rows of the manifest, whatever the table's order
        read(tiles, pd.DataFrame({"slide": ["s-2", "s-1"]}))


@pytest.fixture
def placed(tiles):
    """The same run with the coordinates that hs2p keeps beside, under the paths of another machine."""
    (tiles / "tiles").mkdir()
    frame = pd.read_csv(tiles / "process_list.csv")
    frame["coordinates_npz_path"] = [None, *(f"/gone/run/tiles/{s}.coordinates.npz" for s in frame["sample_id"][1:])]
    for name, n in (("s-1", 2), ("s-2", 3)):
        of = np.arange(n)
        np.savez_compressed(
            tiles / "tiles" / f"{name}.coordinates.npz",
            tile_index=of.astype("int32"), x=1000 * of, y=of + 7, tissue_fractions=np.ones(n, "float32"),
        )  # fmt: skip
    frame.to_csv(tiles / "process_list.csv", index=False)
    return tiles


def test_tiles_of_slide2vec_have_their_places(placed):
    back = read(placed, pd.DataFrame({"slide": ["s-2", "s-1"]}))
    assert back.obs["x"].tolist() == [0, 1000, 2000, 0, 1000]
    assert back.obs["y"].tolist() == [7, 8, 9, 7, 8]
    with pytest.raises(DataError, match="the table has columns that come with the tiles: x"):
        read(placed, pd.DataFrame({"slide": ["s-2", "s-1"], "x": [1, 2]}))
    np.savez_compressed(placed / "tiles" / "s-2.coordinates.npz", x=[1], y=[2])
    with pytest.raises(DataError, match=r"1 files of coordinates .* another number of tiles .* \(row 2\)"):
        read(placed)
    np.savez_compressed(placed / "tiles" / "s-2.coordinates.npz", x=np.array([object()] * 3), y=[2, 2, 2])
    with pytest.raises(DataError, match=r"the file of coordinates of row 2 of 'process_list\.csv' holds pickled"):
        read(placed)
    (placed / "tiles" / "s-2.coordinates.npz").unlink()
    assert "x" not in read(placed).obs
