"""Names of files that somebody else chose: in an archive, or in the listing of a server. Imports nothing."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath


def leaves(name: str) -> bool:
    """Tell whether a name leads out of the folder it is put into: absolute, ``..``, a drive, a zero byte."""
    windows = PureWindowsPath(name)
    parts = (*PurePosixPath(name).parts, *windows.parts)
    return name.startswith(("/", "\\")) or bool(windows.drive) or ".." in parts or "\0" in name
