"""The rows that are asked where a question needs rows at random and the cohort lies outside memory.

Tests, effects and models stream over all rows. Neighbours, probes and clusters do not: they are asked of rows drawn by
patient, the published index also of queries drawn from all rows and searched among all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.running import Step
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.lazy_rows import is_lazy
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import sample_rows
from causalfm.metrics.reference import reference_index
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate

ROWS = 10_000
QUERIES = 1_024  # answered in one pass over all rows
LONGEST = 600  # neighbours: the published grid ends there


@dataclass(frozen=True)
class RowSample:
    """Rows in memory that stand for a cohort outside it.

    Attributes
    ----------
    whole
        The cohort.
    rows
        As many rows of each unit, drawn at random.
    graph, seed
        Declared graph; seed of rows and queries.
    """

    whole: Cohort
    rows: Cohort
    graph: CausalGraph
    seed: int

    @cached_property
    def neighbours(self) -> Neighbours:
        """Lists of the rows among the rows."""
        return search(self.rows, self.graph)

    @cached_property
    def queries(self) -> Neighbours:
        """Lists of some rows among all rows, exact for each."""
        return search(self.whole, self.graph, queries=min(QUERIES, len(self.whole)), seed=self.seed)

    @property
    def note(self) -> str:
        """What was drawn, in words."""
        unit = self.graph.group
        asked, there = (c.factor(unit, private=True).n_levels for c in (self.rows, self.whole))
        how = f"as many of each {unit}" if asked == there else f"one of each of {asked:,} of the {there:,} {unit}s"
        return (
            f"Asked of {len(self.rows):,} of {len(self.whole):,} rows, {how}, drawn at random; the interval counts "
            f"{unit}s and holds what the draw adds."
        )

    def index(self, factor: str) -> Estimate:
        """Return the robustness index of queries among all rows, its reference version from tables of the whole cohort.

        Within strata (technical causes of the factor) it is that of the rows drawn.
        """
        inner = bool(self.graph.technical_ancestors(factor))
        cohort, lists = (self.rows, self.neighbours) if inner else (self.whole, self.queries)
        found = robustness_index(cohort, self.graph, confounder=factor, neighbours=lists, standardised=False)
        reference = reference_index(self.whole, self.graph, confounder=factor, random_state=self.seed)
        return dataclasses.replace(found, details={**found.details, "standardised": reference})

    def said(self, finding: Finding) -> Finding:
        """Add to a finding what it was asked of."""
        if finding.sentence.startswith("Cannot tell:"):
            return finding
        details = {**finding.details, "rows asked": self.note}
        return dataclasses.replace(finding, sentence=f"{finding.sentence} {self.note}", details=details)

    def told(self, steps: Sequence[Step]) -> list[Step]:
        """Add to the answers of questions what they were asked of."""

        def answer(step: Callable[[], list[Finding]]) -> list[Finding]:
            return [self.said(finding) for finding in step()]

        return [(name, partial(answer, step)) for name, step in steps]


def in_memory_if_small(cohort: Cohort) -> Cohort:
    """Read a cohort outside memory of which all rows would be drawn: its answers are then those of any other.

    Raises
    ------
    DataError
        They do not fit the memory limit. It never changes which rows are asked, so that no number depends on it.
    """
    small = is_lazy(cohort.X) and len(cohort) <= ROWS
    return Cohort._of_finite(np.asarray(cohort.X), cohort.obs, cohort.info) if small else cohort


def row_sample(cohort: Cohort, graph: CausalGraph, seed: int) -> RowSample | None:
    """Draw rows of a cohort outside memory by unit; None for a cohort in memory, all rows of which are asked."""
    if not is_lazy(cohort.X):
        return None
    groups = cohort.factor(graph.group, private=True).codes
    rows = sample_rows(np.arange(len(cohort)), groups, ROWS, seed)
    part = Cohort(cohort.X[rows], cohort.obs.iloc[rows], cohort.info)
    return RowSample(cohort, part, graph, seed)


def search(cohort: Cohort, graph: CausalGraph, queries: int | None = None, seed: int = 0) -> Neighbours:
    """Search the neighbours that all metrics of an audit share, the own unit left out."""
    groups = cohort.factor(graph.group, private=True)
    shortest = len(cohort) - int(groups.counts().max())
    k = max(1, min(LONGEST, shortest // 4))
    reserve = min(k, shortest - k)
    return knn(cohort.X, k, exclude=groups.codes, queries=queries, reserve=reserve, random_state=seed)
