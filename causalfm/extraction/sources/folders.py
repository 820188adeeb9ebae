"""Images as files: a folder, or paths that a manifest lists."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.decoding import Decoding, UnreadableError, decode
from causalfm.extraction.sources.file_names import chosen
from causalfm.extraction.sources.protocol import Source
from causalfm.formats.slide_tables import file_positions

if TYPE_CHECKING:
    from PIL import Image


class FileSource(Source):
    """One file per image."""

    kind = "files"
    piecewise = True

    def __init__(
        self,
        paths: Sequence[str],
        names: Sequence[str],
        rules: Decoding,
        obs: pd.DataFrame | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(names, rules, obs, info)
        self.paths = paths

    def _cut(self, kept: slice) -> None:
        self.paths = self.paths[kept]

    def _read(self, i: int) -> Image.Image:
        try:
            with open(self.paths[i], "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs as much as the read)
                content = file.read(min(os.fstat(file.fileno()).st_size, self.rules.max_bytes) + 1)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:  # other faults are not this image's
            raise UnreadableError(f"the file cannot be read ({error.strerror})") from None
        if len(content) > self.rules.max_bytes:
            raise UnreadableError(f"the file has more than max_bytes={self.rules.max_bytes}: raise it")
        return decode(content, self.rules)

    def _identity(self) -> Iterator[str]:
        for path in self.paths:
            try:
                facts = Path(path).stat()
            except OSError:
                yield "gone"
            else:
                yield f"{facts.st_size} {facts.st_mtime_ns}"


def open_folder(folder: Path, rules: Decoding) -> FileSource:
    """Open the images of a folder and the folders in it, sorted by path.

    Parameters
    ----------
    folder
        Links to files are read; links to folders are refused (they can be loops, or lead to images twice).
    rules
        How pixels are read.

    Raises
    ------
    DataError
        No images, links to folders, links that lead nowhere, folders that cannot be listed, and what
        :func:`causalfm.extraction.sources.file_names.chosen` refuses.
    """
    where = f"the folder {folder.name!r}"
    names, linked = _walk(folder, where)
    if linked:
        raise DataError(
            f"{where} holds {linked} links to folders, which are not followed (a loop would not end, and images could "
            "come twice): pass the folders that they lead to as a list, or a manifest."
        )
    images, info = chosen(names, where)
    broken = [i for i in images if not (folder / names[i]).is_file()]
    if broken:
        raise DataError(
            f"{where} holds {len(broken)} links that lead nowhere, or devices ({file_positions(broken)} in the order "
            "of their paths): mend or remove them."
        )
    kept = [names[i] for i in images]
    obs = pd.DataFrame({"image": pd.Series(kept, dtype=object)})
    root = folder.absolute()
    return FileSource([str(root / name) for name in kept], kept, rules, obs, {**info, "kind": "folder"})


def _walk(folder: Path, where: str) -> tuple[list[str], int]:
    """Return the paths of all files below, sorted, and the number of linked folders."""
    names: list[str] = []
    linked = 0

    def stop(error: OSError) -> None:
        raise DataError(f"{where}: a folder in it cannot be listed ({error.strerror}): check the permissions.")

    for root, folders, files in os.walk(folder, onerror=stop):
        below = os.path.relpath(root, folder)
        prefix = "" if below == "." else f"{below}/"
        linked += sum((Path(root) / name).is_symlink() for name in folders if not name.startswith("."))
        names.extend(prefix + name for name in files)
    return sorted(names), linked
