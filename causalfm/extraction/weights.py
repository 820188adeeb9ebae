"""Finding and reading weights: a hub's cache, the hub, or a file. Nothing is unpickled, no code of a hub is run."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    import torch

    from causalfm.extraction.specs import EncoderSpec

    State = dict[str, torch.Tensor]


def weights_file(spec: EncoderSpec, weights: str | Path | None) -> Path:
    """Return the file of weights: the given one, the one in the given folder, or the hub's.

    Raises
    ------
    DataError
        No such file, or the hub does not give it; the message says the way out.
    MissingDependencyError
        The hub's client is not installed.
    """
    if weights is None:
        return _from_hub(spec, spec.files)
    path = Path(weights)
    if path.is_file():
        return path
    for name in spec.files:
        if (path / name).is_file():
            return path / name
    what = (
        f"the folder {path.name!r} has none of"
        if path.is_dir()
        else f"{path.name!r} does not exist; expected a folder with"
    )
    raise DataError(
        f"weights of {spec.name!r}: {what} {', '.join(spec.files)} (from https://huggingface.co/{spec.hub})."
    )


def _from_hub(spec: EncoderSpec, names: tuple[str, ...]) -> Path:
    """Return the first of these files from the hub's cache, else from the hub, with the user's own login."""
    try:
        from huggingface_hub import errors as answers
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingDependencyError(
            f"the weights of {spec.name!r} are on the hub: pip install 'causalfm[encoders]', or give weights=FILE."
        ) from None
    page = f"https://huggingface.co/{spec.hub}"
    unreachable = False
    for name in names:
        try:
            return Path(hf_hub_download(spec.hub, name))
        except (
            answers.GatedRepoError,
            answers.RepositoryNotFoundError,
        ):  # the second is what the hub answers without a login
            raise DataError(
                f"the weights of {spec.name!r} are gated: ask for access on {page}, then log in once with "
                "'hf auth login' (causalfm takes no token)."
            ) from None
        except answers.LocalEntryNotFoundError:
            unreachable = True  # the cache may hold a file of the next name
        except answers.EntryNotFoundError:
            continue
        except (answers.HfHubHTTPError, OSError) as error:
            raise DataError(
                f"the weights of {spec.name!r}: the hub answered {type(error).__name__}. Try again, or download {page} "
                "and give weights=FOLDER."
            ) from None
    if unreachable:
        raise DataError(
            f"the weights of {spec.name!r} are not in the hub's cache, and the hub cannot be reached: download "
            f"{page} where there is a network ('hf download {spec.hub}') and give weights=FOLDER."
        )
    raise DataError(f"{page} has none of {', '.join(names)}: download what it has and give weights=FILE.")


def state_digest(network: torch.nn.Module) -> str:
    """Return the SHA-256 of names, shapes and bytes of all weights that a network holds."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def provenance(spec: EncoderSpec, path: Path) -> dict[str, Any]:
    """Return the name of the file, its SHA-256, and the hub's revision where the path tells it."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    found: dict[str, Any] = {"weights": path.name, "sha256": digest}
    if path.parent.parent.name == "snapshots":
        found["revision"] = path.parent.name
    return found


def read_state(spec: EncoderSpec, path: Path) -> State:
    """Read the image tower's weights by name.

    Raises
    ------
    DataError
        The file is damaged, holds more than tensors, or lacks the part that the table names.
    """
    state: Any = _read(path)
    for step in spec.state:
        if step.endswith("."):
            state = {name.removeprefix(step): value for name, value in state.items() if name.startswith(step)}
        else:
            state = state.get(step) if isinstance(state, dict) else None
        if not state:
            raise DataError(
                f"{path.name!r} has no part {step!r}: these are not the published weights of {spec.name!r}."
            )
    return {name: value for name, value in state.items() if not name.startswith(spec.unused)}


def _read(path: Path) -> Any:
    import pickle

    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Training scripts store their options beside the weights; a Namespace is a bag of names and runs nothing.
        allow = getattr(torch.serialization, "safe_globals", None)  # since torch 2.5
        with warnings.catch_warnings(), allow([argparse.Namespace]) if allow else nullcontext():
            warnings.simplefilter("ignore")  # a file of another kind is answered below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path.name!r} holds more than tensors, and reading it could run code: convert it to safetensors on a "
            "machine that you can lose, or ask its publisher to."
        ) from None
    except Exception as error:  # safetensors and torch each have a family of their own
        raise DataError(
            f"{path.name!r} cannot be read as weights ({type(error).__name__}): download it again."
        ) from None


def fill(network: torch.nn.Module, state: State, spec: EncoderSpec) -> None:
    """Load weights into a network that may lie on the meta device, as float32; differences are errors.

    Raises
    ------
    DataError
        Names or shapes differ.
    """
    try:
        lost, odd = network.load_state_dict(state, strict=False, assign=True)
    except RuntimeError:
        expected = network.state_dict()
        wrong = [name for name, value in state.items() if name in expected and expected[name].shape != value.shape]
        detail = (
            f": {wrong[0]} is {tuple(state[wrong[0]].shape)}, not {tuple(expected[wrong[0]].shape)}" if wrong else ""
        )
        raise DataError(
            f"the weights do not fit {spec.name!r}: {len(wrong)} shapes differ{detail}. Take the files of {spec.hub}."
        ) from None
    refuse_differences(spec, lost, odd)
    for module in network.modules():  # what the table says need not be in the file starts as its layer starts
        if any(weight.is_meta for weight in module.parameters(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
            module.reset_parameters()  # type: ignore[operator]
    network.float()


def refuse_differences(spec: EncoderSpec, lost: list[str], odd: list[str]) -> None:
    """Raise where weights are lost or left over, unless the table names them."""
    lost = [name for name in lost if not name.startswith(spec.untrained)]
    odd = [name for name in odd if not name.startswith(spec.unused)]
    if lost or odd:
        examples = "; ".join(
            f"{len(names)} {what}, for instance {names[0]}"
            for names, what in ((lost, "missing"), (odd, "unknown"))
            if names
        )
        raise DataError(f"the weights do not fit {spec.name!r}: {examples}. Take the files of {spec.hub}.")
