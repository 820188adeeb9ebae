"""DoWhy's opinion of the declared graph, from a process of its own that is stopped when its time is up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import causalfm
from causalfm.arguments import check_positive, check_seed, check_whole
from causalfm.arrows import EMBEDDING
from causalfm.errors import GraphError
from causalfm.graph_checks import check_inputs
from causalfm.results import TestResult, Verdict

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

NAN = float("nan")


def dowhy_falsification(
    cohort: Cohort, graph: CausalGraph, *, n_permutations: int = 20, seconds: float = 60.0, random_state: int = 0
) -> TestResult:
    """Ask DoWhy whether the declared graph explains the table better than graphs with its nodes interchanged.

    A second opinion beside :func:`falsify_graph`, which tests each implied independence for itself.

    Parameters
    ----------
    cohort, graph
        Data and declared graph. Columns are read once per patient; the embedding takes no part.
    n_permutations
        Graphs with interchanged nodes.
    seconds
        When to stop. DoWhy's kernel tests take time in the cube of the number of patients.
    random_state
        Seed of the process; that of the caller is not touched.

    Returns
    -------
    TestResult
        ``statistic``: share of the local Markov conditions that the table violates at 5 %. ``p_value``: share of the
        interchanged graphs that violate no larger share of theirs; as DoWhy reads it, a graph is falsified if this is
        *above* .05, though few of the interchanged graphs imply the same conditions (``details["p_same"]``). The
        verdict is "fail" then, else "cannot tell": a graph is never confirmed by what it survives.

    Raises
    ------
    GraphError
        The graph has unmeasured common causes or selection among its columns: DoWhy would take what follows from them
        for a contradiction.
    DataError
        The cohort does not fit the graph, or an argument is out of range.

    References
    ----------
    Eulig et al., Toward falsifying causal graphs using a permutation-based test, arXiv:2305.09565.
    """
    check_inputs(cohort, graph)
    check_seed(random_state)
    check_whole(n_permutations, "n_permutations", 20, why="with fewer no graph could be told from chance at 5 %")
    check_positive(seconds, "seconds", "how long DoWhy may take")
    graph.check(cohort)
    _refuse_unmeasured(graph)
    varying = [name for name in graph.measured if graph.varies_within_group(cohort, name)]
    if varying:
        return _result(cohort, graph, f"cannot tell: {', '.join(varying)} varies within {graph.group}s")
    task = {
        "columns": _columns(cohort, graph),
        "edges": [list(edge) for edge in graph.edges if EMBEDDING not in edge],
        "n_permutations": n_permutations,
        "random_state": random_state,
    }
    found = _ask(task, seconds)
    if isinstance(found, str):
        return _result(cohort, graph, f"cannot tell: {found}")
    if found["falsified"] is None:
        return _result(cohort, graph, "cannot tell: the graph implies no independence among its columns")
    return _judged(cohort, graph, found)


def _refuse_unmeasured(graph: CausalGraph) -> None:
    """Refuse graphs that DoWhy's test is not made for."""
    pairs = [" <-> ".join(pair) for pair in graph.bidirected if EMBEDDING not in pair]
    why = [f"{', '.join(pairs)} is an unmeasured common cause"] if pairs else []
    why += [f"rows are selected by {', '.join(graph.selected)}"] if graph.selected else []
    if why:
        raise GraphError(
            f"DoWhy's test takes a graph of measured columns without unmeasured common causes; here {'; '.join(why)}. "
            "Use causalfm.invariance.falsify_graph, which allows for them."
        )


def _columns(cohort: Cohort, graph: CausalGraph) -> dict[str, list[Any]]:
    """Return one value per patient: numbers as they are, levels as codes in letters so that DoWhy takes no mean."""
    first = np.unique(cohort.factor(graph.group, private=True).codes, return_index=True)[1]
    out: dict[str, list[Any]] = {}
    for name in graph.measured:
        if graph.kind(name, cohort) == "continuous":
            out[name] = cohort.numeric(name)[first].tolist()
        else:
            out[name] = [f"level {code}" for code in cohort.factor(name).codes[first]]
    return out


def _ask(task: dict[str, Any], seconds: float) -> dict[str, Any] | str:
    """Return what DoWhy found, or why it found nothing."""
    folder = str(Path(causalfm.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", "-m", "causalfm.invariance.dowhy_worker"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
        )
    except subprocess.TimeoutExpired:
        n = len(next(iter(task["columns"].values()), []))
        return f"DoWhy was stopped after {seconds:g} s with {n} patients; allow more seconds, or use falsify_graph"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return f"DoWhy failed: {last[0] if last else f'exit code {done.returncode}'}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _judged(cohort: Cohort, graph: CausalGraph, found: dict[str, Any]) -> TestResult:
    tests, violations, p = int(found["tests"]), int(found["violations"]), float(found["p_value"])
    told = (
        f"{violations} of {tests} local Markov conditions are violated; {p:.0%} of the graphs with interchanged nodes"
    )
    if found["falsified"]:
        sentence = f"{told} fare as well: the declared graph is no better than chance."
    elif found["falsifiable"]:
        sentence = f"{told} fare as well: the table does not contradict the graph, which does not confirm it."
    else:
        sentence = f"{told} fare as well; {found['p_same']:.0%} of them imply the same: DoWhy cannot judge this graph."
    verdict: Verdict = "fail" if found["falsified"] else "cannot tell"
    return _result(cohort, graph, sentence, verdict, violations / max(1, tests), p, found)


def _result(
    cohort: Cohort,
    graph: CausalGraph,
    sentence: str,
    verdict: Verdict = "cannot tell",
    statistic: float = NAN,
    p_value: float = NAN,
    found: dict[str, Any] | None = None,
) -> TestResult:
    return TestResult(
        statistic=statistic,
        p_value=p_value,
        effect=None,
        verdict=verdict,
        sentence=sentence if sentence.endswith(".") else f"{sentence}.",
        of="declared graph",
        given=(),
        effect_kind="independence",
        method="dowhy.gcm.falsify",
        n=len(cohort),
        n_groups=cohort.factor(graph.group, private=True).n_levels,
        unit=graph.group,
        details=dict(found or {}),
    )
