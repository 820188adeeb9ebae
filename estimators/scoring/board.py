"""Scoreboard of correctors: both sides of correction on unseen patients and at unseen sites, with honest intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_flag, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.estimators.scoring.assembling import Run, scores_of
from causalfm.estimators.scoring.correcting import Attempt
from causalfm.estimators.scoring.intervals import LEAST
from causalfm.estimators.scoring.measuring import AT, PARTS, measure, seconds_of
from causalfm.estimators.scoring.readers import FEW_TREES, READERS
from causalfm.estimators.scoring.result import NONE, Scoreboard, recommend
from causalfm.estimators.scoring.trial import MINIMUM, Trial, trial_of
from causalfm.graph_checks import check_inputs
from causalfm.metrics.learners import SMALL

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def scoreboard(
    cohort: Cohort,
    graph: CausalGraph,
    correctors: Mapping[str, Any],
    *,
    outcome: str | None = None,
    confounder: str | None = None,
    readers: Sequence[str] = tuple(READERS),
    parts: Sequence[str] = tuple(PARTS),
    halvings: int = 10,
    margin: float = 0.02,
    max_rows: int | None = 4000,
    leak: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    random_state: int = 0,
) -> Scoreboard:
    """Score correctors on patients and at sites that they have not seen, beside no correction.

    Every number comes from rows that the corrector was not fitted on: it is fitted anew on one half of the patients
    (``site_*``, ``robustness_index`` and ``croma`` are measured in the other half), in every fold of patients
    (``biology``) and without every site in turn (``new_site_*``, ``biology_new_site``, ``worst_new_site``). What a
    corrector learns from all patients is learnt from more, so that these numbers are those of a slightly worse one. All
    correctors are given the same parts; one that fails or refuses has no value there, and the others go on.

    Parameters
    ----------
    cohort, graph
        Data and declared graph; its ``group`` is never split.
    correctors
        Correctors by name, not fitted: :mod:`causalfm.estimators`' own or any other with their ``fit`` and
        ``transform``. Their settings hold, ``unseen=`` for new sites too.
    outcome
        Categorical column that probes read from corrected rows; default the biology.
    confounder
        Technical factor to remove; the graph's first by default.
    readers
        What reads the site: ``"linear"``, ``"knn"``, ``"forest"``.
    parts
        What is measured: ``"site"`` (``site_*``), ``"neighbours"`` (``robustness_index``, ``croma``), ``"confounded"``
        (``apd``), ``"biology"``, ``"new_sites"`` (``biology_new_site``, ``worst_new_site``) and ``"told_sites"``
        (``new_site_*``). A recommendation needs ``"biology"`` and ``"new_sites"``.
    halvings
        Random halvings of the patients for the intervals, at least 5; 0: no intervals, and no recommendation. Each
        repeats the whole procedure in both halves.
    margin
        Accuracy for unseen patients that a recommended corrector may lose.
    max_rows
        Of a larger cohort every unit keeps the same number of random rows in every cell of site and classes, one at
        least, so many that these are at most ``max_rows``; ``details`` says how many. None: all.
    leak
        Add the same measures with the corrector fitted on all rows, those that are scored included.
    progress
        Called with a label, steps done and steps in all.
    random_state
        Seed of the deals, of readers and of balanced tables.

    Returns
    -------
    Scoreboard
        ``site_*``: accuracy, within biology, with which the site is read from unseen patients. ``new_site_*``: with
        which a site that was left out is told from the others, mean over sites. ``biology``: accuracy for the outcome
        within sites. ``biology_new_site`` and ``worst_new_site``: at sites left out, mean and least. ``biology_lost``:
        the fall of ``biology``. ``apd``: average performance drop of probes trained on sets in which the site tells the
        class more and more, the corrector fitted on the same sets; ``apd_not_corrected``: share of these sets that it
        refuses, as class and site are one: they are used as they are. ``seconds``: processor time of one fit and
        transform. Where a corrector refuses, values are ``nan`` and ``reason`` says why.

    Raises
    ------
    DataError
        No correctors, names taken, unknown readers, columns that are missing or not comparable.

    Notes
    -----
    Intervals: patients are halved at random within site and biology, and the whole procedure, fits of correctors and
    probes included, is run in either half. The halves have no patient in common, so that the mean of ``(a - b)^2 / 4``
    estimates the variance of the number on all patients (a delete-one jackknife fails where numbers are not smooth:
    Shao and Wu 1989); t quantiles. ``worst_new_site`` has bounds from intervals that hold for all sites together.
    Changes are taken within each half, so that they are paired. Intervals on corrected rows as if these had been
    seen would leave out the error of the correction. They are for new patients of these sites, not for another site.

    ``docs/calibration.md`` has their coverage in simulations; ``apd``, ``new_site_*`` and other readers than the linear
    one were not simulated.

    A corrector is recommended if its gain in ``biology_new_site`` is above 0 and its loss in ``biology`` below the
    margin, by intervals that hold for all correctors together.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026); Shao and Wu, A general theory for jackknife
    variance estimation, Ann. Statist. 17:1176 (1989).
    """
    from threadpoolctl import threadpool_limits

    _check(cohort, graph, correctors, readers, halvings, margin, random_state, parts, max_rows)
    check_flag(leak, "leak")
    trial = trial_of(cohort, graph, confounder, outcome, random_state, max_rows)
    known, asked = tuple(dict.fromkeys(readers)), tuple(part for part in PARTS if part in parts)
    pairs = [trial.halves(random_state, number) for number in range(halvings)]
    say = progress or (lambda what, done, steps: None)
    runs = []
    # small products: threads that wait for each other cost more than they save
    with threadpool_limits(1 if trial.cohort.X.size < SMALL else None, user_api="blas"):
        for at, (name, corrector) in enumerate([(NONE, None), *correctors.items()]):
            say(name, at, len(correctors) + 1)
            runs.append(_run(name, Attempt(corrector, known, False, random_state), trial, pairs, asked, leak))
    scores = scores_of(trial, runs)
    chosen, sentence = recommend(scores, margin) if halvings else (None, "no intervals were asked for (halvings=0).")
    n_groups = int(trial.groups.max()) + 1
    details = _details(trial, runs, correctors) | {
        "outcome": graph.biology if outcome is None else outcome,
        "confounder": trial.confounder,
        "halvings": halvings,
        "margin": margin,
        "interval": f"{halvings} random halvings of the {graph.group}s, everything made anew in both halves",
        "rows": len(trial),
        "rows_per_unit_and_cell": trial.most,
    }
    return Scoreboard(scores, chosen, sentence, len(cohort), n_groups, graph.group, details)


def _details(trial: Trial, runs: Sequence[Run], correctors: Mapping[str, Any]) -> dict[str, Any]:
    judged = trial.biology.judged
    return {
        "correctors": {name: repr(corrector) for name, corrector in correctors.items()},
        "judged": {
            level: [trial.classes[j] for j in np.flatnonzero(judged[i])]
            for i, level in enumerate(trial.levels)
            if judged[i].any()
        },
        "biology_at_new_site": {
            run.name: {trial.levels[int(name.removeprefix(AT))]: run.values[name] for name in run.at_sites()}
            for run in runs
        },
        "least": f"{MINIMUM} {trial.graph.group}s in a cell",
        "linear_reader": "discriminant with a shrunken covariance",
    }


def _check(
    cohort: Cohort,
    graph: CausalGraph,
    correctors: Any,
    readers: Sequence[str],
    halvings: int,
    margin: Any,
    random_state: int,
    parts: Sequence[str],
    max_rows: int | None,
) -> None:
    check_inputs(cohort, graph)
    check_seed(random_state)
    check_whole(halvings, "halvings", 0)
    if 0 < halvings < LEAST:
        raise DataError(f"halvings={halvings}: give at least {LEAST}, or 0 for no intervals.")
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0.0 <= margin < 1.0:
        raise DataError(f"margin={margin!r}: give the accuracy that may be lost, from 0 to below 1.")
    if isinstance(readers, str) or not readers or (unknown := [r for r in readers if r not in READERS]):
        wrong = readers if isinstance(readers, str) or not readers else unknown
        raise DataError(f"readers: {wrong!r} is not a list of {', '.join(READERS)}.")
    if isinstance(parts, str) or not parts or (unknown := [p for p in parts if p not in PARTS]):
        wrong = parts if isinstance(parts, str) or not parts else unknown
        raise DataError(f"parts: {wrong!r} is not a list of {', '.join(PARTS)}.")
    if max_rows is not None:
        check_whole(max_rows, "max_rows", 1, why="rows in all; None keeps them all")
    if not isinstance(correctors, Mapping) or not correctors:
        raise DataError("correctors must be a mapping of names to correctors, such as {'ComBat': ComBat()}.")
    for name, corrector in correctors.items():
        if not isinstance(name, str) or name == NONE:
            raise DataError(f"correctors: {name!r} cannot be a name; {NONE!r} is always scored, under that name.")
        if isinstance(corrector, type) or not all(hasattr(corrector, m) for m in ("fit", "transform", "get_params")):
            raise DataError(f"correctors[{name!r}] is no corrector: pass an object that is not fitted, as ComBat().")


def _run(
    name: str, attempt: Attempt, trial: Trial, pairs: Sequence[tuple[Trial, Trial]], parts: Sequence[str], leak: bool
) -> Run:
    values, reasons = measure(trial, attempt, parts)
    leaky = leak and attempt.corrector is not None
    leaked = measure(trial, replace(attempt, leak=True), parts)[0] if leaky else {}
    few = replace(attempt, trees=FEW_TREES)
    found = [[measure(half, few, parts) for half in pair] for pair in pairs]
    lost = float("nan")
    halves = {
        key: np.array([[one[0].get(key, lost) for one in pair] for pair in found]).reshape(-1, 2) for key in values
    }
    for key, numbers in halves.items():
        complete = np.isfinite(numbers).all(axis=1)
        if np.isfinite(values[key]) and not complete.all():
            why = next((one[1][key] for pair in found for one in pair if key in one[1]), "too few patients")
            told = "interval from" if complete.sum() >= max(LEAST, len(numbers) / 2) else "no interval: only"
            reasons[key] = f"{told} {complete.sum()} of {len(numbers)} halvings have a value in both halves ({why})"
    seconds = {"seconds": seconds_of(trial, attempt.corrector)}
    return Run(name, values | seconds, reasons, leaked, halves)
