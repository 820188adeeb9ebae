"""Get what was written onto the disk: until then a power cut can undo it, renames included."""

from __future__ import annotations

import os
from pathlib import Path


def settle(path: Path) -> None:
    """Flush a file, or every file and folder below a folder."""
    if path.is_dir():
        for inner in path.iterdir():
            settle(inner)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_name(path: Path) -> None:
    """Flush the folder that holds the name of ``path``: a rename is not durable before."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
