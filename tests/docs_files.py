"""The files that the pages of the documentation name, small: embeddings, tables, a model, a monitor, images, slides."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
import zarr
from image_samples import folder_of, png, tarred, zipped

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.shift import Monitor
from causalfm.training import train_head

SITES = {"site0": "Northfield", "site1": "Eastbrook"}
SCANNERS = {"scanner0": "S60", "scanner1": "XR"}
TILES = {f"{slide}/{i}.png": png(i, (64, 64)) for slide in "ab" for i in range(3)}


def write_files(folder: Path) -> Path:
    """Write everything into a folder."""
    for part in (cohorts, models, images, formats):
        part(folder)
    return folder


def cohorts(folder: Path) -> None:
    """Embeddings with a table beside, and two cohorts that hold their table."""
    cohort, _ = linear_scm(
        n_groups=24, rows_per_group=2, d=4, n_sites=2, n_scanners=2, site_effect=1.0, biology_effect=2.0
    )
    obs = cohort.obs.replace({"site": SITES, "scanner": SCANNERS})
    cfm.write(cohort.replace(obs=obs.iloc[:, :0]), folder / "embeddings.npz")
    obs.to_csv(folder / "table.csv", index=False)
    obs.to_parquet(folder / "rows.parquet", index=False)
    zarr.create_array(folder / "cohort.zarr", data=cohort.X.astype(np.float32), chunks=(20, cohort.d))
    reference, new, graph, _ = planted_shift("nothing", n_groups=60, new_groups=16, rows_per_group=1, d=4, n_sites=3)
    for name, found in (("reference", reference), ("first_weeks", reference), ("deployed", new), ("new", new)):
        cfm.write(found, folder / f"{name}.npz")
    (folder / "daily").mkdir()
    cfm.write(new[:8], folder / "daily" / "2026-11-23.parquet")
    train_head(reference, graph, penalty="erm", steps=20).save(folder / "head.safetensors")
    Monitor.fit(reference, graph).save(folder / "monitor.safetensors")


def models(folder: Path) -> None:
    """A file of embeddings per reader of ``docs/formats.md``."""
    X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    obs = pd.DataFrame({"slide": list("aaabbb"), "site": list("xxxyyy")})
    obs.to_csv(folder / "tiles.csv", index=False)
    obs.to_parquet(folder / "tiles.parquet")
    np.savez(folder / "uni.npz", X)
    (folder / "parts").mkdir()
    for i in range(2):
        cfm.write(cfm.Cohort(X[3 * i : 3 * i + 3], obs[3 * i : 3 * i + 3]), folder / "parts" / f"{i}.parquet")
    import anndata

    anndata.AnnData(X[:, :1], obs.rename(index=str), obsm={"X_uni": X}).write_h5ad(folder / "atlas.h5ad")
    zarr.open_group(folder / "store.zarr", mode="w").create_array("uni", data=X)


def formats(folder: Path) -> None:
    """Folders as TRIDENT, croma, eva and slide2vec leave them."""
    X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    places = {
        "trident": folder / "20x_256px_0px_overlap" / "features_uni_v1",
        "croma": folder / "croma" / "camelyon",
        "eva": folder / "eva" / "dino_vits16" / "bach",
        "slide2vec": folder / "outputs" / "run",
    }
    for place in places.values():
        place.mkdir(parents=True)
    slides = pd.DataFrame({"slide": ["a", "b"], "site": ["x", "y"]})
    slides.to_csv(folder / "slides.csv", index=False)
    ids = [f"s{i}" for i in range(6)]
    croma = {"sample_id": ids, "image_path": "p.png", "label": "l", "confounder": list("xxxyyy"), "group_id": ids}
    pd.DataFrame(croma).to_csv(places["croma"] / "manifest.csv", index=False)
    np.save(places["croma"] / "Virchow2.npy", X)
    eva, run = [], []
    for slide, at in (("a", slice(0, 3)), ("b", slice(3, 6))):
        with h5py.File(places["trident"] / f"{slide}.h5", "w") as file:
            file["features"], file["coords"] = X[at], np.arange(6).reshape(3, 2)
        torch.save(list(torch.tensor(X[at])), places["eva"] / f"{slide}.pt")
        eva.append({"origin": slide, "embeddings": f"{slide}.pt", "target": 0, "split": "train"})
        np.savez_compressed(places["slide2vec"] / f"{slide}.npz", features=X[at.start])
        path = str(places["slide2vec"] / f"{slide}.npz")
        done = {"sample_id": slide, "num_tiles": 3, "feature_status": "success", "feature_path": path, "error": ""}
        run.append(done | {"annotation": "tissue", "encoder_name": "prism"})
    with zipfile.ZipFile(Path(__file__).parent / "published" / "lazyslide.zip") as stores:
        stores.extractall(folder / "lazyslide")
    pd.DataFrame({"slide": ["S-10", "S-2"], "site": ["x", "y"]}).to_csv(folder / "scans.csv", index=False)
    pd.DataFrame(eva).to_csv(places["eva"] / "manifest.csv", index=False)
    pd.DataFrame(run).to_csv(places["slide2vec"] / "process_list.csv", index=False)


def images(folder: Path) -> None:
    """Six tiles of two slides in every wrapping of ``docs/images.md``."""
    folder_of(folder / "tiles", TILES)
    zipped(folder / "tiles.zip", TILES)
    table = pd.DataFrame({"image": list(TILES), "site": list("xxxyyy")})
    table.to_csv(folder / "images.csv", index=False)
    pd.DataFrame({"path": [f"tiles/{name}" for name in TILES]}).to_csv(folder / "manifest.csv", index=False)
    for slide in "ab":
        zipped(folder / f"{slide}.zip", {name: png for name, png in TILES.items() if name.startswith(slide)})
    for shard in range(2):
        tarred(folder / f"train-{shard:04d}.tar", {f"{shard}-{i}.png": png(i) for i in range(2)})
    with h5py.File(folder / "patches.h5", "w") as file:
        file["imgs"] = np.zeros((3, 16, 16, 3), np.uint8)
    (folder / "slides").mkdir()
    for slide in "ab":
        (folder / "slides" / f"{slide}.tiff").write_bytes(whole_slide())


def whole_slide() -> bytes:
    """A slide of 512 px at 0.5 um per pixel, all of it tissue."""
    import tifffile

    y, x = np.mgrid[:512, :512]
    image = np.dstack([120 + x % 97, 60 + y % 53, 150 + (x + y) % 61]).astype(np.uint8)
    out = io.BytesIO()
    unit = {"photometric": "rgb", "resolutionunit": "CENTIMETER", "resolution": (2e4, 2e4)}
    with tifffile.TiffWriter(out) as writer:
        writer.write(image, tile=(256, 256), **unit)
    return out.getvalue()
