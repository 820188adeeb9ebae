"""From images to embeddings with pretrained encoders."""

from causalfm.extraction.availability import EncoderStatus, encoder_status
from causalfm.extraction.encoders import ENCODERS, Encoder, EncoderSpec, load_encoder, own_encoder
from causalfm.extraction.encoding import encode
from causalfm.extraction.pipeline import extract
from causalfm.extraction.sources import ImageSource, open_images
from causalfm.extraction.training_hook import InMemory

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "EncoderStatus",
    "ImageSource",
    "InMemory",
    "encode",
    "encoder_status",
    "extract",
    "load_encoder",
    "open_images",
    "own_encoder",
]
