"""A map of embeddings trained against an adversary that reads the factor from them, by gradient reversal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

BATCH, EVERY, PATIENCE = 256, 25, 8
RATE, LAYERS, READERS = 1e-2, 1e-3, 2e-2  # step sizes: directions, hidden layer, adversary and read-out of biology
AVERAGED = 0.98  # a game circles its equilibrium: the running mean of its weights comes nearer

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Players:
    """What plays: ``linear`` map and adversary, or both with one hidden layer of ``width``; ``steps`` at most."""

    linear: bool
    width: int
    steps: int
    device: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Whitened rows ``u (n, d)`` and what is known of them.

    Attributes
    ----------
    u
        ``(n, d)`` float32.
    level
        ``(n,)`` what the adversary reads.
    given
        ``(n, q)`` biology and covariates, which the adversary sees.
    biology
        ``(n,)`` classes to be kept readable, or None.
    unit
        ``(n,)`` codes of the patients (rows): they weigh equally.
    n_levels
        Levels of the factor, whether or not these rows have all of them.
    """

    u: np.ndarray
    level: np.ndarray
    given: np.ndarray
    biology: np.ndarray | None
    unit: np.ndarray
    n_levels: int

    def part(self, rows: np.ndarray) -> Rows:
        """Return the rows at a mask or at positions."""
        biology = None if self.biology is None else self.biology[rows]
        return Rows(self.u[rows], self.level[rows], self.given[rows], biology, self.unit[rows], self.n_levels)

    def weight(self) -> np.ndarray:
        """``(n,)``: patients equal, adding up to 1."""
        weight = 1.0 / np.bincount(self.unit)[self.unit]
        return np.asarray(weight / weight.sum())


def moved(u: Any, weights: Mapping[str, Any]) -> Any:
    """Apply a map to whitened rows of NumPy or torch: ``p = u - u V V'``, then ``p + f(p A) B`` with layers."""
    out = u - (u @ weights["axes"]) @ weights["axes"].T
    if "bias" not in weights:
        return out
    inner = out @ weights["into"] + weights["bias"]
    return out + (inner * (inner > 0)) @ weights["back"]


def still_map(d: int, n_levels: int, players: Players, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a map that moves nothing."""
    axes = np.zeros((d, min(n_levels - 1, d)))
    if players.linear:
        return {"axes": axes}
    into = rng.standard_normal((d, players.width)) / np.sqrt(d)
    return {"axes": axes, "into": into, "bias": np.zeros(players.width), "back": np.zeros((players.width, d))}


def play(
    rows: Rows, strength: float, players: Players, judge: Callable[[Weights], float], rng: np.random.Generator
) -> tuple[Weights, int]:
    """Train a map at one strength and stop early.

    Parameters
    ----------
    rows
        To learn from.
    strength
        Weight of the adversary's reversed gradient, beside mean squared movement per dimension and the loss of reading
        biology.
    players
        Shapes, number of steps, device.
    judge
        Gives the loss of a map on held-out patients; the lowest wins, and some time without gain ends the game.
    rng
        Source of first weights and batches; torch's generators are not touched.

    Returns
    -------
    weights : dict
        Of the map; one that moves nothing where no other was better.
    step : int
        Where it was found.
    """
    import torch

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=players.device or "cpu")

    best = still_map(rows.u.shape[1], rows.n_levels, players, rng)
    start = {**best, "axes": rng.standard_normal(best["axes"].shape) / np.sqrt(len(best["axes"]))}
    own, mean = ({name: put(value) for name, value in start.items()} for _ in range(2))
    readers = [put(value) for value in _readers(rows, players, rng)]
    for value in (*own.values(), *readers):
        value.requires_grad_()
    layers = [value for name, value in own.items() if name != "axes"]
    rates = [([own["axes"]], RATE), (layers, LAYERS), (readers, READERS)]
    optimiser = torch.optim.Adam([{"params": values, "lr": rate} for values, rate in rates if values])
    data = [put(rows.u), torch.as_tensor(rows.level).to(own["axes"].device), put(rows.given)]
    if rows.biology is not None:
        data.append(torch.as_tensor(rows.biology).to(own["axes"].device))
    lowest, found, ends = judge(best), 0, np.cumsum(rows.weight())
    for step in range(1, players.steps + 1):
        drawn = np.searchsorted(ends, rng.random(BATCH) * ends[-1]).clip(max=len(ends) - 1)  # patients alike
        optimiser.zero_grad()
        at = torch.as_tensor(drawn, device=own["axes"].device)
        upright = {**own, "axes": torch.linalg.qr(own["axes"])[0]}
        _loss([part[at] for part in data], upright, readers, strength).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for name, value in own.items():
                mean[name].lerp_(value, 1.0 - AVERAGED)
        if step % EVERY == 0 or step == players.steps:
            now = {name: value.cpu().numpy().astype(np.float64) for name, value in mean.items()}
            now["axes"] = np.linalg.qr(now["axes"])[0]
            if (loss := judge(now)) < lowest:
                best, lowest, found = now, loss, step
            elif step - found >= PATIENCE * EVERY:
                break
    return best, found


def _readers(rows: Rows, players: Players, rng: np.random.Generator) -> list[np.ndarray]:
    """First weights, by layer: an affine read-out of biology, if any; an affine adversary; its hidden layer, if any."""
    d, levels = rows.u.shape[1], rows.n_levels
    seen = d + rows.given.shape[1]
    sizes = [(seen, levels)] if players.linear else [(seen, levels), (seen, players.width), (players.width, levels)]
    if rows.biology is not None:
        sizes.insert(0, (d, int(rows.biology.max()) + 1))
    out: list[np.ndarray] = []
    for a, b in sizes:
        out += [rng.standard_normal((a, b)) / np.sqrt(a), np.zeros(b)]
    return out


def _loss(
    batch: list[torch.Tensor], own: dict[str, torch.Tensor], readers: list[torch.Tensor], strength: float
) -> torch.Tensor:
    import torch
    from torch.nn.functional import cross_entropy

    u, level, given = batch[:3]
    z = moved(u, own)
    total: torch.Tensor = (z - u).square().mean()
    if len(batch) > 3:
        total = total + cross_entropy(z @ readers[0] + readers[1], batch[3])
        readers = readers[2:]
    seen = torch.cat([(1.0 + strength) * z.detach() - strength * z, given], dim=1)  # z; its gradient times -strength
    read = seen @ readers[0] + readers[1]
    if len(readers) > 2:
        read = read + (seen @ readers[2] + readers[3]).relu() @ readers[4] + readers[5]
    return total + cross_entropy(read, level)
