"""A fitted model in one safetensors file: plain arrays and a JSON header, never pickle. Needs numpy and safetensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from causalfm import __version__
from causalfm.errors import DataError
from causalfm.formats.durable import atomic, existing

SCHEMA = 1


def write_model(
    path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], kind: str
) -> None:
    """Write arrays and header, whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.safetensors``.
    header
        JSON-ready.
    tensors
        Arrays by name.
    kind
        Dotted name of what is saved.

    Raises
    ------
    DataError
        Another ending, a folder of that name, or the file cannot be written.
    """
    from safetensors.numpy import save

    target = Path(path)
    if target.suffix != ".safetensors":
        raise DataError(f"{target.name!r}: a model is written as .safetensors; choose a name that ends so.")
    if target.is_dir():
        raise DataError(f"{target.name!r} is a folder: choose the name of a file; nothing was written.")
    # ascontiguousarray turns a number into an array of one: read back, it would not be what was written
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    body = json.dumps({**header, "kind": kind, "schema": SCHEMA, "causalfm": __version__}, sort_keys=True)
    try:
        with atomic(target) as temporary:
            # not save_file: it writes to a file of its own beside this one, which a kill would leave there
            content = save(arrays, metadata={"header": body, "sha256": _digest(body, arrays)})
            temporary.write_bytes(_in_one_order(content))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{target.name!r} cannot be written: {reason}. Choose another place.") from None


def read_model(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read header and arrays back.

    Parameters
    ----------
    path
        Written by :func:`write_model`.
    kind
        What is expected.

    Returns
    -------
    header, tensors
        As written.

    Raises
    ------
    DataError
        Missing, damaged, edited, of another kind, or written under a newer schema.
    """
    from safetensors import SafetensorError, safe_open

    target, name = existing(Path(path)), kind.rpartition(".")[2]
    try:
        with safe_open(target, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        header = json.loads(metadata["header"])
        found, schema = header["kind"], int(header["schema"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        raise DataError(
            f"{target.name!r} is no saved {name}, or is damaged: copy it again, or save the model again."
        ) from None
    if found != kind:
        raise DataError(f"{target.name!r} holds a {found}, not a {kind}: pass a file of {name}.save.")
    if schema > SCHEMA:
        raise DataError(
            f"{target.name!r} has schema {schema}, written by causalfm {header.get('causalfm')}; this version reads "
            f"up to {SCHEMA}. Use a newer causalfm, or save the model again with this one."
        )
    if metadata.get("sha256") != _digest(metadata["header"], arrays):
        raise DataError(
            f"{target.name!r} was changed after it was saved: its checksum does not fit. Copy it again, or save the "
            "model again."
        )
    return header, arrays


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return the dotted name of what a file of :func:`write_model` holds; errors as :func:`read_model`."""
    from safetensors import SafetensorError, safe_open

    target = existing(Path(path))
    try:
        with safe_open(target, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["header"])["kind"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        raise DataError(f"{target.name!r} is no file that causalfm saved, or is damaged: copy it again.") from None


def _in_one_order(content: bytes) -> bytes:
    """Sort the header of a safetensors file, which lists its metadata at random: equal models are equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header = header.ljust(-(-len(header) // 8) * 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
