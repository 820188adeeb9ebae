"""Embed images that are in memory, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_whole
from causalfm.errors import DataError
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder

if TYPE_CHECKING:
    from PIL import Image


def encode(
    images: np.ndarray | Sequence[Image.Image],
    encoder: str | EncoderSpec | Encoder = "efficientnet-lite0",
    *,
    device: str | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Embed images with a pretrained encoder.

    Parameters
    ----------
    images
        ``(n, h, w, 3)`` uint8 RGB, or PIL images of any size; other modes become RGB as in ``docs/images.md``.
    encoder
        See ``load_encoder``.
    device
        Torch device. None: the GPU if there is one, else the CPU.
    batch_size
        Images per forward pass; changes speed and memory, and the result by rounding only. Large batches also keep a
        busy CPU going: every layer waits for all of its threads.
    progress
        Called with (images done, images in all) after each batch.

    Returns
    -------
    numpy.ndarray
        ``(n, d)`` float32, in the order of the images.

    Raises
    ------
    DataError
        No images, another shape or type, an unknown encoder, or a batch size under one.
    MissingDependencyError
        The encoder's optional package is not installed.
    """
    _check(images, batch_size)
    loaded = load_encoder(encoder, device=device)
    import torch

    out = np.empty((len(images), loaded.dimension), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, min(start + batch_size, len(images)))
            pixels = np.stack([loaded.transform(_rgb(images[i], i)) for i in range(rows.start, rows.stop)])
            out[rows] = loaded.embed(torch.from_numpy(pixels)).cpu().numpy()
            if progress is not None:
                progress(rows.stop, len(images))
    return out


def _rgb(image: np.ndarray | Image.Image, i: int) -> Image.Image:
    """Return the image in 8-bit RGB by the rules of ``extract``: transparency onto white, 16 bits refused."""
    from causalfm.extraction.sources.decoding import Decoding, UnreadableError, to_rgb
    from causalfm.extraction.sources.memory import as_picture

    try:
        return to_rgb(as_picture(image), Decoding())
    except UnreadableError as error:
        raise DataError(f"images[{i}] cannot be used: {error}.") from None


def _check(images: np.ndarray | Sequence[Image.Image], batch_size: int) -> None:
    from PIL import Image

    from causalfm.extraction.sources.memory import check_pixels

    check_whole(batch_size, "batch_size", 1)
    if len(images) == 0:
        raise DataError("there are no images to encode.")
    if isinstance(images, np.ndarray):
        check_pixels(images)
        return
    wrong = next((i for i, image in enumerate(images) if not isinstance(image, Image.Image)), None)
    if wrong is not None:
        raise DataError(
            f"images[{wrong}] is a {type(images[wrong]).__name__}: pass one uint8 array (n, h, w, 3) or PIL images."
        )


def answer(encoder: Encoder) -> list[float]:
    """Return up to 64 numbers of what an encoder gives for one image of noise: they tell functions apart."""
    import torch

    with torch.inference_mode():
        found = encoder.embed(torch.from_numpy(noise(encoder.input_size)))[0].cpu().numpy()
    return [float(value) for value in found[:: -(-len(found) // 64)]]


def noise(side: int) -> np.ndarray:
    """Return the image that is asked about, ``(1, 3, side, side)`` uint8."""
    return np.random.default_rng(0).integers(0, 256, (1, 3, side, side), dtype=np.uint8)
