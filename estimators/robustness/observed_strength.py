"""What declared columns explain of a treatment and of an outcome: yardsticks for causes that nobody declared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from causalfm.estimators.robustness.bias_bounds import Strength
from causalfm.singular_values import orthonormal
from causalfm.units import Units

ALL = "all declared"


def observed_strengths(
    treatment: np.ndarray, outcome: np.ndarray, columns: Mapping[str, np.ndarray]
) -> dict[str, Strength]:
    """Partial R2 of every column, given the others, by least squares over independent units.

    Parameters
    ----------
    treatment
        ``(G,)`` indicator or dose.
    outcome
        ``(G, d)``.
    columns
        ``{name: (G, q)}`` indicators or basis functions of each declared column.

    Returns
    -------
    dict
        One :class:`Strength` per column, and ``"all declared"`` for all of them together where there are several. The
        outcome's shares are of traces.
    """
    ones = np.ones((len(treatment), 1))
    blocks = {name: np.asarray(block, dtype=float) for name, block in columns.items() if block.shape[1]}
    d, y = treatment[:, None].astype(float), outcome - outcome.mean(axis=0)
    out: dict[str, Strength] = {}
    full = _left(d, y, np.hstack([ones, *blocks.values()]))
    dropped = [(name, [v for other, v in blocks.items() if other != name]) for name in blocks]
    if len(blocks) > 1:
        dropped.append((ALL, []))
    for name, kept in dropped:
        less = _left(d, y, np.hstack([ones, *kept]))
        r2 = 1.0 - full[0] / less[0] if less[0] > 0.0 else 0.0
        odds = less[1] / full[1] - 1.0 if full[1] > 0.0 else float("inf")
        out[name] = Strength(float(np.clip(r2, 0.0, 1.0)), float(max(odds, 0.0)))
    return out


def declared_columns(units: Units, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return indicators and splines of the conditioning columns, one block per column.

    Parameters
    ----------
    units
        Patients of a question.
    rows
        Positions of those looked at.

    Returns
    -------
    dict
        ``{name: (len(rows), q)}``.
    """
    blocks = {f.name: np.eye(f.n_levels)[f.codes[rows]] for f in units.conditioning}
    q, names = units.covariates.shape[1], units.continuous
    if q and q % len(names) == 0 and q // len(names) >= 3:
        for name, block in zip(names, np.split(units.covariates[rows], len(names), axis=1), strict=True):
            blocks[name] = block
    elif q:  # a column that is constant has no basis: the rest cannot be told apart by position
        blocks[" and ".join(names)] = units.covariates[rows]
    return blocks


def _left(treatment: np.ndarray, outcome: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Sum of squares left of the treatment given ``given``, and of the outcome given both."""
    basis = orthonormal(given)
    d = treatment - basis @ (basis.T @ treatment)
    y = outcome - basis @ (basis.T @ outcome)
    square = float((d**2).sum())
    if square <= 1e-12 * max(float((treatment**2).sum()), 1e-300):
        return 0.0, float((y**2).sum())
    return square, float(((y - d @ (d.T @ y) / square) ** 2).sum())
