"""The steps that train a robust head: mini-batches, warm-up, penalty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from causalfm.training.adversaries import DomainAdversary
from causalfm.training.covariance_gaps import coral
from causalfm.training.domain_risks import group_dro, irm, next_group_weights, vrex
from causalfm.training.kernel_penalties import conditional_hsic, conditional_mmd, hsic, mmd
from causalfm.training.layer_gradients import fishr, iga
from causalfm.training.risk_distributions import eqrm, rdm
from causalfm.training.shrinkage import information_bottleneck, spectral_decoupling

PENALTIES: dict[str, Callable[..., torch.Tensor]] = {
    "irm": irm,
    "vrex": vrex,
    "group_dro": group_dro,
    "coral": coral,
    "mmd": mmd,
    "conditional_mmd": conditional_mmd,
    "hsic": hsic,
    "conditional_hsic": conditional_hsic,
    "fishr": fishr,
    "iga": iga,
    "information_bottleneck": information_bottleneck,
    "spectral_decoupling": spectral_decoupling,
    "eqrm": eqrm,
    "rdm": rdm,
}
OF_THE_LAYER = {"fishr", "iga"}  # read what the last layer reads; the others the head's own features or its logits
ADVERSARIES = ("dann", "cdann")
WITHOUT = {"erm", "group_dro", "eqrm"}  # add nothing to the risk; the last two change it
NAMES = ("erm", *PENALTIES, *ADVERSARIES)
WARM_UP = 0.25  # share of the steps before the penalty counts: there is nothing to make invariant yet
EARLY = {"irm": 1.0, "vrex": 1.0}  # most that a penalty counts in the warm-up, as in DomainBed; the others nothing
DRO_STEP = 0.05
ROUNDING = 1e-5  # gradients far below it are that of a float32 sum: Adam would make whole steps of them


@dataclass(frozen=True)
class Recipe:
    """Settings of :class:`causalfm.training.RobustHead`."""

    penalty: str
    strength: float
    hidden: int
    decay: float
    steps: int
    batch: int
    rate: float
    random_state: int
    device: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Standardised float32 rows ``z (n, d)``, codes of class, environment and stratum, and weights of sum 1."""

    z: np.ndarray
    y: np.ndarray
    env: np.ndarray
    given: np.ndarray
    weight: np.ndarray


def trained_weights(rows: Rows, recipe: Recipe) -> dict[str, np.ndarray]:
    """Train a head.

    Parameters
    ----------
    rows
        To learn from.
    recipe
        Settings, checked.

    Returns
    -------
    dict
        ``weight (k, m)`` and ``bias (k,)``; with a hidden layer ``into (m, d)`` and ``inner (m,)``.
    """
    training = _Training(rows, recipe)
    for step in range(recipe.steps):
        training.step(late=step >= int(WARM_UP * recipe.steps))
    return {name: value.detach().cpu().numpy().astype(np.float64) for name, value in training.own.items()}


class _Training:
    """Weights, optimiser, and the state of penalties that have one."""

    def __init__(self, rows: Rows, recipe: Recipe) -> None:
        self.recipe, self.rng = recipe, np.random.default_rng(recipe.random_state)
        self.device = torch.device(recipe.device or "cpu")
        n, k, n_env = len(rows.z), int(rows.y.max()) + 1, int(rows.env.max()) + 1
        parts = (rows.z, rows.y, rows.env, rows.given, (n * rows.weight).astype(np.float32))
        self.parts = [torch.as_tensor(part).to(self.device) for part in parts]
        self.ends = np.cumsum(rows.weight)
        first = _first(self.rng, rows.z.shape[1], recipe.hidden, k)
        self.own = {name: torch.as_tensor(value).to(self.device).requires_grad_() for name, value in first.items()}
        self.adversary = self._adversary(recipe.hidden or k, n_env, k)
        self.q = torch.full((n_env,), 1.0 / n_env, device=self.device)
        self.optimiser, self.late = self._adam(), False

    def _adam(self) -> torch.optim.Adam:
        more = [] if self.adversary is None else list(self.adversary.parameters())
        return torch.optim.Adam([*self.own.values(), *more], lr=self.recipe.rate, eps=ROUNDING)

    def _adversary(self, width: int, n_env: int, k: int) -> DomainAdversary | None:
        if self.recipe.penalty not in ADVERSARIES:
            return None
        classes = k if self.recipe.penalty == "cdann" else None
        with torch.random.fork_rng(devices=[]):  # torch.manual_seed would seed every GPU too, for good
            torch.default_generator.manual_seed(int(self.rng.integers(2**31)))
            return DomainAdversary(width, n_env, n_classes=classes, strength=self.recipe.strength).to(self.device)

    def _batch(self) -> list[torch.Tensor]:
        """All rows with their weights, or some drawn by weight, which then weigh the same.

        IRM always draws: its unbiased square may be negative, and of the same rows again and again it would be made so
        by slopes that differ much, not by slopes near 0. Of rows drawn anew it is on average the square of their mean.
        """
        n, size = len(self.ends), self.recipe.batch
        if n <= size and self.recipe.penalty != "irm":
            return self.parts
        drawn = np.searchsorted(self.ends, self.rng.random(min(n, size)) * self.ends[-1]).clip(max=n - 1)
        at = torch.as_tensor(drawn).to(self.device)
        return [*(part[at] for part in self.parts[:-1]), torch.ones(len(drawn), device=self.device)]

    def step(self, late: bool) -> None:
        """One step; from the first late one on the penalty counts."""
        if late and not self.late:
            self.optimiser, self.late = self._adam(), True  # another loss: its moments are not those
        z, y, env, given, w = self._batch()
        own, recipe = self.own, self.recipe
        inner = (z @ own["into"].T + own["inner"]).relu() if recipe.hidden else z
        logits = inner @ own["weight"].T + own["bias"]
        loss = self._risk(logits, y, env, w, late)
        strength = recipe.strength if late else min(recipe.strength, EARLY.get(recipe.penalty, 0.0))
        if strength > 0 and recipe.penalty not in WITHOUT:
            loss = loss + self._penalty(strength, inner, logits, y, env, given, w)
        for name in ("weight", "into"):
            if name in own:
                loss = loss + 0.5 * recipe.decay * own[name].square().sum()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def _risk(
        self, logits: torch.Tensor, y: torch.Tensor, env: torch.Tensor, w: torch.Tensor, late: bool
    ) -> torch.Tensor:
        """Mean loss of the rows; two methods put something else in its place."""
        recipe = self.recipe
        if late and recipe.penalty == "group_dro":
            self.q = next_group_weights(self.q, logits, y, env, w, step=DRO_STEP * recipe.strength)
            return group_dro(None, logits, y, env, w, q=self.q)
        if late and recipe.penalty == "eqrm":
            return eqrm(None, logits, y, env, w, quantile=NormalDist().cdf(recipe.strength))
        return (w * cross_entropy(logits, y, reduction="none")).sum() / w.sum()

    def _penalty(
        self, strength: float, inner: torch.Tensor, logits: torch.Tensor, *codes: torch.Tensor
    ) -> torch.Tensor:
        y, env, given, w = codes
        name, own = self.recipe.penalty, self.recipe.hidden or self.recipe.penalty in OF_THE_LAYER
        features = inner if own else logits - logits.mean(dim=1, keepdim=True)
        if self.adversary is not None:
            value: torch.Tensor = self.adversary(features, logits, y, env, w)
            return value
        more = {"given": given} if name.startswith("conditional") else {}
        return strength * PENALTIES[name](features, logits, y, env, w, **more)


def _first(rng: np.random.Generator, d: int, hidden: int, k: int) -> dict[str, np.ndarray]:
    if not hidden:
        out = {"weight": np.zeros((k, d)), "bias": np.zeros(k)}
    else:
        out = {"into": rng.standard_normal((hidden, d)) * np.sqrt(2.0 / d), "inner": np.zeros(hidden)}
        out |= {"weight": rng.standard_normal((k, hidden)) / np.sqrt(hidden), "bias": np.zeros(k)}
    return {name: value.astype(np.float32) for name, value in out.items()}
