"""Which files are images, which are passed over and counted, and which names are refused."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from causalfm.errors import DataError
from causalfm.formats.slide_tables import file_positions

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
# Passing these over would lose rows in silence
OTHER_IMAGES = (
    *(".gif", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".svg", ".eps", ".ps", ".pdf", ".ppm", ".pgm"),
    *(".dcm", ".dicom", ".nii", ".npy", ".psd", ".ico", ".tga", ".exr", ".jxl"),
)
SLIDES = (".svs", ".ndpi", ".scn", ".bif", ".mrxs", ".vms", ".vmu")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
SYSTEM = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin")


def ending(name: str) -> str:
    """Return the last ending of a name, in lower case."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Whether a path below the source has a hidden or a system part."""
    return any(part.startswith(".") or part.lower() in SYSTEM for part in PurePosixPath(name).parts)


def chosen(names: Sequence[str], where: str, beside: Sequence[str] = ()) -> tuple[list[int], dict[str, int]]:
    """Choose the images among the files of a folder or archive.

    Parameters
    ----------
    names
        Paths below the folder, in the order of the archive (of a folder: sorted).
    where
        What to call it in messages.
    beside
        Further endings that the source reads itself.

    Returns
    -------
    tuple
        Positions of the images, sorted by name, and counts of what was passed over.

    Raises
    ------
    DataError
        No images; images of other formats, slides or archives among them; names that are no UTF-8.
    """
    shown = [i for i, name in enumerate(names) if not is_hidden(name)]
    for endings, what, way_out in _REFUSED:
        found = [i for i in shown if ending(names[i]) in endings and ending(names[i]) not in beside]
        if found:
            kinds = ", ".join(sorted({ending(names[i]) for i in found}))
            raise DataError(f"{where} holds {len(found)} {what} ({kinds}; {file_positions(found)}): {way_out}.")
    images = sorted((i for i in shown if ending(names[i]) in IMAGES), key=lambda i: names[i])
    if not images:
        raise DataError(f"{where} holds no images: none of its {len(names)} files ends in {', '.join(IMAGES)}.")
    refuse_odd_text([names[i] for i in images], where, images)
    others = Counter(ending(names[i]) in beside for i in shown if ending(names[i]) not in IMAGES)
    counts = {"hidden_files": len(names) - len(shown), "files_not_images": others[False]}
    return images, {what: count for what, count in counts.items() if count}


_CONVERT = "convert them to PNG or JPEG, take them out, or list the images you want in a manifest"
_REFUSED = (
    (OTHER_IMAGES, "files in image formats that are not read", _CONVERT),
    (SLIDES, "whole slides", "pass tiles= to cut them, or take them out"),
    (ARCHIVES, "archives", "archives inside are not opened: pass them as a list, or unpack them"),
)


def refuse_odd_text(names: Sequence[str], where: str, places: Sequence[int] | None = None) -> None:
    """Refuse names that no table can hold.

    Raises
    ------
    DataError
        Names that are no UTF-8, or with control characters.
    """
    odd = [i for i, name in enumerate(names) if not _is_text(name)]
    if odd:
        found = [places[i] for i in odd] if places is not None else odd
        raise DataError(
            f"{where} holds {len(odd)} names that are no UTF-8 text or have control characters "
            f"({file_positions(found)}): rename these files."
        )


def _is_text(name: str) -> bool:
    return (name.isascii() and name.isprintable()) or not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
