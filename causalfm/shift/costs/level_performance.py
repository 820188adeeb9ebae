"""Accuracy at every level of a factor, each compared with the other levels within classes that weigh the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.confidence import level_in_force
from causalfm.shift.costs.label_free_estimators import Scored
from causalfm.shift.costs.labelled_rows import Labelled
from causalfm.shift.costs.rates import NOTHING, difference

NAN = float("nan")
Numbers = tuple[float, float, float]
NOT_TOLD: Numbers = (NAN, NAN, NAN)


@dataclass(frozen=True)
class LevelScore:
    """How well the biology is predicted at one level of a factor.

    Attributes
    ----------
    level, n_units
        Its name and independent units.
    accuracy
        Mean over units, with interval; the intervals of all judged levels hold together.
    balanced, others
        Mean recall of the classes compared, here and at the other levels.
    shortfall
        ``others`` less ``balanced``: positive if it is worse here. Intervals of all judged levels hold together.
    upper
        Upper end of the shortfall's interval for this level alone.
    left_out
        Classes that are not compared, with the units that this level has of them.
    recalls
        ``(K,)`` recall of every class; ``nan`` for those that the level lacks.
    reason
        Why it is not judged; empty if it is.
    """

    level: str
    n_units: int
    accuracy: Numbers
    balanced: float
    others: float
    shortfall: Numbers
    upper: float
    left_out: tuple[tuple[int, int], ...]
    recalls: tuple[float, ...]
    reason: str = ""


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised.

    Attributes
    ----------
    name, n_units
        The class and its independent units.
    recall
        Share of it that is recognised; the intervals of all judged classes hold together.
    taken_for, taken_share
        The other class it is taken for most often, and how often.
    reason
        Why it is not judged; empty if it is.
    """

    name: str
    n_units: int
    recall: Numbers
    taken_for: str
    taken_share: float
    reason: str = ""


def labelled(
    probabilities: np.ndarray, classes: np.ndarray, units: np.ndarray, sites: np.ndarray, chance: float | None
) -> Labelled:
    """Put predicted rows of one cohort together.

    Parameters
    ----------
    probabilities
        ``(n, K)`` predictions; the largest decides.
    classes, units, sites
        ``(n,)`` codes of the true class, a column of ``probabilities``, of the independent unit, and of the site.
    chance
        What a guess scores, where the rows were predicted by models trained on one another's units; None for one model.

    Returns
    -------
    Labelled
        Rows with hits; every unit weighs the same.
    """
    hit = (probabilities.argmax(axis=1) == classes).astype(np.float64)
    codes = np.unique(units, return_inverse=True)[1]
    rows = Scored(probabilities, hit, codes, 1.0 / np.bincount(codes)[codes])
    return Labelled(rows, classes, sites, chance)


def level_scores(
    rows: Labelled, codes: np.ndarray, names: Sequence[str], unit: str, *, fewest: int, fewest_of_class: int
) -> tuple[LevelScore, ...]:
    """Compare every level of a factor with the others.

    Parameters
    ----------
    rows
        Rows with known hits.
    codes, names
        ``(n,)`` level of each row, -1 where it is missing; the levels' names.
    unit
        The independent unit, in words.
    fewest
        Fewest units of a level; below it a level is not judged.
    fewest_of_class
        Fewest units of a class, at a level and at the others: a level is compared over the classes that have them.

    Returns
    -------
    tuple of LevelScore
        In the order of ``names``.

    Notes
    -----
    A hospital with a hard case mix is no worse hospital, so that levels are compared within classes, which weigh the
    same. (The level's own mix of classes would be no fair weight: a model that guesses each hospital's most frequent
    class is right there in that class, and seems better than elsewhere at every hospital.) Levels that lack a class
    have a standard of their own: shortfalls are not differences between two levels. Intervals of all judged levels hold
    together (Bonferroni).
    """
    inside, units = codes >= 0, rows.rows.units
    held = [len(np.unique(units[codes == k])) for k in range(len(names))]
    judged = sum(n >= fewest for n in held)
    shared = len(np.unique(units[inside])) < sum(held)
    joint = 1.0 - (1.0 - level_in_force()) / max(judged, 1)
    out = []
    for k, name in enumerate(names):
        here = _equal(rows, codes == k)
        recalls, n_classes = _recalls(here), rows.rows.probabilities.shape[1]
        own, classes, left_out = NOTHING, list[int](), tuple[tuple[int, int], ...]()
        reason = f"{held[k]} {unit}s, of {fewest} that are needed"
        if held[k] >= fewest:
            own, there = here.rate(), _equal(rows, inside & (codes != k))
            counts = [(c, here.held(c), there.held(c)) for c in range(n_classes)]
            classes = [c for c, a, b in counts if min(a, b) >= fewest_of_class]
            left_out = tuple((c, a) for c, a, _ in counts if c not in classes)
            reason = "" if classes else f"no class has {fewest_of_class} {unit}s both there and at other levels"
        accuracy = own.value, *own.interval(joint)
        if reason:
            out.append(LevelScore(name, held[k], accuracy, NAN, NAN, NOT_TOLD, NAN, left_out, recalls, reason))
            continue
        at, others = here.balanced(classes), there.balanced(classes)
        shortfall = difference(others, at, joint, shared=shared)
        alone = difference(others, at, shared=shared)[2]
        numbers = at.value, others.value, shortfall, alone
        out.append(LevelScore(name, held[k], accuracy, *numbers, left_out, recalls))
    return tuple(out)


def class_scores(
    rows: Labelled, names: Sequence[str], unit: str, *, fewest: int, missing: Sequence[str] = ()
) -> tuple[ClassScore, ...]:
    """Say how well each class is recognised.

    Parameters
    ----------
    rows
        Rows with known hits.
    names
        Classes, as the columns of the probabilities.
    unit
        The independent unit, in words.
    fewest
        Fewest units of a class that is judged.
    missing
        Classes that were not predicted, with too few units.

    Returns
    -------
    tuple of ClassScore
        In the order of ``names``, then those missing.
    """
    held = [rows.held(k) for k in range(len(names))]
    joint = 1.0 - (1.0 - level_in_force()) / max(sum(n >= fewest for n in held), 1)
    decided = rows.rows.probabilities.argmax(axis=1)
    out = []
    for k, name in enumerate(names):
        if held[k] < fewest:
            why = f"{held[k]} {unit}s, of {fewest} that are needed"
            out.append(ClassScore(name, held[k], NOT_TOLD, "", NAN, why))
            continue
        mask = rows.classes == k
        found = rows.rate(mask)
        taken = np.bincount(decided[mask], rows.rows.weights[mask], len(names)) / rows.rows.weights[mask].sum()
        taken[k] = 0.0
        other = int(taken.argmax())
        confused = (names[other], float(taken[other])) if taken[other] > 0.0 else ("", 0.0)
        out.append(ClassScore(name, held[k], (found.value, *found.interval(joint)), *confused))
    out += [ClassScore(name, 0, NOT_TOLD, "", NAN, f"too few {unit}s to be predicted") for name in missing]
    return tuple(out)


def _equal(rows: Labelled, mask: np.ndarray) -> Labelled:
    """Select rows; units weigh the same among them, and keep their codes."""
    units = rows.rows.units[mask]
    weights = 1.0 / np.bincount(units)[units]
    some = Scored(rows.rows.probabilities[mask], rows.rows.hit[mask], units, weights)
    return Labelled(some, rows.classes[mask], rows.sites[mask], rows.chance)


def _recalls(here: Labelled) -> tuple[float, ...]:
    """Recall of every class; ``nan`` for those without rows."""
    n_classes = here.rows.probabilities.shape[1]
    total = np.bincount(here.classes, here.rows.weights, n_classes)
    right = np.bincount(here.classes, here.rows.weights * here.rows.hit, n_classes)
    return tuple(np.divide(right, total, out=np.full(n_classes, NAN), where=total > 0.0).tolist())
