"""What is known of an encoder: where its weights are, how it is built, what it wants to see, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError
from causalfm.extraction.pooling import NETWORK, POOLINGS

if TYPE_CHECKING:
    import torch

    Features = Callable[[torch.Tensor], torch.Tensor]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRECISIONS = ("fp32", "bf16", "fp16")
INTERPOLATIONS = ("NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")  # names in PIL.Image.Resampling


@dataclass(frozen=True)
class EncoderSpec:
    """How an encoder is loaded, what it wants to see and what it gives; data only, one row of the table.

    Attributes
    ----------
    name
        Key in ``ENCODERS``.
    loader
        ``"timm"``, ``"transformers"`` or ``"package"`` (weights inside a Python package), ``"refused"`` (cannot be
        loaded without running code from a hub; ``note`` says the way out), or a network of your own: a callable that
        maps ``(b, 3, s, s)`` float32 to ``(b, d)``.
    dimension
        Length of the embedding. None for a network of your own: found with one black image.
    input_size
        Side of the square that the network sees, px.
    hub
        Repository on the Hugging Face hub.
    architecture
        Name of the timm model, or of the transformers model class.
    arguments
        Arguments of the architecture. Names of layers (``SwiGLUPacked``) stand as strings.
    files
        Names that the weights may have in the repository, in the order of preference.
    state
        Where the image tower lies in the file: ``"model"`` (a key of the file's dictionary), ``"visual."`` (a prefix of
        names, ending with a dot), or both, in this order.
    unused, untrained
        Prefixes of names: weights of the file that are not needed (a decoder, the text tower), and weights of the
        network that the file need not have. Any other difference is an error.
    positions
        What happens to position embeddings of another size: ``""`` (an error), ``"bilinear"``, or ``"stretched"``; see
        ``causalfm.extraction.towers``.
    head
        What stands behind the transformer: ``""``, ``"linear"``, or a name in ``causalfm.extraction.towers.POOLERS``.
    pooling
        How tokens become one embedding: a name in ``causalfm.extraction.pooling.POOLINGS``, or ``"network"`` where the
        network does it. For a network of your own: its record only.
    resize
        Side to which the image is resized before the centre crop, px. None: the image becomes the square directly.
    crop
        True: the shorter side becomes ``resize`` (``input_size`` where None) and the centre is cropped. False: both
        sides are resized, whatever the shape of the image.
    mean, std
        Per channel, on the scale 0 to 1.
    interpolation
        Name in ``PIL.Image.Resampling``.
    precision
        What the publishers compute in: ``"fp32"``, ``"bf16"`` or ``"fp16"``. Used on a GPU; a CPU computes in float32.
    parameters
        Number of weights as it is stated, with its rounding: ``"681.4M"``, ``"1.13B"``. Empty: not stated.
    licence, gated
        Licence of the weights; whether access must be asked for on the hub.
    source
        Where these facts stand: model card, paper, code.
    verified
        What was checked without the weights: ``"built offline"``, or why it could not be.
    note
        What a user must know.
    """

    name: str
    loader: str | Features
    dimension: int | None
    input_size: int
    hub: str = ""
    architecture: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    state: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    positions: str = ""
    head: str = ""
    pooling: str = NETWORK
    resize: int | None = None
    crop: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "BICUBIC"
    precision: str = "fp32"
    parameters: str = ""
    licence: str = "not stated"
    gated: bool = False
    source: str = ""
    verified: str = "not verified"
    note: str = ""

    def __post_init__(self) -> None:
        where = f"EncoderSpec {self.name!r}"
        if self.input_size < 1 or (self.dimension is not None and self.dimension < 1):
            raise DataError(f"{where}: input_size={self.input_size} and dimension={self.dimension} must be at least 1.")
        if self.precision not in PRECISIONS:
            raise DataError(f"{where}: precision {self.precision!r} is unknown: choose {', '.join(PRECISIONS)}.")
        if self.pooling not in (NETWORK, *POOLINGS) and isinstance(self.loader, str):
            known = ", ".join(map(repr, (*POOLINGS, NETWORK)))
            raise DataError(f"{where}: pooling {self.pooling!r} is unknown: choose {known}.")
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"{where}: interpolation {self.interpolation!r} is unknown: choose {', '.join(INTERPOLATIONS)}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0 or max(self.mean) > 1 or max(self.std) > 1:
            raise DataError(
                f"{where}: mean {self.mean} and std {self.std} must be three numbers each on the scale 0 to 1, std "
                "above 0. Divide what is meant for pixels of 0 to 255 by 255."
            )
        if self.resize is not None and self.resize < self.input_size:
            raise DataError(f"{where}: resize={self.resize} is smaller than input_size={self.input_size}.")


def own_encoder(
    network: Features,
    *,
    input_size: int = 224,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    name: str = "own encoder",
    **facts: Any,
) -> EncoderSpec:
    """Describe a network of your own, so that it can be used wherever an encoder's name can.

    Parameters
    ----------
    network
        Torch module or any callable that maps ``(b, 3, input_size, input_size)`` float32 to ``(b, d)``.
        ``load_encoder`` and ``extract`` put a module into evaluation mode on the device and leave it so; ``InMemory``
        puts it back.
    input_size
        Side of the square it sees, px.
    mean, std
        Per channel, on the scale 0 to 1: the network sees ``(pixel / 255 - mean) / std``.
    name
        How records and reports call it.
    **facts
        Other attributes of ``EncoderSpec``: ``crop``, ``resize``, ``interpolation``, ``licence``, ``source`` ...

    Returns
    -------
    EncoderSpec
        For ``load_encoder``, ``encode`` and ``extract``.

    Raises
    ------
    DataError
        ``network`` cannot be called, or a fact is impossible.
    """
    if not callable(network):
        raise DataError(f"the network of {name!r} is a {type(network).__name__}: pass a torch module or a function.")
    dimension = facts.pop("dimension", None)
    return EncoderSpec(name, network, dimension, input_size, mean=mean, std=std, **facts)
