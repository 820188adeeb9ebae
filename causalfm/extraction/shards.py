"""Shards: the images between two safe points. What makes one, in whatever process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.extraction.forward import BatchSize, embed_batches
from causalfm.extraction.loading import PixelBatch, read_batches
from causalfm.extraction.sources import ImageSource
from causalfm.extraction.sources.protocol import part_of

if TYPE_CHECKING:
    from causalfm.extraction.encoders import Encoder

Errors = Sequence[tuple[int, str]]
MANY = 64  # so many images that fail together are no damaged images


@dataclass(frozen=True, eq=False)
class Shard:
    """Embeddings of consecutive images.

    Attributes
    ----------
    number, rows
        Which shard, and the rows of the source that it stands for.
    X
        ``(m, d)`` float32, the images that could be used.
    errors
        ``(row, cause)`` of the others.
    batch_size
        Images per forward pass that fitted into memory at its end.
    images
        Digest of its images; None where nothing is kept.
    """

    number: int
    rows: range
    X: np.ndarray
    errors: Errors
    batch_size: int
    images: str | None


@dataclass(frozen=True, eq=False)
class Job:
    """What is asked for.

    Attributes
    ----------
    source
        The images, or those of one shard under their numbers.
    header
        First line of the journal.
    fingerprint
        Of all images; None: nothing is kept.
    on_error, batch_size
        As in ``extract``.
    """

    source: ImageSource
    header: Mapping[str, Any]
    fingerprint: str | None
    on_error: str
    batch_size: int
    may_shrink: bool

    def rows(self, number: int) -> range:
        """Return the rows of a shard."""
        step = self.header["shard_rows"]
        return range(number * step, min((number + 1) * step, self.header["rows"]))

    def images(self, number: int) -> str | None:
        """Return a digest of the images of a shard, or of all where they cannot be told apart."""
        if self.fingerprint is None or not getattr(self.source, "piecewise", False):
            return self.fingerprint
        return part_of(self.source, self.rows(number)).fingerprint()


def embedded(
    job: Job,
    encoders: Sequence[Encoder],
    numbers: Sequence[int],
    workers: int,
    seen: Callable[[PixelBatch], None] | None = None,
) -> Generator[Shard]:
    """Yield shards in the order of ``numbers``, reading ahead over their borders.

    Parameters
    ----------
    job, encoders, workers
        Images, replicas of the encoder, and processes that read.
    numbers
        Which shards. Batches begin anew at each, so that its bits do not depend on the others.
    seen
        Called with each batch.

    Raises
    ------
    DataError
        None of many images can be used; what :func:`embed_batches` and :func:`read_batches` raise.
    """
    step, size = job.header["batch_size"], BatchSize(job.batch_size, may_shrink=job.may_shrink)
    plan = [rows[i : i + step] for rows in map(job.rows, numbers) for i in range(0, len(rows), step)]
    stream = embed_batches(encoders, read_batches(job.source, encoders[0].transform, plan, workers), size)
    for k in numbers:
        rows, images = job.rows(k), job.images(k)
        parts: list[np.ndarray] = []
        errors: list[tuple[int, str]] = []
        done = 0
        while done < len(rows):
            batch, X = next(stream)
            if seen is not None:
                seen(batch)
            parts.append(X)
            errors += batch.errors
            done += len(batch.rows)
        if len(errors) == len(rows) >= MANY:
            raise DataError(
                f"none of the images in rows {rows.start} to {rows.stop - 1} can be used ({errors[0][1]}): are the "
                "disk and the files still there? The same call goes on from here; or leave these images out."
            )
        yield Shard(k, rows, np.concatenate(parts), errors, size.value, images)


def used(rows: range, errors: Errors) -> np.ndarray:
    """Return the rows that could be used."""
    return np.setdiff1d(np.arange(rows.start, rows.stop), [row for row, _ in errors], assume_unique=True)


def refuse(errors: Errors) -> None:
    """Raise a DataError that names the rows, if there are any."""
    if errors:
        raise DataError(
            f"{len(errors)} images cannot be used ({positions([row for row, _ in errors])}): {errors[0][1]}. Repair or "
            "leave them out, or pass on_error='record', which lists them and goes on. What was embedded before and "
            "written to out= is kept."
        )
