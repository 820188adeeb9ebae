"""Every row of the table is built without a network: size, dimension, pooling, from architecture alone."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from causalfm.errors import DataError
from causalfm.extraction import ENCODERS, EncoderSpec, load_encoder
from causalfm.extraction.networks import architecture, pooled

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("transformers")

UNIT = {"M": 1e6, "B": 1e9}
BUILT = [spec for spec in ENCODERS.values() if spec.loader in ("timm", "transformers")]
WIDTH = {
    "timm": {"embed_dim": 96, "num_heads": 4},
    "transformers": {"hidden_size": 96, "num_attention_heads": 4},
}
DEPTH = {"timm": "depth", "transformers": "num_hidden_layers"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was touched"))


def shallow(spec: EncoderSpec, narrow: bool = False) -> EncoderSpec:
    """The same network with one block, or one narrow block: fast, and every rule of its pooling is kept."""
    width = WIDTH[spec.loader] if narrow else {}
    return dataclasses.replace(spec, arguments={**spec.arguments, DEPTH[spec.loader]: 1, **width})


def rounding(stated: str) -> tuple[float, float]:
    """Return a stated number and half a unit of its last digit that is not a zero."""
    digits, unit = re.fullmatch(r"([\d.]+)([MB])", stated).groups()
    decimals = len(digits.partition(".")[2])
    step = 10.0**-decimals if decimals else 10.0 ** (len(digits) - len(digits.rstrip("0")))
    return float(digits) * UNIT[unit], step * UNIT[unit] / 2


def test_the_table_names_every_promised_encoder():
    promised = """uni uni2-h virchow virchow2 conch conch-v1.5 h-optimus-0 h-optimus-1 h0-mini prov-gigapath phikon
    phikon-v2 midnight-12k hibou-b hibou-l gpfm lunit-dino-s16 lunit-dino-s8 rad-dino biomedclip medsiglip
    medimageinsight retfound-cfp dinov2-s dinov2-b dinov2-l dinov2-g dinov2-s-reg dinov3-s dinov3-b dinov3-l
    efficientnet-lite0"""
    assert set(promised.split()) <= set(ENCODERS)
    assert [name for name, spec in ENCODERS.items() if name != spec.name] == []


@pytest.mark.parametrize("spec", ENCODERS.values(), ids=lambda spec: spec.name)
def test_a_row_is_complete(spec):
    assert spec.source
    assert spec.verified.startswith(("built offline", "not verified offline: "))
    assert (spec.verified == "built offline") == (spec.loader != "refused")
    assert spec.licence != "not stated" or "not verified" in spec.verified
    assert spec.hub or spec.loader == "package"
    assert not any("token" in key for key in spec.arguments if key not in ("reg_tokens", "num_register_tokens"))
    hash(spec)


def same_network(spec):
    return [s for s in BUILT if (s.architecture, s.arguments, s.head) == (spec.architecture, spec.arguments, spec.head)]


ARCHITECTURES = {(s.architecture, str(s.arguments), s.head, s.pooling, s.dimension): s for s in BUILT}


@pytest.mark.parametrize("spec", ARCHITECTURES.values(), ids=lambda spec: spec.name)
def test_the_whole_network_has_the_stated_size_and_dimension(spec):
    with torch.device("meta"):  # shapes only: a network of a billion weights takes no memory
        network, small = architecture(spec), architecture(shallow(spec)).eval()
        with torch.no_grad():
            out = pooled(spec, small)(torch.empty((2, 3, spec.input_size, spec.input_size)))
    assert tuple(out.shape) == (2, spec.dimension)
    for stated, tolerance in (rounding(s.parameters) for s in same_network(spec) if s.parameters):
        assert abs(sum(p.numel() for p in network.parameters()) - stated) <= tolerance


def random_network(spec):
    """Build with plain normal weights: the networks' own truncated ones take seconds to draw."""
    with torch.device("meta"):
        network = architecture(spec).eval()
    if list(network.buffers()):  # tables of sines, computed while building
        return architecture(spec).eval()
    network = network.to_empty(device="cpu")
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    return network


DISTINCT = {(s.architecture, str(s.arguments), s.pooling): s for s in BUILT if not s.head and s.pooling != "network"}


@pytest.mark.parametrize("spec", DISTINCT.values(), ids=lambda spec: spec.name)
def test_pooling_equals_a_computation_by_hand(spec):
    torch.manual_seed(0)
    small = shallow(spec, narrow=True)
    network = random_network(small)
    norm = next(m for name, m in reversed(list(network.named_modules())) if name in ("norm", "layernorm"))
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    seen = []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy().astype(float)))
    side = spec.input_size
    with torch.inference_mode():
        found = pooled(small, network)(torch.rand((1, 3, side, side))).numpy()
    tokens = seen[0][0]
    patches = (side // (spec.arguments.get("patch_size") or int(re.search(r"patch(\d+)", spec.architecture)[1]))) ** 2
    registers = spec.arguments.get("reg_tokens", spec.arguments.get("num_register_tokens", 0))
    registers = 4 if "reg4" in spec.architecture or "dinov3" in spec.architecture else registers
    assert len(tokens) == 1 + registers + patches
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps) * weight + bias
    by_hand = [normed[0]] + ([normed[-patches:].mean(axis=0)] if "mean" in spec.pooling else [])
    np.testing.assert_allclose(found[0], np.concatenate(by_hand), rtol=1e-3, atol=1e-3)
    if registers and "mean" in spec.pooling:  # with registers the mean would be another
        assert np.abs(normed[1:].mean(axis=0) - normed[-patches:].mean(axis=0)).max() > 1e-3


def test_the_pooler_without_biases_is_softmax_attention_of_one_query():
    from causalfm.extraction.towers import PlainPooler

    torch.manual_seed(0)
    pooler, tokens = PlainPooler(10, 16, heads=4).eval(), torch.randn(2, 7, 10)

    def normed(x, layer):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + layer.eps)

    with torch.inference_mode():
        found = pooler(tokens).numpy()
    weights = {name: value.detach().numpy().astype(float) for name, value in pooler.named_parameters()}
    query = normed(weights["query"], pooler.ln_q) @ weights["to_q.weight"].T
    both = normed(tokens.numpy().astype(float), pooler.ln_k) @ weights["to_kv.weight"].T
    for image in range(2):
        heads = []
        for head in range(4):
            part = slice(4 * head, 4 * head + 4)
            score = both[image, :, :16][:, part] @ query[0, part] / 2  # the root of four numbers per head
            share = np.exp(score) / np.exp(score).sum()
            heads.append(share @ both[image, :, 16:][:, part])
        np.testing.assert_allclose(found[image], np.concatenate(heads) @ weights["to_out.weight"].T, atol=1e-5)


def test_wrong_size_or_type_of_pixels_is_refused():
    encoder = load_encoder(shallow(ENCODERS["lunit-dino-s16"]), weights="random", device="cpu")
    with pytest.raises(DataError, match=r"\(b, 3, 224, 224\) uint8"):
        encoder.embed(torch.zeros((1, 3, 224, 200), dtype=torch.uint8))
    with pytest.raises(DataError, match="float32"):
        encoder.embed(torch.zeros((1, 3, 224, 224)))


def test_the_page_holds_the_table_of_the_specs():
    from experiments.encoder_table import renewed

    page = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
    assert page == renewed(page), "run python -m experiments.encoder_table"
    assert page.count("\n| virchow2 | ") == 3
    assert "| virchow2 | 2560 | class token + mean of patch tokens | 631.2M | CC-BY-NC-ND-4.0 | yes |" in page
