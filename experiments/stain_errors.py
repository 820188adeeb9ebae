"""Error of stain transfers against the true rendering of the same tissue, in levels of 255.

``python -m experiments.stain_errors [--tiles 24] [--out docs/stain_errors.md]``

The renderer (``causalfm.datasets.histology``) shows the same tissue in another stain; every method is fitted on other
patients. torch-staintools (1.0.5, see ``experiments.benchmarks.stain``) joins where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
from pathlib import Path

import numpy as np
import torch

from causalfm.augment import HEDJitter, StainLibrary, StainSwap, lab_statistics, reinhard
from causalfm.datasets import histology

STAINS = tuple(histology.STAINS)


def rendered(n: int, stain: str, judged: bool) -> torch.Tensor:
    """Return ``(n, 3, 224, 224)`` tiles of patients to fit on or to judge on."""
    obs = histology.cohort_table(max(2 * n, 8), 1, 0.0, 0).iloc[n * judged : n * judged + n]
    obs = obs.assign(site="Northfield", scanner="Argus 2", stain=stain)
    images = torch.from_numpy(histology.render_cohort(obs, random_state=0, n_jobs=1))
    return images.permute(0, 3, 1, 2).contiguous()


def staintools(tiles: torch.Tensor, donor: torch.Tensor, method: str) -> torch.Tensor:
    """Return tiles normalised to the pooled donor tiles by torch-staintools."""
    from torch_staintools.normalizer.factory import NormalizerBuilder

    pooled = torch.cat(list(donor), dim=2)[None].float() / 255  # one wide image
    one = NormalizerBuilder.build(method, concentration_solver="ls") if method == "macenko" else None
    one = one or NormalizerBuilder.build(method)
    one.fit(pooled)
    with torch.no_grad():
        return torch.as_tensor(one(tiles.float() / 255)).clamp(0, 1) * 255


def errors(n: int) -> dict[str, list[float]]:
    """Return the mean absolute error of each method for all ordered pairs of stains."""
    donors = {stain: rendered(n, stain, False) for stain in STAINS}
    truth = {stain: rendered(n, stain, True) for stain in STAINS}
    libraries = {
        method: StainLibrary.fit(torch.cat(list(donors.values())), np.repeat(STAINS, n), method=method)
        for method in ("macenko", "vahadane")
    }
    found: dict[str, list[float]] = {}
    for a, b in itertools.permutations(STAINS, 2):
        tiles, moved = truth[a], {"unchanged": truth[a]}
        for method, library in libraries.items():
            swap = StainSwap(library)
            moved[f"StainSwap, {method}, source known"] = swap(tiles, a, b)[0]
            moved[f"StainSwap, {method}, from the tile"] = swap(tiles, donor=b)[0]
        mean, sd = (x.mean(dim=0) for x in lab_statistics(donors[b]))
        moved["Reinhard"] = reinhard(tiles, mean, sd)[0]
        moved["HED jitter, 0.05"] = HEDJitter(0.05)(tiles)[0]
        if importlib.util.find_spec("torch_staintools"):
            for method in ("macenko", "reinhard"):
                moved[f"torch-staintools, {method}"] = staintools(tiles, donors[b], method)
        for name, images in moved.items():
            found.setdefault(name, []).append(float((images.float() - truth[b].float()).abs().mean()))
    return found


def page(found: dict[str, list[float]], n: int) -> str:
    """Return the generated page."""
    lines = [
        "# Stain transfers against the true rendering",
        "",
        f"Written by `python -m experiments.stain_errors --tiles {n}`; do not edit. Mean absolute "
        f"error in levels of 255",
        f"over {n} tiles of {n} patients, all 12 ordered pairs of the renderer's four stains; "
        f"fitted on {n} tiles of other",
        "patients for each stain. One scanner (Argus 2).",
        "",
        "| method | mean over pairs | best pair | worst pair |",
        "|---|---|---|---|",
    ]
    for name, values in sorted(found.items(), key=lambda item: np.mean(item[1])):
        lines.append(f"| {name} | {np.mean(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Errors of stain transfers on rendered tissue.")
    parser.add_argument("--tiles", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    text = page(errors(options.tiles), options.tiles)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
