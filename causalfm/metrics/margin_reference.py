"""Margins by chance, by permuted labels, and their reference version over balanced 2 x 2 tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from causalfm.metrics.balanced import Balance, Draw, complete_tables, draws_of, number_of_draws
from causalfm.metrics.deletion import take
from causalfm.metrics.design import Design
from causalfm.metrics.held_rows import held_tables
from causalfm.metrics.margin_lists import margin_changes, margins_of, margins_of_each, mean_deletion
from causalfm.metrics.margin_scores import AT_MEDIAN, F0, TAIL, Summary, median_interval, score_columns, summary_of
from causalfm.metrics.mixing import permuted_codes
from causalfm.metrics.nearest_typed import unit_loader
from causalfm.metrics.reference import Scored, Scorer, balanced_versions
from causalfm.neighbours import Loader, Neighbours, knn
from causalfm.results import Estimate

PERMUTATIONS = 10
QUERIES = 1000  # a sample of the rows is enough for the value that chance gives


@dataclass(frozen=True)
class Chance:
    """What permuted labels give, and how it was found."""

    summary: Summary
    how: str
    error: float  # of the median, by the number of permutations


def chance_margins(
    load: Loader,
    design: Design,
    m: int,
    alpha: float,
    queries: np.ndarray,
    shared: Neighbours | None,
    random_state: int,
) -> Chance:
    """Return the mean summary over permutations of the groups' labels.

    Biology and confounder move together, so that the cross table stays, and so does the embedding: its groups are as
    tight as they are, but carry neither.
    """
    at = np.arange(len(queries))
    if len(queries) > QUERIES:
        at = np.sort(np.random.default_rng(random_state).choice(len(queries), QUERIES, replace=False))
    part = None if shared is None else take(shared, at, shared.indices.shape[1])
    labels = list(_relabelled(design, random_state, PERMUTATIONS))
    margins = margins_of_each(load, labels, m, queries[at], part, 0)
    found = [summary_of(one.values, alpha) for one in margins if len(one.values)]
    means = np.mean([(one.median, one.f0, one.ltm, one.quantile) for one in found], axis=0) if found else [np.nan] * 4
    error = np.std([one.median for one in found], ddof=1) / len(found) ** 0.5 if len(found) > 1 else np.nan
    how = f"mean over {len(found)} permutations of the labels of {design.unit} units, {len(at)} queries each"
    return Chance(Summary(*(float(v) for v in means)), how, float(error))


def _relabelled(design: Design, random_state: int, times: int) -> Iterator[Design]:
    """Yield designs whose groups have swapped their labels within strata."""
    n_levels = int(design.confounder.max()) + 1
    cell = design.biology * n_levels + design.confounder
    for codes in permuted_codes(cell, design.groups, design.within, random_state, times):
        yield replace(design, biology=codes // n_levels, confounder=codes % n_levels)


def balanced_margins(X: np.ndarray, design: Design, alpha: float, random_state: int) -> Estimate:
    """Return the reference version: margins of balanced 2 x 2 tables summarised together, tables equally heavy.

    Parameters
    ----------
    X
        ``(n, d)`` rows of the cohort.
    design
        Of the whole cohort.
    alpha
        Share of rows in the lower tail.
    random_state
        Seed of the draws.

    Returns
    -------
    Estimate
        m is a fixed share of the rows per cell. Chance by permuted labels in each draw.
    """
    balance = Balance(random_state=random_state)
    values, weights, by_chance = _all_margins(X, design, balance)
    summary = summary_of(values, alpha, weights) if len(values) else Summary(*[float("nan")] * 4)
    median, f0, tail = balanced_versions(X, design, [AT_MEDIAN, F0, TAIL], _scorer(summary, alpha), balance)
    details = {key: value for key, value in median.details.items() if key != "interval"}
    if not len(values):
        return replace(median, name="croma_2x2", details=details)
    null = summary_of(by_chance[0], alpha, by_chance[1])
    influence = median.influence if median.influence is not None else "none"
    low, high, note, kept = median_interval(values, weights, influence, design.unit)
    details |= {
        "f0": replace(f0, name="croma_f0_2x2", chance=null.f0),
        "ltm": replace(tail, name="croma_ltm_2x2", chance=null.ltm),
        "interval": note,
        "chance": "permuted labels in each draw",
    }
    return replace(
        median,
        name="croma_2x2",
        value=summary.median,
        low=low,
        high=high,
        chance=null.median,
        details=details,
        influence=kept,
    )


def _all_margins(
    X: np.ndarray, design: Design, balance: Balance
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the margins of all draws of all tables with weights, and those under permuted labels with theirs."""
    tables = complete_tables(design, balance.fraction, balance.min_groups, balance.max_rows)[0]
    draws = number_of_draws(balance, len(tables))
    found: list[list[np.ndarray]] = []
    null: list[list[np.ndarray]] = []
    for number, table, held in held_tables(X, tables, draws, balance.random_state):
        rng = np.random.default_rng([balance.random_state, number])
        drawn = draws_of(held, design, table, draws, rng)
        found.append([])
        null.append([])
        for i, draw in enumerate(drawn):
            lists, real, load = _lists(draw), _design(draw), unit_loader(draw.X)
            swapped = next(_relabelled(real, balance.random_state + i, 1))
            for kept, labels in ((found, real), (null, swapped)):
                kept[-1].append(margins_of(load, labels, draw.k, lists.queries, lists, 0).values)
    return *_pooled(found), _pooled(null)


def _pooled(parts: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pool the draws of each table, and the tables with equal weights."""
    tables = [np.concatenate(part) for part in parts]
    weights = [np.full(len(values), 1 / max(1, len(values))) for values in tables]
    return np.concatenate([np.zeros(0), *tables]), np.concatenate([np.zeros(0), *weights])


def _lists(draw: Draw) -> Neighbours:
    """Return the whole order of each row's candidates: a draw is small, and every type is in it."""
    return knn(draw.X, draw.k, exclude=draw.groups, reserve=len(draw.X))


def _design(draw: Draw) -> Design:
    strata = np.zeros(len(draw.groups), dtype=np.int64)
    return Design(draw.biology, draw.confounder, draw.groups, (), (), "", "", "", strata)


def _scorer(summary: Summary, alpha: float) -> Scorer:
    """Return the scorer of balanced draws at the thresholds found over all of them."""

    def score(draw: Draw) -> Scored:
        lists, n_units, load = _lists(draw), len(draw.owners), unit_loader(draw.X)
        margins = margins_of(load, _design(draw), draw.k, lists.queries, lists)
        position, gone, changed = margin_changes(load, _design(draw), margins, draw.k, draw.units)
        owner = draw.units[margins.so.queries]
        columns = (score_columns(v, summary.median, summary.quantile, alpha) for v in (margins.values, changed))
        scores, without = columns
        deletion = mean_deletion(scores, without, position, gone, owner, n_units)
        totals = np.append(scores.sum(axis=0), len(owner))
        met = np.bincount(owner, minlength=n_units) + np.bincount(gone, minlength=n_units)
        return Scored(totals, totals, deletion, np.repeat(met[:, None].astype(float), 4, axis=1))

    return score
