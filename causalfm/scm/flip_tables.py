"""Rates of changed decisions with intervals by patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.cohort import Factor
from causalfm.confidence import alpha_in_force, level_in_force
from causalfm.scm.flip_counts import Asked, Counts
from causalfm.scm.refits import quantile
from causalfm.wilson import wilson_interval

PER = 1000.0
ANY = "any other"
ALL = "all"
NOTHING = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class FlipRate:
    """How often decisions change, and how scores move.

    Attributes
    ----------
    source, target, biology
        Level seen, level set, class; ``"any other"`` level, ``"all"`` classes.
    decisions, patients
        Rows moved and the independent units they belong to.
    flips, low, high
        Per 1,000 decisions with interval.
    chance
        Flips per 1,000 decisions that errors of the model of the embedding give alone.
    shift
        Per class mean change of the score, with interval: ``(value, low, high)``; ends are ``nan`` where all patients
        are in one fold.
    """

    source: str
    target: str
    biology: str
    decisions: int
    patients: int
    flips: float
    low: float
    high: float
    chance: float
    shift: dict[str, tuple[float, float, float]]

    def row(self) -> dict[str, Any]:
        """Return a flat row for a frame."""
        row = {"source": self.source, "target": self.target, "biology": self.biology, "flips_per_1000": self.flips}
        row |= {"low": self.low, "high": self.high, "chance": self.chance}
        row |= {"decisions": self.decisions, "patients": self.patients}
        for name, (value, low, high) in self.shift.items():
            row |= {f"shift:{name}": value, f"shift_low:{name}": low, f"shift_high:{name}": high}
        return row


def rates_of(
    found: Counts, asked: Asked, biology: Factor, units: Factor
) -> tuple[tuple[FlipRate, ...], tuple[FlipRate, ...], FlipRate | None]:
    """Turn counts into rates.

    Parameters
    ----------
    found, asked
        Counts and the question.
    biology, units
        Class and independent unit of each row.

    Returns
    -------
    pairs, who : tuple of FlipRate
        Per ordered pair of levels; per source level and per class there.
    worst : FlipRate or None
        The pair with the largest rate; its interval holds jointly over all pairs (Bonferroni).
    """
    levels, source = asked.levels, asked.source
    L, B = len(levels), biology.n_levels
    classes = asked.by.classes[-1:] if asked.by.single else asked.by.classes

    def rate(s: int, b: int | None, t: int | None, level: float | None = None) -> FlipRate:
        pick = np.zeros((L, B, L), dtype=bool)
        pick[s, slice(None) if b is None else b, slice(None) if t is None else t] = True
        here = (source == s) & (True if b is None else biology.codes == b)
        ever = (found.moved[slice(None) if t is None else [t]] & here).any(axis=0)
        names = levels[s], ANY if t is None else levels[t], ALL if b is None else biology.levels[b]
        return _rate(names, found, pick, len(np.unique(units.codes[ever])), classes, level)

    ordered = [(s, t) for s in range(L) for t in range(L) if s != t]
    pairs = tuple(rate(s, None, t) for s, t in ordered)
    who = [rate(s, b, None) for s in range(L) for b in (None, *range(B))]
    seen = [(p.flips, -i) for i, p in enumerate(pairs) if p.decisions]
    worst = None
    if seen:
        s, t = ordered[-max(seen)[1]]
        worst = rate(s, None, t, 1.0 - alpha_in_force() / len(seen))
    return pairs, tuple(r for r in who if r.decisions), worst


def _rate(
    names: tuple[str, str, str],
    found: Counts,
    pick: np.ndarray,
    patients: int,
    classes: tuple[str, ...],
    level: float | None,
) -> FlipRate:
    decisions = int(found.rows[pick].sum())
    if not decisions:
        return FlipRate(*names, 0, 0, *NOTHING, np.nan, dict.fromkeys(classes, NOTHING))
    weight = found.weight[:, pick].sum(axis=1)
    used = weight > 0  # without a fold nothing may be left
    shares = (found.flips[:, pick].sum(axis=1)[used]) / weight[used]
    means = found.shift[:, pick].sum(axis=1)[used] / weight[used, None]
    t = quantile(len(shares) - 1, patients, level)
    spread = used.all()  # else all of them are in one fold, and how patients differ is not seen
    variance = float(_variance(shares[1:, None])[0]) if spread else 0.0
    low, high = wilson(float(shares[0]), variance, patients, decisions, t)
    drawn = found.drawn[:, pick].sum(axis=1) / weight[0]
    if len(drawn) and shares[0] <= np.quantile(drawn, level_in_force()):
        low = 0.0
    chance = float(drawn.mean()) if len(drawn) else np.nan
    half = t * np.sqrt(_variance(means[1:])) if spread else np.full(len(means[0]), np.nan)
    shift = {c: (float(v), float(v - h), float(v + h)) for c, v, h in zip(classes, means[0], half, strict=True)}
    rates = PER * float(shares[0]), PER * low, PER * high, PER * chance
    return FlipRate(*names, decisions, patients, *rates, shift)


def _variance(without: np.ndarray) -> np.ndarray:
    """Jackknife variances ``(c,)`` of answers ``(m, c)`` without each fold."""
    m = len(without)
    return np.asarray((m - 1) / m * ((without - without.mean(axis=0)) ** 2).sum(axis=0))


def wilson(share: float, variance: float, patients: int, decisions: int, t: float) -> tuple[float, float]:
    """Wilson's interval of a share with the number of decisions that its variance amounts to.

    Parameters
    ----------
    share, variance
        The share and its variance by patient; where no patient differs, a patient counts as one decision.
    patients, decisions
        Counts.
    t
        Quantile.
    """
    inner = (share * patients + 0.5) / (patients + 1.0)  # a share of 0 says little of how shares vary
    size = inner * (1.0 - inner)
    spread = max(variance / size, 1.0 / decisions) if variance > 0 else 1.0 / patients
    # few changes estimate their own spread badly: one patient's worth of it is that of patients who change as a whole
    n = max(1.0, (patients * size + 1.0) / (patients * size * spread + 1.0 / patients))
    low, high = wilson_interval(share, n, t)
    return float(low), float(high)
