"""The tests behind a prediction's invariance: one for all rows, or one for each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import mean_test
from causalfm.invariance.residual_products import independence_test, spline_basis
from causalfm.invariance.score_gaps import Gaps, equal_score_gaps, level_means, pair_gaps
from causalfm.invariance.signatures import SEPARATION, STABILITY, Sets
from causalfm.positivity import Overlap, comparable_set, inside
from causalfm.strata import groups_per_level, joint_factor
from causalfm.units import patient_units


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about predictions.

    Attributes
    ----------
    cohort, graph, of
        Labels, declared graph and factor.
    probabilities
        ``(n, classes)`` in the order of the rows and of the label's levels.
    kind, sets
        Which invariance, and the conditioning sets to try, biology left out.
    minimum, n_permutations, random_state
        Least patients per cell; permutations or sign flips; seed.
    """

    cohort: Cohort
    graph: CausalGraph
    of: tuple[str, ...]
    probabilities: np.ndarray
    kind: str
    sets: Sets
    minimum: int
    n_permutations: int
    random_state: int

    @property
    def judged(self) -> list[int]:
        """Classes whose probabilities are looked at: of two, the second says it all."""
        return [1] if self.probabilities.shape[1] == 2 else list(range(self.probabilities.shape[1]))


@dataclass(frozen=True, eq=False)
class Part:
    """One test with the gaps behind it.

    Attributes
    ----------
    among
        Class of the rows; empty for all rows.
    p_value, gaps
        By permutation or sign flips of patients; one gap per pair (or level) and judged class.
    levels
        Mean error of each level, for stability; else None.
    rows
        ``(n,)`` mask of the rows used.
    given
        Conditioning set, biology left out.
    """

    among: str
    p_value: float
    gaps: Gaps
    levels: Gaps | None
    rows: np.ndarray
    given: tuple[str, ...]


def parts_by_level(asked: Asked) -> tuple[list[Part], list[str]]:
    """Compare mean scores (or errors, for stability) between levels; for separation within each class of its own.

    One test for each class, and not one for all: a site where the model is less sure of every class shifts the scores
    of the classes in opposite directions, which would cancel.

    Parameters
    ----------
    asked
        The question.

    Returns
    -------
    list of Part
        Those that can be answered.
    list of str
        What is left out, and why.
    """
    cohort, label = asked.cohort, asked.cohort.factor(asked.graph.biology)
    observed = np.eye(label.n_levels)[label.codes]
    # gaps do not change with a constant; taking off the first row makes constant scores exactly zero
    scores = asked.probabilities - (observed if asked.kind == STABILITY else asked.probabilities[:1])
    scored = Cohort(np.ascontiguousarray(scores[:, asked.judged]), cohort.obs)
    masks = {"": np.ones(len(cohort), dtype=bool)}
    if asked.kind == SEPARATION:
        masks = {name: label.codes == i for i, name in enumerate(label.levels)}
    cohorts = {name: scored[mask] for name, mask in masks.items()}
    found: dict[str, Overlap] = {}
    for given in asked.sets:
        found = {
            name: comparable_set(part, asked.graph, asked.of, (given,), asked.minimum) for name, part in cohorts.items()
        }
        if any(overlap.comparable for overlap in found.values()):
            break
    levels = joint_factor(cohort, asked.of).levels
    parts, left_out = [], []
    for name, overlap in found.items():
        where = f"{label.name}={name}: " if name else ""
        if not overlap.comparable:
            left_out.append(where + overlap.sentence.rstrip("."))
            continue
        present = joint_factor(cohorts[name], asked.of).levels
        left_out += [f"{where}{overlap.factor}={level}: no rows" for level in levels if level not in present]
        left_out += [where + text for text in overlap.left_out]
        parts.append(_compared(asked, name, cohorts[name], masks[name], overlap))
    return parts, left_out


def _compared(asked: Asked, name: str, cohort: Cohort, mask: np.ndarray, overlap: Overlap) -> Part:
    units = patient_units(cohort, asked.graph, asked.of, overlap.given)
    _, p_value = mean_test(units, n_permutations=asked.n_permutations, random_state=asked.random_state)
    assert overlap.table is not None
    rows = np.zeros(len(mask), dtype=bool)
    rows[mask] = inside(units, overlap.table)[units.groups.codes]
    means = level_means(units, overlap.table) if asked.kind == STABILITY else None
    return Part(name, p_value, pair_gaps(units, overlap.table), means, rows, overlap.given)


def parts_at_equal_scores(asked: Asked) -> tuple[list[Part], list[str]]:
    """Compare the frequency of the classes between levels at equal scores (sufficiency).

    Parameters
    ----------
    asked
        The question.

    Returns
    -------
    list of Part
        One, or none if fewer than two levels have enough patients.
    list of str
        Levels left out.
    """
    label, unit = asked.cohort.factor(asked.graph.biology), asked.cohort.factor(asked.graph.group, private=True)
    factor = joint_factor(asked.cohort, asked.of)
    held = groups_per_level(factor.codes, unit.codes, factor.n_levels)
    kept = np.flatnonzero(held >= asked.minimum)
    left_out = [
        f"{factor.name}={factor.levels[i]}: {held[i]} {unit.name}s" for i in np.flatnonzero(held < asked.minimum)
    ]
    if len(kept) < 2:
        return [], left_out
    rows = np.isin(factor.codes, kept)
    y = np.eye(label.n_levels)[label.codes[rows]][:, asked.judged]
    s = np.eye(factor.n_levels)[factor.codes[rows]][:, kept]
    groups = np.unique(unit.codes[rows], return_inverse=True)[1]
    basis = spline_basis(asked.probabilities[rows][:, asked.judged], int(groups.max()) + 1)
    _, p_value = independence_test(
        s,
        y,
        np.zeros(len(y), dtype=np.int64),
        basis,
        groups=groups,
        n_permutations=asked.n_permutations,
        random_state=asked.random_state,
    )
    if np.isnan(p_value):
        return [], [*left_out, f"{label.name} or {factor.name} does not vary at equal scores"]
    gaps = equal_score_gaps(y, s, basis, groups, [factor.levels[i] for i in kept])
    return [Part("", p_value, gaps, None, rows, ())], left_out
