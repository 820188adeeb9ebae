"""From images to embeddings with pretrained encoders."""

from causalfm.extraction.encoders import ENCODERS, EncoderSpec, encode

__all__ = ["ENCODERS", "EncoderSpec", "encode"]
