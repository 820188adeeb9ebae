"""Where the drop lies: inputs that leave, the same inputs, inputs that are new (DISDE), on scores or embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from causalfm.arguments import check_seed
from causalfm.confidence import bounds_in_force, level_in_force
from causalfm.errors import DataError
from causalfm.metrics.learners import grouped_folds
from causalfm.results import Result, Verdict, verdict_against, worst
from causalfm.shift.costs.labelled_rows import pooled_drop
from causalfm.shift.domains import Domains
from causalfm.shift.reasons.attribution_result import drop_words, interval
from causalfm.shift.reasons.swap_ratios import effective_units, log_odds
from causalfm.shift.reasons.swap_table import CURVE, MAIN, natural_spline

On = Literal["scores", "embeddings"]
FOLDS = 5
DIRECTIONS = 10  # of the embeddings
MINIMUM = 20  # labelled units of the deployment, and effective units of the shared inputs in each domain
LEAST_SCORE = 1e-6
BLOCK = 4096  # rows
NAN = float("nan")
NAMES = ("out of the reference", "same inputs", "new inputs")
WORDS = (
    "inputs of the reference that are rarer at the deployment",
    "another accuracy on the same inputs",
    "inputs that are new, or more frequent, at the deployment",
)


@dataclass(frozen=True)
class Part:
    """One part of the drop: ``name``, ``value``, 95 % interval ``low`` to ``high``, and what it is in words."""

    name: str
    value: float
    low: float
    high: float
    sentence: str


@dataclass(frozen=True)
class SupportSplit(Result):
    """The drop in accuracy by where the inputs lie. Parts add up to it; they are not shares of mechanisms.

    Attributes
    ----------
    drop, low, high
        Accuracy in the reference less that at the deployment, with its 95 % interval.
    parts
        From the reference to the inputs that both have, on these inputs, and from them to the deployment.
    overlap
        1 where the inputs of the two domains are alike, 0 where they have nothing in common.
    verdict
        The worst of the parts against the margin; without one ``"pass"`` where there are parts. ``"cannot tell"`` with
        too few labels or shared inputs.
    sentence
        In words.
    n, n_groups, unit
        Labelled rows, independent units of both domains, and what they are.
    details
        ``"on"``, effective units, settings.
    """

    drop: float
    low: float
    high: float
    parts: tuple[Part, ...]
    overlap: float
    verdict: Verdict
    sentence: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per part, and the total."""
        rows = [{name: getattr(part, name) for name in ("name", "value", "low", "high")} for part in self.parts]
        return [*rows, {"name": "all", "value": self.drop, "low": self.low, "high": self.high}]


def support_split(
    domains: Domains, *, on: On = "scores", margin: float | None = None, random_state: int | None = None
) -> SupportSplit:
    """Split the drop into inputs that leave, another accuracy on the same inputs, and inputs that are new.

    Parameters
    ----------
    domains
        Reference and deployment; labelled rows count, as a random sample of their domain.
    on
        What an input is: the model's ``"scores"`` (log ratios of probabilities, each counted as
        1e-6 at least) or the leading directions of the
        ``"embeddings"``. On scores a shift is one that the model sees.
    margin
        Loss that one part may cause; None: no judgement.
    random_state
        Seed of the folds; the domains' by default.

    Returns
    -------
    SupportSplit
        Three parts with intervals clustered by unit.

    Raises
    ------
    DataError
        ``on`` is neither.

    Notes
    -----
    With ``e(x)`` the probability that an input comes from the deployment (both domains weighing the same), the shared
    inputs have the density ``p q / (p + q)``; means over them are ``E[e (1 - e) m_d(x)] / E[e (1 - e)]``. Estimated by
    their efficient influence function: an error of ``e`` counts only times another error. Both nuisances are fitted
    without the patient. Scores of the two domains must be on one scale: where heads of unlike sharpness score the
    reference and the deployment, that is a shift of the inputs too.

    References
    ----------
    Cai, Namkoong and Yadlowsky, Diagnosing model performance under distribution shift, arXiv:2303.02011; Li, Morgan and
    Zaslavsky, Balancing covariates via propensity score weighting, JASA 113 (2018) 390-400.
    """
    seed = domains.random_state if random_state is None else random_state
    check_seed(seed)
    if on not in ("scores", "embeddings"):
        raise DataError(f"on={on!r}: choose 'scores' or 'embeddings'.")
    sample = _sample(domains, on)
    sizes = np.bincount(sample.domain[np.unique(sample.units, return_index=True)[1]], minlength=2)
    unit = domains.graph.group
    settings: dict[str, Any] = {"on": on, "labelled": int(sizes[1]), "folds": FOLDS, "random_state": seed}
    settings["target"] = "these hospitals: patients drawn anew from the reference's and the deployment's"
    about = (len(sample.domain), int(sizes.sum()), unit)
    if sizes[1] < MINIMUM:
        words = f"Cannot tell: {sizes[1]} {unit}s of the deployment are labelled, and {MINIMUM} are needed."
        return SupportSplit(NAN, NAN, NAN, (), NAN, "cannot tell", words, *about, settings)
    folds = grouped_folds(sample.domain, sample.units, FOLDS, seed)
    e, m0, m1 = _nuisances(sample, folds)
    found = _split(sample, e, m0, m1)
    settings["effective"] = [_effective(sample, e, side) for side in (0, 1)]
    drop = float(found.values[0] - found.values[3]), *pooled_drop(domains)[1:]
    steps = ([1.0, -1.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 1.0, -1.0])
    if min(settings["effective"]) < MINIMUM:
        words = (
            f"Cannot tell: the {on} that both domains have leave {min(settings['effective']):.0f} effective {unit}s of "
            f"{MINIMUM} needed. The drop of {interval(*drop)} lies where the two do not overlap."
        )
        return SupportSplit(*drop, (), found.overlap, "cannot tell", words, *about, settings)
    parts = tuple(Part(n, *found.estimate(step), w) for n, step, w in zip(NAMES, steps, WORDS, strict=True))
    listed = "; ".join(f"{interval(p.value, p.low, p.high)} is {p.sentence}" for p in parts)
    words = f"{drop_words(*drop)}, by {on}: {listed}."
    verdict: Verdict = "pass"
    if margin is not None:
        settings["margin"] = margin
        verdict = worst([verdict_against(*found.estimate(step, bounds_in_force())[1:], margin) for step in steps])
    return SupportSplit(*drop, parts, found.overlap, verdict, words, *about, settings)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Labelled rows of both domains; ``weights`` of each domain add up to 1 / 2."""

    domain: np.ndarray
    units: np.ndarray
    weights: np.ndarray
    hit: np.ndarray
    design: np.ndarray
    size: np.ndarray


def _sample(domains: Domains, on: On) -> _Sample:
    sides = (domains.reference, domains.deployment)
    known = [side.known for side in sides]
    domain = np.repeat([0, 1], [int(k.sum()) for k in known])
    shift = int(sides[0].units.max()) + 1
    raw = np.concatenate([sides[0].units[known[0]], sides[1].units[known[1]] + shift])
    units = np.unique(raw, return_inverse=True)[1].reshape(-1)
    weights = 1.0 / np.bincount(units)[units]
    weights /= 2.0 * np.bincount(domain, weights, 2)[domain]
    hit = np.concatenate([(s.scores.argmax(axis=1) == s.labels)[k] for s, k in zip(sides, known, strict=True)])
    if on == "scores":
        scores = np.concatenate([s.scores[k] for s, k in zip(sides, known, strict=True)])
        logs = np.log(np.maximum(scores, LEAST_SCORE))
        # the log odds of two classes; of more, each against all, so that none is special
        inputs = logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs - logs.mean(axis=1, keepdims=True)
    else:
        inputs = _directions([s.cohort.X for s in sides], known)
    parts, sizes = [np.ones((len(domain), 1))], [np.array([np.inf])]
    for column in inputs.T:
        parts.append(natural_spline(column, weights))
        sizes.append(np.array([MAIN, *[MAIN if on == "scores" else CURVE] * (parts[-1].shape[1] - 1)]))
    if on == "scores":  # accuracy jumps where the predicted class changes
        parts.append(np.eye(scores.shape[1])[scores.argmax(axis=1)])
        sizes.append(np.full(parts[-1].shape[1], MAIN / 2.0**0.5))
    design, size = np.concatenate(parts, axis=1), np.concatenate(sizes)
    return _Sample(domain, units, weights, hit.astype(float), design, size)


def _directions(matrices: list[np.ndarray], known: list[np.ndarray]) -> np.ndarray:
    """Project on the leading directions of the pooled embeddings: no labels, so that no folds are needed."""
    rows = [np.flatnonzero(k) for k in known]
    blocks = [
        (m, r[start : start + BLOCK]) for m, r in zip(matrices, rows, strict=True) for start in range(0, len(r), BLOCK)
    ]
    n, d = sum(map(len, rows)), matrices[0].shape[1]
    total, gram = np.zeros(d), np.zeros((d, d))
    for matrix, where in blocks:
        part = np.asarray(matrix[where], dtype=np.float64)
        total, gram = total + part.sum(axis=0), gram + part.T @ part
    gram -= np.outer(total, total) / n
    vectors = np.linalg.eigh(gram)[1][:, ::-1][:, :DIRECTIONS]
    projected = [np.asarray(matrix[where], dtype=np.float64) @ vectors for matrix, where in blocks]
    return np.asarray(np.concatenate(projected) - total / n @ vectors)


def _nuisances(sample: _Sample, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of the deployment and accuracy in each domain, from patients in other folds."""
    out = np.zeros((3, len(folds)))
    scale = float(len(np.unique(sample.units)))  # the prior weighs against units
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        for row, rows, target in (
            (0, train, sample.domain.astype(float)),
            (1, train & (sample.domain == 0), sample.hit),
            (2, train & (sample.domain == 1), sample.hit),
        ):
            beta = log_odds(sample.design[rows], sample.size, target[rows], scale * sample.weights[rows])
            out[row, test] = 1.0 / (1.0 + np.exp(-sample.design[test] @ beta))
    return out[0], out[1], out[2]


@dataclass(frozen=True, eq=False)
class _Means:
    """Accuracy in the reference, on the shared inputs in each domain, and at the deployment, with influences."""

    values: np.ndarray
    influence: np.ndarray
    domain: np.ndarray
    overlap: float

    def estimate(self, contrast: list[float], level: float | None = None) -> tuple[float, float, float]:
        psi, value, variance, squares = self.influence @ contrast, float(self.values @ contrast), 0.0, 0.0
        for side in (0, 1):
            mine = psi[self.domain == side]
            part = float(((mine - mine.mean()) ** 2).sum()) * len(mine) / (len(mine) - 1)
            variance, squares = variance + part, squares + part**2 / (len(mine) - 1)
        variance = max(variance, 1e-24)
        df = min(variance**2 / max(squares, 1e-60), len(psi) - 2)
        half = float(stats.t.ppf(0.5 + level_in_force(level) / 2.0, df)) * variance**0.5
        return value, value - half, value + half


def _split(sample: _Sample, e: np.ndarray, m0: np.ndarray, m1: np.ndarray) -> _Means:
    T, w, hit = sample.domain.astype(float), sample.weights, sample.hit
    square = (T - e) ** 2  # e (1 - e) with its correction, as T is 0 or 1
    shared = [(1.0 - T) * e * (hit - m0) + m0 * square, T * (1.0 - e) * (hit - m1) + m1 * square]
    bottom = float(w @ square)
    pure = [float(2.0 * (w * (side == T)) @ hit) for side in (0, 1)]
    means = [float(w @ part) / bottom for part in shared]
    rows = [2.0 * (T == 0) * (hit - pure[0])]
    rows += [(part - mean * square) / bottom for part, mean in zip(shared, means, strict=True)]
    rows.append(2.0 * (T == 1) * (hit - pure[1]))
    units = int(sample.units.max()) + 1
    influence = np.stack([np.bincount(sample.units, w * row, units) for row in rows], axis=1)
    domain = np.zeros(units, dtype=np.int64)
    domain[sample.units] = sample.domain
    return _Means(np.array([pure[0], *means, pure[1]]), influence, domain, min(4.0 * bottom, 1.0))


def _effective(sample: _Sample, e: np.ndarray, side: int) -> float:
    """Kish's effective units, times the share of the domain's inputs that the other has: equal weights may be all 0."""
    rows = sample.domain == side
    weights, share = sample.weights[rows], (e if side == 0 else 1.0 - e)[rows]
    return effective_units(share, weights, sample.units[rows]) * min(1.0, 4.0 * float((weights * share).sum()))
