"""The stain of every hospital: vectors and intensities, learnt from tiles of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from causalfm.arguments import check_whole
from causalfm.augment.level_targets import texts_of
from causalfm.augment.site_stain import collect, site_stain
from causalfm.augment.stain_matrices import macenko, vahadane
from causalfm.errors import DataError

METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"macenko": macenko, "vahadane": vahadane}
KIND = "causalfm.augment.StainLibrary"


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
    white
        ``(k, 3)`` float32: signal of empty glass, 0 to 1.
    n_tiles, n_passed_over
        ``(k,)`` int64: tiles that showed tissue, and tiles of glass or pen, which were passed over.
    method
        As in :meth:`fit`.

    Notes
    -----
    Assumption of the intensities: the sites' tissue holds dye-binding material alike. Where one hospital sees more
    nuclei, its hematoxylin looks stronger than it is: fit on tiles of comparable tissue, or pass ``biology``.
    """

    sites: tuple[str, ...]
    vectors: torch.Tensor
    intensities: torch.Tensor
    white: torch.Tensor
    n_tiles: torch.Tensor
    n_passed_over: torch.Tensor
    method: str = "macenko"

    @classmethod
    def fit(
        cls,
        images: torch.Tensor | Iterable[torch.Tensor],
        site: Sequence[str] | np.ndarray,
        *,
        biology: Sequence[str] | np.ndarray | None = None,
        method: str = "macenko",
        white: float | None = None,
        pixels_per_tile: int = 2048,
    ) -> StainLibrary:
        """Learn one stain a site from the pixels of all its tiles together.

        Parameters
        ----------
        images
            ``(n, 3, H, W)``, uint8 or floats from 0 to 1; or an iterable of such batches, for more than fits.
        site
            Name for each tile.
        biology
            Class for each tile. Intensities are then found within each class and averaged, all classes alike, so that
            they do not follow the sites' case mix; every site must show every class. None pools all tiles.
        method
            ``"macenko"`` or ``"vahadane"``.
        white
            Signal of empty glass at every site, 0 to 1; None estimates it for each, see
            :func:`causalfm.augment.white_point`.
        pixels_per_tile
            At most so many tissue pixels of a tile are kept, evenly spaced.

        Returns
        -------
        StainLibrary
            On the device of the images.

        Raises
        ------
        DataError
            Numbers of tiles and names differ, a name is missing, a site shows no tissue or not every class, unknown
            method, white outside 0 to 1.
        """
        if method not in METHODS:
            raise DataError(f"method={method!r} is not known: choose {', '.join(map(repr, METHODS))}.")
        if white is not None and not (isinstance(white, (int, float)) and 0.0 < white <= 1.0):
            raise DataError(f"white={white!r}: choose above 0 and at most 1, or None to estimate it for each site.")
        check_whole(pixels_per_tile, "pixels_per_tile", 1)
        names = _names(site, "site")
        classes = ["all"] * len(names) if biology is None else _names(biology, "biology")
        tiles = collect([images] if isinstance(images, torch.Tensor) else images, pixels_per_tile)
        for what, given in (("sites", names), ("classes", classes)):
            if len(tiles) != len(given):
                raise DataError(f"{len(tiles)} tiles and {len(given)} names of {what}: pass one name for each tile.")
        if not tiles:
            raise DataError("images holds no tile: a library needs tiles with tissue of each site.")
        sites = tuple(sorted(set(names)))
        found = []
        for name in sites:
            own = [i for i, other in enumerate(names) if other == name]
            glass = None if white is None else torch.full((3,), white)
            found.append(site_stain([tiles[i] for i in own], [classes[i] for i in own], METHODS[method], name, glass))
        _check_classes(sites, [one[4] for one in found])
        vectors, intensities, whites, used, _ = zip(*found, strict=True)
        passed = [names.count(name) - n for name, n in zip(sites, used, strict=True)]
        counts = (torch.tensor(used), torch.tensor(passed))
        return cls(sites, torch.stack(vectors), torch.stack(intensities), torch.stack(whites), *counts, method)

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

        header = {"sites": list(self.sites), "method": self.method}
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
        sites, method = header.get("sites", []), header.get("method")
        shapes = {name: value.shape for name, value in arrays.items()}
        finite = all(np.isfinite(value).all() for value in arrays.values())
        if shapes != {name: (len(sites), *shape) for name, shape in _TENSORS.items()} or not finite or not sites:
            method = None
        if method not in METHODS:
            raise DataError(
                f"the file holds another library than this version's (causalfm {header.get('causalfm')} wrote it): fit "
                "and save it again."
            )
        return cls(tuple(sites), **{name: torch.from_numpy(np.array(arrays[name])) for name in _TENSORS}, method=method)


_TENSORS: dict[str, tuple[int, ...]] = {  # and what follows the sites in their shapes
    "vectors": (2, 3),
    "intensities": (2,),
    "white": (3,),
    "n_tiles": (),
    "n_passed_over": (),
}


def _names(given: Sequence[str] | np.ndarray, what: str) -> list[str]:
    names, missing = texts_of(given)
    if missing:
        raise DataError(f"{what} is missing for {len(missing)} tiles, the first at position {missing[0]}.")
    return names


def _check_classes(sites: Sequence[str], shown: Sequence[set[str]]) -> None:
    wanted = set().union(*shown)
    for name, own in zip(sites, shown, strict=True):
        if lacking := sorted(wanted - own):
            raise DataError(
                f"site {name!r} has no tile with tissue of class {', '.join(map(repr, lacking))}: intensities averaged "
                "over other classes cannot be compared. Leave that class or that site out, or do not pass biology."
            )
