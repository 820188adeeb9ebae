"""Performance of a classifier in a population where biology and a technical factor are independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.estimators.deconfounding.adjusted_scores import adjusted_premiums
from causalfm.estimators.deconfounding.independent_population import Mixed, mixed
from causalfm.estimators.deconfounding.premiums import Premium, premiums
from causalfm.estimators.deconfounding.weighted_scores import Scored
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.aligned import aligned_predictions
from causalfm.metrics.calibration import confidence_bins
from causalfm.positivity import MIN_GROUPS, complete_table
from causalfm.results import Result
from causalfm.scm.scores import scorer_of
from causalfm.strata import confounder_of, groups_per_level
from causalfm.trimming import refuse_numbers

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DeconfoundedPerformance(Result):
    """Scores of a classifier as found, where biology and a factor are independent, and the difference.

    Attributes
    ----------
    of, biology
        The factor and the column predicted.
    scores
        One :class:`Premium` per score; empty if nothing can be told.
    levels, classes
        What is judged: every level holds every class.
    left_out
        Levels and classes that are not, each with its reason.
    table
        Patients per level and class, all of them.
    n, n_groups, unit
        Rows and patients judged; the independent unit.
    effective
        Effective number of patients where biology and factor are independent.
    sentence
        In words.
    details
        Target population, weights, covariates adjusted for.
    """

    of: str
    biology: str
    scores: tuple[Premium, ...]
    levels: tuple[str, ...]
    classes: tuple[str, ...]
    left_out: tuple[str, ...]
    table: tuple[Mapping[str, Any], ...]
    n: int
    n_groups: int
    unit: str
    effective: float
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per score and population, and one for the premium."""
        return [row for score in self.scores for row in score.rows()]

    def __getitem__(self, score: str) -> Premium:
        """Return one score by its name, such as ``"accuracy"``.

        Raises
        ------
        DataError
            No such score.
        """
        for one in self.scores:
            if one.score == score:
                return one
        known = ", ".join(repr(one.score) for one in self.scores) or f"none: {self.sentence}"
        raise DataError(f"there is no score {score!r}: {known}.")


def deconfounded_performance(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    predictions: pd.DataFrame | None = None,
    model: Any = None,
    of: str | None = None,
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> DeconfoundedPerformance:
    """Score a classifier as found, and as it would score if every hospital saw the same case mix.

    Where a hospital sees mostly tumours, a model that reads the hospital off the embedding is right more often than it
    knows of tumours. The shortcut premium is the part of a score that goes away when biology and hospital are made
    independent: score as found minus score in the independent population. For Brier score and calibration, where less
    is better, a shortcut shows as a negative premium.

    Parameters
    ----------
    cohort, graph
        Data and declared graph; its ``group`` is the independent unit.
    predictions
        Probabilities of rows that the model was not trained on: one column per class, named as the class, under the
        ids of the cohort's table.
    model
        In their place: ``(n, d) -> (n, classes)`` probabilities, a callable or a fitted estimator with
        ``predict_proba``. Classes come in the order of the sorted levels of biology, or as ``model.classes_`` says.
    of
        Technical factor; default the first one of the graph.
    minimum
        Fewest patients per level and class. Levels and classes are left out until every cell holds as many.
    random_state
        Seed of the folds of the adjusted scores.

    Returns
    -------
    DeconfoundedPerformance
        Accuracy, balanced accuracy, area under the curve (macro, each class against the rest), Brier score (0 to 2) and
        squared calibration gap, each as found, independent, and their difference, with 95 % intervals by patient. No
        scores, and a sentence that says why, where no two levels hold the same two classes.

    Raises
    ------
    GraphError, DataError
        The cohort does not fit the graph; not exactly one of ``predictions`` and ``model``; predictions that do not fit
        the cohort; a continuous factor or biology.

    Notes
    -----
    Rows are weighted by ``p(y) p(s) / p(y, s)``, patients equal and rows equal within a patient, so that shares of
    levels and of classes stay as they are. Assumption: what the model says of a class at a level does not depend on how
    many such patients there are. Intervals are for new patients in the same numbers per level and class: influence
    functions summed by patient, found and independent jointly, so that the premium has its own interval (in a balanced
    design it is exactly 0). Scores between 0 and 1: Wilson's interval with an effective number; premiums: Student's t.
    Where the graph's set for the factor holds covariates beside biology, accuracy and Brier score are also estimated
    doubly robustly (AIPW of correctness given class, level and covariates): the population where the factor is
    independent of biology *and* covariates. Without covariates AIPW is the weighted score itself. The calibration gap
    is the sum over bins of confidence of weight x (confidence - accuracy)^2, freed of its noise; the plain expected
    calibration error, which is positive even for a calibrated model, is in its details. Coverage of scores and premiums
    in simulation (1,000 cohorts per design): 91-99 % with 20 patients in cells of 3 and more, 93-100 % with 60, 94-100
    % with 300; scores within 1 % of perfect 87-93 %.

    References
    ----------
    Subbaswamy, Schulam and Saria, Preventing failures due to dataset shift, AISTATS 2019; Robins, Rotnitzky and Zhao,
    J. Am. Statist. Assoc. 89 (1994) 846-866.
    """
    check_whole(minimum, "minimum", MIN_GROUPS, why="independent units that the variance of a cell needs")
    check_seed(random_state)
    check_inputs(cohort, graph)
    graph.check(cohort)
    by = confounder_of(graph, of, "of")
    refuse_numbers(cohort, graph, (by, graph.biology))
    chances = _probabilities(cohort, graph, predictions, model)
    seen = _Seen(
        by, graph.biology, cohort.factor(by), cohort.factor(graph.biology), cohort.factor(graph.group, private=True)
    )
    kept = _largest(seen.counts, minimum)
    if kept is None:
        return seen.nothing(minimum)
    sites, classes = kept
    rows = np.flatnonzero(np.isin(seen.level.codes, sites) & np.isin(seen.label.codes, classes))
    site, y, groups = seen.level.codes[rows], seen.label.codes[rows], seen.unit.codes[rows]
    laid = mixed(np.searchsorted(sites, site), np.searchsorted(classes, y), groups, (len(sites), len(classes)))
    bins = confidence_bins(chances[rows].max(axis=1), laid.found, len(np.unique(groups)))
    scored = Scored(chances[rows], y, classes, bins)
    own, why = adjusted_premiums(cohort.obs.iloc[rows], graph, by, scored, laid, random_state)
    return seen.judged((*premiums(scored, laid, graph.group), *own), laid, kept, why, minimum)


@dataclass(frozen=True, eq=False)
class _Seen:
    """The cross table of factor and class, and how it is told."""

    by: str
    biology: str
    level: Factor
    label: Factor
    unit: Factor

    @property
    def counts(self) -> np.ndarray:
        """Patients per level and class."""
        shape = (self.level.n_levels, self.label.n_levels)
        cells = self.level.codes * shape[1] + self.label.codes
        return groups_per_level(cells, self.unit.codes, shape[0] * shape[1]).reshape(shape)

    def table(self) -> tuple[Mapping[str, Any], ...]:
        """One row per level, one entry per class."""
        pairs = zip(self.level.levels, self.counts.tolist(), strict=True)
        return tuple({self.by: name, **dict(zip(self.label.levels, row, strict=True))} for name, row in pairs)

    def alone(self) -> list[str]:
        """Classes seen at one level only."""
        pairs = [(name, c) for name, c in zip(self.label.levels, self.counts.T, strict=True) if (c > 0).sum() == 1]
        return [f"{self.biology}={name} is at {self.level.levels[int(c.argmax())]} only" for name, c in pairs]

    def nothing(self, minimum: int) -> DeconfoundedPerformance:
        """Say that nothing can be told, and why."""
        unit = self.unit.name
        why = f"no two levels of {self.by} hold the same two classes of {self.biology} with {minimum} {unit}s each"
        sentence = f"Cannot tell: {'; '.join([why, *self.alone()[:4]])}."
        nothing = (), (), (), tuple(self.alone()), self.table(), 0, 0, unit, float("nan"), sentence
        return DeconfoundedPerformance(self.by, self.biology, *nothing)

    def left_out(self, kept: Kept, minimum: int) -> list[str]:
        """Levels and classes that are not judged, each with the cells that hold too few."""
        sides, out = list(zip((self.level, self.label), kept, (self.counts, self.counts.T), strict=True)), []
        for (one, judged, counts), (other, against, _) in (sides, sides[::-1]):
            for i in np.setdiff1d(np.arange(one.n_levels), judged):
                few = [f"{counts[i, j]} at {other.name}={other.levels[j]}" for j in against if counts[i, j] < minimum]
                out.append(
                    f"{one.name}={one.levels[i]}" + (f" ({self.unit.name}s: {', '.join(few[:4])})" if few else "")
                )
        return out

    def judged(
        self, scores: tuple[Premium, ...], rows: Mixed, kept: Kept, why: str, minimum: int
    ) -> DeconfoundedPerformance:
        """Put the scores beside what they hold for."""
        unit, (sites, classes) = self.unit.name, kept
        names = tuple(self.level.levels[i] for i in sites), tuple(self.label.levels[i] for i in classes)
        short = self.left_out(kept, minimum)
        details = {
            "target": f"{', '.join(names[0])} and {', '.join(names[1])}, independent, in their shares as found",
            "weights": f"rows equal within a {unit}, {unit}s equal",
            "interval_for": f"these levels, new {unit}s in the same numbers",
            "adjusted": why,
        }
        n_groups, effective = int(rows.groups.max()) + 1, rows.effective()
        found = scores[0]
        sentence = (
            f"As found, {found.found.value:.1%} of decisions are right; where {self.biology} and {self.by} are "
            f"independent {found.independent.value:.1%} would be: a shortcut premium of "
            f"{100 * found.premium.value:.1f} points [{100 * found.premium.low:.1f}, {100 * found.premium.high:.1f}]. "
            f"Weighting leaves {effective:.0f} of {n_groups} {unit}s' worth."
        )
        if short:
            n, more = len(self.level.codes), f" and {len(short) - 8} others" if len(short) > 8 else ""
            sentence += (
                f" Cannot tell for {', '.join(short[:8])}{more}: left out of both, {n - len(rows.y)} of {n} rows."
            )
        return DeconfoundedPerformance(
            self.by,
            self.biology,
            scores,
            *names,
            tuple(short),
            self.table(),
            len(rows.y),
            n_groups,
            unit,
            effective,
            sentence,
            details,
        )


Kept = tuple[tuple[int, ...], tuple[int, ...]]


def _largest(counts: np.ndarray, minimum: int) -> Kept | None:
    """Levels and classes of the largest complete table with two of each."""
    by_class, by_level = complete_table(counts, minimum), complete_table(counts.T, minimum)
    found = [] if by_class is None else [(by_class.patients, by_class.strata, by_class.levels)]
    found += [] if by_level is None else [(by_level.patients, by_level.levels, by_level.strata)]
    found = [one for one in found if len(one[1]) > 1 and len(one[2]) > 1]
    return max(found)[1:] if found else None


def _probabilities(cohort: Cohort, graph: CausalGraph, predictions: pd.DataFrame | None, model: Any) -> np.ndarray:
    """Probabilities ``(n, classes)`` in the order of the levels of biology."""
    if (predictions is None) == (model is None):
        raise DataError("give either predictions= or model=, and not both.")
    if predictions is not None:
        return aligned_predictions(predictions, cohort, graph.biology)
    scorer, levels = scorer_of(model, cohort.X, decisions=False), cohort.factor(graph.biology).levels
    scores = scorer.scores(cohort.X)
    named = hasattr(model, "classes_") or bool(scorer.columns)  # a function names no classes, unless it gives a table
    names = scorer.classes if named else levels
    if scores.shape[1] != len(levels) or set(names) != set(levels):
        raise DataError(
            f"model gives {scores.shape[1]} scores for {', '.join(names)}; {graph.biology} has {', '.join(levels)}: "
            "it must give one probability for each."
        )
    import pandas as pd

    return aligned_predictions(pd.DataFrame(scores, cohort.obs.index, list(names)), cohort, graph.biology)
