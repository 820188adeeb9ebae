"""Pretrained encoders in one table, and the object that runs one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError
from causalfm.extraction.catalogue import ROWS
from causalfm.extraction.preparing import Preparation
from causalfm.extraction.specs import PRECISIONS, EncoderSpec, own_encoder

if TYPE_CHECKING:
    import torch

    from causalfm.extraction.specs import Features

ENCODERS = {spec.name: spec for spec in ROWS}
TRACKED = ("torch", "timm", "transformers", "pillow", "numpy")  # what can change an embedding


@dataclass(frozen=True)
class Encoder:
    """A network on a device, with what it wants to see.

    Attributes
    ----------
    spec
        Its row of the table.
    dimension
        Length of the embedding.
    device, precision
        Where and in what it computes; embeddings are float32 whatever the precision.
    transform
        ``PIL image -> (3, input_size, input_size)`` uint8. Can be pickled for workers; needs no torch.
    features
        The network: ``(b, 3, s, s)`` float32, normalised, to ``(b, d)``.
    weights
        Where the weights came from, with their checksum.
    """

    spec: EncoderSpec
    dimension: int
    device: torch.device
    precision: str
    transform: Preparation
    features: Features
    weights: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return self.spec.name

    @property
    def input_size(self) -> int:
        """Side of the square that the network sees, px."""
        return self.spec.input_size

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed a batch; call it inside ``torch.inference_mode()``.

        Parameters
        ----------
        pixels
            ``(b, 3, s, s)`` uint8 on any device, from ``transform``. Normalised on the encoder's device: a quarter of
            the bytes travel.

        Returns
        -------
        torch.Tensor
            ``(b, d)`` float32 on the encoder's device.

        Raises
        ------
        DataError
            Pixels of another type or shape, or a network that gives another shape.
        """
        import torch

        side = self.input_size
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise DataError(
                f"{self.name!r} takes (b, 3, {side}, {side}) uint8, made by its transform; "
                f"these pixels are {tuple(pixels.shape)} {pixels.dtype}."
            )
        found = self.features_of(pixels)
        if tuple(found.shape) != (len(pixels), self.dimension):
            raise DataError(
                f"{self.name!r} gave {tuple(found.shape)} for {len(pixels)} images: "
                f"({len(pixels)}, {self.dimension}) was expected."
            )
        return found

    def features_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise and run the network, in the encoder's precision, without looking at shapes."""
        import torch

        mean, std = _constant(self.spec.mean, self.device), _constant(self.spec.std, self.device)
        # channels last: 1.5 times as fast on a CPU
        batch = ((pixels.to(self.device, non_blocking=True) - mean) / std).contiguous(memory_format=torch.channels_last)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        with nullcontext() if half is None else torch.autocast(self.device.type, half):
            return self.features(batch).float()

    def record(self) -> dict[str, Any]:
        """Return where the embeddings come from, ready for JSON: encoder, weights, pooling, transform, versions."""
        from importlib import metadata

        import causalfm

        spec, versions = self.spec, {"causalfm": causalfm.__version__}
        for package in TRACKED:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return {
            "encoder": spec.name,
            "hub": spec.hub,
            "architecture": spec.architecture,
            "dimension": self.dimension,
            "pooling": spec.pooling,
            "transform": vars(self.transform) | {"mean": list(spec.mean), "std": list(spec.std)},
            "precision": self.precision,
            "licence": spec.licence,
            **self.weights,
            "versions": versions,
        }


@lru_cache(maxsize=32)
def _constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return a colour on the scale 0 to 255, ``(3, 1, 1)``; kept, since a copy to a GPU waits for the batch before."""
    import torch

    with torch.inference_mode(False):
        return torch.tensor(values, device=device)[:, None, None] * 255


def load_encoder(
    encoder: str | EncoderSpec | Encoder | Callable[[torch.Tensor], torch.Tensor],
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    compile: bool = False,
    weights: str | Path | None = None,
) -> Encoder:
    """Load an encoder onto a device.

    Parameters
    ----------
    encoder
        A name in ``ENCODERS``, a spec (``own_encoder`` makes one of a network of your own), or an ``Encoder``, which is
        returned
        as it is; other arguments must not contradict it.
    device
        Torch device. None: the GPU if there is one, else the CPU.
    precision
        ``"fp32"``, ``"bf16"`` or ``"fp16"``: what matrix products are computed in. None: what the publishers use on a
        GPU, float32 on a CPU.
    compile
        Compile the network with ``torch.compile``: slow at the first batch of each size, then faster.
    weights
        None: the hub's cache, then the hub (or the Python package that holds them). A path: a file of weights or a
        folder with one. ``"random"``: untrained, for tests; the record says so.

    Returns
    -------
    Encoder
        In evaluation mode, without gradients.

    Raises
    ------
    DataError
        An unknown encoder, precision or device; weights that do not fit; a network that is no encoder.
    MissingDependencyError
        A package or the weights are not here; the message says how to get them.
    """
    if isinstance(encoder, Encoder):
        return _unchanged(encoder, device, precision, compile, weights)
    spec = spec_of(encoder)
    place = _device(device)
    if precision is not None and precision not in PRECISIONS:
        raise DataError(f"precision {precision!r} is unknown: choose {', '.join(map(repr, PRECISIONS))}.")
    from causalfm.extraction.networks import build

    features, found = build(spec, weights, place)
    if compile:
        import torch

        features = torch.compile(features)
    chosen = precision or (spec.precision if place.type == "cuda" else "fp32")
    seen = Preparation(spec.input_size, spec.resize or spec.input_size, spec.crop, spec.interpolation)
    loaded = Encoder(spec, spec.dimension or 0, place, chosen, seen, features, found)
    if spec.dimension is None:
        loaded = Encoder(spec, _probed(loaded), place, chosen, seen, features, found)
    return loaded


def _unchanged(
    encoder: Encoder, device: str | torch.device | None, precision: str | None, compile: bool, weights: object
) -> Encoder:
    odd = [
        name
        for name, wrong in (
            ("device", device is not None and not _same(_device(device), encoder.device)),
            ("precision", precision is not None and precision != encoder.precision),
            ("compile", compile),
            ("weights", weights is not None),
        )
        if wrong
    ]
    if odd:
        raise DataError(f"{encoder.name!r} is loaded already: give {' and '.join(odd)} to load_encoder, with its name.")
    return encoder


def _same(asked: torch.device, there: torch.device) -> bool:
    """Tell whether a device is the one that was asked for; without a number any of its kind is."""
    return asked.type == there.type and asked.index in (None, there.index if there.index is not None else 0)


def spec_of(encoder: object) -> EncoderSpec:
    """Return the spec of a name, or a spec itself; a DataError says what else could have been meant."""
    if isinstance(encoder, EncoderSpec):
        return encoder
    if isinstance(encoder, str):
        if encoder not in ENCODERS:
            raise DataError(
                f"encoder {encoder!r} is unknown: choose {', '.join(map(repr, ENCODERS))}, or describe a network "
                "of your own with causalfm.extraction.own_encoder."
            )
        return ENCODERS[encoder]
    if callable(encoder):
        raise DataError(
            f"the {type(encoder).__name__} does not say what it wants to see: wrap it, "
            "own_encoder(network, input_size=224, mean=(...), std=(...)) from causalfm.extraction."
        )
    raise DataError(f"an encoder is a name, an EncoderSpec or an Encoder; this is a {type(encoder).__name__}.")


def _device(device: str | torch.device | None) -> torch.device:
    import torch

    place = torch_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda" and not torch.cuda.is_available():
        raise DataError(f"device {device!r}: torch finds no GPU here; causalfm doctor shows what it finds.")
    try:
        torch.zeros(1, device=place).cpu()
    except (RuntimeError, NotImplementedError, AssertionError, ImportError) as error:
        if "out of memory" in str(error).lower():
            raise DataError(f"device {device!r} has no memory left: free some, or choose another device.") from None
        raise DataError(
            f"device {device!r} cannot be used by torch here: causalfm doctor shows which devices there are."
        ) from None
    return place


def torch_device(device: str | torch.device) -> torch.device:
    """Return the device of a name, whether it is here or not; a DataError says how names look."""
    import torch

    try:
        return torch.device(device)
    except RuntimeError:
        raise DataError(f"device {device!r} is no torch device: give 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None


def _probed(encoder: Encoder) -> int:
    """Return the length of the embedding of a black image."""
    import torch

    side = encoder.input_size
    with torch.inference_mode():
        found = encoder.features_of(torch.zeros((2, 3, side, side), dtype=torch.uint8))
    if found.ndim != 2 or len(found) != 2:
        raise DataError(
            f"{encoder.name!r} gave {tuple(found.shape)} for 2 images: an encoder gives one row per image, (2, d). "
            "Pool its tokens or maps first."
        )
    return int(found.shape[1])


__all__ = ["ENCODERS", "Encoder", "EncoderSpec", "load_encoder", "own_encoder"]
