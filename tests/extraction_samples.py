"""Images and encoders whose embeddings are known exactly."""

from __future__ import annotations

import numpy as np

from causalfm.extraction import own_encoder
from causalfm.extraction.encoding import noise

SIDE, DIMENSION = 4, 6


def images(n: int, seed: int = 0) -> np.ndarray:
    """Return ``(n, 4, 4, 3)`` random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def expected(pixels: np.ndarray) -> np.ndarray:
    """Return what :func:`first_pixels` gives: red of the first six pixels, on the scale 0 to 1, in float32."""
    red = pixels[..., 0].reshape(len(pixels), -1)[:, :DIMENSION]
    return (red.astype(np.float32) - np.float32(0.0)) / np.float32(255.0)


class FirstPixels:
    """Counts the images that it embeds, and can fail on purpose."""

    def __init__(self, most: int | None = None, stop_after: int | None = None, before=None) -> None:
        self.before = before
        self.most, self.stop_after = most, stop_after
        self.seen = 0
        self.sizes: list[int] = []

    def __call__(self, batch):
        import torch

        if len(batch) == 1 and np.array_equal((batch * 255).round().numpy(), noise(SIDE)):
            return batch[:, 0].flatten(1)[:, :DIMENSION]  # extract asks who this is: no image of a test
        if self.before is not None:
            self.before()
        if self.most is not None and len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(batch)
        self.sizes.append(len(batch))
        return batch[:, 0].flatten(1)[:, :DIMENSION]


def spec(network, **facts):
    """Describe a network that sees pixels as they are, on the scale 0 to 1."""
    facts = {"dimension": DIMENSION, "interpolation": "NEAREST", "name": "first pixels", **facts}
    return own_encoder(network, input_size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3, **facts)
