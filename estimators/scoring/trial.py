"""What correctors are tried on: coded rows, and patients dealt to halves and folds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError
from causalfm.graph_checks import check_levels
from causalfm.metrics.learners import grouped_folds
from causalfm.strata import confounder_of, groups_per_level

if TYPE_CHECKING:
    from causalfm.cohort import Cohort, Factor
    from causalfm.graph import CausalGraph

MINIMUM = 6  # patients of a cell that is judged: half of the cohort still holds three
INNER = 3  # parts of a half: the reader of the site trains on two and reads the third
FOLDS = 5
ORDERED = 8  # columns by which rows are ordered; more where they tie


@dataclass(frozen=True, eq=False)
class Codes:
    """What a reader is to tell: ``y (n,)`` within ``context (n,)``; ``judged (contexts, levels)`` cells that count."""

    y: np.ndarray
    context: np.ndarray
    judged: np.ndarray

    def part(self, kept: np.ndarray) -> Codes:
        """Return the rows of a mask; the cells that count stay."""
        return Codes(self.y[kept], self.context[kept], self.judged)


@dataclass(frozen=True, eq=False)
class Trial:
    """Rows, and who is in which part.

    Attributes
    ----------
    cohort, graph, confounder
        Data, roles and the factor that correctors remove.
    site, biology
        The site within biology; the outcome within sites.
    groups
        ``(n,)`` codes of the units.
    half, inner, fold
        ``(n,)`` parts: rows of a unit share theirs.
    levels, classes
        Names of sites and of the outcome.
    most
        Rows that a patient has in a cell at most, the others were left out; None: all are there.
    """

    cohort: Cohort
    graph: CausalGraph
    confounder: str
    site: Codes
    biology: Codes
    groups: np.ndarray
    half: np.ndarray
    inner: np.ndarray
    fold: np.ndarray
    levels: tuple[str, ...]
    classes: tuple[str, ...]
    most: int | None = None

    def __len__(self) -> int:
        return len(self.groups)

    def halves(self, *seed: int) -> tuple[Trial, Trial]:
        """Return two trials without a unit in common, each with parts of its own; the cells that count stay."""
        side = grouped_folds(self._cells(), self.groups, 2, _seed(*seed))
        return self._part(side == 0, *seed, 0), self._part(side == 1, *seed, 1)

    def _cells(self) -> np.ndarray:
        cell = self.site.y * len(self.site.judged) + self.site.context
        return np.asarray(np.unique(cell, return_inverse=True)[1])

    def _part(self, kept: np.ndarray, *seed: int) -> Trial:
        groups = np.unique(self.groups[kept], return_inverse=True)[1]
        whole = dataclasses.replace(
            self,
            cohort=self.cohort[kept],
            site=self.site.part(kept),
            biology=self.biology.part(kept),
            groups=groups,
        )
        return whole.dealt(*seed)

    def dealt(self, *seed: int) -> Trial:
        """Return the trial with units dealt to halves, thirds of these, and folds."""
        cell = self._cells()
        sixth = grouped_folds(cell, self.groups, 2 * INNER, _seed(*seed, 0))
        fold = grouped_folds(cell, self.groups, FOLDS, _seed(*seed, 1))
        return dataclasses.replace(self, half=sixth % 2, inner=sixth // 2, fold=fold)


def _seed(*path: int) -> int:
    """Return a seed that belongs to this path alone: neighbouring seeds of a user share no deal."""
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def trial_of(
    cohort: Cohort,
    graph: CausalGraph,
    confounder: str | None,
    outcome: str | None,
    random_state: int,
    max_rows: int | None = None,
) -> Trial:
    """Code the columns and deal the units; parameters and errors as in ``scoreboard``.

    Neither the order of rows nor the names of units change a deal: both are ordered by the embeddings.
    """
    name, outcome = confounder_of(graph, confounder), graph.biology if outcome is None else outcome
    order = _in_order(cohort.X)
    rows, most = _thinned(cohort, order, (name, graph.biology, outcome), graph.group, max_rows, random_state)
    cohort = cohort[rows]  # not before: a memory map can be larger than memory
    site, biology, target = (cohort.factor(column) for column in (name, graph.biology, outcome))
    groups = _by_appearance(cohort.factor(graph.group, private=True).codes)
    numbered = np.char.zfill(groups.astype(str), len(str(len(groups))))  # names that sort by number, and tell nothing
    cohort = cohort.replace(obs=cohort.obs.assign(**{str(graph.group): numbered}))
    check_levels(site, "the factor to remove")
    check_levels(biology, "biology")
    check_levels(target, "the outcome")
    within_biology = _codes(site, biology, groups)
    within_sites = _codes(target, site, groups)
    if not within_biology.judged.any():
        raise DataError(
            f"no class of {graph.biology!r} is held by {MINIMUM} {graph.group}s at each of two levels of {name!r}: "
            "what a corrector removes cannot be told from biology. causalfm.positivity shows the table."
        )
    parts = (np.zeros(len(groups), dtype=np.int64),) * 3
    names = site.levels, target.levels
    return Trial(cohort, graph, name, within_biology, within_sites, groups, *parts, *names, most).dealt(random_state)


def _in_order(X: np.ndarray) -> np.ndarray:
    """Order rows by their first columns, those that begin alike by all of them."""
    first = np.asarray(X[:, :ORDERED], dtype=np.float64)
    order = np.lexsort(first.T[::-1])
    same = (first[order[1:]] == first[order[:-1]]).all(axis=1)
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        rows, run = order[tied], np.append(0, np.cumsum(~same))[tied]
        order[tied] = rows[np.lexsort((*np.asarray(X[rows], dtype=np.float64).T[::-1], run))]
    return np.asarray(order)


def _by_appearance(codes: np.ndarray) -> np.ndarray:
    """Return codes numbered by the rows at which they first appear."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])


def _thinned(
    cohort: Cohort, rows: np.ndarray, names: tuple[str, ...], group: str, max_rows: int | None, random_state: int
) -> tuple[np.ndarray, int | None]:
    """Keep equally many random rows, one at least, of every unit in every cell, at most ``max_rows`` if it can."""
    if max_rows is None or len(cohort) <= max_rows:
        return rows, None
    units = _by_appearance(cohort.factor(group, private=True).codes[rows])
    columns = np.stack([units, *(cohort.factor(name).codes[rows] for name in names)])
    entry = np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(entry)
    held = [int(np.minimum(sizes, most).sum()) for most in range(1, int(sizes.max()) + 1)]
    most = max(1, int(np.searchsorted(held, max_rows, side="right")))
    order = np.lexsort((np.random.default_rng(_seed(random_state, 2)).random(len(entry)), entry))
    rank = np.arange(len(entry)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rows[np.sort(order[rank < most])], most


def _codes(target: Factor, context: Factor, groups: np.ndarray) -> Codes:
    """Code a column within a context: a cell counts if it and another of its context hold enough units."""
    shape = context.n_levels, target.n_levels
    cell = context.codes * target.n_levels + target.codes
    judged = groups_per_level(cell, groups, shape[0] * shape[1]).reshape(shape) >= MINIMUM
    judged &= judged.sum(axis=1, keepdims=True) >= 2
    return Codes(target.codes, context.codes, judged)


def shares(judged: np.ndarray) -> np.ndarray:
    """Weights ``(contexts, levels)`` of the cells: contexts weigh the same, and so do the levels in them."""
    levels = judged.sum(axis=1, keepdims=True)
    out: np.ndarray = np.where(judged, 1.0 / np.maximum(levels * (levels > 0).sum(), 1), 0.0)
    return out


def within_accuracy(hit: np.ndarray, codes: Codes, groups: np.ndarray) -> float:
    """Balanced accuracy over the cells that count; units of a cell weigh the same, ``nan`` if a cell is empty."""
    share, cell = shares(codes.judged).ravel(), codes.context * codes.judged.shape[1] + codes.y
    pairs, entry = np.unique(cell * (int(groups.max()) + 1) + groups, return_inverse=True)
    means = np.bincount(entry, hit) / np.bincount(entry)
    where = pairs // (int(groups.max()) + 1)
    held = np.bincount(where, minlength=len(share))
    used = share > 0.0
    if not used.any() or not held[used].all():
        return float("nan")
    return float((np.bincount(where, means, len(share))[used] / held[used]) @ share[used])


def chance_of(judged: np.ndarray) -> float:
    """Return what any guess from the context alone scores, exactly."""
    levels = judged.sum(axis=1)
    return float((1.0 / levels[levels > 0]).mean()) if levels.any() else float("nan")


def freedom(codes: Codes, groups: np.ndarray) -> float:
    """Degrees of freedom of the variance of a mean over cells that weigh the same, after Satterthwaite."""
    cells = codes.judged.size
    held = groups_per_level(codes.context * codes.judged.shape[1] + codes.y, groups, cells)
    used = codes.judged.ravel() & (held > 1)
    part = shares(codes.judged).ravel()[used] ** 2 / held[used]
    return float(part.sum() ** 2 / (part**2 / (held[used] - 1)).sum()) if used.any() else 1.0
