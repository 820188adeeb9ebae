"""What every penalty does first: check a batch, take it to full precision, code the environments that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from causalfm.errors import DataError, positions

USUAL = (1e-10, 1e10)  # largest weight of a batch that is cast as it is


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows with a positive weight.

    Attributes
    ----------
    features, logits, y
        ``(n, d)``, ``(n, k)`` and ``(n,)``; what a penalty does not read is empty.
    env
        ``(n,)`` codes from 0 of the environments that are here.
    levels
        ``(E,)`` what the codes stand for.
    weight
        ``(n,)`` not normalised.
    counts
        True if rows weigh the same.
    zero
        A 0 that gradients pass to the inputs of the penalty.
    """

    features: torch.Tensor
    logits: torch.Tensor
    y: torch.Tensor
    env: torch.Tensor
    levels: torch.Tensor
    weight: torch.Tensor
    counts: bool
    zero: torch.Tensor

    @property
    def n_env(self) -> int:
        """Environments that are here."""
        return len(self.levels)

    def part(self, rows: torch.Tensor) -> Batch:
        """Return the rows of a mask, environments coded anew."""
        levels, env = torch.unique(self.env[rows], return_inverse=True)
        features, logits, y = (value[rows] if len(value) else value for value in (self.features, self.logits, self.y))
        return replace(
            self, features=features, logits=logits, y=y, env=env, levels=self.levels[levels], weight=self.weight[rows]
        )

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """Add up rows ``(n, ...)`` by environment, in their order: equal environments have equal sums to the bit."""
        return values.new_zeros((self.n_env, *values.shape[1:])).index_add(0, self.env, values)

    def share(self) -> torch.Tensor:
        """``(n,)`` weight of a row in its environment."""
        return self.weight / self.summed(self.weight)[self.env]

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """``(E, ...)`` weighted means by environment."""
        share = self.share()
        return self.summed(values * share.reshape(-1, *[1] * (values.ndim - 1)))

    def losses(self) -> torch.Tensor:
        """``(n,)`` cross-entropy."""
        return torch.nn.functional.cross_entropy(self.logits, self.y, reduction="none")


@contextmanager
def full_precision(
    needs: Sequence[str],
    features: torch.Tensor | None,
    logits: torch.Tensor | None,
    y: torch.Tensor | None,
    env: torch.Tensor | None,
    weights: torch.Tensor | None,
) -> Iterator[Batch]:
    """Check what a penalty reads and compute it in float32 (float64 stays), autocast or not.

    Parameters
    ----------
    needs
        ``"env"``, and which of ``"features"``, ``"logits"`` and ``"y"`` are read; the others may be None.
    features, logits, y, env, weights
        As passed to the penalty.

    Yields
    ------
    Batch
        Rows of weight 0 are left out: they are as absent.

    Raises
    ------
    DataError
        Something missing, shapes, types or devices that do not fit, labels out of range, weights negative, infinite or
        all 0.
    """
    given = {"features": features, "logits": logits, "y": y, "env": env}
    used = {name: _settled(name, given[name]) for name in needs}
    first = next(iter(used.values()))
    n = len(first)
    lengths = {name: len(value) for name, value in used.items()}
    if len(set(lengths.values())) > 1 or not n:
        raise DataError(f"the batch has {lengths} rows: pass as many of each, at least one.")
    if len({value.device for value in used.values()}) > 1:
        places = ", ".join(f"{name} on {value.device}" for name, value in used.items())
        raise DataError(f"the batch lies on several devices ({places}): move all of it to one.")
    real = [value for value in used.values() if value.is_floating_point()]
    with torch.autocast(device_type=first.device.type, enabled=False):
        zero = sum((value[:0].sum() for value in real), torch.zeros((), device=first.device))
        weight = _weights(weights, n, real[0])
        none = weight.new_zeros((0, 0))
        parts = [used.get(name, none) for name in ("features", "logits", "y")]
        if (keep := weight > 0).logical_not().any():
            parts, weight = [value[keep] if len(value) else value for value in parts], weight[keep]
            used["env"] = used["env"][keep]
        if {"logits", "y"} <= set(needs):
            _check_labels(parts[2], parts[1].shape[1])
        levels, codes = torch.unique(used["env"], return_inverse=True)
        yield Batch(parts[0], parts[1], parts[2], codes, levels, weight, bool((weight == weight[0]).all()), zero)


def _settled(name: str, value: torch.Tensor | None) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{name} is {type(value).__name__}: this penalty reads it, pass a tensor.")
    codes = name in ("y", "env")
    if codes and (value.ndim != 1 or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        raise DataError(f"{name} has shape {tuple(value.shape)} and type {value.dtype}: pass integer codes (n,).")
    if not codes and (value.ndim != 2 or not value.is_floating_point() or (name == "logits" and value.shape[1] < 2)):
        least = ", one column per class, at least two" if name == "logits" else ""
        raise DataError(f"{name} has shape {tuple(value.shape)} and type {value.dtype}: pass floating (n, d){least}.")
    return value.long() if codes else value.to(torch.promote_types(value.dtype, torch.float32))


def _weights(weights: torch.Tensor | None, n: int, like: torch.Tensor) -> torch.Tensor:
    if weights is None:
        return like.new_ones(n)
    if not isinstance(weights, torch.Tensor) or weights.shape != (n,):
        shape = tuple(weights.shape) if isinstance(weights, torch.Tensor) else type(weights).__name__
        raise DataError(f"weights are {shape}: pass a tensor ({n},), one weight per row, or None.")
    wrong = ~torch.isfinite(weights) | (weights < 0)
    if bool(wrong.any()):
        raise DataError(f"weights are negative or not finite ({positions(wrong.nonzero()[:, 0].tolist())}): repair.")
    if not bool((weights > 0).any()):
        raise DataError("all weights are 0: no row is left, give some a positive weight.")
    if not USUAL[0] < (largest := float(weights.max())) < USUAL[1]:
        weights = weights / largest  # 1e-50 is a weight in float64 and would be 0 in float32; sums must not overflow
    return weights.to(like.device, like.dtype)


def _check_labels(y: torch.Tensor, k: int) -> None:
    wrong = (y < 0) | (y >= k)
    if bool(wrong.any()):  # on a GPU an index out of range would end the process
        rows = wrong.nonzero()[:, 0].tolist()
        raise DataError(f"y runs from 0 to {k - 1} for {k} logits; {len(rows)} labels do not ({positions(rows)}).")
