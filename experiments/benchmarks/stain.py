"""Stain transfer on one thread beside torchstain and torch-staintools: a tile's own stain to one donor's.

torch-staintools 1.0.5 is the last version under the MIT licence (1.0.7 allows academic use only). It asks for NumPy 1
and runs with NumPy 2, so that it gets a folder of its own, which ``make benchmark`` puts on PYTHONPATH:
``pip install --no-deps --target FOLDER torch-staintools==1.0.5 kornia==0.9.0 kornia_rs==0.2.0``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.datasets import histology
from experiments.benchmarks.claim import Claim, Trial

if TYPE_CHECKING:
    import torch

LEVELS = 255.0
AT_ONCE = 32  # tiles that torch-staintools takes


def prepare(folder: Path, against: str, known: bool, tiles: int, side: int) -> Trial:
    """Swap the stain of all tiles to that of the first."""
    import torch

    from causalfm.augment import StainLibrary, StainSwap

    obs = histology.cohort_table(max(tiles // 8, 8), 1, 0.0, 0)
    some = torch.from_numpy(histology.render_cohort(obs, random_state=0, size=side, n_jobs=1)).permute(0, 3, 1, 2)
    images = some.repeat(tiles // len(some) + 1, 1, 1, 1)[:tiles].contiguous()
    library = StainLibrary.fit(images[:1], ["donor"])
    swap = StainSwap(library, stride=2 if known else 1)  # the peers read every pixel
    source = "donor" if known else None
    peer = {"": None, "torchstain": _torchstain, "torch-staintools": _staintools}[against]
    return Trial(
        _without_gradients(lambda: swap(images, source, donor="donor")[0]),
        _without_gradients(partial(_bare, images)),
        None if peer is None else _without_gradients(partial(peer(images[:1]), images)),
        answer=_colours,
        peer_answer=_colours,
        apart=lambda a, b: 1.0 - float(np.corrcoef(a, b)[0, 1]),
    )


def _bare(images: torch.Tensor) -> None:
    """Turn every pixel to optical density, multiply it with a matrix of dyes, turn it back."""
    import torch

    change = torch.eye(3)
    for tile in images:
        density = -torch.log((tile.float() + 1.0) / (LEVELS + 1.0)).flatten(1)
        torch.exp(-(change @ density)).mul_(LEVELS).to(torch.uint8)


def _torchstain(donor: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    import torch
    import torchstain

    macenko = torchstain.normalizers.MacenkoNormalizer(backend="torch")
    macenko.fit(donor[0].float())
    return lambda images: torch.stack([macenko.normalize(tile.float(), stains=False)[0] for tile in images])


def _staintools(donor: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    import torch
    from torch_staintools.normalizer.factory import NormalizerBuilder

    macenko = NormalizerBuilder.build("macenko", concentration_solver="ls")
    macenko.fit(donor.float() / LEVELS)
    return lambda images: torch.cat([macenko(block.float() / LEVELS) for block in images.split(AT_ONCE)]) * LEVELS


def _without_gradients(call: Callable[[], Any]) -> Callable[[], Any]:
    def quiet() -> Any:
        import torch

        with torch.no_grad():
            return call()

    return quiet


def _colours(found: torch.Tensor) -> np.ndarray:
    """Return red, then green, then blue of all pixels; channels lie where there are three."""
    channel = next(axis for axis in (1, 3) if found.shape[axis] == 3)
    return found.float().movedim(channel, 0).flatten().numpy()


ONE = {"sizes": {"tiles": 128, "side": 224}, "fast": {"tiles": 2, "side": 64}, "threads": 1}
LIMIT = "optical density of every pixel, one 3 x 3 product, and back, float32"
ENTRIES = (
    *(
        Claim(
            f"stain.{peer.replace('-', '_')}",
            "stain of tiles estimated from every pixel and swapped",
            partial(prepare, against=peer, known=False),
            limit=LIMIT,
            peer=peer,
            differs="one less the correlation of all colours of all pixels (white points differ)",
            tolerance=0.05,
            needs=module,
            why="The stain of a tile is estimated before it is swapped: covariances of its densities, angles in their "
            "plane and percentiles, which take a selection among all pixels.",
            absent=absent,
            **ONE,
        )
        for peer, module, absent in (
            ("torchstain", "torchstain", "torchstain is not installed"),
            (
                "torch-staintools",
                "torch_staintools",
                "torch-staintools is not installed: it asks for NumPy 1; `make benchmark` gives it a folder",
            ),
        )
    ),
    Claim(
        "stain.known",
        "stain of tiles that is known swapped",
        partial(prepare, against="", known=True),
        limit=LIMIT,
        no_peer="the peers estimate the stain of every tile",
        why="Images are checked, densities split into two dyes and a rest, and put together again in blocks of tiles.",
        **ONE,
    ),
)
