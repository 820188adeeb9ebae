"""``causalfm extract``: images to embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from causalfm.command_options import check_folder, live, split

INTERRUPTED = 130


def extract(
    images: Annotated[
        list[Path],
        typer.Argument(help="Folder, zip, tar, manifest, patches, slide; several of one kind one after the other."),
    ],
    encoder: Annotated[str, typer.Option(help="Name of the encoder; causalfm doctor lists them.")],
    out: Annotated[Path, typer.Option(help="Folder for the embeddings; an extraction that stopped goes on there.")],
    obs: Annotated[Path | None, typer.Option(help="Table of the images, joined by name: .csv or .parquet.")] = None,
    batch_size: Annotated[str, typer.Option(help="Images per forward pass, or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images; 0: none beside this one.")] = 0,
    device: Annotated[str, typer.Option(help="Torch devices, separated by commas; default: the GPU, if any.")] = "",
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16; default: the publishers'.")] = None,
    weights: Annotated[str | None, typer.Option(help="File or folder of weights; default: the hub's cache.")] = None,
    on_error: Annotated[str, typer.Option(help="Unreadable images: raise, or record in errors.csv.")] = "raise",
    format: Annotated[str | None, typer.Option(help="npy (one matrix), or shards: parquet, h5ad, zarr.")] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask cluster: local, local:N (processes on this machine), or the address tcp://host:port."),
    ] = None,
    workers_per_gpu: Annotated[
        int, typer.Option(min=1, help="With --scheduler local: processes that share a GPU.")
    ] = 1,
    retries: Annotated[int, typer.Option(min=0, help="On a cluster: further tries of a shard that fails.")] = 2,
    resume: Annotated[bool, typer.Option(help="Go on in a folder that holds a part of it.")] = True,
) -> None:
    """Embed images with a foundation model. Exit code 0: done, 2: bad input, 130: stopped with Ctrl-C."""
    import causalfm

    check_folder(out)
    if batch_size != "auto" and not batch_size.isdecimal():
        raise typer.BadParameter("--batch-size is a number or auto.")
    options: dict[str, Any] = {
        "precision": precision,
        "weights": weights,
        "on_error": on_error,
        "format": format,
        "device": split(device) or None,
        "batch_size": batch_size if batch_size == "auto" else int(batch_size),
        "scheduler": scheduler,
        "workers_per_gpu": workers_per_gpu,
        "retries": retries,
    }
    try:
        with live() as progress:
            cohort = causalfm.extract(
                images if len(images) > 1 else images[0],
                encoder,
                obs=obs,
                out=out,
                resume=resume,
                workers=workers,
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        typer.echo("causalfm: stopped. What is finished is kept: the same command goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{len(cohort)} images x {cohort.d} dimensions, {encoder}: {out.resolve()}")
    if lost := cohort.info["images_unreadable"]:
        typer.echo(f"{lost} of {cohort.info['images']} images cannot be used and are left out: {out / 'errors.csv'}")
