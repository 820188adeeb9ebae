"""do(stain := another hospital's): the same dye-binding tissue, seen through other dyes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from causalfm.arguments import check_seed, check_whole
from causalfm.augment.optical_density import check_images, developed, optical_density
from causalfm.augment.site_stain import strongest
from causalfm.augment.stain_library import METHODS, StainLibrary
from causalfm.augment.tile_content import FINE, TISSUE, content_of, stained_pixels
from causalfm.errors import DataError

BLOCK = 8  # tiles at a time on the CPU: what one pass writes, the next still finds in the cache


class StainSwap(torch.nn.Module):
    """Show tiles in the stain of a donor site, keeping each pixel's concentrations.

    Parameters
    ----------
    library
        Stains of the sites.
    donors
        Sites to draw donors from, each equally likely whatever a tile shows; None takes all.
    random_state
        Seed of the draws, made on the CPU: the same on every device.
    stride
        A tile's own stain, where it must be estimated, is read from every ``stride``-th pixel each way (neighbours
        tell the same); 1 reads all. Tiles under 64 px are read whole. All pixels are swapped.

    Notes
    -----
    The density of a pixel is ``C_H I_H v_H + C_E I_E v_E + rest``, with intensities I and vectors v of its stain. The
    donor's I and v take their place; C stays, and so does the rest (noise, red cells, pigment), upright on the plane
    of the dyes. So the map is linear in optical density, a donor equal to the own stain changes nothing, and there and
    back is the identity but for rounding.

    With ``source`` the own stain is the library's, and glass takes the donor's white point. Without, the white point
    stays (one tile does not tell it), and the stain is estimated from the tile itself: then a tile's wealth
    of nuclei is taken for strength of hematoxylin and is evened out, which removes biology. Pass ``source`` where it
    is known. Differentiable in the image; estimates from the tile count as constants.

    Assumptions: two dyes, Beer-Lambert, a scanner with a linear response (or the same one at both sites). For two
    scanners use :class:`causalfm.augment.ScannerSwap`: on rendered tissue its error is 3.4 of 255 against 4.7 here, and
    on real tiles a swap of stain between scanners can lead further away (``docs/stain.md``).

    Examples
    --------
    >>> library = StainLibrary.fit(tiles, site)  # doctest: +SKIP
    >>> moved, changed = StainSwap(library)(batch, source=batch_sites, donor="Eastbrook")  # doctest: +SKIP
    """

    vectors: torch.Tensor
    intensities: torch.Tensor
    white: torch.Tensor

    def __init__(
        self, library: StainLibrary, donors: Sequence[str] | None = None, *, random_state: int = 0, stride: int = 2
    ) -> None:
        super().__init__()
        check_seed(random_state)
        check_whole(stride, "stride", 1)
        self.stride = stride
        self.library = library
        self.donors = library.position(library.sites if donors is None else donors)
        if not len(self.donors):
            raise DataError("donors is empty: name at least one site, or None for all.")
        self.register_buffer("vectors", library.vectors.clone())
        self.register_buffer("intensities", library.intensities.clone())
        self.register_buffer("white", library.white.clone())
        self._generator = torch.Generator().manual_seed(random_state)

    def forward(
        self,
        images: torch.Tensor,
        source: str | Sequence[str] | torch.Tensor | None = None,
        donor: str | Sequence[str] | torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Swap.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``, uint8 or floats from 0 to 1.
        source
            The tiles' own sites: a name, names, or positions ``(B,)`` in ``library.sites``. None estimates the stain
            of each tile.
        donor
            Likewise; None draws for each tile.

        Returns
        -------
        moved : torch.Tensor
            Same shape, type and device.
        changed : torch.Tensor
            ``(B,)`` bool. False: glass, pen, or no two dyes to be found; the tile is as it was.

        Raises
        ------
        DataError
            No batch of RGB images, unknown sites, or another number of them than of tiles.
        """
        check_images(images)
        to = self._places(donor, len(images)) if donor is not None else self._drawn(len(images))
        own = None if source is None else self._places(source, len(images))
        step = BLOCK if images.device.type == "cpu" else max(len(images), 1)
        parts = [
            self._block(images[at : at + step], None if own is None else own[at : at + step], to[at : at + step])
            for at in range(0, max(len(images), 1), step)
        ]
        moved, changed = zip(*parts, strict=True)
        return torch.cat(moved), torch.cat(changed)

    def _drawn(self, n: int) -> torch.Tensor:
        places = torch.randint(len(self.donors), (n,), generator=self._generator)
        return self.donors[places].to(self.vectors.device)

    def _places(self, sites: str | Sequence[str] | torch.Tensor, n: int) -> torch.Tensor:
        if isinstance(sites, torch.Tensor):
            places = sites
            if (
                places.ndim != 1
                or places.is_floating_point()
                or places.dtype == torch.bool
                or bool(((places < 0) | (places >= len(self.vectors))).any())
            ):
                raise DataError(f"sites as a tensor are positions (B,) from 0 to {len(self.vectors) - 1}.")
        else:
            places = self.library.position([sites] * n if isinstance(sites, str) else sites)
        if len(places) != n:
            raise DataError(f"{n} tiles and {len(places)} sites: pass one site, or one for each tile.")
        return places.to(self.vectors.device)

    def _block(
        self, images: torch.Tensor, own: torch.Tensor | None, to: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        to_white = self.white[to]
        density = optical_density(images, to_white if own is None else self.white[own])
        flat = density.flatten(2)
        seen = density.detach()
        changed = content_of(seen) == TISSUE
        if own is None:
            coarse = seen[:, :, :: self.stride, :: self.stride] if min(seen.shape[2:]) >= FINE else seen
            mask = stained_pixels(coarse)
            vectors = METHODS[self.library.method](coarse, mask)
            changed = changed & ~vectors.isnan().any(dim=2).any(dim=1)
            vectors = torch.where(changed[:, None, None], vectors, self.vectors[to].to(seen))
            strengths = strongest(coarse.flatten(2), vectors, mask.flatten(1))
            changed = changed & (strengths > 0).all(dim=1)
            strengths = torch.where(changed[:, None], strengths, torch.ones_like(strengths))
        else:
            vectors, strengths = self.vectors[own].to(flat), self.intensities[own].to(flat)
        operator = swap_operator(vectors, strengths, self.vectors[to].to(flat), self.intensities[to].to(flat))
        moved = developed((operator @ flat).reshape(density.shape), images, to_white)
        if bool(changed.all()):
            return moved, changed
        return torch.where(changed[:, None, None, None], moved, images), changed


def swap_operator(
    vectors: torch.Tensor, strengths: torch.Tensor, to_vectors: torch.Tensor, to_strengths: torch.Tensor
) -> torch.Tensor:
    """Return the matrices ``(B, 3, 3)`` that take optical densities from one stain to another.

    ``V' D V^+ + n' n^T`` with the vectors as columns, ``D`` the ratio of intensities and ``n`` upright on either plane:
    concentrations are carried over, and so is what stands upright on the plane of the dyes.
    """
    columns, target = vectors.transpose(1, 2), to_vectors.transpose(1, 2)
    ratio = (to_strengths / strengths)[:, None, :]
    backwards = torch.linalg.solve(vectors @ columns, vectors)  # (B, 2, 3)
    operator: torch.Tensor = (target * ratio) @ backwards + _normal(to_vectors)[:, :, None] * _normal(vectors)[:, None]
    return operator


def _normal(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.linalg.cross(vectors[:, 0], vectors[:, 1]), dim=1)
