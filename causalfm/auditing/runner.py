"""Run an audit: overlap, neighbourhood, read-out, invariance and effect for every technical factor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from causalfm.arguments import check_choice, check_seed, check_type
from causalfm.auditing import questions, reading
from causalfm.auditing.advice import PLANS, advise
from causalfm.auditing.assumptions import cohort_assumptions
from causalfm.auditing.continuous import graph_of_levels, note
from causalfm.auditing.design_checks import graph_check
from causalfm.auditing.downstream import LINEAR, downstream, model_notes
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.headline import headline
from causalfm.auditing.model_questions import model_questions
from causalfm.auditing.performance_answers import Answers, answers_of_model, answers_of_probe
from causalfm.auditing.performance_findings import performance_steps
from causalfm.auditing.policy import Policy, load_policy
from causalfm.auditing.policy_columns import check_columns, mark_monitored, monitored_note
from causalfm.auditing.row_sample import RowSample, in_memory_if_small, row_sample
from causalfm.auditing.row_sample import search as shared_lists
from causalfm.auditing.running import (
    Progress,
    Step,
    answer_or_reason,
    data_of,
    provenance,
    refuse_missing_units,
    run_steps,
)
from causalfm.cohort import Cohort
from causalfm.confidence import using_alpha
from causalfm.crosstabs import cross_table, similar_levels
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.metrics.probes import Prediction
from causalfm.neighbours import Neighbours

if TYPE_CHECKING:
    import pandas as pd


def audit(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    deployment: Cohort | None = None,
    predictions: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    model: Any = None,
    policy: Policy | None = None,
    missing: Literal["error", "level", "drop"] = "error",
    corrections: Literal["none", "quick", "full"] | None = None,
    progress: Progress | None = None,
    random_state: int = 0,
) -> Audit:
    """Audit embeddings: tell whether they carry biology, or the hospital, the scanner and the stain.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared causal graph with roles.
    deployment
        A new hospital, same encoder, its biology known for all, some or none of the rows: the audit then asks what
        changed from ``cohort`` to it, what that costs a model, for whom and why (``causalfm shift``).
    predictions
        Probabilities of a downstream model that was not trained on these patients: one column per class, under the ids
        of the table. Adds what the model owes to the factors, and whether its scores depend on them. With a deployment:
        ``{"reference": table, "deployment": table}``.
    model
        In their place: ``(n, d) -> (n, classes)`` probabilities, a callable or a fitted estimator with
        ``predict_proba`` (such as :class:`causalfm.training.RobustHead`). Adds which decisions would change.
        ``"linear"``: a linear head is fitted to the cohort here, and decides about units that it has not seen. With a
        deployment that is the default.
    policy
        Margins and thresholds; None takes the default (:func:`causalfm.auditing.load_policy`).
    missing
        What to do with missing values in the graph's columns; counted in the report.
    corrections
        Whether correctors are tried where a technical factor fails: ``"none"``, ``"quick"`` (three, read linearly) or
        ``"full"`` (seven, three readers; minutes to hours); None takes the policy's. See
        :func:`causalfm.estimators.scoreboard`.
    progress
        Called with (what is being done, steps done, steps in all).
    random_state
        Seed of folds, permutations and draws.

    Returns
    -------
    Audit
        Findings with verdicts; ``to_html``, ``to_markdown``, ``to_json``, ``to_frame``, ``exit_code``.

    Raises
    ------
    DataError, GraphError
        Cohort and graph do not fit each other; the message says what to change.
    """
    started = time.perf_counter()
    check_inputs(cohort, graph)
    check_seed(random_state)
    if policy is None:
        policy = load_policy()
    check_type(policy, Policy, "policy", "read one with causalfm.auditing.load_policy(path)")
    wanted = policy.corrections if corrections is None else corrections
    check_choice(wanted, "corrections", ("none", *PLANS))
    if missing == "level":
        refuse_missing_units(cohort, graph)
    cohort = in_memory_if_small(cohort.handle_missing(graph.columns, missing))
    rest: dict[str, Any] = {"predictions": predictions, "model": model, "policy": policy, "corrections": wanted}
    rest |= {"progress": progress, "random_state": random_state}
    with using_alpha(policy.alpha):
        if deployment is None:
            check_columns(policy, graph, {"cohort": cohort})
            return _cohort_audit(cohort, graph, started=started, **rest)
        from causalfm.auditing.deploying import deployment_audit, without_missing

        check_type(deployment, Cohort, "deployment", "read one with causalfm.read")
        check_columns(policy, graph, {"reference": cohort, "deployment": deployment})
        others = [name for name in graph.columns if name != graph.biology]  # biology may be unknown there
        if isinstance(model, str) and model == LINEAR:
            rest["model"] = None  # what it fits by itself
        return deployment_audit(cohort, without_missing(deployment, others, missing), graph, **rest)


def _cohort_audit(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    predictions: pd.DataFrame | Mapping[str, pd.DataFrame] | None,
    model: Any,
    policy: Policy,
    corrections: str,
    progress: Progress | None,
    random_state: int,
    started: float,
) -> Audit:
    """Ask every question of one cohort; parameters as in :func:`audit`."""
    levels, continuous = graph_of_levels(cohort, graph)
    neighbours: list[Neighbours] = []
    notes: list[str] = []
    sample = row_sample(cohort, levels, random_state)
    rows = cohort if sample is None else sample.rows
    of_all = predictions is not None or not (isinstance(model, str) and model == LINEAR)
    scored = cohort if of_all else rows  # a head is fitted here to rows in memory
    given = downstream(scored, graph, predictions, model, random_state)
    probe: list[Prediction] = []
    steps = _steps(cohort, levels, policy, neighbours, probe, notes, random_state, sample)
    for name in continuous:
        steps += _factor_steps(cohort, graph, policy, name, neighbours, random_state, sample)

    def answers() -> Answers | None:
        if given is not None:
            return answers_of_model(scored, graph, given.predictions, given.whose, refitted=given.refitted)
        return answers_of_probe(rows, graph, probe[0]) if probe else None

    answered = rows if given is None else scored
    performance = performance_steps(answered, graph, graph.technical, policy, answers)
    steps += performance if sample is None or answered is cohort else sample.told(performance)
    if given is not None:
        asked = model_questions(scored, levels, list(levels.technical), policy, given, random_state, rows)
        steps += asked
    findings, advice, timings = run_steps(
        steps, lambda found: advise(rows, levels, found, corrections, random_state, continuous), progress
    )
    findings = mark_monitored(findings, graph, policy)
    return Audit(
        findings=tuple(findings),
        headline=headline(findings, graph),
        advice=advice,
        tables={factor: cross_table(cohort, graph, factor) for factor in levels.technical},
        graph=graph,
        policy=policy.to_dict(),
        data=data_of(cohort, graph),
        assumptions=(
            *cohort_assumptions(graph, levels, findings, notes, policy),
            *monitored_note(findings, policy),
            *note(continuous),
            *model_notes(given, graph.group),
            *similar_levels(cohort, levels),
        ),
        provenance=provenance(random_state, time.perf_counter() - started, timings),
        purpose=policy.purpose,
    )


def _steps(
    cohort: Cohort,
    graph: CausalGraph,
    policy: Policy,
    neighbours: list[Neighbours],
    probe: list[Prediction],
    notes: list[str],
    seed: int,
    sample: RowSample | None = None,
) -> list[Step]:
    """List the steps; the neighbour pass runs once, for all metrics. What the graph survives goes to the notes.

    What the logistic probe says of the biology is kept for the questions about its accuracy.
    """
    rows = cohort if sample is None else sample.rows

    def search() -> list[Finding]:
        neighbours.append(shared_lists(cohort, graph) if sample is None else sample.neighbours)
        return []

    def biology() -> list[Finding]:
        found, prediction = reading.biology_finding(rows, graph, policy, neighbours[0], seed)
        probe.extend([] if prediction is None else [prediction])
        return [found if sample is None else sample.said(found)]

    def confront() -> list[Finding]:
        found, note = graph_check(cohort, graph, policy, seed)
        notes.append(note)
        return found

    steps: list[Step] = [
        ("declared graph", confront),
        ("nearest neighbours", search),
        (f"biology: {graph.biology}", biology),
    ]
    for factor in graph.technical:
        steps += _factor_steps(cohort, graph, policy, factor, neighbours, seed, sample)
    return steps


def _factor_steps(
    cohort: Cohort,
    graph: CausalGraph,
    policy: Policy,
    factor: str,
    neighbours: list[Neighbours],
    seed: int,
    sample: RowSample | None = None,
) -> list[Step]:
    """List the steps of one technical factor; one that is nested in its parent is asked about with the parent."""
    overlap = _overlap(cohort, graph, factor, policy)
    nested = overlap.details["nested_in"]
    of = [nested, factor] if nested and graph.kind(factor, cohort) != "continuous" else [factor]
    name = " + ".join(of)
    rows = cohort if sample is None else sample.rows

    def said(found: Finding) -> Finding:
        return found if sample is None else sample.said(found)

    def answer(question: str, about: str, ask: Callable[[], Finding]) -> list[Finding]:
        title = f"{question.capitalize()} of {about}"
        blank = Finding(question, title, about, "cannot tell", "", unit=graph.group)
        return answer_or_reason(blank, lambda: [ask()])

    def neighbourhood() -> list[Finding]:
        return answer(
            "neighbourhood",
            factor,
            lambda: said(questions.neighbourhood_finding(rows, graph, factor, policy, neighbours[0], seed, sample)),
        )

    def read() -> list[Finding]:
        return [said(reading.readout_finding(rows, graph, factor, policy, neighbours[0], seed))]

    def invariance() -> list[Finding]:
        return answer("invariance", name, lambda: questions.invariance_finding(cohort, graph, of, policy, seed))

    def size() -> list[Finding]:
        return answer("effect", name, lambda: questions.effect_finding(cohort, graph, of, policy))

    if graph.kind(factor, cohort) == "continuous":  # no levels: neither neighbours nor probes nor contrasts
        asked: list[Step] = [(f"{factor}: overlap", lambda: [overlap]), (f"{factor}: invariance", invariance)]
        return [*asked, (f"{factor}: effect", size)]
    steps: list[Step] = [(f"{factor}: overlap", lambda: [overlap]), (f"{factor}: neighbourhood", neighbourhood)]
    if not nested:
        steps.append((f"{factor}: read-out", read))
    return [*steps, (f"{name}: invariance", invariance), (f"{name}: effect", size)]


def _overlap(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy) -> Finding:
    """Answer the overlap, or say why it has no answer: columns that vary within patients are legal."""
    title, details = f"Can levels of {factor} be compared?", {"nested_in": None, "comparable": False}
    blank = Finding("overlap", title, factor, "cannot tell", "", n=len(cohort), unit=graph.group, details=details)
    return answer_or_reason(blank, lambda: [questions.overlap_finding(cohort, graph, [factor], policy)])[0]
