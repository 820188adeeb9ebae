"""From images to a cohort: any source, any encoder, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.extraction.encoders import Encoder, EncoderSpec
from causalfm.extraction.folder_lock import locked
from causalfm.extraction.forward import BATCH, BATCH_ELSEWHERE, check_batches
from causalfm.extraction.here import Here, replicas
from causalfm.extraction.loading import told_of_workers
from causalfm.extraction.on_cluster import Cluster, cluster, recipe_of
from causalfm.extraction.output import FolderOutput, MemoryOutput, Output, header_of, prepared, table_digest
from causalfm.extraction.pace import Pace
from causalfm.extraction.shards import Job, refuse, used
from causalfm.extraction.sources import open_images
from causalfm.extraction.staging import discard, read_shard, waiting
from causalfm.formats.extractions import PART_SUFFIX, is_extraction, read_journal

if TYPE_CHECKING:
    import torch
    from distributed import Client

    Device = str | torch.device

SHARD_ROWS = 2048


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
    scheduler: str | Client | None = None,
    workers_per_gpu: int = 1,
    retries: int = 2,
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
    scheduler
        A Dask cluster that makes the shards, each a task: ``"local"`` or ``"local:N"`` (processes on this machine, one
        per GPU or core), ``"tcp://host:port"``, or a ``distributed.Client``. Needs ``out`` on a file system that all
        workers see. Workers with a GPU declare the resource ``GPU=1``. The bytes are those of this process alone, on
        machines and with numbers of threads that round alike. None: this process.
    workers_per_gpu
        Processes that share a GPU under ``scheduler="local"``; each reads images and holds the encoder.
    retries
        On a cluster: how often a shard that fails is tried again, on another worker if there is one.
    progress
        Called with (what is being done with rate and time left, images done, images in all).

    Returns
    -------
    Cohort
        Float32, rows in the order of the source; ``info`` says how they were made. With ``out`` it is what
        ``causalfm.read(out)`` gives.

    Raises
    ------
    ShardError
        Shards that could not be made on a cluster, with reasons and row positions; all others are kept.
    DataError
        Images that cannot be read (row positions), embeddings that are not finite, a folder in use or of another
        extraction, a full disk, too little memory, impossible arguments.
    MissingDependencyError
        A package or the weights are not here.
    """
    _check(batch_size, workers, on_error, format, shard_rows)
    _check_cluster(scheduler, out, workers, workers_per_gpu, retries)
    source = open_images(images) if obs is None else open_images(images, obs=obs)
    table = pd.DataFrame({"image": source.names}) if source.obs is None else source.obs
    Cohort(np.zeros((len(source), 1), dtype=np.float32), table)  # what it refuses must not come out after hours
    _refuse_inside(images, out)
    options: dict[str, Any] = {"precision": precision, "compile": compile, "weights": weights}
    folder = None if out is None else prepared(out, resume=resume)
    with nullcontext() if folder is None else locked(folder), ExitStack() as opened:
        if folder is not None:
            prepared(folder, resume=resume)  # somebody else may have been first
        opened.callback(source.close)
        making: Here | Cluster
        if scheduler is None:
            making = Here(replicas(encoder, device, **options), workers, digests=folder is not None)
        else:
            recipe, how = recipe_of(encoder, **options), {"workers_per_gpu": workers_per_gpu, "retries": retries}
            making = opened.enter_context(cluster(scheduler, recipe, device, **how))
        begun = read_journal(folder).header if folder is not None and is_extraction(folder) else {}
        start = _first_batch(batch_size, begun, making.facts.device)
        fingerprint = None if folder is None else source.fingerprint()
        header = header_of(
            format or begun.get("format", "npy"),
            len(source),
            making.facts.dimension,
            shard_rows or begun.get("shard_rows", SHARD_ROWS),
            start,
            {"encoder": making.facts.record}
            | ({} if folder is None else {"images": fingerprint, "table": table_digest(table)}),
        )
        job = Job(source, header, fingerprint, on_error, start, batch_size == "auto")
        output: Output = MemoryOutput(header)
        if folder is not None:
            output = FolderOutput(folder, job, making.facts.run, table)
        job = replace(job, header=output.journal.header, batch_size=min([start, *output.batch_sizes()]))
        return _embed(job, table, making, output, folder, Pace(progress, len(source)))


def _embed(
    job: Job, table: pd.DataFrame, making: Here | Cluster, output: Output, folder: Path | None, pace: Pace
) -> Cohort:
    """Make the shards that are not there yet, and put them in their places."""
    todo = output.todo()
    there = set() if folder is None else waiting(folder, todo, job)
    rest = [k for k in todo if k not in there]
    pace.start(len(table) - sum(len(job.rows(k)) for k in rest))
    if job.on_error == "raise":
        refuse([error for error in output.journal.errors if error[0] // job.header["shard_rows"] not in set(todo)])
    with told_of_workers(), closing(making.shards(job, rest, folder, pace)) as made:
        for k in todo:
            shard = read_shard(folder, k, job) if folder is not None and k in there else next(made)
            if shard is None:
                raise DataError(f"shard {k} was lost while it waited for its place: the same call makes it again.")
            output.put(shard, table.iloc[used(shard.rows, shard.errors)])
            if folder is not None:
                discard(folder, k)
    if todo and job.fingerprint not in (None, job.source.fingerprint()):
        raise DataError(
            "the images were changed while they were embedded, so that some rows are of the old ones and some of the "
            "new: leave them alone, and begin again in an empty folder."
        )
    kept = used(range(len(table)), output.journal.errors)
    if not len(kept):
        raise DataError(f"none of the {len(table)} images can be used: {output.journal.errors[0][1]}.")
    return output.finish(table if len(kept) == len(table) else table.iloc[kept])


def _check(batch_size: Any, workers: int, on_error: str, format: str | None, shard_rows: int | None) -> None:
    check_batches(batch_size, workers)
    if on_error not in ("raise", "record"):
        raise DataError(f"on_error={on_error!r}: choose 'raise' or 'record'.")
    if format not in (None, "npy", *PART_SUFFIX):
        raise DataError(f"format={format!r}: choose 'npy', {', '.join(map(repr, PART_SUFFIX))}.")
    if shard_rows is not None and (not isinstance(shard_rows, int) or shard_rows < 1):
        raise DataError(f"shard_rows={shard_rows!r}: a whole number, at least one image is in a shard.")


def _check_cluster(scheduler: Any, out: Any, workers: int, workers_per_gpu: int, retries: int) -> None:
    if not isinstance(workers_per_gpu, int) or workers_per_gpu < 1 or not isinstance(retries, int) or retries < 0:
        raise DataError(f"workers_per_gpu={workers_per_gpu!r}, retries={retries!r}: pass numbers, at least 1 and 0.")
    if scheduler is None:
        if workers_per_gpu > 1:
            raise DataError("workers_per_gpu= belongs to scheduler='local': in this process, workers= read images.")
        return
    if out is None:
        raise DataError("scheduler= needs out=: a folder that all workers see; the cohort is a memory map of it.")
    if workers:
        raise DataError(
            "workers= are readers beside this process: on a cluster, every worker reads its own images. Start more of "
            "them; on GPUs of this machine with workers_per_gpu=."
        )


def _refuse_inside(images: Any, out: str | os.PathLike[str] | None) -> None:
    """Refuse to write among the images: the next call would find embeddings there."""
    given = images if isinstance(images, (list, tuple)) else [images]
    folders = [os.path.abspath(item) for item in given if isinstance(item, (str, os.PathLike))]  # noqa: PTH100
    if out is not None and any(Path(os.path.abspath(out)).is_relative_to(folder) for folder in folders):  # noqa: PTH100
        raise DataError(f"out={Path(out).name!r} lies among the images: choose a folder outside of them.")


def _first_batch(batch_size: int | str, begun: Mapping[str, Any], device: str) -> int:
    """Return the images per batch; a run that goes on uses the batches of the one before, and so gives its bits."""
    if isinstance(batch_size, int):
        return batch_size
    return int(begun.get("batch_size", BATCH.get(device, BATCH_ELSEWHERE)))
