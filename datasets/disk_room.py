"""Room on the disk, looked at before it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from causalfm.errors import DataError

RESERVE = 2**28  # bytes that stay free


def refuse_full_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    DataError
        With the bytes that are needed and free.
    """
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise DataError(
            f"{what} needs {in_words(needed)} and the disk has {in_words(free)} free, of which {in_words(RESERVE)} "
            "stay "
            "free: choose another folder, or ask for fewer parts."
        )


def in_words(size: int) -> str:
    """Write a number of bytes as people read it."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, (len(str(max(size, 1))) - 1) // 3)
    return f"{size / 1000**power:.3g} {units[power]}"
