"""Random changes of hematoxylin, eosin and the rest: the usual augmentation, which knows no hospital."""

from __future__ import annotations

import math

import torch

from causalfm.arguments import check_seed
from causalfm.augment.optical_density import check_images, developed, optical_density
from causalfm.augment.tile_content import TISSUE, content_of
from causalfm.errors import DataError

# Ruifrok and Johnston 2001: hematoxylin, eosin, diaminobenzidine
_HED = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


class HEDJitter(torch.nn.Module):
    """Multiply and shift the three concentrations of each tile, ``s' = a s + b``.

    Parameters
    ----------
    theta
        ``a`` is uniform in ``1 - theta, 1 + theta`` and ``b`` in ``-theta, theta``.
    random_state
        Seed of the draws, which are made on the CPU: the same on every device.

    Notes
    -----
    Every call draws anew; in ``eval()`` images pass unchanged. Gradients pass. Not a counterfactual: no hospital's
    stain is aimed at.

    References
    ----------
    Tellez et al., Whole-slide mitosis detection in H&E breast histology, IEEE TMI 37:2126, 2018.
    """

    def __init__(self, theta: float = 0.05, *, random_state: int = 0) -> None:
        super().__init__()
        check_seed(random_state)
        if not (math.isfinite(theta) and 0.0 <= theta < 1.0):
            raise DataError(f"theta={theta!r}: choose 0 or more and less than 1.")
        self.theta = theta
        self._generator = torch.Generator().manual_seed(random_state)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images ``(B, 3, H, W)`` of the same type, and which changed ``(B,)``: glass and pen stay.

        Raises
        ------
        DataError
            No batch of RGB images.
        """
        check_images(images)
        if not self.training:
            return images, torch.zeros(len(images), dtype=torch.bool, device=images.device)
        drawn = (torch.rand((2, len(images), 3, 1), generator=self._generator) * 2 - 1) * self.theta
        scale, shift = drawn.to(images.device)
        density = optical_density(images)
        changed = content_of(density.detach()) == TISSUE
        vectors = torch.nn.functional.normalize(density.new_tensor(_HED), dim=1)
        amounts = torch.linalg.solve(vectors.T, density.flatten(2))
        jittered = vectors.T @ (amounts * (1 + scale) + shift)
        moved = developed(jittered.reshape(density.shape), images, 1.0)
        return torch.where(changed[:, None, None, None], moved, images), changed
