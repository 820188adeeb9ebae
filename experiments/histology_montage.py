"""The pictures of the card: the same tissue everywhere, the growth patterns, the artefacts.

``python -m experiments.histology_montage [--out docs/images]``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from causalfm.datasets import histology as h

SIZE, SHOWN, GAP, LABEL = 224, 160, 4, 16
CUT = slice((SIZE - SHOWN) // 2, (SIZE + SHOWN) // 2)  # the middle at full resolution


def traits(seed: int) -> h.Traits:
    """Return the traits of an invented patient."""
    return h.sample_traits(np.random.default_rng(seed))


def sheet(rows: Sequence[Sequence[np.ndarray]], row_names: Sequence[str], column_names: Sequence[str]) -> Image.Image:
    """Lay out tiles in a labelled grid, each shown ``SHOWN`` px wide."""
    step, left = SHOWN + GAP, 92
    page = Image.new("RGB", (left + step * len(column_names), LABEL + step * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for j, name in enumerate(column_names):
        draw.text((left + j * step + 2, 2), name, fill="black")
    for i, (row, name) in enumerate(zip(rows, row_names, strict=True)):
        draw.text((2, LABEL + i * step + SHOWN // 2 - 6), name, fill="black")
        for j, tile in enumerate(row):
            page.paste(Image.fromarray(tile).resize((SHOWN, SHOWN)), (left + j * step, LABEL + i * step))
    return page


def same_tissue() -> Image.Image:
    """Show one tissue under every scanner (rows) and every hospital with its own stain (columns)."""
    scene = h.make_scene("glandular", traits(9), 9, size=SIZE)
    rows = [
        [h.render(scene, where.stain, 0, scanner=scanner, site=site)[CUT, CUT] for site, where in h.SITES.items()]
        for scanner in h.SCANNERS
    ]
    return sheet(rows, list(h.SCANNERS), [f"{site}, {where.stain}" for site, where in h.SITES.items()])


def patterns() -> Image.Image:
    """Show the growth patterns (rows) in five patients (columns)."""
    people = range(20, 25)
    rows = [
        [h.render(h.make_scene(tissue, traits(p), p, size=SIZE), "HE-1", 0) for p in people] for tissue in h.TISSUES
    ]
    return sheet(rows, h.TISSUES, [f"patient {p}" for p in people])


def artefacts() -> Image.Image:
    """Show every artefact (columns) with two seeds (rows) on one tissue."""
    scene = h.make_scene("solid", traits(3), 3, size=SIZE)
    rows = [[h.render(scene, "HE-1", 0, artefacts=[(kind, seed)]) for kind in h.ARTEFACTS] for seed in (1, 2)]
    return sheet(rows, ["seed 1", "seed 2"], list(h.ARTEFACTS))


def main(arguments: list[str] | None = None) -> None:
    """Write ``histology_same_tissue.png``, ``histology_patterns.png`` and ``histology_artefacts.png``."""
    parser = argparse.ArgumentParser(description="Pictures of the rendered tissue.")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args(arguments).out
    for make in (same_tissue, patterns, artefacts):
        picture = make().quantize(256, dither=Image.Dither.NONE)  # a third of the size
        picture.save(out / f"histology_{make.__name__}.png", optimize=True)


if __name__ == "__main__":
    main()
