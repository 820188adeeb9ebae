"""From images to embeddings with pretrained encoders."""

from causalfm.extraction.encoders import ENCODERS, Encoder, EncoderSpec, load_encoder, own_encoder
from causalfm.extraction.encoding import encode

__all__ = ["ENCODERS", "Encoder", "EncoderSpec", "encode", "load_encoder", "own_encoder"]
