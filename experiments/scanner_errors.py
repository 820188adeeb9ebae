"""Error of scanner swaps against the true scan of the same tissue, in levels of 255.

``python -m experiments.scanner_errors [--tiles 12] [--out docs/scanner_errors.md]``

The renderer (``causalfm.datasets.histology``) scans the same section with another scanner. Profiles are estimated from
tiles of other patients; unpaired, the two scanners see different patients too. torch-staintools (1.0.5, see
``experiments.benchmarks.stain``) joins where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from causalfm.augment import (
    HEDJitter,
    ScannerEstimate,
    ScannerProfile,
    ScannerSwap,
    StainLibrary,
    StainSwap,
    estimate_scanners,
    lab_statistics,
    reinhard,
)
from causalfm.datasets import histology
from experiments.stain_errors import staintools

SCANNERS = tuple(histology.SCANNERS)
COMMON_UM = 0.5
BORDER = 8  # px left out: there a swap sees a mirror


def scanned(seeds: range, scanner: str, um_per_px: float | None, noise: int = 3) -> torch.Tensor:
    """Return ``(n, 3, 224, 224)`` tiles, one a patient, stain HE-1; None keeps the scanner's pixel size."""
    device = histology.SCANNERS[scanner]
    device = replace(device, um_per_px=um_per_px or device.um_per_px)
    tiles = []
    for i in seeds:
        traits = histology.sample_traits(np.random.default_rng((1, i)))
        scene = histology.make_scene(("glandular", "solid")[i % 2], traits, (2, i), size=224)
        tiles.append(histology.render(scene, "HE-1", (noise, i), scanner=device))
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()


def by_hand(scanner: str, um_per_px: float | None) -> ScannerProfile:
    """Copy the renderer's numbers into a profile."""
    own = histology.SCANNERS[scanner]
    return ScannerProfile(
        um_per_px=um_per_px or own.um_per_px,
        blur_um=own.psf_um,
        white=own.white,
        colour_matrix=own.colour_matrix,
        gamma=own.gamma,
        sharpening=own.sharpening,
        sharpening_px=own.sharpening_px,
        shot_noise=1.0 / own.electrons,
        read_noise=own.read_noise,
        jpeg_quality=own.jpeg_quality,
    )


def error(images: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the mean absolute difference inside the border."""
    inside = slice(BORDER, -BORDER)
    return float((images.float() - truth.float()).abs()[..., inside, inside].mean())


def errors(n: int, um_per_px: float | None) -> tuple[dict[str, list[float]], dict[tuple[str, str], ScannerEstimate]]:
    """Return the error of each method for all ordered pairs of scanners, and the unpaired estimates."""
    fit = {name: scanned(range(100 * k, 100 * k + n), name, um_per_px) for k, name in enumerate(SCANNERS, 1)}
    pairs = {name: scanned(range(n), name, um_per_px) for name in SCANNERS} if um_per_px else {}
    truth = {name: scanned(range(1000, 1000 + n), name, um_per_px) for name in SCANNERS}
    again = {name: scanned(range(1000, 1000 + n), name, um_per_px, noise=4) for name in SCANNERS}
    library = StainLibrary.fit(torch.cat(list(fit.values())), np.repeat(SCANNERS, n))
    found: dict[str, list[float]] = {}
    estimates = {}
    for a, b in itertools.permutations(SCANNERS, 2):
        tiles, moved = truth[a], {"unchanged": truth[a], "the same scan with other noise": again[b]}
        sizes = tuple(um_per_px or histology.SCANNERS[name].um_per_px for name in (a, b))
        estimates[a, b] = estimate_scanners(fit[a], fit[b], um_per_px=sizes)
        profiles = {
            "ScannerSwap, estimated, unpaired": (estimates[a, b].source, estimates[a, b].target),
            "ScannerSwap, the renderer's numbers": (by_hand(a, um_per_px), by_hand(b, um_per_px)),
        }
        if pairs:
            both = estimate_scanners(pairs[a], pairs[b], um_per_px=sizes, paired=True)
            profiles["ScannerSwap, estimated, pairs"] = (both.source, both.target)
        for name, pair in profiles.items():
            moved[name] = ScannerSwap(*pair, noise=False)(tiles)
            if name.endswith("unpaired"):
                moved[f"{name}, noise added"] = ScannerSwap(*pair)(tiles)
        mean, sd = (x.mean(dim=0) for x in lab_statistics(fit[b]))
        moved["Reinhard"] = reinhard(tiles, mean, sd)[0]
        moved["HED jitter, 0.05"] = HEDJitter(0.05)(tiles)[0]
        moved["StainSwap, macenko, scanner as site"] = StainSwap(library)(tiles, a, b)[0]
        if importlib.util.find_spec("torch_staintools"):
            for method in ("macenko", "reinhard"):
                moved[f"torch-staintools, {method}"] = staintools(tiles, fit[b], method)
        for name, images in moved.items():
            found.setdefault(name, []).append(error(images, truth[b]))
    return found, estimates


def page(
    common: dict[str, list[float]],
    own: dict[str, list[float]],
    estimates: dict[tuple[str, str], ScannerEstimate],
    n: int,
) -> str:
    """Return the generated page."""
    lines = [
        "# Scanner swaps against the true scan",
        "",
        f"Written by `python -m experiments.scanner_errors --tiles {n}`; do not edit. Mean absolute error in levels of "
        "255",
        f"over {n} tiles of {n} patients, all 12 ordered pairs of the renderer's four scanners, one stain (HE-1). "
        "Profiles,",
        f"libraries and statistics come from {n} tiles a scanner, of other patients; unpaired, each scanner has its "
        "own.",
        "Common pixels: all 0.5 um, so that methods without a pixel size are not blamed for geometry.",
        "",
        "| method | mean over pairs | best pair | worst pair | mean, own pixel sizes |",
        "|---|---|---|---|---|",
    ]
    for name, values in sorted(common.items(), key=lambda item: np.mean(item[1])):
        other = f"{np.mean(own[name]):.2f}" if name in own else "-"
        lines.append(f"| {name} | {np.mean(values):.2f} | {min(values):.2f} | {max(values):.2f} | {other} |")
    lines += [
        "",
        "*The same scan with other noise*: two draws of the target's noise differ by so much. Noise is left out of the",
        "swaps but in the row that says so, so that they bring no second draw. With pixels of their own, methods that",
        "know no pixel size show the tissue in the wrong place.",
        "",
        "## What was estimated, unpaired",
        "",
        "True values in brackets. Sharpness is the gain of detail of 2.5 um (0.4 cycles/um), target / source, in which",
        "blur and sharpening work together; apart they are not identified. Noise is the standard deviation on glass of "
        "the",
        "target before compression, levels of 255.",
        "",
        "| from | to | gamma | sharpness | white, red green blue | noise | JPEG quality |",
        "|---|---|---|---|---|---|---|",
    ]
    for (a, b), found in estimates.items():
        truth = by_hand(a, COMMON_UM), by_hand(b, COMMON_UM)
        glass = [_glass(profile) for profile in (found.target, truth[1])]
        lines.append(
            f"| {a} | {b} | {found.target.gamma:.2f} ({truth[1].gamma / truth[0].gamma:.2f}) "
            f"| {_sharpness(found.source, found.target):.2f} ({_sharpness(*truth):.2f}) "
            f"| {glass[0]} ({glass[1]}) | {_noise(found.target):.1f} ({_noise(truth[1]):.1f}) "
            f"| {found.target.jpeg_quality} ({truth[1].jpeg_quality}) |"
        )
    return "\n".join(lines) + "\n"


def _glass(scanner: ScannerProfile) -> str:
    signal = (np.array(scanner.colour_matrix) @ scanner.white).clip(0, 1) ** scanner.gamma
    return " ".join(f"{255 * value:.0f}" for value in signal)


def _noise(scanner: ScannerProfile) -> float:
    return 255.0 * float(np.sqrt(scanner.shot_noise * scanner.white[1] + scanner.read_noise**2))


def _sharpness(source: ScannerProfile, target: ScannerProfile, frequency: float = 0.4) -> float:
    gains = []
    for one in (source, target):
        grown = 1 - np.exp(-2 * (np.pi * one.sharpening_px * COMMON_UM * frequency) ** 2)
        gains.append(np.exp(-2 * (np.pi * one.blur_um * frequency) ** 2) * (1 + one.sharpening * grown))
    return float(gains[1] / gains[0])


def main(arguments: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Errors of scanner swaps on rendered tissue.")
    parser.add_argument("--tiles", type=int, default=12)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    common, estimates = errors(options.tiles, COMMON_UM)
    own, _ = errors(options.tiles, None)
    text = page(common, own, estimates, options.tiles)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
