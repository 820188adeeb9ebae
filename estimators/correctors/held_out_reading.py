"""How well the factor and biology are read from rows of held-out patients, and which map is chosen by that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from causalfm.estimators.correctors.gradient_reversal import Players, Rows, Weights, moved, play, still_map

FEWEST = 20  # patients; with fewer nothing is learned
HELD_OUT = 0.25
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
RIDGE = 1e-2  # of a read-out, in units of the mean variance
MOST, FEATURES = 5_000, 256  # rows that are read; rectified random features beside them where maps are not linear


@dataclass(frozen=True)
class Choice:
    """What was chosen on held-out patients.

    Attributes
    ----------
    strength, step
        Of the reversed gradient, 0 if nothing is moved; where training was stopped.
    patients
        Held out; 0 if there were too few to learn anything.
    before, after
        Correlation of what a read-out finds in held-out patients with the factor, given biology and covariates.
    error
        Standard error of the difference, over patients.
    """

    strength: float
    step: int
    patients: int
    before: float
    after: float
    error: float


@dataclass(frozen=True, eq=False)
class Reading:
    """A read-out that is fitted anew to every map on the training patients, and scored on the held-out ones."""

    train: Rows
    held: Rows
    features: np.ndarray | None

    def of_factor(self, weights: Weights) -> np.ndarray:
        """Agreement ``(patients,)`` of what is read with the factor, both given biology and covariates.

        The mean is a correlation: 0 is chance, also for a read-out that learned noise, and 1 is perfect.
        """
        parts = (self.train, self.held)
        z = [moved(rows.u.astype(np.float64), weights) for rows in parts]
        found = [self._agreement(z)]
        if self.features is not None:  # a reader of many features overlooks what a linear one sees
            found.append(self._agreement([self._seen(v) for v in z]))
        return max(found, key=_from_chance)

    def _agreement(self, seen: list[np.ndarray]) -> np.ndarray:
        target = [np.eye(rows.n_levels)[rows.level] for rows in (self.train, self.held)]
        weight = self.train.weight()
        seen, target = (_less_given(both, self.train.given, self.held.given, weight) for both in (seen, target))
        read, unit = _read(seen, target[0], weight), self.held.unit
        product, sizes = (read * target[1]).sum(axis=1), [(v**2).sum(axis=1) for v in (read, target[1])]
        scale = np.sqrt(np.prod([_by_unit(size, unit).mean() for size in sizes]))
        return np.asarray(_by_unit(product, unit) / max(scale, 1e-300))

    def of_biology(self, weights: Weights) -> np.ndarray:
        """Squared error of a read-out of biology per held-out patient; all 0 without biology."""
        if self.train.biology is None or self.held.biology is None:
            return np.zeros(len(np.unique(self.held.unit)))
        seen = [self._seen(moved(rows.u.astype(np.float64), weights)) for rows in (self.train, self.held)]
        classes = int(max(self.train.biology.max(), self.held.biology.max())) + 1
        target = [np.eye(classes)[rows] for rows in (self.train.biology, self.held.biology)]
        error = ((target[1] - _read(seen, target[0], self.train.weight())) ** 2).sum(axis=1)
        return _by_unit(error, self.held.unit)

    def _seen(self, z: np.ndarray) -> np.ndarray:
        return z if self.features is None else np.concatenate([z, np.maximum(z @ self.features, 0.0)], axis=1)


def choose(rows: Rows, strength: float | None, players: Players, random_state: int) -> tuple[Weights, Choice]:
    """Train maps at several strengths and choose among them on held-out patients.

    Parameters
    ----------
    rows
        All rows of the fit.
    strength
        A strength; None: the weakest of :data:`STRENGTHS` whose read-out of the factor on held-out patients is within a
        standard error (paired, over patients) of the lowest.
    players
        Shapes, number of steps, device.
    random_state
        Seed of the split, of first weights, batches and features.

    Returns
    -------
    weights : dict
        Of the map. One under which biology is read worse on held-out patients, by more than a standard error, does not
        count; if none that counts lowers the read-out of the factor by more than a standard error, nothing is moved.
    choice : Choice
        What was chosen.
    """
    rng = np.random.default_rng(random_state)
    still = still_map(rows.u.shape[1], players, rng)
    units = int(rows.unit.max()) + 1
    if units < FEWEST:
        return still, Choice(0.0, 0, 0, np.nan, np.nan, np.nan)
    train, reading = _split(rows, units, players, rng)
    before, biology = reading.of_factor(still), reading.of_biology(still)

    def judge(weights: Weights) -> float:
        worse, error = _mean_and_error(reading.of_biology(weights) - biology)
        return np.inf if worse > error else _from_chance(reading.of_factor(weights))

    found = []
    for s in STRENGTHS if strength is None else (strength,):
        map_, step = play(train, s, players, judge, np.random.default_rng(rng.integers(2**32)))
        found.append((reading.of_factor(map_), s, step))
    best = min((left for left, *_ in found), key=_from_chance)
    left, s, step = next(f for f in found if _from_chance(f[0]) - _from_chance(best) <= _mean_and_error(f[0] - best)[1])
    error = _mean_and_error(left - before)[1]
    record = Choice(s, step, len(before), float(before.mean()), float(left.mean()), error)
    read, noise = _mean_and_error(before)  # where the factor is not read, a gain is the noise of the read-out
    if read > 2.0 * noise and _from_chance(before) - _from_chance(left) > error:
        return play(rows, s, dataclasses.replace(players, steps=step), None, rng)[0], record
    return still, Choice(0.0, 0, len(before), record.before, record.before, 0.0)


def _from_chance(agreement: np.ndarray) -> float:
    return abs(float(agreement.mean()))  # a read-out that is wrong more than by chance has found the factor too


def _split(rows: Rows, units: int, players: Players, rng: np.random.Generator) -> tuple[Rows, Reading]:
    out = np.zeros(units, dtype=bool)
    out[rng.permutation(units)[: round(HELD_OUT * units)]] = True
    held, features = out[rows.unit], None
    parts = [rows.part(_some(np.flatnonzero(side), rng)) for side in (~held, held)]
    if not players.linear:
        features = rng.standard_normal((rows.u.shape[1], FEATURES)) / np.sqrt(rows.u.shape[1])
    return rows.part(~held), Reading(parts[0], parts[1], features)


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= MOST else np.sort(rng.choice(rows, MOST, replace=False))


def _less_given(both: list[np.ndarray], train: np.ndarray, held: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """Take the regression on biology and covariates, fitted to the first of both, off."""
    designs = [np.concatenate([np.ones((len(given), 1)), given], axis=1) for given in (train, held)]
    root = np.sqrt(weight)[:, None]
    slopes = np.linalg.lstsq(root * designs[0], root * both[0], rcond=1e-10)[0]
    return [values - design @ slopes for values, design in zip(both, designs, strict=True)]


def _read(seen: list[np.ndarray], target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Prediction for the second rows of a ridge regression fitted to the first."""
    mean, middle, root = weight @ seen[0], weight @ target, np.sqrt(weight)[:, None]
    left = root * (seen[0] - mean)
    gram = left.T @ left
    patients = 1.0 / weight.max()  # at least as many weigh equally
    gram += ((RIDGE + len(gram) / patients) * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    return np.asarray(middle + (seen[1] - mean) @ np.linalg.solve(gram, left.T @ (root * (target - middle))))


def _by_unit(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    code = np.unique(unit, return_inverse=True)[1]
    return np.asarray(np.bincount(code, values) / np.bincount(code))


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
