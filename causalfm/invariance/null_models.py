"""Null cohorts on the user's own design: residuals of whole clusters with their signs flipped, and shifts of levels.

Clusters keep their size, their spread and everything that makes their rows alike; only the signs change. Permuting
labels instead would assume that clusters are exchangeable, which is what is to be checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from causalfm.invariance.flipped_residuals import DIRECTIONS, draw_shifts, null_rows, random_signs
from causalfm.invariance.mean import MeanDesign, dimensions_filled, mean_design
from causalfm.invariance.methods import Method, Question
from causalfm.invariance.paired_test import sign_flips, square_root
from causalfm.resampling import permutations_within
from causalfm.strata import stratify
from causalfm.units import Units
from causalfm.within_units import WithinUnits

TIE = 1e-12

# From a direction and the root mean square distance between levels to the p-values of all null cohorts, ``(n,)``.
PValues = Callable[[str, float], np.ndarray]


def mean_nulls(
    units: Units,
    clusters: np.ndarray,
    n_nulls: int,
    n_permutations: int,
    random_state: int,
    similarity: np.ndarray | None = None,
) -> PValues:
    """Draw null cohorts for the mean statistic, whose sums of squares are quadratic in the distance added.

    Parameters
    ----------
    units
        Units of the test, in the space that it compares.
    clusters
        ``(G,)`` cluster of each unit: what is independent.
    n_nulls, n_permutations, random_state
        Null cohorts, permutations of each, seed.
    similarity
        Of the levels: see :func:`causalfm.invariance.mean.mean_test`.

    Returns
    -------
    callable
        One pass over the permutations serves every distance.
    """
    design = mean_design(units, similarity)
    cells, level = design.onehot.argmax(axis=1), np.unique(units.level.codes[design.keep], return_inverse=True)[1]
    clusters = np.unique(clusters[design.keep], return_inverse=True)[1]
    rows = null_rows(_span(units.Z[design.keep]), cells, clusters, units.covariates[design.keep])
    shifts = draw_shifts(rows.residuals, n_nulls, int(level.max()) + 1, random_state)
    unit = float(np.sqrt((rows.residuals**2).sum() / len(level))) or 1.0
    rng = np.random.default_rng([random_state, 1])
    found: dict[str, list[np.ndarray]] = {name: [] for name in DIRECTIONS}
    filled, excess = np.zeros((2, n_nulls, 1))
    for i, seed in enumerate(rng.integers(2**32, size=n_nulls).tolist()):
        Y = design.off(rows.draw(rng))
        moves = permutations_within(design.stratum, n_permutations, seed, batch=n_permutations)
        places = design.places(np.concatenate([np.arange(len(Y))[None], *moves]))
        filled[i] = dimensions_filled(Y)
        excess[i] = design.excess(Y)  # of residuals, which shifts of levels leave as they are
        for name, part in _coefficients(design, Y, {k: v[i] for k, v in shifts.items()}, level, places, unit).items():
            found[name].append(part)
    coefficients = {name: np.stack(parts) for name, parts in found.items()}

    def p_values(direction: str, distance: float) -> np.ndarray:
        squares = coefficients[direction] @ np.array([1.0, distance, distance**2])
        between, within = squares[..., 0], squares[..., 1:]
        found = design.statistic((between, within), filled)
        found[:, :1] = design.observed((between[:, :1], within[:, :1]), filled, excess)
        return exceeding_share(found)

    return p_values


def paired_nulls(within: WithinUnits, clusters: np.ndarray, n_nulls: int, n_flips: int, random_state: int) -> PValues:
    """Draw null cohorts for the sign-flip test of a paired design: see :func:`mean_nulls`."""
    R, P = within.residuals(), len(within)
    rng = np.random.default_rng([random_state, 1])
    shifts = draw_shifts(R.reshape(-1, R.shape[2]), n_nulls, R.shape[1], random_state)
    clusters, root = np.unique(clusters, return_inverse=True)[1], square_root(within.inverse)
    W, design = root @ R, root @ within.A
    K = np.einsum("gld,hld->gh", W, W, optimize=True)
    found: dict[str, list[np.ndarray]] = {name: [] for name in DIRECTIONS}
    for i, seed in enumerate(rng.integers(2**32, size=n_nulls).tolist()):
        flips = np.concatenate([np.ones((1, P)), *sign_flips(P, n_flips, seed)])
        signed = flips * random_signs(rng, clusters)
        own = ((signed @ K) * signed).sum(axis=1)
        moved = np.einsum("bg,glm->blm", flips, design, optimize=True)
        for name in DIRECTIONS:
            s = shifts[name][i]
            cross = np.einsum("bg,glm->blm", signed, W @ s.T, optimize=True)
            parts = own, 2.0 * (cross * moved).sum(axis=(1, 2)), ((moved @ (s @ s.T)) * moved).sum(axis=(1, 2))
            found[name].append(np.stack(parts, axis=1))
    coefficients = {name: np.stack(parts) for name, parts in found.items()}
    return lambda direction, distance: exceeding_share(coefficients[direction] @ [1.0, distance, distance**2])


def row_nulls(question: Question, method: Method, clusters: np.ndarray, n_nulls: int) -> PValues:
    """Draw null cohorts of rows and run any method of the invariance test on them, once per distance asked for.

    Parameters
    ----------
    question, method
        What is run.
    clusters
        ``(n,)`` cluster of each row.
    n_nulls
        Null cohorts.

    Returns
    -------
    callable
        Every call runs the method on all of them.
    """
    strata = stratify(question.cohort, question.graph, question.of, question.given)
    unit = strata.groups.codes
    cells = (strata.stratum * strata.level.n_levels + strata.level.codes)[unit]
    if strata.within is not None:
        cells = cells * strata.within.n_levels + strata.within.codes
    cells, clusters = (np.unique(codes, return_inverse=True)[1] for codes in (cells, clusters))
    X = np.asarray(question.cohort.X, dtype=np.float64)
    rows, seed = null_rows(X, cells, clusters, np.zeros((len(X), 0)), unit), question.random_state
    shifts, level = draw_shifts(rows.residuals, n_nulls, strata.level.n_levels, seed), strata.level.codes[unit]
    seeds = np.random.default_rng([seed, 1]).integers(2**32, size=n_nulls).tolist()

    def p_values(direction: str, distance: float) -> np.ndarray:
        out = []
        for i, one in enumerate(seeds):
            null = rows.draw(np.random.default_rng(one)) + distance * shifts[direction][i][level]
            null = null.astype(question.cohort.X.dtype)
            asked = dataclasses.replace(question, cohort=question.cohort.replace(X=null), random_state=one)
            out.append(method(asked).p_value)
        return np.array(out)

    return p_values


def exceeding_share(found: np.ndarray) -> np.ndarray:
    """``(1 + #{null >= observed}) / (1 + B)`` for statistics ``(n, 1 + B)``, the observed one first."""
    observed = found[:, :1]
    return np.asarray((found >= observed - TIE * np.abs(observed)).mean(axis=1))


def _coefficients(
    design: MeanDesign, Y: np.ndarray, shifts: dict[str, np.ndarray], level: np.ndarray, places: np.ndarray, unit: float
) -> dict[str, np.ndarray]:
    """Return sums of squares ``(1 + B, 1 + C, 3)`` as polynomials in the distance: constant, linear, quadratic.

    Only the few dimensions in which levels move depend on the distance, and sums of squares add up over dimensions.
    """
    patients = [Y]
    for shift in shifts.values():
        basis, _ = np.linalg.qr(shift.T)
        own, moved = Y @ basis, unit * design.off((shift @ basis)[level])
        patients += [own - moved, own, own + moved]
    whole, *parts = (np.column_stack(found) for found in design.squares(places, *patients))
    out = {}
    for i, name in enumerate(shifts):
        less, none, more = parts[3 * i : 3 * i + 3]
        linear, square = (more - less) / (2.0 * unit), ((more + less) / 2.0 - none) / unit**2
        out[name] = np.stack([whole, linear, square], axis=2)
    return out


def _span(Z: np.ndarray) -> np.ndarray:
    """Patients ``(K, min(K, d))`` in coordinates of their span; the statistic does not depend on rotation."""
    return Z if Z.shape[1] <= len(Z) else np.asarray(np.linalg.qr(Z.T)[1].T)
