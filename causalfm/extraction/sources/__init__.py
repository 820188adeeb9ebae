"""Images to embed, wherever they lie: one protocol, one function that opens them."""

from causalfm.errors import ImageError
from causalfm.extraction.sources.opening import open_images
from causalfm.extraction.sources.protocol import ImageSource
from causalfm.extraction.sources.tiles import Tiles

__all__ = ["ImageError", "ImageSource", "Tiles", "open_images"]
