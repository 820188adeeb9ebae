"""The measures of a comparison: one line each, and whatever else is callable on a cohort and a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError
from causalfm.metrics import croma, ilisi, mari, readout_within, reference_index, robustness_index
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph
    from causalfm.neighbours import Neighbours

LISI_K = 90


@dataclass(frozen=True)
class Metric:
    """A measure of the comparison.

    Attributes
    ----------
    title
        What it is called on the page.
    measure
        ``measure(cohort, graph, ...) -> Estimate`` with ``influence``. Of the keywords ``confounder``, ``k``,
        ``neighbours`` and ``random_state`` it gets those that it has; without ``confounder`` it is asked once, about
        the biology.
    better
        Which values are good.
    words
        What it is, for the page.
    """

    title: str
    measure: Callable[..., Estimate]
    better: Literal["higher", "lower"] = "higher"
    words: str = ""

    def takes(self, keyword: str) -> bool:
        """Whether the measure has this keyword."""
        return keyword in inspect.signature(self.measure).parameters

    def of(self, cohort: Cohort, graph: CausalGraph, **given: Any) -> Estimate:
        """Measure one encoder; keywords that the measure does not have are left out.

        Data that the measure refuses give no number, and the reason: another encoder or factor may have one.
        """
        try:
            if given.get("k", 1) is None:  # each encoder's own would compare neighbourhoods of different size
                raise DataError(
                    "there is no common k: this design has too few candidates for the vote that chooses it."
                )
            return self.measure(cohort, graph, **{name: value for name, value in given.items() if self.takes(name)})
        except DataError as error:
            nan = float("nan")
            return Estimate(self.title, nan, nan, nan, nan, len(cohort), 0, graph.group, {"reason": str(error)})


def read_biology(
    cohort: Cohort, graph: CausalGraph, *, neighbours: Neighbours | None = None, random_state: int = 0
) -> Estimate:
    """Return the read-out of the biology within the first technical factor, by the best of the probes."""
    return readout_within(cohort, graph, of=graph.biology, neighbours=neighbours, random_state=random_state)


def read_factor(
    cohort: Cohort, graph: CausalGraph, *, confounder: str, neighbours: Neighbours | None = None, random_state: int = 0
) -> Estimate:
    """Return the read-out of a technical factor within the case mix: a factor that any of the probes reads is there."""
    return readout_within(cohort, graph, of=confounder, neighbours=neighbours, random_state=random_state)


def mix_levels(
    cohort: Cohort, graph: CausalGraph, *, confounder: str, neighbours: Neighbours, random_state: int = 0
) -> Estimate:
    """Return iLISI at a k of its own: the common k is chosen by votes and too small for a perplexity."""
    k = min(LISI_K, neighbours.k)
    return ilisi(
        cohort,
        graph,
        confounder=confounder,
        k=k,
        neighbours=neighbours,
        standardised=False,
        random_state=random_state,
    )


METRICS: dict[str, Metric] = {
    "robustness_index": Metric(
        "robustness index",
        partial(robustness_index, standardised=False),
        words="share of neighbours with the same biology and another level of the factor, among all that agree in "
        "exactly one of the two; other patients only; one k for all encoders",
    ),
    "reference_index": Metric(
        "robustness index, 2 x 2 reference",
        reference_index,
        words="the same averaged over all complete tables of two classes by two levels with equal patients and rows "
        "per cell: comparable between designs",
    ),
    "mari": Metric(
        "MaRI",
        partial(mari, standardised=False),
        words="the robustness index with near neighbours counted more; the distance that halves a weight is each "
        "encoder's own median, and so is chance",
    ),
    "croma": Metric(
        "CRoMa",
        partial(croma, standardised=False),
        words="median over rows of how much nearer the same biology at other levels of the factor is than other "
        "biology at its own level, between -1 and 1; chance depends on the encoder",
    ),
    "ilisi": Metric(
        "mixing (iLISI)",
        mix_levels,
        words="how many levels of the factor the 90 nearest rows of other patients hold (fewer where a quarter of the "
        "candidates is less): 0 one, 1 all alike",
    ),
    "biology_readout": Metric(
        "read-out of the biology",
        read_biology,
        words="balanced accuracy of the best of three probes on patients that it has not seen, within the levels of "
        "the first technical factor, which gives nothing away there",
    ),
    "factor_readout": Metric(
        "read-out of the factor",
        read_factor,
        better="lower",
        words="the same for the technical factor, within the case mix (the biology and the factor's technical causes)",
    ),
}


def chosen_metrics(wanted: Sequence[str] | Mapping[str, Metric | Callable[..., Estimate]] | None) -> dict[str, Metric]:
    """Return the measures asked for by name, or given as callables; all of the table by default.

    Raises
    ------
    DataError
        An unknown name, nothing asked for, or something that cannot be called.
    """
    if wanted is None:
        return METRICS
    if isinstance(wanted, Mapping):
        found = {name: m if isinstance(m, Metric) else Metric(name.replace("_", " "), m) for name, m in wanted.items()}
        if wrong := [name for name, metric in found.items() if not callable(metric.measure)]:
            raise DataError(f"metrics[{wrong[0]!r}] cannot be called: give a function of (cohort, graph).")
    else:
        asked = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else [wanted]
        if unknown := [name for name in asked if name not in METRICS]:
            near = did_you_mean(unknown[0], METRICS)
            raise DataError(f"there is no measure {unknown[0]!r}: choose from {', '.join(METRICS)}.{near}")
        found = {name: METRICS[name] for name in asked}
    if not found:
        raise DataError("metrics names no measure: leave it out for all.")
    return found
