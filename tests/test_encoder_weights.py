"""Reading published weights: older names, parts of bigger files, and files that are not what they should be."""

import argparse
import dataclasses
import hashlib
import json
import pickle
import re

import numpy as np
import pytest

from causalfm.errors import DataError
from causalfm.extraction import ENCODERS, load_encoder
from causalfm.extraction.networks import architecture, pooled

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
save_file = pytest.importorskip("safetensors.torch").save_file
SMALL = {  # one narrow block: the rules of reading do not depend on the size
    "timm": {"depth": 1, "embed_dim": 96, "num_heads": 4},
    "transformers": {"num_hidden_layers": 1, "hidden_size": 96, "num_attention_heads": 4},
}


def shallow(name, **arguments):
    spec = ENCODERS[name]
    width = spec.dimension if spec.head else 96
    return dataclasses.replace(spec, dimension=width, arguments={**spec.arguments, **SMALL[spec.loader], **arguments})


def network_of(spec, seed=0):
    torch.manual_seed(seed)
    network = architecture(spec).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return network


def pixels(spec, n=1, seed=0):
    side = spec.input_size
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8))


def embedded(spec, weights, batch):
    with torch.inference_mode():
        return load_encoder(spec, weights=weights, device="cpu").embed(batch)


def direct(spec, network, batch):
    """Normalise in float64 and run the network that was saved; `embed` and reading weights are not used."""
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (spec.mean, spec.std))
    with torch.inference_mode():
        return pooled(spec, network)(((batch / 255.0 - mean) / std).float())


def agree(spec, weights, network):
    batch = pixels(spec)
    np.testing.assert_allclose(embedded(spec, weights, batch), direct(spec, network, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_timm_weights_come_back_with_their_checksum(tmp_path, kind):
    spec = dataclasses.replace(shallow("uni", img_size=224), files=(f"weights.{kind}",))
    network = network_of(spec)
    path = tmp_path / f"weights.{kind}"
    (save_file if kind == "safetensors" else torch.save)(network.state_dict(), path)
    agree(spec, path, network)
    encoder = load_encoder(spec, weights=tmp_path, device="cpu")  # the folder
    record = json.loads(json.dumps(encoder.record()))
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record["encoder"], record["pooling"], record["weights"]) == ("uni", "class token", path.name)
    assert {"torch", "timm", "pillow", "causalfm"} <= set(record["versions"])
    assert load_encoder(spec, weights="random", device="cpu").record()["weights"] == "random"


OLDER = (  # today's names of transformers, and those that published files have
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
)
OLDER_VIT = (*OLDER, (r"^layers\.", "encoder.layer."), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"))


def renamed(state, names):
    out = {}
    for name, value in state.items():
        for today, older in names:
            name = re.sub(today, older, name)
        out[name] = value.contiguous()
    return out


@pytest.mark.parametrize("name", ["hibou-b", "dinov2-s", "phikon", "rad-dino"])
def test_published_files_of_older_transformers_are_read(tmp_path, name):
    spec = shallow(name)
    network = network_of(spec)
    state = dict(network.state_dict())
    for key in [key for key in state if "gate_proj" in key]:
        packed = torch.cat([state.pop(key), state.pop(key.replace("gate_proj", "up_proj"))])
        state[key.replace("gate_proj", "weights_in")] = packed
    state = renamed(state, (*(OLDER_VIT if name == "phikon" else OLDER), ("mlp.down_proj", "mlp.weights_out")))
    if name == "phikon":
        assert "encoder.layer.0.attention.attention.query.weight" in state
        state["pooler.dense.weight"], state["pooler.dense.bias"] = torch.zeros(96, 96), torch.zeros(96)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(
        json.dumps({"hidden_size": spec.dimension, "auto_map": {"AutoModel": "evil.Code"}})
    )
    agree(spec, tmp_path, network)


def test_an_image_tower_is_taken_out_of_a_two_tower_file(tmp_path):
    spec = shallow("medsiglip", image_size=56)
    spec = dataclasses.replace(spec, input_size=56)
    vision = dict(spec.arguments)
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    both = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()
    both.save_pretrained(tmp_path)
    batch = pixels(spec)
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    with torch.inference_mode():
        expected = both.vision_model(pixel_values=(batch / 255.0 - mean) / std).pooler_output
    np.testing.assert_allclose(embedded(spec, tmp_path, batch), expected, rtol=1e-4, atol=1e-4)


def test_retfound_is_the_normed_mean_of_patches_out_of_a_training_file(tmp_path):
    spec = shallow("retfound-cfp")
    network = network_of(spec)
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("fc_norm")}
    state |= {"norm.weight": torch.ones(96), "decoder_embed.weight": torch.ones(2, 2), "mask_token": torch.ones(1)}
    path = tmp_path / "RETFound_mae_natureCFP.pth"
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    batch, seen = pixels(spec), []
    network.blocks[-1].register_forward_hook(lambda module, inputs, out: seen.append(out[0, 1:].mean(0).double()))
    direct(spec, network, batch)
    centred = seen[0] - seen[0].mean()
    expected = centred / torch.sqrt((centred**2).mean() + 1e-6)
    np.testing.assert_allclose(embedded(spec, path, batch)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "prefix"), [("conch", "visual."), ("conch-v1.5", ""), ("biomedclip", "visual.")])
def test_towers_with_a_head_are_read_from_files_with_other_parts(tmp_path, name, prefix):
    spec = dataclasses.replace(shallow(name))
    network = network_of(spec)
    state = {prefix + k: v for k, v in network.state_dict().items()}
    if prefix:
        state |= {"text.token_embedding.weight": torch.ones(2), "logit_scale": torch.ones(1)}
    if name == "conch":
        state |= {"visual.attn_pool_caption.query": torch.ones(2), "visual.proj_contrast": torch.ones(2)}
    torch.save(state, tmp_path / spec.files[0])
    agree(spec, tmp_path, network)


def test_position_embeddings_of_another_grid_are_fitted_as_published(tmp_path):
    spec = shallow("conch-v1.5")
    network = network_of(spec)
    state = dict(network.state_dict())
    steps = np.random.default_rng(0).normal(size=14)  # along x; the same in every row of patches
    ramp = torch.tensor(steps, dtype=torch.float32)[None, :, None].expand(14, 14, 96).reshape(1, 196, 96)
    state["trunk.pos_embed"] = torch.cat([torch.full((1, 1, 96), 7.0), ramp], dim=1)
    torch.save(state, tmp_path / "pytorch_model_vision.bin")
    from causalfm.extraction.networks import _fitted

    found = _fitted(state, network, spec)["trunk.pos_embed"][0, :, 0]
    assert found[0] == 7
    at = (np.arange(6, 22) + 0.5) * 14 / 28.1 - 0.5  # where the new patches lie among the old ones
    left = np.floor(at).astype(int)
    expected = sum(cubic(at - (left + k)) * steps[left + k] for k in (-1, 0, 1, 2))
    np.testing.assert_allclose(found[1:].reshape(28, 28)[14, 6:22], expected, atol=1e-4)
    assert torch.isfinite(embedded(spec, tmp_path, pixels(spec))).all()
    with pytest.raises(DataError, match=r"1 shapes differ: pos_embed is \(1, 10, 96\), not"):
        load_encoder(shallow("uni"), weights=_with_ten_positions(tmp_path), device="cpu")


def cubic(distance, a=-0.75):
    """Weight of a neighbour in bicubic interpolation (Keys), with torch's constant."""
    x = np.abs(distance)
    near, far = ((a + 2) * x - (a + 3)) * x**2 + 1, a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _with_ten_positions(tmp_path):
    state = dict(network_of(shallow("uni")).state_dict())
    state["pos_embed"] = torch.zeros(1, 10, 96)
    path = tmp_path / "plain.pth"
    torch.save(state, path)
    return path


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_files_that_are_not_the_weights_are_refused(tmp_path, capsys):
    spec = shallow("lunit-dino-s16")
    state = dict(network_of(spec).state_dict())
    good = tmp_path / "good.pth"
    cases = {
        r"1 missing, for instance norm.bias": {k: v for k, v in state.items() if k != "norm.bias"},
        r"1 unknown, for instance head.extra": state | {"head.extra": torch.ones(1)},
        r"2 missing.*; 1 unknown": {k: v for k, v in state.items() if not k.startswith("norm.")}
        | {"odd": torch.ones(1)},
    }
    for message, content in cases.items():
        torch.save(content, good)
        with pytest.raises(DataError, match=message):
            load_encoder(spec, weights=good, device="cpu")
    good.write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(DataError, match="could run code"):
        load_encoder(spec, weights=good, device="cpu")
    assert "code ran" not in capsys.readouterr().out
    for name, message in (("cut.safetensors", "download it again"), ("cut.pth", "could run code")):
        (tmp_path / name).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
        with pytest.raises(DataError, match=message):
            load_encoder(spec, weights=tmp_path / name, device="cpu")
    with pytest.raises(DataError, match=r"has none of model\.safetensors"):
        load_encoder(spec, weights=tmp_path, device="cpu")
    with pytest.raises(DataError, match="'nothing' does not exist"):
        load_encoder(spec, weights=tmp_path / "nothing", device="cpu")
    torch.save({"model": {}}, good)
    with pytest.raises(DataError, match="no part 'model'"):
        load_encoder(shallow("retfound-cfp"), weights=good, device="cpu")


def test_transformers_reads_the_file_that_was_meant_in_float32_or_says_why_not(tmp_path):
    spec = shallow("dinov2-s-reg")
    network = network_of(spec).half()
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    agree(spec, tmp_path, network.float())
    other = tmp_path / "pytorch_model.bin"
    torch.save(network_of(spec, seed=5).state_dict(), other)
    agree(spec, other, network_of(spec, seed=5))
    assert load_encoder(spec, weights=other, device="cpu").record()["weights"] == "pytorch_model.bin"
    (tmp_path / "mine.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"'mine\.safetensors' must be called model\.safetensors"):
        load_encoder(spec, weights=tmp_path / "mine.safetensors", device="cpu")
    state = network_of(spec).state_dict()
    for odd, message in (
        ({"layernorm.weight": torch.ones(3)}, "dinov2-s-reg"),
        ({"extra": torch.ones(3)}, "1 unknown, for instance extra"),
    ):
        save_file({**state, **odd}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=message):
            load_encoder(spec, weights=tmp_path, device="cpu")
    save_file({k: v for k, v in state.items() if k != "layernorm.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"1 missing, for instance layernorm\.bias"):
        load_encoder(spec, weights=tmp_path, device="cpu")
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="cannot be read"):
        load_encoder(spec, weights=tmp_path, device="cpu")


def test_a_configuration_of_another_network_is_refused(tmp_path):
    spec = shallow("dinov2-s")
    save_file(network_of(spec).state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 768}))
    with pytest.raises(DataError, match="hidden_size 768, the table 96"):
        load_encoder(spec, weights=tmp_path, device="cpu")
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(DataError, match=r"config\.json beside the weights is damaged"):
        load_encoder(spec, weights=tmp_path, device="cpu")


def test_what_changes_numbers_and_no_shape_is_taken_from_the_configuration(tmp_path):
    spec, said = shallow("dinov2-s"), {"layer_norm_eps": 0.5, "hidden_act": "relu"}
    network = network_of(spec)
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(said))
    network = network_of(dataclasses.replace(spec, arguments={**spec.arguments, **said}))
    agree(spec, tmp_path, network)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", r"gated: ask for access on https://huggingface.co/MahmoodLab/UNI, then .*hf auth login"),
        ("RepositoryNotFoundError", "hf auth login"),
        ("LocalEntryNotFoundError", r"hub cannot be reached: .*hf download MahmoodLab/UNI"),
        ("RemoteEntryNotFoundError", "has none of pytorch_model.bin"),
        ("HfHubHTTPError", "the hub answered HfHubHTTPError"),
    ],
)
def test_the_hubs_answers_become_a_way_out(monkeypatch, error, message):
    import huggingface_hub

    kind = getattr(huggingface_hub.errors, error)

    def answer(repository, name, **options):
        assert options == {}, "no token, no code of the hub"
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    with pytest.raises(DataError, match=message):
        load_encoder("uni", device="cpu")


def test_weights_in_the_hubs_cache_are_found_with_their_revision(monkeypatch, tmp_path):
    import huggingface_hub

    spec = shallow("lunit-dino-s16")
    snapshot = tmp_path / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    network = network_of(spec)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(snapshot / name))
    agree(spec, None, network)
    assert load_encoder(spec, device="cpu").record()["revision"] == "abc123"


def test_an_encoder_with_code_of_its_own_is_refused_with_the_way_out():
    with pytest.raises(DataError, match=r"never runs.*own_encoder\(network, input_size=480\)"):
        load_encoder("medimageinsight", device="cpu")
