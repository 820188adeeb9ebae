"""A fitted model with levels added: where they stand is the mean of the levels seen, unless a batch tells more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import linalg

from causalfm.scm.exogenous import NodeTable
from causalfm.scm.fitted import Fitted
from causalfm.scm.parents import Parents
from causalfm.scm.regression import MeanModel

SLIGHT = 1e-6  # patients that stand for what was never seen at a new level


def more_levels(
    names: Sequence[str], levels: Sequence[tuple[str, ...]], new: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """Levels of each column with the new ones behind them."""
    return tuple((*old, *new.get(name, ())) for name, old in zip(names, levels, strict=True))


def means_of_levels(parents: Parents, wider: Parents) -> np.ndarray:
    """Map ``(p', p)`` of regressors: old levels to themselves, a new one to the mean of the old ones."""
    levels = []
    for old, size in zip(parents.sizes, wider.sizes, strict=True):
        levels.append(np.concatenate([np.eye(old), np.full((size - old, old), 1.0 / old)]))
    crossed = [np.kron(levels[a], levels[b]) for a, b in parents.crossed]
    return np.asarray(linalg.block_diag(np.eye(1 + parents.n_splines), *levels, *crossed))


def widen(fitted: Fitted, new: Mapping[str, tuple[str, ...]]) -> Fitted:
    """Add levels, each at the mean of those seen; its mechanism and its errors are added by the caller.

    Parameters
    ----------
    fitted
        The model.
    new
        Column to names of levels.

    Returns
    -------
    Fitted
        Nodes below a new level have the shares of all seen levels together.
    """
    parents = fitted.mean.parents
    wider = dataclasses.replace(parents, levels=more_levels(parents.categorical, parents.levels, new))
    change = means_of_levels(parents, wider)
    mean = MeanModel(
        wider,
        change @ fitted.mean.coefficients,
        change @ fitted.mean.inverse @ change.T,
        _estimable(fitted.mean, wider.n_main, change),
        np.ones(wider.n_main),
    )
    levels = more_levels(fitted.columns, fitted.levels, new)
    out = dataclasses.replace(fitted, mean=mean, error=fitted.error.after(change), levels=levels)
    every = np.arange(len(fitted.joint))
    for name, names in new.items():
        at, first = fitted.columns.index(name), len(fitted.known(name) or ())
        for code in range(first, first + len(names)):
            joint = fitted.joint.copy()
            joint[:, at] = code
            out = with_patients(out, fitted, joint, SLIGHT * fitted.patients / fitted.patients.sum(), every)
    return out


def _estimable(mean: MeanModel, n_main: int, change: np.ndarray) -> np.ndarray:
    """Projection under which a contrast is left open where its image among the old regressors is."""
    main = mean.parents.n_main
    kept = (change[:n_main, :main] / mean.scale) @ (np.eye(main) - mean.estimable)
    return np.asarray(np.eye(n_main) - np.pad(kept, ((0, 0), (0, n_main - main))))


def with_patients(fitted: Fitted, base: Fitted, joint: np.ndarray, patients: np.ndarray, like: np.ndarray) -> Fitted:
    """Add cells of patients at new levels to the population, and to the tables of nodes that follow.

    Parameters
    ----------
    fitted, base
        With the new levels' names already, and as it was fitted: what it saw keeps its shares.
    joint, patients
        ``(J, k)`` level codes and ``(J,)`` patients.
    like
        ``(J,)`` cells whose numbers they are given.
    """
    columns = {name: i for i, name in enumerate(fitted.columns)}
    known = dict(zip(fitted.columns, fitted.levels, strict=True))
    tables = {
        name: _table(
            table,
            base.tables[name],
            known,
            joint[:, [columns[p] for p in table.parents]],
            joint[:, columns[name]],
            patients,
        )
        for name, table in fitted.tables.items()
    }
    return dataclasses.replace(
        fitted,
        joint=np.concatenate([fitted.joint, joint]),
        patients=np.concatenate([fitted.patients, patients]),
        numbers=np.concatenate([fitted.numbers, fitted.numbers[like]]),
        spline_means=np.concatenate([fitted.spline_means, fitted.spline_means[like]]),
        tables=tables,
    )


def _table(
    table: NodeTable,
    base: NodeTable,
    known: Mapping[str, tuple[str, ...]],
    causes: np.ndarray,
    codes: np.ndarray,
    patients: np.ndarray,
) -> NodeTable:
    """Count more patients where a cause is at a new level."""
    levels, parent_levels = known[table.node], tuple(known[p] for p in table.parents)
    more = len(levels) - len(table.levels)
    rows = dict(zip(map(tuple, table.configurations.tolist()), np.pad(table.count, ((0, 0), (0, more))), strict=True))
    fresh = (causes >= np.array([len(v) for v in base.parent_levels])).any(axis=1)
    for cause, code, n in zip(causes[fresh].tolist(), codes[fresh], patients[fresh], strict=True):
        rows.setdefault(tuple(cause), np.zeros(len(levels)))[code] += n
    return dataclasses.replace(
        table,
        levels=levels,
        parent_levels=parent_levels,
        order=np.concatenate([table.order, np.arange(len(table.levels), len(levels))]),
        configurations=np.array(list(rows), dtype=np.int64).reshape(-1, causes.shape[1]),
        count=np.array(list(rows.values())),
    )
