"""From images to a cohort: any source, any encoder, resumable."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm import __version__
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder
from causalfm.extraction.encoding import answer
from causalfm.extraction.folder_lock import locked
from causalfm.extraction.forward import BATCH, BATCH_ELSEWHERE, BatchSize, embed_batches
from causalfm.extraction.loading import read_batches, told_of_workers
from causalfm.extraction.output import FolderOutput, MemoryOutput, Output, header_of, prepared, table_digest
from causalfm.extraction.pace import Pace
from causalfm.extraction.sources import ImageSource, open_images
from causalfm.formats.extractions import PART_SUFFIX, is_extraction, read_journal

if TYPE_CHECKING:
    import torch

    Device = str | torch.device

SHARD_ROWS = 2048
MANY = 64  # so many images that fail together are no damaged images


def extract(
    images: Any,
    encoder: str | EncoderSpec | Encoder,
    *,
    obs: pd.DataFrame | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: Device | Sequence[Device] | None = None,
    precision: str | None = None,
    batch_size: int | Literal["auto"] = "auto",
    workers: int = 0,
    compile: bool = False,
    weights: str | Path | None = None,
    on_error: Literal["raise", "record"] = "raise",
    format: Literal["npy", "parquet", "h5ad", "zarr"] | None = None,
    shard_rows: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cohort:
    """Embed images with a foundation model.

    Parameters
    ----------
    images
        What :func:`causalfm.extraction.open_images` takes: a folder, manifest, archive, patch file, slide, array, data
        set, or what it returned.
    encoder
        A name in ``causalfm.extraction.ENCODERS``, a spec (``own_encoder`` makes one of a network), or a loaded
        ``Encoder``.
    obs
        Table of the images, joined by their names; without it the cohort's table is what the source knows.
    out
        Folder for the result. What it holds survives kills and full disks, and the same call goes on from there.
        None: everything stays in memory.
    resume
        False: ``out`` must be empty.
    device
        Torch device, or several: each gets a copy of the encoder and every so-manieth batch. None: the GPU if there is
        one.
    precision, compile, weights
        As in :func:`causalfm.extraction.load_encoder`.
    batch_size
        Images per forward pass. ``"auto"``: 256 on a GPU and 64 on a CPU, halved until it fits. Changes the result by
        rounding only.
    workers
        Processes that read and resize images. 0: the calling process does.
    on_error
        ``"raise"`` stops at an image that cannot be read; ``"record"`` leaves it out and lists it in ``errors.csv``.
        ``info["images_unreadable"]`` counts them.
    format
        ``"npy"`` (default): one matrix, a memory map in the cohort. ``"parquet"``, ``"h5ad"``, ``"zarr"``: one file per
        shard, read into memory.
    shard_rows
        Images between two safe points; a kill loses less than that. None: 2,048.
    progress
        Called with (what is being done with rate and time left, images done, images in all).

    Returns
    -------
    Cohort
        Float32, rows in the order of the source; ``info`` says how they were made. With ``out`` it is what
        ``causalfm.read(out)`` gives.

    Raises
    ------
    DataError
        Images that cannot be read (row positions), embeddings that are not finite, a folder in use or of another
        extraction, a full disk, too little memory, impossible arguments.
    MissingDependencyError
        A package or the weights are not here.
    """
    _check(batch_size, workers, on_error, format, shard_rows)
    source = open_images(images) if obs is None else open_images(images, obs=obs)
    table = pd.DataFrame({"image": source.names}) if source.obs is None else source.obs
    Cohort(np.zeros((len(source), 1), dtype=np.float32), table)  # what it refuses must not come out after hours
    _refuse_inside(images, out)
    folder = None if out is None else prepared(out, resume=resume)
    with nullcontext() if folder is None else locked(folder):
        if folder is not None:
            prepared(folder, resume=resume)  # somebody else may have been first
        encoders = _replicas(encoder, device, precision=precision, compile=compile, weights=weights)
        begun = read_journal(folder).header if folder is not None and is_extraction(folder) else {}
        start = _first_batch(batch_size, begun, encoders[0])
        header = header_of(
            format or begun.get("format", "npy"),
            len(source),
            encoders[0].dimension,
            shard_rows or begun.get("shard_rows", SHARD_ROWS),
            start,
            _identity(source, table, encoders[0], digests=folder is not None),
        )
        output: Output = MemoryOutput(header)
        if folder is not None:
            output = FolderOutput(folder, header, _run(encoders), table)
        size = BatchSize(min([start, *output.batch_sizes()]), may_shrink=batch_size == "auto")
        try:
            with told_of_workers():
                return _embed(source, table, encoders, output, size, workers, on_error, Pace(progress, len(source)))
        finally:
            source.close()


def _embed(
    source: ImageSource,
    table: pd.DataFrame,
    encoders: list[Encoder],
    output: Output,
    size: BatchSize,
    workers: int,
    on_error: str,
    pace: Pace,
) -> Cohort:
    """Embed the shards that are not there yet."""
    header = output.journal.header
    todo = output.todo()
    shards = {k: range(k * header["shard_rows"], min((k + 1) * header["shard_rows"], len(source))) for k in todo}
    plan = [s[i : i + header["batch_size"]] for s in shards.values() for i in range(0, len(s), header["batch_size"])]
    pace.start(len(source) - sum(map(len, shards.values())))
    stream = embed_batches(encoders, read_batches(source, encoders[0].transform, plan, workers), size)
    if on_error == "raise":
        _refuse([error for error in output.journal.errors if not any(error[0] in s for s in shards.values())])
    for k, rows in shards.items():
        parts, errors, done = [], [], 0
        while done < len(rows):
            batch, X = next(stream)
            if on_error == "raise":
                _refuse(batch.errors)
            parts.append(X)
            errors += batch.errors
            done += len(batch.rows)
            pace.step(len(batch.rows))
        if len(errors) == len(rows) >= MANY:
            raise DataError(
                f"none of the images in rows {rows.start} to {rows.stop - 1} can be used ({errors[0][1]}): are the "
                "disk and the files still there? The same call goes on from here; or leave these images out."
            )
        output.put(k, np.concatenate(parts), table.iloc[_used(rows, errors)], errors, size.value)
    if todo and header["identity"].get("images") not in (None, source.fingerprint()):
        raise DataError(
            "the images were changed while they were embedded, so that some rows are of the old ones and some of the "
            "new: leave them alone, and begin again in an empty folder."
        )
    used = _used(range(len(source)), output.journal.errors)
    if not len(used):
        raise DataError(f"none of the {len(source)} images can be used: {output.journal.errors[0][1]}.")
    return output.finish(table if len(used) == len(table) else table.iloc[used])


def _used(rows: range, errors: Sequence[tuple[int, str]]) -> np.ndarray:
    return np.setdiff1d(np.arange(rows.start, rows.stop), [row for row, _ in errors], assume_unique=True)


def _refuse(errors: Sequence[tuple[int, str]]) -> None:
    if errors:
        raise DataError(
            f"{len(errors)} images cannot be used ({positions([row for row, _ in errors])}): {errors[0][1]}. Repair or "
            "leave them out, or pass on_error='record', which lists them and goes on. What was embedded before and "
            "written to out= is kept."
        )


def _check(batch_size: Any, workers: int, on_error: str, format: str | None, shard_rows: int | None) -> None:
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise DataError(f"batch_size={batch_size!r}: pass a number of images, at least 1, or 'auto'.")
    if not isinstance(workers, int) or workers < 0:
        raise DataError(f"workers={workers!r}: 0 reads in this process, more starts so many.")
    if on_error not in ("raise", "record"):
        raise DataError(f"on_error={on_error!r}: choose 'raise' or 'record'.")
    if format not in (None, "npy", *PART_SUFFIX):
        raise DataError(f"format={format!r}: choose 'npy', {', '.join(map(repr, PART_SUFFIX))}.")
    if shard_rows is not None and (not isinstance(shard_rows, int) or shard_rows < 1):
        raise DataError(f"shard_rows={shard_rows!r}: a whole number, at least one image is in a shard.")


def _refuse_inside(images: Any, out: str | os.PathLike[str] | None) -> None:
    """Refuse to write among the images: the next call would find embeddings there."""
    given = images if isinstance(images, (list, tuple)) else [images]
    folders = [os.path.abspath(item) for item in given if isinstance(item, (str, os.PathLike))]  # noqa: PTH100
    if out is not None and any(Path(os.path.abspath(out)).is_relative_to(folder) for folder in folders):  # noqa: PTH100
        raise DataError(f"out={Path(out).name!r} lies among the images: choose a folder outside of them.")


def _first_batch(batch_size: int | str, begun: Mapping[str, Any], encoder: Encoder) -> int:
    """Return the images per batch; a run that goes on uses the batches of the one before, and so gives its bits."""
    if isinstance(batch_size, int):
        return batch_size
    return int(begun.get("batch_size", BATCH.get(encoder.device.type, BATCH_ELSEWHERE)))


def _replicas(
    encoder: str | EncoderSpec | Encoder, device: Device | Sequence[Device] | None, **options: Any
) -> list[Encoder]:
    """Return one encoder per device."""
    places: list[Any] = list(device) if isinstance(device, (list, tuple)) else [device]
    if not places:
        raise DataError("device=[] names no device: leave it out, or name one.")
    if isinstance(encoder, Encoder):
        if places != [None] or any(options.values()):
            raise DataError(
                f"{encoder.name!r} is loaded already: give device, precision, compile and weights to load_encoder, or "
                "pass its name or spec here."
            )
        return [encoder]
    loaded = [load_encoder(_copy(encoder, i), device=place, **options) for i, place in enumerate(places)]
    if len({(each.precision, each.dimension, each.device.type) for each in loaded}) > 1:
        raise DataError("the devices are of different kinds, and their numbers would differ: name devices of one kind.")
    return loaded


def _copy(encoder: Any, i: int) -> Any:
    """Return a spec of which the network can go to another device than the first's."""
    import torch

    if i == 0 or not isinstance(encoder, EncoderSpec) or isinstance(encoder.loader, str):
        return encoder
    if not isinstance(encoder.loader, torch.nn.Module):
        raise DataError(f"{encoder.name!r} is a function, which stays where it is: name one device, or pass a module.")
    return replace(encoder, loader=copy.deepcopy(encoder.loader))


def _identity(source: ImageSource, table: pd.DataFrame, encoder: Encoder, *, digests: bool) -> dict[str, Any]:
    """Return what must be the same for two runs to be one."""
    record = {key: value for key, value in encoder.record().items() if key not in ("versions", "device")}
    if not digests:
        return {"encoder": record}
    if record.get("function"):  # its weights cannot be looked at
        record["answer"] = answer(encoder)
    return {"encoder": record, "images": source.fingerprint(), "table": table_digest(table)}


def _run(encoders: list[Encoder]) -> dict[str, Any]:
    """Return what may differ between runs, and is written down."""
    import torch

    names = [
        torch.cuda.get_device_name(each.device) if each.device.type == "cuda" else str(each.device) for each in encoders
    ]
    return {"versions": encoders[0].record()["versions"], "causalfm": __version__, "devices": names}
