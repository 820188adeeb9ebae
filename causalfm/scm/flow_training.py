"""Training of a conditional flow by maximum likelihood, patients held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.scm.coupling_layers import CONDITIONAL, SHARED, forward, identity_weights

if TYPE_CHECKING:
    import torch

FEWEST = 20  # patients; with fewer nothing is learned
HELD_OUT = 0.2
STEPS, BATCH, EVERY = 400, 256, 20
RATE = 5e-3
PRIOR, STIFF = 0.1, 5.0  # standard deviation of a weight beforehand; weights of scales are that much smaller
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of what levels differ by


@dataclass(frozen=True, eq=False)
class Rows:
    """Standardised rows ``u (n, k)``, their cells ``(n,)`` with conditions ``(cells, c)``, patient codes ``(n,)``."""

    u: np.ndarray
    cell: np.ndarray
    conditions: np.ndarray
    patient: np.ndarray

    def weight(self) -> np.ndarray:
        """``(n,)``: patients equal, adding up to 1."""
        weight = 1.0 / np.bincount(self.patient)[self.patient]
        return np.asarray(weight / weight.sum())

    def __getitem__(self, which: np.ndarray) -> Rows:
        return Rows(self.u[which], self.cell[which], self.conditions, self.patient[which])


def train(rows: Rows, random_state: int, device: str | None) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Learn the weights of a flow.

    Parameters
    ----------
    rows
        Data in memory, ``k`` numbers per row.
    random_state
        Seed of the split, of the first weights and of the batches; global generators are not touched.
    device
        A torch device; None is the CPU.

    Returns
    -------
    weights : dict
        Those with the best held-out likelihood; how far levels differ is scaled to what held-out patients bear out,
        and to nothing where that gains less than its standard error.
    record : dict
        Held-out gain in nats per row over levels that do not differ, its standard error, the strength chosen.
    """
    rng = np.random.default_rng(random_state)
    weights = identity_weights(rows.u.shape[1], rows.conditions.shape[1], rng)
    n_patients = int(rows.patient.max()) + 1
    nothing = {"gain": 0.0, "error": 0.0, "strength": 0.0}
    if n_patients < FEWEST:
        return weights, nothing
    out = rng.permutation(n_patients)[: round(HELD_OUT * n_patients)]
    held = np.isin(rows.patient, out)
    best = _descend(rows[~held], rows[held], weights, rng, device)
    losses = np.stack([patient_losses(rows[held], _scaled(best, s), device) for s in STRENGTHS])
    chosen = int(losses.mean(axis=1).argmin())
    gains = losses[0] - losses[chosen]
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    if gain <= error:
        chosen = 0
    return _scaled(best, STRENGTHS[chosen]), {"gain": gain, "error": error, "strength": STRENGTHS[chosen]}


def _scaled(
    weights: dict[str, np.ndarray], strength: float, which: tuple[str, ...] = CONDITIONAL
) -> dict[str, np.ndarray]:
    return {name: value * strength if name in which else value for name, value in weights.items()}


def _descend(
    rows: Rows, held: Rows, start: dict[str, np.ndarray], rng: np.random.Generator, device: str | None
) -> dict[str, np.ndarray]:
    """Follow the gradient until held-out patients no longer gain."""
    import torch

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device or "cpu")

    weights = {name: put(value) for name, value in start.items()}
    free = [value.requires_grad_() for name, value in weights.items() if name != "kept"]
    optimiser = torch.optim.Adam(free, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    u, condition, n_patients = put(rows.u), put(rows.conditions), len(np.unique(rows.patient))
    best, lowest, ends = start, float(patient_losses(held, start, device).mean()), np.cumsum(rows.weight())
    for step in range(1, STEPS + 1):
        drawn = np.searchsorted(ends, rng.random(BATCH) * ends[-1])  # patients alike
        batch, cell = (torch.as_tensor(at, device=u.device) for at in (drawn, rows.cell[drawn]))
        optimiser.zero_grad()
        loss = _loss(u[batch], condition[cell], weights).mean() + _penalty(weights) / n_patients
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(free, 1.0)
        optimiser.step()
        schedule.step()
        if step % EVERY == 0:
            now = {name: value.detach().cpu().numpy().astype(np.float64) for name, value in weights.items()}
            for strength in STRENGTHS[1:]:
                less = _scaled(now, strength, (*SHARED, *CONDITIONAL))
                seen = float(patient_losses(held, less, device).mean())
                if seen < lowest:
                    best, lowest = less, seen
    return best


def _penalty(weights: Any) -> torch.Tensor:
    """Negative log density of Gaussian weights; scales, which are learned from tails, are held stiffer than shifts."""
    total: torch.Tensor = weights["rest"].new_zeros(())
    for name in (*SHARED, *CONDITIONAL):
        scales, shifts = weights[name].chunk(2, dim=-1)
        total = total + (STIFF**2 * scales.square().sum() + shifts.square().sum()) / (2.0 * PRIOR**2)
    return total


def _loss(u: torch.Tensor, condition: torch.Tensor, weights: Any) -> torch.Tensor:
    """Negative log density ``(n,)`` of rows whose image is standard Gaussian, up to a constant."""
    e, log_det = forward(u, condition, weights)
    return 0.5 * e.square().sum(dim=1) - log_det


def patient_losses(held: Rows, weights: dict[str, np.ndarray], device: str | None) -> np.ndarray:
    """Mean loss of each held-out patient."""
    import torch

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device or "cpu")

    tensors, loss = {name: put(value) for name, value in weights.items()}, np.zeros(len(held.u))
    with torch.no_grad():
        for cell, condition in enumerate(held.conditions):  # one set of weights per cell
            rows = np.flatnonzero(held.cell == cell)
            loss[rows] = _loss(put(held.u[rows]), put(condition[None]), tensors).cpu().numpy()
    _, patient = np.unique(held.patient, return_inverse=True)
    return np.asarray(np.bincount(patient, loss) / np.bincount(patient))
