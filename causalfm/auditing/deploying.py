"""Run an audit of a deployment: what changed, what it costs, for whom, why, what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from causalfm.auditing.advice import advice_on
from causalfm.auditing.findings import Advice, Audit, Finding
from causalfm.auditing.formatting import first_up
from causalfm.auditing.group_counts import group_counts
from causalfm.auditing.policy import Policy
from causalfm.auditing.policy_columns import monitored_note
from causalfm.auditing.running import Progress, Step, answer_or_reason, data_of, provenance, run_steps
from causalfm.auditing.shift_headline import shift_headline
from causalfm.cohort import Cohort
from causalfm.confidence import percent
from causalfm.crosstabs import cross_table
from causalfm.errors import DataError
from causalfm.fingerprinting import fingerprints
from causalfm.graph import CausalGraph
from causalfm.results import CAVEAT, plain
from causalfm.shift import Domains, as_domains

if TYPE_CHECKING:
    import pandas as pd

STEPS = 10  # about as many as will follow


def deployment_audit(
    reference: Cohort,
    deployment: Cohort,
    graph: CausalGraph,
    *,
    predictions: Mapping[str, pd.DataFrame] | pd.DataFrame | None,
    model: Any,
    policy: Policy,
    corrections: str,
    progress: Progress | None,
    random_state: int,
) -> Audit:
    """Audit the step from the reference to a deployment; parameters and errors as in :func:`causalfm.audit`.

    Parameters
    ----------
    reference, deployment
        Hospitals with labels; the new ones, with or without.
    graph
        Declared graph.
    predictions, model
        The model that is deployed, see :func:`causalfm.shift.as_domains`.
    policy, corrections
        Margins; which correctors are tried.
    progress, random_state
        What is being done; the seed.

    Returns
    -------
    Audit
        Findings on the deployment.
    """
    started = time.perf_counter()
    if progress:
        progress("scores of the model", 0, STEPS)
    domains = as_domains(reference, deployment, graph, predictions=predictions, model=model, random_state=random_state)
    steps = deployment_steps(domains, policy)

    def advice(findings: list[Finding]) -> tuple[Advice, ...]:
        if all(f.verdict == "pass" for f in findings if f.question in ("drift", "cost", "expected cost")):
            return ()
        return (advice_on(reference, graph, domains.site, corrections, random_state),)

    scored = round(time.perf_counter() - started, 2)
    findings, tried, timings = run_steps(steps, advice, progress)
    data = {f"reference_{key}": value for key, value in data_of(reference, graph).items()}
    known = domains.deployment.known
    columns = ((name, deployment.column(name)) for name in graph.columns if name in deployment.obs.columns)
    embeddings, whole = fingerprints(deployment.X, columns)
    data |= {
        "deployment_rows": len(deployment),
        "deployment_units": int(domains.deployment.units.max()) + 1,
        "deployment_rows_labelled": int(known.sum()),
        "deployment_fingerprint": whole,
        "deployment_fingerprint_of_embeddings": embeddings,
        "deployment_group_counts": group_counts(deployment, graph),
        "model": domains.model,
    }
    if "missing" in deployment.info:
        data["deployment_info_missing"] = plain(deployment.info["missing"])
    data |= {key: data[f"reference_{key}"] for key in ("rows", "dimensions", "unit", "units")}
    return Audit(
        findings=tuple(findings),
        headline=shift_headline(findings, domains),
        advice=tried,
        tables={name: cross_table(reference, graph, name) for name in graph.technical},
        graph=graph,
        policy=policy.to_dict(),
        data=data,
        assumptions=(*_assumptions(domains, policy), *monitored_note(findings, policy)),
        provenance=provenance(random_state, time.perf_counter() - started, {"scores of the model": scored, **timings}),
        purpose=policy.purpose,
        title=f"Can the model of {graph.biology} go to {_sites(domains, deployment)}?",
    )


def without_missing(deployment: Cohort, columns: Sequence[str], how: Literal["error", "level", "drop"]) -> Cohort:
    """Handle the deployment's missing values; an error says whose columns it is about."""
    try:
        return deployment.handle_missing(columns, how)
    except DataError as error:
        raise DataError(f"deployment: {error}") from None


def deployment_steps(domains: Domains, policy: Policy) -> list[Step]:
    """List the questions about a deployment, in the order of the report."""
    from causalfm.auditing import cost_findings as cost
    from causalfm.auditing import reason_findings as reasons
    from causalfm.auditing import shift_findings as changes

    known = bool(domains.deployment.known.any())
    steps: list[tuple[str, str, Callable[[], list[Finding]]]] = [
        ("drift", "drift of the embeddings", lambda: [changes.drift_finding(domains, policy)]),
        ("support", "support", lambda: [changes.support_finding(domains, policy)]),
        ("case mix", "case mix", lambda: [changes.case_mix_finding(domains)]),
        ("cost" if known else "expected cost", "what it costs", lambda: cost.cost_findings(domains, policy)),
        ("subgroups", "for whom", lambda: cost.subgroup_findings(domains, policy)),
    ]
    if len(domains.graph.technical) + len(domains.graph.covariates) > 1:
        steps.insert(
            1, ("columns", "covariates and technical columns", lambda: [changes.column_finding(domains, policy)])
        )
    if known:
        steps += [
            ("why", "why: mechanisms", lambda: [reasons.mechanism_finding(domains, policy)]),
            ("split", "why: inputs or labels", lambda: [reasons.split_finding(domains, policy)]),
            ("reversal", "why: within strata", lambda: [reasons.reversal_finding(domains, policy)]),
        ]
    out: list[Step] = []
    for question, name, ask in steps:
        blank = Finding(question, first_up(name), domains.site, "cannot tell", "", unit=domains.graph.group)
        out.append((name, partial(answer_or_reason, blank, ask)))
    return out


def _sites(domains: Domains, cohort: Cohort) -> str:
    levels = cohort.factor(domains.site).levels
    return levels[0] if len(levels) == 1 else f"{len(levels)} levels of {domains.site}"


def _assumptions(domains: Domains, policy: Policy) -> tuple[str, ...]:
    graph, unit = domains.graph, domains.graph.group
    labelled, n = int(domains.deployment.known.sum()), len(domains.deployment)
    level = percent(policy.alpha)
    out = [
        CAVEAT,
        f"The declared graph is true: {graph}.",
        f"{unit.capitalize()}s are independent of each other and the unit of every interval and test. Accuracies are "
        f"means over {unit}s.",
        f"Margins are the policy's, read before the run. Intervals are {level}; a margin is exceeded or kept only if "
        f"the one-sided {level} bound, an end of the {percent(2.0 * policy.alpha)} interval, says so.",
        "Whether something is beyond what is usual among hospitals is judged by ranges of 95%.",
    ]
    if not labelled:
        out.append(
            "No label of the deployment is known: case mix and technical shift cannot be told apart by embeddings "
            "alone, and whether the same image means the same there cannot be seen at all."
        )
    elif labelled < n:
        out.append(f"{labelled} of {n} rows of the deployment are labelled, taken for a random sample of its {unit}s.")
    if domains.refitted:
        out.append("The model is a linear head fitted to the reference here, tested without the row's patient or site.")
    else:
        out.append(f"The model was not trained on {unit}s of the reference: its numbers there are too good otherwise.")
    return tuple(out)
