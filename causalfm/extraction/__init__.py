"""From images to embeddings with pretrained encoders."""

from causalfm.extraction.encoders import ENCODERS, Encoder, EncoderSpec, load_encoder, own_encoder
from causalfm.extraction.encoding import encode
from causalfm.extraction.pipeline import extract
from causalfm.extraction.sources import ImageSource, open_images
from causalfm.extraction.training_hook import InMemory

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "ImageSource",
    "InMemory",
    "encode",
    "extract",
    "load_encoder",
    "open_images",
    "own_encoder",
]
