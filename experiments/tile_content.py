"""Hits and false alarms of the detector of glass and pen, on rendered artefacts and on real tiles.

``python -m experiments.tile_content [--tiles 48] [--data FOLDER] [--out docs/tile_content.md]``

Thresholds were chosen on other tiles (random_state 0); these are random_state 1, under every stain and scanner.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from causalfm.augment import tile_content
from causalfm.augment.optical_density import optical_density
from causalfm.augment.tile_content import PADDING, PEN, least_channel
from causalfm.datasets import histology
from experiments.stain_swap import tiles_of

SEED = 1
ARTEFACTS = ("", "fold", "bubble", "dust", "defocus", "pen")


def rendered(n: int, artefact: str, stain: str, scanner: str) -> torch.Tensor:
    """Return ``(n, 3, 128, 128)`` tiles of as many patients."""
    obs = histology.cohort_table(max(n, 8), 1, 0.0, SEED).iloc[:n]
    obs = obs.assign(artefact=artefact, stain=stain, scanner=scanner)
    images = histology.render_cohort(obs, random_state=SEED, size=128, n_jobs=1)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def counts(tiles: torch.Tensor) -> list[int]:
    """Return how many are called tissue, glass, pen."""
    return torch.bincount(tile_content(tiles), minlength=3).tolist()


def upper(k: int, n: int) -> float:
    """Return the one-sided 95 % limit of a share, Clopper and Pearson."""
    from scipy.stats import beta

    return float(beta.ppf(0.95, k + 1, n - k)) if k < n else 1.0


def page(n: int, data: Path | None) -> str:
    """Return the generated page."""
    lines = [
        "# Glass and pen: hits and false alarms",
        "",
        f"Written by `python -m experiments.tile_content --tiles {n}`; do not edit. Tiles called pen, of {n} patients, "
        "128 px,",
        "rendered; thresholds were chosen on other tiles. Pen strokes (blue, green, black) cover about 20 to 60 % of a "
        "tile.",
        "",
        "| stain | scanner | clean | fold | bubble | dust | defocus | pen (hits) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alarms, hits, total = 0, 0, 0
    for stain in histology.STAINS:
        for scanner in histology.SCANNERS:
            pens = [counts(rendered(n, artefact, stain, scanner))[PEN] for artefact in ARTEFACTS]
            alarms, hits, total = alarms + sum(pens[:-1]), hits + pens[-1], total + n
            lines.append(f"| {stain} | {scanner} | " + " | ".join(map(str, pens)) + " |")
    tried = total * (len(ARTEFACTS) - 1)
    lines += [
        "",
        f"In all {hits} of {total} pen tiles are found ({hits / total:.1%}); {alarms} of {tried} others are called pen "
        f"(95 % limit {upper(alarms, tried):.2%},",
        "were all tiles independent; the same patients recur in every row).",
    ]
    if data is not None:
        lines += real(data)
    return "\n".join(lines) + "\n"


def real(data: Path) -> list[str]:
    """Return the part on the real patches, all of which show tissue."""
    tiles, table = tiles_of(data)
    padded = (least_channel(optical_density(tiles)) >= PADDING).flatten(1).float().mean(dim=1) > 0.01
    scanner = table["scanner"].to_numpy(object)
    lines = [
        "",
        "Real MIDOG21 patches; all show tissue. *Padded*: they leave the slide's image and are filled up with black;",
        "an earlier rule called those, and no others, pen.",
        "",
        "| scanner | patches | padded | called tissue | glass | pen |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(set(scanner)):
        own = torch.from_numpy(np.flatnonzero(scanner == name))
        found = " | ".join(map(str, counts(tiles[own])))
        lines.append(f"| {name} | {len(own)} | {int(padded[own].sum())} | {found} |")
    return [*lines, "", "No real tile with pen is at hand: hits on real ink are not measured."]


def main(arguments: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Hits and false alarms of the detector of glass and pen.")
    parser.add_argument("--tiles", type=int, default=48)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    text = page(options.tiles, options.data)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
