"""A map of embeddings trained against an adversary that reads the factor from them, by gradient reversal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.gradient_reversal import reversed_gradient
from causalfm.singular_values import orthonormal

if TYPE_CHECKING:
    import torch

BATCH, EVERY, PATIENCE = 256, 25, 8
RATE, LAYERS, READERS = 1e-2, 1e-3, 2e-2  # step sizes: directions, or hidden layer; adversary and read-out of biology
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
    """Apply a map to whitened rows of NumPy or torch: ``h = u + f(u A + b) B``, then ``h - (h - m) V V'``."""
    out = u
    if "bias" in weights:
        inner = u @ weights["into"] + weights["bias"]
        out = u + (inner * (inner > 0)) @ weights["back"]
    return out - ((out - weights["middle"]) @ weights["axes"]) @ weights["axes"].T


def still_map(d: int, players: Players, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a map that moves nothing."""
    nothing = {"axes": np.zeros((d, 0)), "middle": np.zeros(d)}
    if players.linear:
        return nothing
    into = rng.standard_normal((d, players.width)) / np.sqrt(d)
    return {**nothing, "into": into, "bias": np.zeros(players.width), "back": np.zeros((players.width, d))}


def erased(rows: Rows, weights: Weights) -> dict[str, np.ndarray]:
    """Return a map with the projection after which a linear reader of these rows finds nothing, in closed form.

    The factor less its regression on what is given has no covariance with the rows in the plane that is left. On
    whitened rows without layers it is LEACE.
    """
    weight = rows.weight()
    root = np.sqrt(weight)[:, None]
    design = root * np.concatenate([np.ones((len(rows.level), 1)), rows.given], axis=1)
    factor = root * np.eye(rows.n_levels)[rows.level]
    factor -= design @ np.linalg.lstsq(design, factor, rcond=1e-10)[0]
    d = len(weights["middle"])
    u = moved(rows.u, {**weights, "axes": np.zeros((d, 0))})
    return {**weights, "axes": orthonormal((root * u).T @ factor), "middle": weight @ u}


def play(
    rows: Rows,
    strength: float,
    players: Players,
    judge: Callable[[Weights], float] | None,
    rng: np.random.Generator,
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
    best: Weights = erased(rows, still_map(rows.u.shape[1], players, rng))
    lowest, found = np.inf if judge is None else judge(best), 0
    game = _Game(rows, strength, players, best, rng)
    for step in range(1, players.steps + 1):
        game.turn()
        if step == players.steps or (judge is not None and step % EVERY == 0):
            now = game.weights()
            if (loss := -np.inf if judge is None else judge(now)) < lowest:
                best, lowest, found = now, loss, step
            elif step - found >= PATIENCE * EVERY:
                break
        elif step % EVERY == 0:
            game.weights()
    return best, found


class _Game:
    """Weights of the players, those of the map averaged, and the optimiser."""

    def __init__(self, rows: Rows, strength: float, players: Players, start: Weights, rng: np.random.Generator) -> None:
        import torch

        self.rows, self.strength, self.players, self.rng = rows, strength, players, rng
        self.own, self.mean = ({name: self._put(value) for name, value in start.items()} for _ in range(2))
        self.trained = ["axes"] if players.linear else ["into", "bias", "back"]
        self.readers = [self._put(value) for value in _readers(rows, players, rng)]
        own = [self.own[name] for name in self.trained]
        for value in (*own, *self.readers):
            value.requires_grad_()
        rates = [(own, RATE if players.linear else LAYERS), (self.readers, READERS)]
        self.optimiser = torch.optim.Adam([{"params": values, "lr": rate} for values, rate in rates])
        device = self.own["axes"].device
        self.data = [self._put(rows.u), torch.as_tensor(rows.level).to(device), self._put(rows.given)]
        if rows.biology is not None:
            self.data.append(torch.as_tensor(rows.biology).to(device))
        self.ends = np.cumsum(rows.weight())

    def _put(self, values: np.ndarray) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.float32, device=self.players.device or "cpu")

    def turn(self) -> None:
        """One step of all players on some rows, patients alike."""
        import torch

        drawn = np.searchsorted(self.ends, self.rng.random(BATCH) * self.ends[-1]).clip(max=len(self.ends) - 1)
        at = torch.as_tensor(drawn, device=self.own["axes"].device)
        own = {**self.own, "axes": torch.linalg.qr(self.own["axes"])[0]} if self.players.linear else self.own
        self.optimiser.zero_grad()
        _loss([part[at] for part in self.data], own, self.readers, self.strength).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            for name in self.trained:
                self.mean[name].lerp_(self.own[name], 1.0 - AVERAGED)

    def weights(self) -> dict[str, np.ndarray]:
        """Averaged weights; beside layers the projection is found anew, and played with from here on."""
        now = {name: value.detach().cpu().numpy().astype(np.float64) for name, value in self.mean.items()}
        if self.players.linear:
            return {**now, "axes": np.linalg.qr(now["axes"])[0]}
        now = erased(self.rows, now)
        self.own |= {name: self._put(now[name]) for name in ("axes", "middle")}
        return now


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
    seen = torch.cat([reversed_gradient(z, strength), given], dim=1)
    read = seen @ readers[0] + readers[1]
    if len(readers) > 2:
        read = read + (seen @ readers[2] + readers[3]).relu() @ readers[4] + readers[5]
    return total + cross_entropy(read, level)
