"""Conditional flow: levels bend the residual within its principal subspace, on top of Gaussian transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_device
from causalfm.scm.coupling_layers import NAMES, backward, forward, identity_weights
from causalfm.scm.flow_training import Rows, train
from causalfm.scm.mechanisms import Move
from causalfm.scm.optimal_transport import OptimalTransport, TransportedNoise
from causalfm.scm.parents import Parents
from causalfm.scm.principal import PrincipalRows
from causalfm.scm.residuals import Residuals

if TYPE_CHECKING:
    import torch


MOST_BENT = 32  # directions; weights grow with their square times the number of levels


@dataclass(frozen=True, eq=False)
class FlowNoise:
    """Transport to the pooled residual, then an invertible map to Gaussian noise; both back at the target.

    Attributes
    ----------
    base
        Gaussian transport; outside its last ``m`` directions, those of largest variance, nothing else happens.
    root
        ``(k,)`` standard deviations of the pooled residual along its directions.
    centre
        ``(c,)`` mean of the indicators of levels: a flow with all gates at zero treats levels alike.
    weights
        Of the coupling layers, for ``m`` coordinates.
    record
        Held-out gain over levels that do not differ, its standard error, the strength chosen.
    """

    base: TransportedNoise
    root: np.ndarray
    centre: np.ndarray
    weights: Mapping[str, np.ndarray]
    record: Mapping[str, float]

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Abduct under the source, put back under the target; stretch outside of the subspace."""
        dtype, base = residual.dtype, self.base
        along = (residual @ base.basis.astype(dtype)).astype(np.float64)
        stretch = np.empty((len(residual), 1), dtype=dtype)
        for rows, source, target in moves:
            outside = float(np.exp(base.log_outside(target) - base.log_outside(source)))
            noise = self._inward(along[rows], source)[0]
            along[rows] = self._outward(noise, target) - outside * along[rows]
            stretch[rows] = outside - 1.0
        return np.asarray(along.astype(dtype) @ base.basis.T.astype(dtype) + residual * stretch)

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the noise on the pooled scale, and the log determinants ``(n,)``."""
        basis, outside = self.base.basis, self.base.log_outside(levels)
        t = residual @ basis
        noise, log_det = self._inward(t, levels)
        d, k = basis.shape
        fixed = -float(np.linalg.slogdet(self.base.map(levels))[1]) - (d - k) * outside
        return (residual - t @ basis.T) * np.exp(-outside) + noise @ basis.T, log_det + fixed

    def colour(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Bend, reshape and stretch pooled noise."""
        basis, outside = self.base.basis, float(np.exp(self.base.log_outside(levels)))
        t = noise @ basis
        return np.asarray((self._outward(t, levels) - outside * t) @ basis.T + (outside - 1.0) * noise)

    def scale_error(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """No form per dimension."""
        return None

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Those of transport, and the weights."""
        own = {"flow_root": self.root, "flow_centre": self.centre}
        own["flow_record"] = np.array([self.record[name] for name in sorted(self.record)])
        return {**self.base.tensors(), **own, **{f"flow_{name}": self.weights[name] for name in NAMES}}

    def _inward(self, t: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates ``(n, k)`` of a residual to those of the noise, in units of the residual; log determinants."""
        import torch

        back = self.base.back(levels)
        u, bent = t @ back.T / self.root, slice(-self.weights["kept"].shape[1], None)
        with torch.no_grad():
            e, log_det = forward(torch.from_numpy(u[:, bent]), self._condition(levels), self._tensors())
        u[:, bent] = e.numpy()
        return u * self.root, log_det.numpy()

    def _outward(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Undo :meth:`_inward`."""
        import torch

        u, bent = noise / self.root, slice(-self.weights["kept"].shape[1], None)
        with torch.no_grad():
            u[:, bent] = backward(torch.from_numpy(u[:, bent]), self._condition(levels), self._tensors()).numpy()
        return np.asarray((u * self.root) @ self.base.map(levels).T)

    def _condition(self, levels: np.ndarray) -> torch.Tensor:
        import torch

        sizes = [len(maps) for maps in self.base.maps]
        return torch.from_numpy(indicators(levels[None], sizes) - self.centre)

    def _tensors(self) -> dict[str, torch.Tensor]:
        import torch

        return {name: torch.from_numpy(value) for name, value in self.weights.items()}


def indicators(levels: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """One-hot codes ``(n, sum of sizes)`` of levels ``(n, p)``."""
    return np.concatenate([np.eye(size)[column] for size, column in zip(sizes, levels.T, strict=True)], axis=1)


class Flow:
    """Conditional affine-coupling flow, trained on rows with patients held out.

    Parameters
    ----------
    random_state
        Seed of the training.
    device
        Torch device of the training; None is the CPU. Rows are moved on the CPU in float64.

    Raises
    ------
    DataError
        A device that torch does not have here.
    """

    coupling = "conditional flow: a row keeps its Gaussian noise under an invertible map learned for each level"
    crossed = False
    directed = True

    def __init__(self, random_state: int = 0, device: str | None = None) -> None:
        self.random_state, self.device = random_state, device
        check_device(device)

    def fit(self, moments: Residuals, parents: Parents) -> FlowNoise:
        """Return the start of the training: Gaussian transport alone."""
        base = OptimalTransport().fit(moments, parents)
        pooled = np.einsum(
            "dk,de,el,lk->k", base.basis, moments.basis, moments.product.sum(axis=0), moments.basis.T @ base.basis
        )
        root = np.sqrt(np.maximum(pooled / moments.count.sum(), 1e-12 * max(float(pooled.max()), 1e-300)))
        centre = moments.count @ indicators(moments.levels, parents.sizes) / moments.count.sum()
        weights = identity_weights(min(len(root), MOST_BENT), len(centre), np.random.default_rng(self.random_state))
        return FlowNoise(base, root, centre, weights, {"gain": 0.0, "error": 0.0, "strength": 0.0})

    def fit_rows(self, moments: Residuals, parents: Parents, rows: PrincipalRows) -> FlowNoise:
        """Train on rows: their coordinates along the principal directions, levels and patients."""
        start = self.fit(moments, parents)
        turn = moments.basis.T @ start.base.basis
        u = np.empty_like(rows.along)
        distinct, where = np.unique(rows.levels, axis=0, return_inverse=True)
        for c, levels in enumerate(distinct):
            at = where.reshape(-1) == c
            u[at] = rows.along[at] @ (turn @ np.linalg.inv(start.base.map(levels)).T) / start.root
        bent = u[:, -start.weights["kept"].shape[1] :]
        training = Rows(bent, where.reshape(-1), indicators(distinct, parents.sizes) - start.centre, rows.patient)
        weights, record = train(training, self.random_state, self.device)
        return FlowNoise(start.base, start.root, start.centre, weights, record)

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> FlowNoise:
        """Rebuild from saved arrays."""
        weights = {name: tensors[f"flow_{name}"] for name in NAMES}
        record = dict(zip(("error", "gain", "strength"), tensors["flow_record"].tolist(), strict=True))
        base = OptimalTransport().restore(tensors, parents)
        return FlowNoise(base, tensors["flow_root"], tensors["flow_centre"], weights, record)
