"""Encoders trained on photographs: what a medical encoder must beat."""

from typing import Any

from causalfm.extraction.pooling import CLASS
from causalfm.extraction.specs import EncoderSpec

# letter, width, depth, heads, weights of DINOv2 with the grid of 518 px, weights of DINOv3
SIZES = (
    ("small", "s", 384, 12, 6, "22.1M", "21.6M"),
    ("base", "b", 768, 12, 12, "86.6M", "85.6M"),
    ("large", "l", 1024, 24, 16, "304.4M", "303.1M"),
    ("giant", "g", 1536, 40, 24, "1.136B", ""),
)


def _dinov2(size: str, letter: str, width: int, depth: int, heads: int, weights: str, registers: bool) -> EncoderSpec:
    arguments: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "image_size": 518,
        "patch_size": 14,
        "use_swiglu_ffn": size == "giant",
    }
    return EncoderSpec(
        name=f"dinov2-{letter}" + ("-reg" if registers else ""),
        loader="transformers",
        dimension=width,
        input_size=224,
        hub=f"facebook/dinov2-{'with-registers-' if registers else ''}{size}",
        architecture="Dinov2WithRegistersModel" if registers else "Dinov2Model",
        arguments=arguments | ({"num_register_tokens": 4} if registers else {}),
        pooling=CLASS,
        resize=256,
        crop=True,
        parameters=weights,
        licence="Apache-2.0",
        source="config.json of facebook/dinov2-small, -base, -giant; processor of dinov2-base; timm (size, licence); "
        "arXiv:2304.07193" + (", arXiv:2309.16588" if registers else ""),
        verified="built offline",
    )


def _dinov3(size: str, letter: str, width: int, weights: str) -> EncoderSpec:
    return EncoderSpec(
        name=f"dinov3-{letter}",
        loader="timm",
        dimension=width,
        input_size=256,
        hub=f"timm/vit_{size}_patch16_dinov3.lvd1689m",
        architecture=f"vit_{size}_patch16_dinov3",
        arguments={"global_pool": "token"},
        files=("model.safetensors",),
        pooling=CLASS,
        crop=True,
        parameters=weights,
        licence="DINOv3 licence",
        source="timm 1.0.31 (configuration of the weights); model cards of timm; arXiv:2508.10104",
        verified="built offline",
        note="timm's copy of the weights; its card says where its numbers differ from Meta's code; not verified: "
        "that this copy is not gated",
    )


ROWS = (
    *(_dinov2(*row[:6], registers=registers) for row in SIZES for registers in (False, True)),
    *(_dinov3(row[0], row[1], row[2], row[6]) for row in SIZES if row[6]),
)
