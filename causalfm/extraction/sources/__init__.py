"""Images to embed, wherever they lie: one protocol, one function that opens them."""

from causalfm.extraction.sources.opening import open_images
from causalfm.extraction.sources.protocol import ImageSource

__all__ = ["ImageSource", "open_images"]
