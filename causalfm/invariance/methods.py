"""The table of methods: each turns a question into a statistic, a p-value and the units of the effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative, mean_test
from causalfm.units import Units, patient_units


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of which rows.

    Attributes
    ----------
    cohort, graph
        Data and declared graph.
    of
        Tested factor; several are crossed.
    given
        Conditioning columns.
    n_permutations
        Permutations (or multiplier draws, or sign flips) of the independent units.
    random_state
        Seed of everything random.
    """

    cohort: Cohort
    graph: CausalGraph
    of: tuple[str, ...]
    given: tuple[str, ...]
    n_permutations: int
    random_state: int


@dataclass(frozen=True, eq=False)
class Tested:
    """Outcome of one method.

    Attributes
    ----------
    statistic, p_value
        Observed statistic and its p-value.
    units
        The independent units in the space in which the method compares them: embeddings, or features of a kernel. The
        size of the effect and the margin's distance between classes are measured there.
    subject
        What was compared, for the sentence: ``"mean embedding"``.
    details
        Settings, and how many units the test could use.
    """

    statistic: float
    p_value: float
    units: Units
    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)


Method = Callable[[Question], Tested]


def mean_method(question: Question) -> Tested:
    """Compare the mean embeddings of patients."""
    units = patient_units(question.cohort, question.graph, question.of, question.given)
    statistic, p_value = mean_test(units, n_permutations=question.n_permutations, random_state=question.random_state)
    return Tested(statistic, p_value, units, "mean embedding", {"tested_groups": int(informative(units).sum())})


METHODS: dict[str, Method] = {"mean": mean_method}
