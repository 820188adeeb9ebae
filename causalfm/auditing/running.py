"""What audits share: steps with progress and times, the record of data and versions."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from causalfm import __version__
from causalfm.arrows import names
from causalfm.auditing.findings import Advice, Finding
from causalfm.auditing.group_counts import group_counts
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.fingerprinting import fingerprints
from causalfm.graph import CausalGraph
from causalfm.results import plain
from causalfm.validation import refuse_missing

Progress = Callable[[str, int, int], None]
Step = tuple[str, Callable[[], list[Finding]]]


def run_steps(
    steps: Sequence[Step], advise: Callable[[list[Finding]], tuple[Advice, ...]], progress: Progress | None
) -> tuple[list[Finding], tuple[Advice, ...], dict[str, float]]:
    """Answer the questions one after the other, then say what to do.

    Parameters
    ----------
    steps
        Names and questions.
    advise
        From all findings to advice.
    progress
        Called with (what is being done, steps done, steps in all).

    Returns
    -------
    findings, advice, timings
        The answers, what to do, and seconds by step.
    """
    say = progress or (lambda what, done, steps: None)
    findings: list[Finding] = []
    timings: dict[str, float] = {}
    for done, (name, step) in enumerate(steps):
        say(name, done, len(steps) + 1)
        clock = time.perf_counter()
        findings += step()
        timings[name] = round(time.perf_counter() - clock, 2)
    say("correctors", len(steps), len(steps) + 1)
    clock = time.perf_counter()
    advice = advise(findings)
    timings["correctors"] = round(time.perf_counter() - clock, 2)
    say("done", len(steps) + 1, len(steps) + 1)
    return findings, advice, timings


def answer_or_reason(
    blank: Finding, ask: Callable[[], list[Finding]], refused: type[CausalFMError] = DataError
) -> list[Finding]:
    """Answer, or say why there is no answer: the cohort fits the graph, but is too small or thin for one question.

    Parameters
    ----------
    blank
        The finding without an answer: its sentence becomes the reason.
    ask
        Answers the question.
    refused
        Errors that are a reason; others are raised.

    Returns
    -------
    list
        The answers, or the blank finding with the reason.
    """
    try:
        return ask()
    except refused as error:
        return [dataclasses.replace(blank, sentence=f"Cannot tell: {error}")]


def refuse_missing_units(cohort: Cohort, graph: CausalGraph) -> None:
    """Refuse missing units under ``missing="level"``: one level for all unknown patients would make them one."""
    way_out = "unknown units cannot be told apart, so they are no level. Choose missing='drop', or complete the table"
    for name in (*graph.groups, *names(graph.specimen)):
        refuse_missing(cohort.column(name), name, way_out)


def data_of(cohort: Cohort, graph: CausalGraph) -> dict[str, Any]:
    """Describe a cohort: sizes, units, fingerprint, where it is from."""
    groups = cohort.factor(graph.group, private=True)
    counts = groups.counts()
    embeddings, whole = fingerprints(cohort.X, ((name, cohort.column(name)) for name in graph.columns))
    body = {
        "rows": len(cohort),
        "dimensions": cohort.d,
        "dtype": str(cohort.X.dtype),
        "unit": graph.group,
        "units": groups.n_levels,
        "rows_per_unit": {"least": int(counts.min()), "mean": float(counts.mean()), "most": int(counts.max())},
        "fingerprint": whole,
        "fingerprint_of_embeddings": embeddings,
        "columns": list(graph.columns),
        "group_counts": group_counts(cohort, graph),
    }
    return {**body, **{f"info_{key}": plain(value) for key, value in cohort.info.items()}}


def provenance(seed: int, seconds: float, timings: dict[str, float]) -> dict[str, Any]:
    """Return what it takes to run this again: versions, seed, time."""
    packages = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "dowhy", "networkx")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "seconds": round(seconds, 1),
        "versions": {
            "causalfm": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "timings": timings,
    }
