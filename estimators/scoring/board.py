"""Scoreboard of correctors: both sides of correction on unseen patients and at unseen sites, with honest intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from causalfm.arguments import check_flag, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.estimators.scoring.correcting import Attempt
from causalfm.estimators.scoring.measuring import floor_of, measure, seconds_of
from causalfm.estimators.scoring.readers import READERS
from causalfm.estimators.scoring.result import NONE, Score, Scoreboard, recommend
from causalfm.estimators.scoring.trial import MINIMUM, Trial, chance_of, trial_of
from causalfm.graph_checks import check_inputs
from causalfm.metrics.learners import groups_per_level

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

LEVEL = 0.95
LEAST_HALVINGS = 5
HIGHER = ("apd", "robustness_index", "croma", "biology", "biology_new_site", "worst_new_site")


def scoreboard(
    cohort: Cohort,
    graph: CausalGraph,
    correctors: Mapping[str, Any],
    *,
    outcome: str | None = None,
    confounder: str | None = None,
    readers: Sequence[str] = tuple(READERS),
    halvings: int = 10,
    margin: float = 0.02,
    leak: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    random_state: int = 0,
) -> Scoreboard:
    """Score correctors on patients and at sites that they have not seen, beside no correction.

    Every number comes from rows that the corrector was not fitted on: it is fitted anew on one half of the patients
    (``site_*``, ``robustness_index`` and ``croma`` are measured in the other half), in every fold of patients
    (``biology``) and without every site in turn (``new_site_*``, ``biology_new_site``, ``worst_new_site``).

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
    halvings
        Random halvings of the patients for the intervals, at least 5; 0: no intervals, and no recommendation. Each
        repeats the whole procedure in both halves.
    margin
        Accuracy for unseen patients that a recommended corrector may lose.
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
    estimates the variance of the number on all patients; unlike a delete-one jackknife it holds for numbers that are
    not smooth, such as a median or the least of several sites (Shao and Wu 1989). t quantiles;
    changes are taken within each half, so that they are paired. Intervals on corrected rows as if these had been seen
    would leave out the error of the correction. They are for new patients of these sites, not for another site.

    A corrector is recommended if its gain in ``biology_new_site`` is above 0 and its loss in ``biology`` below the
    margin, by intervals that hold for all correctors together.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026); Shao and Wu, A general theory for jackknife
    variance estimation, Ann. Statist. 17:1176 (1989).
    """
    _check(cohort, graph, correctors, readers, halvings, margin, random_state)
    check_flag(leak, "leak")
    trial = trial_of(cohort, graph, confounder, outcome, random_state)
    known = tuple(dict.fromkeys(readers))
    pairs = [trial.halves(random_state + 1 + number) for number in range(halvings)]
    say = progress or (lambda what, done, steps: None)
    runs = []
    for at, (name, corrector) in enumerate([(NONE, None), *correctors.items()]):
        say(name, at, len(correctors) + 1)
        runs.append(_run(name, Attempt(corrector, known, False, random_state), trial, pairs, leak))
    scores = _scores(trial, runs)
    chosen, sentence = recommend(scores, margin) if halvings else (None, "no intervals were asked for (halvings=0).")
    n_groups, judged = int(trial.groups.max()) + 1, trial.biology.judged
    details = {
        "outcome": graph.biology if outcome is None else outcome,
        "confounder": trial.confounder,
        "halvings": halvings,
        "margin": margin,
        "interval": f"{halvings} random halvings of the {graph.group}s, everything made anew in both halves",
        "correctors": {name: repr(corrector) for name, corrector in correctors.items()},
        "judged": {
            level: [trial.classes[j] for j in np.flatnonzero(judged[i])]
            for i, level in enumerate(trial.levels)
            if judged[i].any()
        },
        "least": f"{MINIMUM} {graph.group}s in a cell",
    }
    return Scoreboard(scores, chosen, sentence, len(cohort), n_groups, graph.group, details)


def _check(
    cohort: Cohort,
    graph: CausalGraph,
    correctors: Any,
    readers: Sequence[str],
    halvings: int,
    margin: Any,
    random_state: int,
) -> None:
    check_inputs(cohort, graph)
    check_seed(random_state)
    check_whole(halvings, "halvings", 0)
    if 0 < halvings < LEAST_HALVINGS:
        raise DataError(f"halvings={halvings}: give at least {LEAST_HALVINGS}, or 0 for no intervals.")
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0.0 <= margin < 1.0:
        raise DataError(f"margin={margin!r}: give the accuracy that may be lost, from 0 to below 1.")
    if isinstance(readers, str) or not readers or (unknown := [r for r in readers if r not in READERS]):
        wrong = readers if isinstance(readers, str) or not readers else unknown
        raise DataError(f"readers: {wrong!r} is not a list of {', '.join(READERS)}.")
    if not isinstance(correctors, Mapping) or not correctors:
        raise DataError("correctors must be a mapping of names to correctors, such as {'ComBat': ComBat()}.")
    for name, corrector in correctors.items():
        if not isinstance(name, str) or name == NONE:
            raise DataError(f"correctors: {name!r} cannot be a name; {NONE!r} is always scored, under that name.")
        if isinstance(corrector, type) or not all(hasattr(corrector, m) for m in ("fit", "transform", "get_params")):
            raise DataError(f"correctors[{name!r}] is no corrector: pass an object that is not fitted, as ComBat().")


@dataclass(frozen=True, eq=False)
class _Run:
    """All numbers of one corrector: on all patients, with a leak, and ``(halvings, 2)`` in halves."""

    name: str
    values: dict[str, float]
    reasons: dict[str, str]
    leaked: dict[str, float]
    halves: dict[str, np.ndarray]


def _run(name: str, attempt: Attempt, trial: Trial, pairs: Sequence[tuple[Trial, Trial]], leak: bool) -> _Run:
    values, reasons = measure(trial, attempt)
    leaky = replace(attempt, leak=True)
    leaked = measure(trial, leaky)[0] if leak and attempt.corrector is not None else {}
    found = [[measure(half, attempt) for half in pair] for pair in pairs]
    halves = {key: np.array([[one[0][key] for one in pair] for pair in found]).reshape(-1, 2) for key in values}
    for key, parts in halves.items():
        if np.isfinite(values[key]) and (lacking := int((~np.isfinite(parts)).sum())):
            why = next((one[1][key] for pair in found for one in pair if key in one[1]), "too few patients")
            reasons[key] = f"no interval: no value in {lacking} of {parts.size} halves of the cohort ({why})"
    return _Run(name, {**values, "seconds": seconds_of(trial, attempt.corrector)}, reasons, leaked, halves)


def _scores(trial: Trial, runs: Sequence[_Run]) -> tuple[Score, ...]:
    """Put values, intervals and changes together; the first run is without correction."""
    nan, base, out = float("nan"), runs[0], []
    spare = int(trial.groups.max()) + 1 - trial.n_cells()
    for run in runs:
        for key, value in run.values.items():
            floor, chance = _floor_and_chance(trial, key)
            none = np.full((0, 2), nan)
            parts, before = run.halves.get(key, none), base.halves.get(key, none)
            half, change_half = (_half(v, spare, floor) for v in (parts, parts - before))
            joint = _half(parts - before, spare, floor, max(1, len(runs) - 1))
            change = nan if run is base else value - base.values[key]
            bounds = change - change_half, change + change_half, change - joint, change + joint
            about = run.leaked.get(key, nan), run.reasons.get(key, "")
            better = "higher" if key in HIGHER else "lower"
            out.append(Score(run.name, key, value, value - half, value + half, chance, better, change, *bounds, *about))
            if key == "biology" and run is not base:
                out.append(_lost(out[-1]))
    return tuple(out)


def _lost(score: Score) -> Score:
    """Return the change of an accuracy as what is lost of it."""
    nan = float("nan")
    empty: dict[str, Any] = dict.fromkeys(
        ("change", "change_low", "change_high", "joint_low", "joint_high", "leak"), nan
    )
    lost: dict[str, Any] = {"value": -score.change, "low": -score.change_high, "high": -score.change_low, "chance": 0.0}
    return replace(score, name="biology_lost", better="lower", **lost, **empty)


def _half(parts: np.ndarray, spare: int, floor: float, looks: int = 1) -> float:
    """Half the width of an interval from ``(halvings, 2)`` numbers; ``nan`` if one is missing, or nothing varies.

    ``spare``: units less cells. The variance of the patients at hand has as many degrees of freedom, and the finite
    number of halvings adds to its error.
    """
    if not len(parts) or not np.isfinite(parts).all():
        return float("nan")
    variance = max(float(((parts[:, 0] - parts[:, 1]) ** 2).mean()) / 4.0, floor)
    df = 1.0 / (1.0 / len(parts) + 1.0 / max(1, spare))
    error = (1.0 - LEVEL) / looks
    return float(stats.t.ppf(1.0 - error / 2.0, df)) * variance**0.5 if variance > 0.0 else float("nan")


def _floor_and_chance(trial: Trial, measured: str) -> tuple[float, float]:
    """Least variance of a measure, and its chance value."""
    codes = trial.biology if measured.startswith(("biology", "worst")) else trial.site
    contexts, levels = codes.judged.shape
    patients = groups_per_level(codes.context * levels + codes.y, trial.groups, contexts * levels)
    floor = floor_of(codes.judged, patients.reshape(contexts, levels))
    if measured.startswith("new_site"):
        return floor, 0.5
    if measured.startswith(("site_", "biology")):
        return floor, chance_of(codes.judged)
    if measured == "apd":
        return 0.0, 0.0
    if measured == "worst_new_site":
        return floor, float("nan")  # sites may hold different numbers of classes
    return 0.0, 0.5 if measured == "robustness_index" else 0.0 if measured == "croma" else float("nan")
