"""What an audit of a cohort outside memory will read, hold and take, told before it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from causalfm.auditing.row_sample import LONGEST, QUERIES, ROWS
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.lazy_rows import LazyRows, is_lazy, size_text
from causalfm.moments import remembered

PROBED = 3  # chunks read and multiplied, to learn how fast that is here


@dataclass(frozen=True)
class Pass:
    """A pass over all rows: what for, how often, and multiplications for each row."""

    purpose: str
    times: int
    products: int = 0


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
        table = [f"  {p.times} x {p.purpose}" for p in self.passes]
        return [
            f"Plan: {self.n:,} rows, {size_text(self.size)}; {sum(p.times for p in self.passes)} passes over them "
            f"({size_text(self.read)} read), by {self.workers} process{'es' if self.workers > 1 else ''}:",
            *table,
            f"Held at once: up to {size_text(self.held)} of embeddings and {size_text(self.sums)} of sums by unit; the "
            f"limit leaves {size_text(self.limit)} for them.",
            f"Neighbours, probes and clusters: {self.rows:,} rows drawn by unit; published index: {self.queries:,} "
            "queries among all rows, exact for each. Tests, effects and models: all rows.",
            f"Estimated time of the passes: {_duration(self.seconds)}, from reading and multiplying {PROBED} chunks.",
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
    classes = 1 + cohort.factor(graph.biology).n_levels
    n, d, queries = len(cohort), cohort.d, min(QUERIES, len(cohort))
    rows, sums = min(ROWS, n), 8 * units * d * classes
    passes = _passes(len(graph.technical), queries * d, model, once=remembered(X, units * (classes - 1)))
    block = 64 * 2**20 + 2 * X.chunk_bytes
    lists = 12 * 4 * LONGEST * queries + 4 * queries * 2**13  # of queries among all rows
    lists += rows * (4 * rows + 12 * 4 * LONGEST)  # of the rows drawn, and all their similarities
    read, products = _speeds(X)
    seconds = sum(p.times * (X.nbytes / read + n * p.products / products) for p in passes) / workers
    held = rows * d * 12 + block + lists
    return AuditPlan(passes, X.nbytes, held, sums, X.limit, rows, queries, n, seconds, workers)


def _passes(factors: int, products: int, model: bool, *, once: bool) -> tuple[Pass, ...]:
    return (
        Pass("fingerprint of the rows", 1),
        Pass("rows drawn by unit", 1),
        Pass("sums by unit, for all tests and effects", 1 if once else 2 * factors),
        Pass("queries among all rows", 2, products),
        Pass("balanced tables of the reference index", factors),
        *((Pass("scores of the model", 1), Pass("model of the embedding", 4)) if model else ()),
    )


def _speeds(X: LazyRows) -> tuple[float, float]:
    """Bytes read and numbers multiplied per second."""
    edges = X.edges[: PROBED + 1]
    clock = time.perf_counter()
    block = np.asarray(X.array[: int(edges[-1])])
    read = block.nbytes / max(time.perf_counter() - clock, 1e-6)
    part = np.asarray(block[: 2**12], dtype=np.float32)
    clock = time.perf_counter()
    part @ part[: 2**9].T
    products = part.size * min(len(part), 2**9) / max(time.perf_counter() - clock, 1e-6)
    return float(read), float(products)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
