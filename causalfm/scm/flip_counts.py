"""Move rows to every level of a factor and count the decisions that change, with and without each fold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import CausalFMError, DataError, positions
from causalfm.resampling import multipliers
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.scores import Scorer

N_DRAWS, AT_ONCE = 40, 8  # draws of errors; those made by one product
BLOCK_BYTES = 64 * 2**20  # of moved rows, over all models


@dataclass(frozen=True, eq=False)
class Asked:
    """The question.

    Attributes
    ----------
    cohort
        Rows.
    of, levels
        The factor and the levels that the model of the embedding knows.
    by
        The downstream model.
    folds
        ``(n,)`` fold of each row.
    """

    cohort: Cohort
    of: str
    levels: tuple[str, ...]
    by: Scorer
    folds: np.ndarray

    @property
    def source(self) -> np.ndarray:
        """Level codes ``(n,)``; -1 for a level that the model of the embedding does not know."""
        factor = self.cohort.factor(self.of)
        codes = np.array([self.levels.index(v) if v in self.levels else -1 for v in factor.levels])
        return np.asarray(codes[factor.codes])


@dataclass(frozen=True, eq=False)
class Counts:
    """Sums over moved rows by source level, class and target level.

    Attributes
    ----------
    weight, flips, shift
        ``(1 + m, L, B, L)`` weights of the rows moved, of those whose decision changed, and ``(..., c)`` of changes of
        scores; first of all rows, then without each of ``m`` folds.
    drawn
        ``(b, L, B, L)`` weights of rows whose decision errors of the model of the embedding change alone.
    rows
        ``(L, B, L)`` rows moved.
    moved
        ``(L, n)`` whether a row could be moved to a level.
    not_moved
        Rows that stay, by pair of levels.
    """

    weight: np.ndarray
    flips: np.ndarray
    shift: np.ndarray
    drawn: np.ndarray
    rows: np.ndarray
    moved: np.ndarray
    not_moved: tuple[Mapping[str, Any], ...]


class _Sums:
    """Adds rows up block by block: nothing is kept per row, model and level."""

    def __init__(self, asked: Asked, biology: Factor, units: Factor, n_draws: int) -> None:
        self.L, self.B = len(asked.levels), biology.n_levels
        source = asked.source
        self.cell = np.where(source >= 0, source, 0) * self.B + biology.codes
        self.even = (source >= 0) / units.counts()[units.codes]
        self.folds, m = asked.folds, int(asked.folds.max()) + 1
        c = 1 if asked.by.single else len(asked.by.classes)
        shape = (1 + m, self.L, self.L * self.B)
        self.weight, self.flips, self.shift = np.zeros(shape), np.zeros(shape), np.zeros((*shape, c))
        self.drawn, self.rows = np.zeros((n_draws, *shape[1:])), np.zeros(shape[1:])

    def add(self, target: int, at: np.ndarray, fold: int, flipped: np.ndarray, shift: np.ndarray) -> None:
        """Add rows ``at`` to all (``fold=0``) or to those without a fold."""
        w = self.even[at] if fold == 0 else self.even[at] * (self.folds[at] != fold - 1)
        self.weight[fold, target] += self._by_cell(at, w)
        self.flips[fold, target] += self._by_cell(at, w * flipped)
        for j, column in enumerate(shift.T):
            self.shift[fold, target, :, j] += self._by_cell(at, w * column)
        if fold == 0:
            self.rows[target] += self._by_cell(at, self.even[at] > 0)

    def draw(self, target: int, at: np.ndarray, draw: int, flipped: np.ndarray) -> None:
        """Add rows ``at`` whose decision drawn errors change."""
        self.drawn[draw, target] += self._by_cell(at, self.even[at] * flipped)

    def _by_cell(self, at: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.bincount(self.cell[at], weight, self.L * self.B)

    def shaped(self) -> list[np.ndarray]:
        """Weight, flips, shift, draws and rows by source, class, target."""
        out = []
        for sums, axis in ((self.weight, 1), (self.flips, 1), (self.shift, 1), (self.drawn, 1), (self.rows, 0)):
            split = sums.reshape(*sums.shape[: axis + 1], self.L, self.B, *sums.shape[axis + 2 :])
            out.append(np.moveaxis(split, axis, axis + 2))
        return out


def count_flips(
    scm: EmbeddingSCM, models: Sequence[EmbeddingSCM], asked: Asked, biology: Factor, units: Factor, random_state: int
) -> Counts:
    """Move every row to every other level and decide again.

    Parameters
    ----------
    scm, models
        Fitted on all patients, and without each fold; none: it is taken as known.
    asked
        Rows, factor and downstream model.
    biology, units
        Class and independent unit of each row.
    random_state
        Seed of the drawn errors.

    Returns
    -------
    Counts
        See there.

    Raises
    ------
    DataError
        No row can be moved.
    """
    X, by, source, m = asked.cohort.X, asked.by, asked.source, len(models)
    signs = next(multipliers(m, N_DRAWS, random_state, batch=N_DRAWS)) if m else np.zeros((0, 0))
    sums = _Sums(asked, biology, units, len(signs))
    moved = np.zeros((len(asked.levels), len(X)), dtype=bool)
    stray = np.flatnonzero(source < 0)
    not_moved = _reports(source, stray, asked.levels, "any", DataError("the fit never saw their level"))
    for target, level in enumerate(asked.levels):
        for rows, outcome in movable(
            scm, models, asked.cohort, np.flatnonzero((source != target) & (source >= 0)), {asked.of: level}
        ):
            if isinstance(outcome, CausalFMError):
                not_moved += _reports(source, rows, asked.levels, level, outcome)
                continue
            moved[target, rows] = True
            for at, block in _blocks(outcome, models, asked.cohort, rows, {asked.of: level}):
                before = by.scores(np.asarray(X[at]).astype(block.dtype), at)  # not float16 before and float32 after
                decided = by.decide(before)
                for k in range(int(asked.folds.max()) + 2):
                    if k == 0 or m:
                        after = by.scores(block[k], at)
                    sums.add(target, at, k, by.decide(after) != decided, after - before)
                for k, error in enumerate(_errors(block, signs)):
                    drawn = by.scores((X[at] + error).astype(block.dtype), at)
                    sums.draw(target, at, k, by.decide(drawn) != decided)
    if not moved.any():
        raise DataError(f"no row can be moved to another {asked.of}: {not_moved[0]['reason'] if not_moved else ''}")
    weight, flips, shift, drawn, rows = sums.shaped()
    return Counts(weight, flips, shift, drawn, rows, moved, tuple(not_moved))


def _blocks(
    whole: np.ndarray, models: Sequence[EmbeddingSCM], cohort: Cohort, rows: np.ndarray, do: Mapping[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows, and them as moved by all models ``(1 + m, rows, d)``."""
    step = max(1, BLOCK_BYTES // (whole.itemsize * cohort.d * (1 + len(models))))
    for start in range(0, len(rows), step):
        at = rows[start : start + step]
        part = cohort[at]
        yield at, np.stack([whole[start : start + step], *(model.counterfactual(part, do).X for model in models)])


def _errors(moved: np.ndarray, signs: np.ndarray) -> Iterator[np.ndarray]:
    """Draw errors ``(rows, d)`` of moved rows: deviations of the models without each fold, with random signs."""
    if len(signs):
        m = len(moved) - 1
        off = (moved[1:] - moved[1:].mean(axis=0)) * np.sqrt((m - 1) / m)
        flat = off.reshape(m, -1)
        for some in range(0, len(signs), AT_ONCE):
            yield from (signs[some : some + AT_ONCE] @ flat).reshape(-1, *off.shape[1:])


def movable(
    scm: EmbeddingSCM, models: Sequence[EmbeddingSCM], cohort: Cohort, rows: np.ndarray, do: Mapping[str, Any]
) -> list[tuple[np.ndarray, np.ndarray | CausalFMError]]:
    """Move rows as far as the design lets them: embeddings, or the error, per set of rows.

    Rows that share all levels share their fate; sets are halved until what cannot be moved stands alone. What a model
    fitted without some patients cannot move has no error, and counts as not moved.
    """
    if not len(rows):
        return []
    columns = [c for c in scm.fitted.columns if c in cohort.obs.columns]
    codes = np.stack([cohort.factor(c).codes[rows] for c in columns], axis=1)
    _, kind = np.unique(codes, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    waiting: list[np.ndarray] = [np.unique(kind)]
    out: list[tuple[np.ndarray, np.ndarray | CausalFMError]] = []
    while waiting:
        kinds = waiting.pop()
        here = np.flatnonzero(np.isin(kind, kinds))
        part, first = rows[here], rows[here[np.unique(kind[here], return_index=True)[1]]]
        try:
            moved = scm.counterfactual(cohort[part], do).X
            for model in models:
                _try_without(model, cohort[first], do)
            out.append((part, moved))
        except CausalFMError as error:
            if len(kinds) == 1:
                out.append((part, error))
            else:
                waiting += [kinds[: len(kinds) // 2], kinds[len(kinds) // 2 :]]
    return out


def _try_without(model: EmbeddingSCM, cohort: Cohort, do: Mapping[str, Any]) -> None:
    """Raise where a model fitted without some patients cannot move rows."""
    try:
        model.counterfactual(cohort, do)
    except CausalFMError:
        raise DataError(
            "without a fold of patients the model does not know such a move, so that its error cannot be told: merge "
            "rare levels, or take more folds."
        ) from None


def _reports(
    source: np.ndarray, rows: np.ndarray, levels: tuple[str, ...], target: str, error: CausalFMError
) -> list[dict[str, Any]]:
    out, reason = [], re.sub(r" \(rows? \d[^)]*\)", "", str(error))  # positions within the part that was tried
    for code in np.unique(source[rows]):
        here = np.sort(rows[source[rows] == code])
        name, where = levels[code] if code >= 0 else "a level never seen", positions(here.tolist())
        out.append({"source": name, "target": target, "rows": len(here), "where": where, "reason": reason})
    return out
