"""What an encoder is shown, beside the publishers' own transforms; normalising, precision, own networks, status."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from causalfm.errors import DataError
from causalfm.extraction import ENCODERS, EncoderSpec, encoder_status, load_encoder, own_encoder
from causalfm.extraction.preparing import Preparation

torch = pytest.importorskip("torch")
RECIPES = {(s.input_size, s.resize, s.crop, s.interpolation): s for s in ENCODERS.values()}


def recipe_of(spec):
    return Preparation(spec.input_size, spec.resize or spec.input_size, spec.crop, spec.interpolation)


@pytest.fixture(scope="module")
def tissue(data_dir):
    """One real tile, and parts of it that are not square."""
    with zipfile.ZipFile(data_dir / "amibr_midog21_patches_Aperio_CS2.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".png"))
        tile = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    big = tile.resize((700, 611), Image.Resampling.LANCZOS)
    return [tile, big, big.crop((0, 0, 333, 611)), big.crop((0, 0, 700, 301)), big.crop((5, 5, 6, 6))]


@pytest.mark.parametrize("spec", RECIPES.values(), ids=lambda spec: spec.name)
def test_pixels_equal_torchvisions_to_the_grey_level(tissue, spec):
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode[spec.interpolation]
    size = spec.resize or spec.input_size
    steps = [transforms.Resize(size if spec.crop else (size, size), interpolation=mode)]
    published = transforms.Compose([*steps, *([transforms.CenterCrop(spec.input_size)] if spec.crop else [])])
    for picture in tissue:
        found = recipe_of(spec)(picture)
        assert (found.shape, found.dtype) == ((3, spec.input_size, spec.input_size), np.uint8)
        np.testing.assert_array_equal(found, np.asarray(published(picture)).transpose(2, 0, 1))


def test_pixels_equal_those_of_timms_own_configuration(tissue):
    data = pytest.importorskip("timm.data")
    models = pytest.importorskip("timm.models")
    for name in ("dinov3-s", "dinov3-b", "dinov3-l"):
        spec = ENCODERS[name]
        stated = models.get_pretrained_cfg(spec.hub.removeprefix("timm/"))
        transform = data.create_transform(
            stated.input_size,
            interpolation=stated.interpolation,
            crop_pct=stated.crop_pct,
            mean=stated.mean,
            std=stated.std,
        )
        assert (spec.mean, spec.std) == (stated.mean, stated.std)
        for picture in tissue[:4]:
            theirs = transform(picture)
            ours = (torch.from_numpy(recipe_of(spec)(picture)) / 255 - mean_of(spec.mean)) / mean_of(spec.std)
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def mean_of(values):
    return torch.tensor(values)[:, None, None]


def test_processors_of_transformers_differ_by_few_grey_levels(tissue):
    transformers = pytest.importorskip("transformers")
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=3, do_normalize=False,
        do_rescale=False, do_convert_rgb=True,
    )  # fmt: skip
    spec = ENCODERS["dinov2-b"]
    worst = [
        np.abs(np.asarray(processor(picture, return_tensors="np")["pixel_values"][0], float) - recipe_of(spec)(picture))
        for picture in tissue[:4]
    ]
    assert max(w.max() for w in worst[:3]) <= 2  # they resize tensors, this Pillow; both round to 8 bits
    assert max(w.mean() for w in worst[:3]) < 0.01
    assert worst[3].max() > 2  # 595 - 224 is odd: they begin one pixel earlier than torchvision and timm
    theirs = np.asarray(processor(tissue[3], return_tensors="np")["pixel_values"][0], float)
    assert np.abs(theirs[:, :, 1:] - recipe_of(spec)(tissue[3])[:, :, :-1]).max() <= 2


def test_a_recipe_is_small_and_can_be_pickled_for_workers():
    recipe = load_encoder(own_encoder(torch.nn.Flatten(), input_size=4), device="cpu").transform
    assert len(pickle.dumps(recipe)) < 500
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(DataError, match="60000 x 1 px"):
        Preparation(224, 224, True, "BICUBIC")(Image.new("RGB", (60_000, 1)))
    assert Preparation(8, 8, False, "BICUBIC")(Image.new("RGB", (60_000, 1))).shape == (3, 8, 8)


def test_pixels_are_normalised_as_torchvision_does():
    transforms = pytest.importorskip("torchvision.transforms")
    spec = ENCODERS["uni"]
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5), dtype=np.uint8))
    own = own_encoder(torch.nn.Flatten(), input_size=5, mean=spec.mean, std=spec.std)
    encoder = load_encoder(own, device="cpu")
    expected = transforms.Normalize(spec.mean, spec.std)(batch / 255).flatten(1)
    assert encoder.dimension == 75
    np.testing.assert_allclose(encoder.embed(batch), expected, atol=2e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_float32_near_the_full_one(precision):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6))
    batch = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    own = own_encoder(network, input_size=4)
    with torch.inference_mode():
        full = load_encoder(own, device="cpu").embed(batch)
        half = load_encoder(own, device="cpu", precision=precision)
        found = half.embed(batch)
    assert found.dtype == torch.float32
    assert half.record()["precision"] == precision
    assert not torch.equal(found, full)
    torch.testing.assert_close(found, full, atol=0.02, rtol=0.02)


def test_a_cpu_computes_in_float32_and_compiling_is_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or f)
    assert load_encoder("efficientnet-lite0", weights="random", device="cpu").precision == "fp32"
    assert not compiled
    load_encoder("efficientnet-lite0", weights="random", device="cpu", compile=True)
    assert len(compiled) == 1


class Tokens(torch.nn.Module):
    def forward(self, batch):
        return batch


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        (torch.nn.Flatten(), {}, r"own_encoder\(network, input_size"),
        (len, {}, "own_encoder"),
        (7, {}, "this is a int"),
        ("unii", {}, "'unii' is unknown"),
        (own_encoder(Tokens(), input_size=4), {}, r"gave \(2, 3, 4, 4\) for 2 images"),
        (own_encoder(Tokens(), input_size=4, dimension=9), {"weights": "x.pth"}, "weights="),
        ("uni", {"precision": "int8"}, "'int8' is unknown"),
        ("uni", {"device": "gpu"}, "no torch device"),
    ],
)
def test_what_is_no_encoder_is_answered(encoder, options, message):
    with pytest.raises(DataError, match=message):
        load_encoder(encoder, **{"device": "cpu", **options})


def test_specs_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="scale 0 to 1"):
        own_encoder(len, mean=(127, 127, 127))
    with pytest.raises(DataError, match="precision 'half'"):
        own_encoder(len, precision="half")
    with pytest.raises(DataError, match=r"interpolation 'bicubic' is unknown: choose .*BICUBIC"):
        own_encoder(len, interpolation="bicubic")
    with pytest.raises(DataError, match="pooling 'class' is unknown: choose 'class token'"):
        dataclasses.replace(ENCODERS["virchow2"], pooling="class", dimension=1280)
    assert own_encoder(len, pooling="mean over slices").pooling == "mean over slices"  # what it does is its own matter
    with pytest.raises(DataError, match="resize=200 is smaller"):
        own_encoder(len, resize=200)
    with pytest.raises(DataError, match="at least 1"):
        own_encoder(len, input_size=0)
    with pytest.raises(DataError, match="is a str"):
        own_encoder("uni")


def test_an_own_module_is_set_to_evaluation_and_an_encoder_is_returned_as_it_is():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9)).train()
    encoder = load_encoder(own_encoder(network, input_size=2, name="mine"), device="cpu")
    assert not network.training
    assert load_encoder(encoder) is load_encoder(encoder, device="cpu", precision="fp32") is encoder
    with pytest.raises(DataError, match="precision and compile"):
        load_encoder(encoder, precision="bf16", compile=True)
    record = json.loads(json.dumps(encoder.record()))
    assert (record["encoder"], record["weights"]) == ("mine", "the network as it was given")


def states(environment):
    return {status.name: status for status in encoder_status(environment=environment)}


def test_status_follows_cache_login_and_switches(tmp_path, monkeypatch):
    monkeypatch.setattr("causalfm.extraction.availability.find_spec", lambda name: object())
    here = {"HF_HOME": str(tmp_path)}
    found = states(here)
    assert list(found) == list(ENCODERS)
    assert (found["uni"].state, found["phikon"].state) == ("gated", "download")
    assert "https://huggingface.co/MahmoodLab/UNI" in found["uni"].reason
    assert "own_encoder" in found["medimageinsight"].reason
    assert states({**here, "HF_HUB_OFFLINE": "1"})["phikon"].state == "missing"
    (tmp_path / "token").write_text("sentinel-token")
    logged_in = states(here)
    assert logged_in["uni"].state == "download"
    assert "sentinel" not in str(logged_in)
    for spec in (ENCODERS["uni"], ENCODERS["hibou-l"]):
        folder = tmp_path / "hub" / f"models--{spec.hub.replace('/', '--')}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        (folder / spec.files[0]).write_bytes(b"")
    assert states({**here, "HF_HUB_OFFLINE": "1"})["uni"].state == "ready"
    assert states(here)["hibou-l"].state == "ready"


def test_status_of_some_encoders_comes_in_the_order_of_the_names():
    assert [status.name for status in encoder_status(["virchow2", "uni"], environment={})] == ["virchow2", "uni"]
    with pytest.raises(DataError, match="encoder 'uni3' is unknown: choose"):
        encoder_status(["uni", "uni3"], environment={})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("causalfm.extraction.availability.find_spec", lambda name: None if name == "timm" else object())
    found = states({})
    assert found["uni"].reason == "timm not installed: pip install 'causalfm[encoders]'"
    assert found["phikon"].state != "missing"


def test_status_imports_neither_torch_nor_a_model_library_nor_touches_the_network():
    code = """
import socket, sys
socket.socket.connect = None
from causalfm.extraction import encoder_status
assert len(encoder_status()) > 30
print(sorted({"torch", "timm", "transformers", "huggingface_hub"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENCODERS["uni"].dimension = 3
    assert isinstance(ENCODERS["uni"], EncoderSpec)
