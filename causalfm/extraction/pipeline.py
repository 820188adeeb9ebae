"""From images to a cohort: any source, any encoder, resumable."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder
from causalfm.extraction.folder_lock import locked
from causalfm.extraction.forward import BatchSize, embed_batches
from causalfm.extraction.loading import read_batches
from causalfm.extraction.output import FolderOutput, MemoryOutput, header_of, prepared, table_digest
from causalfm.extraction.pace import Pace
from causalfm.extraction.sources import ImageSource, open_images
from causalfm.formats.extractions import PART_SUFFIX, is_extraction, read_journal

if TYPE_CHECKING:
    import torch

    Device = str | torch.device

SHARD_ROWS = 2048
BATCH = {"cuda": 256}  # where halving begins
BATCH_ELSEWHERE = 64


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
    folder = None if out is None else prepared(out, resume=resume)
    with nullcontext() if folder is None else locked(folder):
        if folder is not None:
            prepared(folder, resume=resume)  # somebody else may have been first
        source = open_images(images) if obs is None else open_images(images, obs=obs)
        table = pd.DataFrame({"image": source.names}) if source.obs is None else source.obs
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
        try:
            if folder is None:
                return _embed(source, table, encoders, MemoryOutput(header), batch_size, workers, on_error, progress)
            output = FolderOutput(folder, header, _run(encoders), table)
            return _embed(source, table, encoders, output, batch_size, workers, on_error, progress)
        except OSError as error:
            if folder is None:
                raise
            raise _unwritten(folder, error.strerror or type(error).__name__) from error
        finally:
            source.close()
