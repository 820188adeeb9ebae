"""How the level of one factor is changed in images: one form for stains, scanners, radiology presets and your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from causalfm.augment.radiology import SitePreset, rescan
from causalfm.augment.scanner_profile import ScannerProfile
from causalfm.augment.scanner_swap import ScannerSwap
from causalfm.augment.stain_library import StainLibrary
from causalfm.augment.stain_swap import StainSwap
from causalfm.errors import DataError


@runtime_checkable
class FactorChange(Protocol):
    """What :class:`causalfm.augment.InterventionalAugment` asks of a change.

    Attributes
    ----------
    levels
        Names of the levels that it can show and undo.
    """

    levels: tuple[str, ...]

    def __call__(
        self, images: torch.Tensor, source: torch.Tensor, target: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change images ``(B, C, ...)`` from levels ``source (B,)`` to ``target (B,)``, positions in ``levels``.

        Returns the images and ``(B,)`` bool, False where an image could not be changed and is as it was. What is
        random follows from ``seed``.
        """
        ...


class StainChange(torch.nn.Module):
    """do(stain := donor) by :class:`causalfm.augment.StainSwap`, the own stain taken from the library."""

    def __init__(self, swap: StainSwap | StainLibrary) -> None:
        super().__init__()
        self.swap = swap if isinstance(swap, StainSwap) else StainSwap(swap)
        self.levels = tuple(self.swap.library.sites)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the swap's generator behind: torch cannot send one to a spawned worker; nothing is drawn."""
        return {"library": self.swap.library, "stride": self.swap.stride, "tensors": self.swap.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the swap anew, where its tensors lie."""
        swap = StainSwap(state["library"], stride=state["stride"]).to(state["tensors"]["vectors"].device)
        swap.load_state_dict(state["tensors"])
        self.__init__(swap)  # type: ignore[misc]

    def forward(
        self, images: torch.Tensor, source: torch.Tensor, target: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`FactorChange`; nothing is random. False: glass and pen."""
        del seed
        moved, changed = self.swap(images, source=source, donor=target)
        return moved, changed


class ScannerChange:
    """do(scanner := another) by :class:`causalfm.augment.ScannerSwap`, one pair of profiles at a time.

    Parameters
    ----------
    profiles
        Scanner by level.
    noise
        As in :class:`causalfm.augment.ScannerSwap`.
    """

    def __init__(self, profiles: Mapping[str, ScannerProfile], *, noise: bool = True) -> None:
        self.profiles, self.noise = {str(k): v for k, v in profiles.items()}, noise
        self.levels = tuple(self.profiles)

    def __call__(
        self, images: torch.Tensor, source: torch.Tensor, target: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`FactorChange`; every image can be changed."""
        out = images.clone()
        pairs = torch.stack([source, target], dim=1)
        for number, (a, b) in enumerate(torch.unique(pairs, dim=0).tolist()):
            rows = (pairs == pairs.new_tensor([a, b])).all(dim=1)
            own, other = (self.profiles[self.levels[i]] for i in (a, b))
            swap = ScannerSwap(own, other, noise=self.noise, random_state=(seed + number) % 2**32)
            out[rows.to(images.device)] = swap(images[rows.to(images.device)])
        return out, torch.ones(len(images), dtype=torch.bool, device=images.device)


class PresetChange:
    """do(site := preset) by :func:`causalfm.augment.rescan`, on top of what the own site did.

    Parameters
    ----------
    presets
        Preset by level. What bias, blur, thick slices and ghosts took away cannot be given back: a row of one site
        shows the sum of both, and only rows of a neutral site show the other alone.
    voxel_mm
        See :func:`causalfm.augment.rescan`.
    """

    def __init__(self, presets: Mapping[str, SitePreset], *, voxel_mm: float | tuple[float, ...] = 1.0) -> None:
        self.presets, self.voxel_mm = {str(k): v for k, v in presets.items()}, voxel_mm
        self.levels = tuple(self.presets)

    def __call__(
        self, images: torch.Tensor, source: torch.Tensor, target: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`FactorChange`; every image can be changed."""
        del source
        out = images.clone()
        for level in torch.unique(target).tolist():
            rows = (target == level).to(images.device)
            preset = self.presets[self.levels[level]]
            out[rows] = rescan(images[rows], preset, voxel_mm=self.voxel_mm, random_state=(seed + level) % 2**32)
        return out, torch.ones(len(images), dtype=torch.bool, device=images.device)


def as_change(value: Any, factor: str) -> FactorChange:
    """Return a change as it is; wrap libraries, swaps, profiles and presets.

    Raises
    ------
    DataError
        Anything else.
    """
    if isinstance(value, (StainSwap, StainLibrary)):
        return StainChange(value)
    if isinstance(value, Mapping) and value:
        if all(isinstance(v, ScannerProfile) for v in value.values()):
            return ScannerChange(value)
        if all(isinstance(v, SitePreset) for v in value.values()):
            return PresetChange(value)
    if isinstance(value, FactorChange) and callable(value):
        return value
    raise DataError(
        f"changes[{factor!r}] is {type(value).__name__}: pass a StainLibrary, a StainSwap, a ScannerProfile or a "
        "SitePreset by level, or an object with levels and a call (images, source, target, seed) -> (images, changed)."
    )
