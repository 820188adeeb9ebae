"""From images to embeddings with pretrained encoders."""

from causalfm.extraction.availability import EncoderStatus, encoder_status
from causalfm.extraction.encoders import ENCODERS, Encoder, EncoderSpec, load_encoder, own_encoder
from causalfm.extraction.encoding import encode

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "EncoderStatus",
    "encode",
    "encoder_status",
    "load_encoder",
    "own_encoder",
]
