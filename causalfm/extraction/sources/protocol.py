"""What the extraction asks of images, and what all sources share: errors by row, obs, fingerprints."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import pandas as pd

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources.decoding import Decoding, UnreadableError

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class ImageSource(Protocol):
    """Images in a fixed order. Pickles into workers; files are opened on first use in each process."""

    @property
    def names(self) -> Sequence[str]:
        """Unique names; their order is the order of the rows."""

    @property
    def obs(self) -> pd.DataFrame | None:
        """One row per image, or None where the source knows nothing of them."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, i: int) -> Image.Image:
        """Return image ``i`` in RGB, 8 bits; an ImageError names the row and the cause."""

    def fingerprint(self) -> str:
        """Return a digest that changes when the images are exchanged, without reading them all."""

    def close(self) -> None:
        """Give files back; reading again opens them again."""


class Source:
    """Base of the sources: subclasses say how one image is read and what identifies them all.

    Attributes
    ----------
    kind
        For instance ``"zip"``.
    names, obs
        See :class:`ImageSource`.
    info
        What was found beside the images (counts of what was passed over), JSON-able.
    rules
        How pixels are read (:class:`Decoding`).
    first
        Number of the first image: 0, but in a :meth:`part`.
    piecewise
        Whether the fingerprint of a part stays when images outside of it are exchanged.
    """

    kind = "images"
    first = 0
    piecewise = False

    def __init__(
        self,
        names: Sequence[str],
        rules: Decoding,
        obs: pd.DataFrame | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = names
        self.rules = rules
        self.obs = obs
        self.info: dict[str, Any] = {"kind": self.kind, **(info or {})}

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<{len(self)} images: {self.kind}>"  # names can be patients

    def read(self, i: int) -> Image.Image:
        """Return image ``i`` in RGB, 8 bits.

        Raises
        ------
        ImageError
            Damaged, truncated, too large, of an unknown or ambiguous format; names the row and the cause.
        DataError
            The source itself cannot be read: a lost disk, an archive that has changed, no memory.
        """
        if not 0 <= i - self.first < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        try:
            return self._read(int(i) - self.first)
        except UnreadableError as error:
            cause = str(error)
            raise ImageError(f"the image of row {i} cannot be used: {cause}", row=i, cause=cause) from None
        except MemoryError:
            raise DataError(f"there is not enough memory for the image of row {i}: use fewer workers.") from None
        except OSError as error:  # a lost disk is no fault of one image: it must not read as thousands of bad images
            raise DataError(
                f"the images cannot be read any more ({error.strerror or type(error).__name__}, at row {i}): is the "
                "disk still there?"
            ) from None

    def fingerprint(self) -> str:
        """Return a digest of the names, of what identifies their content, and of the rules for reading."""
        digest = hashlib.sha256(json.dumps([self.kind, self.rules.record()]).encode())
        for part in (*self.names, *self._identity()):
            digest.update(b"%d:" % len(encoded := part.encode("utf-8", "surrogatepass")) + encoded)
        return digest.hexdigest()

    def close(self) -> None:
        """Give files back; reading again opens them again."""

    def described(self, obs: pd.DataFrame | None) -> Self:
        """Return the same images with another table, rows in order."""
        if obs is not None and len(obs) != len(self):
            raise DataError(f"the table has {len(obs)} rows and there are {len(self)} images.")
        other = copy.copy(self)
        other.obs = obs
        return other

    def part(self, rows: range) -> Self:
        """Return some images, without the others and the table. They keep their numbers: ``read(i)`` for i in rows."""
        other = copy.copy(self)
        kept = slice(rows.start - self.first, rows.stop - self.first)
        other.first, other.names, other.obs = rows.start, self.names[kept], None
        other._cut(kept)
        return other

    def _cut(self, kept: slice) -> None:
        """Keep what reads the images of a slice; they are read as 0, 1, ... from then on."""
        raise NotImplementedError

    def _read(self, i: int) -> Image.Image:
        raise NotImplementedError

    def _identity(self) -> Iterable[str]:
        """Yield what tells these images from others of the same names."""
        raise NotImplementedError


class Described(Source):
    """A source of somebody else's under a table of the user's."""

    kind = "described"

    def __init__(self, source: ImageSource, obs: pd.DataFrame) -> None:
        super().__init__(source.names, Decoding(), obs, getattr(source, "info", {}))
        self.source = source
        self.piecewise = getattr(source, "piecewise", False)

    def read(self, i: int) -> Image.Image:
        """Return image ``i`` as the source gives it."""
        return self.source.read(i)

    def part(self, rows: range) -> Self:
        """Return some images of the source."""
        other = copy.copy(self)
        other.source, other.first, other.obs = part_of(self.source, rows), rows.start, None
        other.names = self.names[rows.start - self.first : rows.stop - self.first]
        return other

    def fingerprint(self) -> str:
        """Return the source's own."""
        return self.source.fingerprint()

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def part_of(source: ImageSource, rows: range) -> ImageSource:
    """Return what reads the images of some rows under their numbers: no more than them, if the source can be cut."""
    return source.part(rows) if isinstance(source, Source) else source
