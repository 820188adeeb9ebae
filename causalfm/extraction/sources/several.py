"""Several sources, one after the other: shards, or the parts of a list."""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Self

import pandas as pd

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.protocol import ImageSource, Source, part_of

if TYPE_CHECKING:
    from PIL import Image


class SeveralSources(Source):
    """The images of the first part, then of the second, and so on.

    Where names repeat between parts, all names get the name of their part in front.
    """

    kind = "several"

    def __init__(self, parts: Sequence[ImageSource], labels: Sequence[str], rules: Decoding) -> None:
        names = [name for part in parts for name in part.names]
        if len(set(names)) < len(names):
            if len(set(labels)) < len(labels):
                raise DataError(
                    "images of the same name lie in parts of the same name, so that nothing tells them apart: rename "
                    "the parts, or is one given twice?"
                )
            names = [f"{label}/{name}" for part, label in zip(parts, labels, strict=True) for name in part.names]
        infos = [getattr(part, "info", {}) for part in parts]
        counts: Counter[str] = Counter()
        for info in infos:
            counts.update({key: value for key, value in info.items() if isinstance(value, int)})
        kinds = sorted({str(info.get("kind", "images")) for info in infos})
        super().__init__(names, rules, _table(parts, names), {"parts": len(parts), "kinds": kinds, **counts})
        self.parts = tuple(parts)
        self.piecewise = all(getattr(part, "piecewise", False) for part in parts)
        self.starts = [0, *accumulate(len(part) for part in parts)]

    def read(self, i: int) -> Image.Image:
        """Return image ``i`` in RGB, 8 bits; an ImageError counts rows over all parts."""
        if not 0 <= i - self.first < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        part = bisect_right(self.starts, i) - 1
        try:
            return self.parts[part].read(i - self.starts[part])
        except ImageError as error:
            message = f"the image of row {i} cannot be used: {error.cause}"
            raise ImageError(message, row=i, cause=error.cause) from None

    def part(self, rows: range) -> Self:
        """Return some images: what is needed of the parts that hold them."""
        other = copy.copy(self)
        other.first, other.names, other.obs = (
            rows.start,
            self.names[rows.start - self.first : rows.stop - self.first],
            None,
        )
        needed = range(bisect_right(self.starts, rows.start) - 1, bisect_left(self.starts, rows.stop))
        other.starts = [self.starts[p] for p in (*needed, needed.stop)]
        other.parts = tuple(
            part_of(
                self.parts[p],
                range(
                    max(rows.start, self.starts[p]) - self.starts[p],
                    min(rows.stop, self.starts[p + 1]) - self.starts[p],
                ),
            )
            for p in needed
        )
        return other

    def close(self) -> None:
        """Close every part."""
        for part in self.parts:
            part.close()

    def _identity(self) -> Iterator[str]:
        for part in self.parts:
            yield part.fingerprint()


def _table(parts: Sequence[ImageSource], names: Sequence[str]) -> pd.DataFrame | None:
    tables = [part.obs for part in parts if part.obs is not None]
    if len(tables) < len(parts):
        return None
    frame = pd.concat(tables, ignore_index=True)
    if "image" in frame and len(set(frame["image"])) < len(frame):
        frame["image"] = pd.Series(names, dtype=object)
    return frame
