"""The stain of every hospital: vectors and intensities, learnt from tiles of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from causalfm.arguments import check_whole
from causalfm.augment.optical_density import check_images, optical_density
from causalfm.augment.stain_matrices import concentrations, macenko, masked_percentile, vahadane
from causalfm.augment.tile_content import TISSUE, content_of, tissue_pixels
from causalfm.errors import DataError

METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"macenko": macenko, "vahadane": vahadane}
KIND = "causalfm.augment.StainLibrary"
BLOCK = 32  # tiles looked at together
STRONGEST = 99.0  # percentile of the concentrations that stands for the intensity


@dataclass(frozen=True, eq=False)
class StainLibrary:
    """Stains of sites.

    Attributes
    ----------
    sites
        Names, sorted.
    vectors
        ``(k, 2, 3)`` float32, rows hematoxylin and eosin of length 1.
    intensities
        ``(k, 2)`` float32: 99th percentile of each dye's concentration in the tissue.
    n_tiles, n_passed_over
        ``(k,)`` int64: tiles that showed tissue, and tiles of glass or pen, which were passed over.
    white, method
        As in :meth:`fit`.

    Notes
    -----
    Assumption of the intensities: the sites' tissue holds dye-binding material alike. Where one hospital sees more
    nuclei, its hematoxylin looks stronger than it is: fit on tiles of comparable tissue.
    """

    sites: tuple[str, ...]
    vectors: torch.Tensor
    intensities: torch.Tensor
    n_tiles: torch.Tensor
    n_passed_over: torch.Tensor
    white: float = 1.0
    method: str = "macenko"

    @classmethod
    def fit(
        cls,
        images: torch.Tensor | Iterable[torch.Tensor],
        site: Sequence[str] | np.ndarray,
        *,
        method: str = "macenko",
        white: float = 1.0,
        pixels_per_tile: int = 2048,
    ) -> StainLibrary:
        """Learn one stain a site from the pixels of all its tiles together.

        Parameters
        ----------
        images
            ``(n, 3, H, W)``, uint8 or floats from 0 to 1; or an iterable of such batches, for more than fits.
        site
            Name for each tile.
        method
            ``"macenko"`` or ``"vahadane"``.
        white
            See :func:`causalfm.augment.optical_density`.
        pixels_per_tile
            At most so many tissue pixels of a tile are kept, evenly spaced.

        Returns
        -------
        StainLibrary
            On the device of the images.

        Raises
        ------
        DataError
            Numbers of tiles and names differ, a name is missing, a site shows no tissue, unknown method.
        """
        if method not in METHODS:
            raise DataError(f"method={method!r} is not known: choose {', '.join(map(repr, METHODS))}.")
        check_whole(pixels_per_tile, "pixels_per_tile", 1)
        names = _names(site)
        pixels, tissue = _collect([images] if isinstance(images, torch.Tensor) else images, white, pixels_per_tile)
        if len(pixels) != len(names):
            raise DataError(f"{len(pixels)} tiles and {len(names)} names of sites: pass one name for each tile.")
        sites = tuple(sorted(set(names)))
        found = []
        for name in sites:
            own = [i for i, other in enumerate(names) if other == name]
            kept = [pixels[i] for i in own if tissue[i]]
            found.append((*_stain(kept, method, name), len(kept), len(own) - len(kept)))
        vectors, intensities, used, passed = zip(*found, strict=True)
        counts = (torch.tensor(used), torch.tensor(passed))
        return cls(sites, torch.stack(vectors), torch.stack(intensities), *counts, white, method)

    def position(self, sites: Sequence[str]) -> torch.Tensor:
        """Return the positions ``(n,)`` of names.

        Raises
        ------
        DataError
            A name that the library does not hold.
        """
        wrong = sorted({str(name) for name in sites} - set(self.sites))
        if wrong:
            raise DataError(f"site {', '.join(map(repr, wrong))} is not in the library: it holds {list(self.sites)}.")
        return torch.tensor([self.sites.index(str(name)) for name in sites], dtype=torch.int64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.safetensors`` file, whole or not at all.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        from causalfm.model_files import write_model

        header = {"sites": list(self.sites), "white": self.white, "method": self.method}
        arrays = {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        write_model(path, header, arrays, KIND)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StainLibrary:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            Missing, damaged, or another kind of file.
        """
        from causalfm.model_files import read_model

        header, arrays = read_model(path, KIND)
        tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in _TENSORS}
        return cls(sites=tuple(header["sites"]), **tensors, white=header["white"], method=header["method"])


_TENSORS = ("vectors", "intensities", "n_tiles", "n_passed_over")


def strongest(density: torch.Tensor, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the 99th percentile of each concentration where ``mask (B, N)``: ``(B, 2)``; ``density (B, 3, N)``."""
    amounts = concentrations(density, vectors)
    return torch.cat([masked_percentile(amounts[:, dye], mask, (STRONGEST,)) for dye in (0, 1)], dim=1)


def _names(site: Sequence[str] | np.ndarray) -> list[str]:
    names = list(site)
    missing = [i for i, name in enumerate(names) if name is None or name != name or str(name) == ""]
    if missing:
        raise DataError(f"site is missing for {len(missing)} tiles, the first at position {missing[0]}.")
    return [str(name) for name in names]


def _collect(batches: Iterable[torch.Tensor], white: float, n_pixels: int) -> tuple[list[torch.Tensor], list[bool]]:
    """Return at most ``n_pixels`` densities ``(3, m)`` of the tissue of each tile, and which tiles show tissue."""
    pixels, tissue = [], []
    for batch in batches:
        check_images(batch)
        for block in (batch[at : at + BLOCK] for at in range(0, len(batch), BLOCK)):
            density = optical_density(block, white)
            use = tissue_pixels(density).flatten(1)
            tissue += (content_of(optical_density(block)) == TISSUE).tolist()
            for own, mask in zip(density.flatten(2), use, strict=True):
                places = mask.nonzero()[:, 0]
                steps = torch.arange(min(n_pixels, len(places)), device=places.device)
                pixels.append(own[:, places[steps * len(places) // max(len(steps), 1)]])
    return pixels, tissue


def _stain(kept: list[torch.Tensor], method: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    if not kept:
        raise DataError(f"site {name!r} has no tile with tissue (all show glass or ink): leave it out or add tiles.")
    points = torch.cat(kept, dim=1)[None]
    mask = torch.ones_like(points[:, 0], dtype=torch.bool)
    vectors = METHODS[method](points, mask)
    intensities = torch.zeros_like(vectors[:, :, 0])
    if not bool(vectors.isnan().any()):
        intensities = strongest(points, vectors, mask)
    if bool((intensities <= 0).any()):
        raise DataError(f"site {name!r}: its tissue shows no two dyes; it must be H&E, and more than a few pixels.")
    return vectors[0], intensities[0]
