"""What an audit of a cohort outside memory will read, hold and take, told before it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from causalfm.auditing.row_sample import LONGEST, QUERIES, ROWS
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.lazy_rows import LazyRows, is_lazy, size_text
from causalfm.metrics.balanced import Balance, number_of_draws
from causalfm.metrics.held_rows import SHARE
from causalfm.moments import remembered

PROBED = 3  # chunks read and multiplied, to learn how fast that is here


@dataclass(frozen=True)
class Pass:
    """A pass over all rows: what for, how often, multiplications for each row, and whether workers share it."""

    purpose: str
    times: int
    products: int = 0
    shared: bool = False


CHECK = Pass("check for finite values", 1, shared=True)


@dataclass(frozen=True)
class AuditPlan:
    """An audit before it runs.

    Attributes
    ----------
    passes
        Over all rows.
    size, held, sums
        Bytes of all rows; of rows, queries and blocks held at once; of the sums by unit, which must fit.
    limit
        Bytes that may be held of embeddings and sums.
    rows, queries, n
        Rows drawn for questions that need rows at random; queries among all rows; all rows.
    seconds
        Estimated for the passes; questions of the rows drawn come on top, whatever the size of the cohort.
    workers
        Processes that share the passes.
    """

    passes: tuple[Pass, ...]
    size: int
    held: int
    sums: int
    limit: int
    rows: int
    queries: int
    n: int
    seconds: float
    workers: int

    @property
    def read(self) -> int:
        """Bytes read in all."""
        return self.size * sum(p.times for p in self.passes)

    def lines(self) -> list[str]:
        """Return the plan in words."""
        times = sum(p.times for p in self.passes)
        asked = (
            f"Neighbours, probes and clusters: {self.rows:,} rows drawn by unit; published index: {self.queries:,} "
            "queries among all rows, exact for each. Tests, effects and models: all rows."
        )
        return [
            f"Plan: {self.n:,} rows, {size_text(self.size)}; {times} passes over them ({size_text(self.read)} read), "
            f"by {self.workers} process{'es' if self.workers > 1 else ''}:",
            *(f"  {p.times} x {p.purpose}{' (shared)' * (p.shared and self.workers > 1)}" for p in self.passes),
            f"Held at once: up to {size_text(self.held)} of embeddings and {size_text(self.sums)} of sums by unit; the "
            f"limit leaves {size_text(self.limit)} for them.",
            asked if self.queries else "All rows are asked every question.",
            f"Estimated time of the passes: {_duration(self.seconds)}, from reading and multiplying {PROBED} chunks; "
            "questions of the rows drawn come on top, whatever the number of rows.",
        ]

    def refuse_what_does_not_fit(self) -> None:
        """Refuse an audit whose sums by unit, or whose rows drawn, do not fit.

        Raises
        ------
        DataError
            With the sizes.
        """
        left = f"the memory limit leaves {size_text(self.limit)} for them"
        if self.sums > self.limit // 2:
            raise DataError(
                f"the sums by unit take {size_text(self.sums)} and {left}: raise the limit, or average rows first "
                "(cohort.aggregate)."
            )
        if self.held + self.sums > self.limit:
            raise DataError(
                f"the rows drawn and the sums by unit take {size_text(self.held + self.sums)} and {left}: raise it. "
                "How many are drawn does not depend on the memory, so that the numbers do not."
            )


def plan_audit(cohort: Cohort, graph: CausalGraph, *, model: bool = False, workers: int = 1) -> AuditPlan:
    """Plan the audit of a cohort outside memory.

    Parameters
    ----------
    cohort, graph
        What will be audited.
    model
        Whether a model is asked too.
    workers
        Processes that share the passes.

    Raises
    ------
    DataError
        A cohort in memory.
    """
    X = cohort.X
    if not is_lazy(X):
        raise DataError("a plan is made for cohorts outside memory: read it with causalfm.read(..., lazy=True).")
    units = cohort.factor(graph.group, private=True).n_levels
    classes = cohort.factor(graph.biology).n_levels
    n, d, item = len(cohort), cohort.d, X.dtype.itemsize
    read, products = _speeds(X)
    passes: tuple[Pass, ...]
    if n <= ROWS:  # an audit of all rows, read into memory
        passes, sums, held, queries = (CHECK, Pass("all rows, into memory", 1)), 0, n * d * (item + 8), 0
    else:
        queries, sums = QUERIES, 8 * units * d * (1 + classes)
        passes = passes_of(
            [
                _table_rows(cohort, name, classes) * d * item // max(1, X.limit // SHARE)
                for name in graph.technical
                if graph.kind(name, cohort) != "continuous"
            ],
            queries * d,
            model=model,
            once=remembered(X, units * classes),
        )
        held = ROWS * d * 12 + 64 * 2**20 + 2 * X.chunk_bytes
        held += 12 * 4 * LONGEST * queries + 4 * queries * 2**13  # lists of queries among all rows
        held += ROWS * (4 * ROWS + 12 * 4 * LONGEST)  # of the rows drawn, and all their similarities
    each = [p.times * (X.nbytes / read + n * p.products / products) / (workers if p.shared else 1) for p in passes]
    return AuditPlan(passes, X.nbytes, held, sums, X.limit, min(ROWS, n), queries, n, sum(each), workers)


def passes_of(batches: Sequence[int], products: int, *, model: bool, once: bool) -> tuple[Pass, ...]:
    """Return the passes of an audit.

    Parameters
    ----------
    batches
        For each technical factor, how often the rows of its balanced tables fill what may be held of them.
    products
        Multiplications of a row with the queries.
    model
        Whether a model is asked too.
    once
        Whether the sums by unit are small enough to be kept.
    """
    return (
        CHECK,
        Pass("fingerprint of the rows", 1),
        Pass("rows drawn by unit", 1),
        Pass("sums by unit, for all tests and effects", 1 if once else 2 * len(batches), shared=True),
        Pass("the queries themselves", 1, shared=True),
        Pass("queries among all rows", 1, products, shared=True),
        Pass("balanced tables of the reference index", sum(1 + batch for batch in batches)),
        *((Pass("scores of the model", 1), Pass("model of the embedding", 4)) if model else ()),
    )


def _table_rows(cohort: Cohort, factor: str, classes: int) -> int:
    """Return how many rows the balanced tables of a factor hold at most, over all their draws."""
    levels = cohort.factor(factor).n_levels
    tables = classes * (classes - 1) // 2 * (levels * (levels - 1) // 2)
    return min(len(cohort), tables * 4 * Balance().max_rows * number_of_draws(Balance(), max(1, tables)))


def _speeds(X: LazyRows) -> tuple[float, float]:
    """Bytes read and numbers multiplied per second."""
    size, seconds = 0, 0.0
    for first, last in pairwise(X.edges[: PROBED + 1]):
        clock = time.perf_counter()
        block = np.asarray(X.array[int(first) : int(last)])
        size, seconds = size + block.nbytes, seconds + time.perf_counter() - clock
    part = np.asarray(block[: 2**12], dtype=np.float32)
    del block
    clock = time.perf_counter()
    part @ part[: 2**9].T
    products = part.size * min(len(part), 2**9) / max(time.perf_counter() - clock, 1e-6)
    return size / max(seconds, 1e-6), float(products)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
