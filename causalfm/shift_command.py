"""``causalfm shift``: what changed at a new hospital, what it costs, for whom, why, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalfm.command_options import (
    Arrows,
    Biology,
    Columns,
    DeclaredBy,
    Group,
    Head,
    Junit,
    Keep,
    Missing,
    Out,
    PolicyFile,
    PolicyHash,
    Predictions,
    Seed,
    Table,
    Technical,
    check_folder,
    cohort_of,
    graph_of,
    head_of,
    live,
    pairs,
    predictions_of,
)
from causalfm.command_output import summary

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def shift(
    reference: Annotated[Path, typer.Argument(help="Embeddings of the hospitals whose labels are known.")],
    deployment: Annotated[Path | None, typer.Argument(help="Embeddings of the new hospital, same encoder.")] = None,
    biology: Biology = "",
    technical: Technical = "",
    group: Group = "",
    covariates: Columns = "",
    obs: Table = None,
    deployment_obs: Table = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=LEVEL: these rows of the one file are the deployment; repeat for more levels."),
    ] = None,
    graph: Arrows = "",
    declared_by: DeclaredBy = "",
    key: Annotated[str | None, typer.Option(help="Array of the reference's .npz file, or obsm key of .h5ad.")] = None,
    deployment_key: Annotated[str | None, typer.Option(help="Array of the deployment's file; default: --key.")] = None,
    keep: Keep = None,
    missing: Missing = "error",
    unlabelled: Annotated[bool, typer.Option(help="Do as if no label of the deployment were known.")] = False,
    head: Head = None,
    predictions: Predictions = None,
    deployment_predictions: Predictions = None,
    policy: PolicyFile = None,
    policy_sha256: PolicyHash = None,
    corrections: Annotated[
        str, typer.Option(help="Try correctors and augmentation on left-out sites: none, quick or full.")
    ] = "",
    out: Out = Path("shift-report"),
    junit: Junit = None,
    seed: Seed = 0,
) -> None:
    """Audit a deployment before it happens. Exit code 0: pass, 1: fail, 3: cannot tell, 2: bad input.

    Labels at the new hospital may be there, there for some rows, or missing. Without --head or predictions a linear
    head is fitted to the reference.
    """
    import causalfm
    from causalfm.auditing import load_policy
    from causalfm.auditing.junit import render_junit
    from causalfm.auditing.ledger import read_ledger, record
    from causalfm.auditing.report import write_text
    from causalfm.auditing.report_files import write_reports

    if (deployment is None) == (not at):
        raise typer.BadParameter("give a second file, or say with --at COLUMN=LEVEL which rows are the deployment.")
    if (predictions is None) != (deployment_predictions is None):
        raise typer.BadParameter("--predictions and --deployment-predictions go together.")
    check_folder(out)
    declared = graph_of(graph, biology, technical, covariates, group, declared_by)
    rules, model = load_policy(policy, sha256=policy_sha256), head_of(head)
    read_ledger(out)  # one that cannot be read must not cost the run
    first = cohort_of(reference, obs, key, keep, declared)
    if deployment is None:
        first, second = _parted(first, pairs(at or [], "--at"), declared)
    else:
        second = cohort_of(deployment, deployment_obs, deployment_key or key, None, declared)
    if unlabelled and declared.biology in second.obs:
        second = second.replace(obs=second.obs.drop(columns=declared.biology))
    given: Any = None
    if predictions is not None:
        given = {
            "reference": predictions_of(predictions, first),
            "deployment": predictions_of(deployment_predictions, second),
        }
    with live() as progress:
        result = causalfm.audit(
            first,
            declared,
            deployment=second,
            predictions=given,
            model=model,
            policy=rules,
            missing=missing,  # type: ignore[arg-type]
            corrections=corrections or None,  # type: ignore[arg-type]
            progress=progress,
            random_state=seed,
        )
        result = record(result, out)
        page = write_reports(result, out)
    if junit is not None:
        write_text(render_junit(result), junit)
    summary(result, page)
    raise typer.Exit(result.exit_code)


def _parted(cohort: Cohort, wanted: dict[str, list[str]], graph: CausalGraph) -> tuple[Cohort, Cohort]:
    """Part one cohort into reference and deployment by levels of columns."""
    from causalfm.arrows import names
    from causalfm.errors import DataError
    from causalfm.selection import rows_at

    there = rows_at(cohort, wanted, public=set(graph.measured) - {*graph.groups, *names(graph.specimen)})
    if there.all():
        raise DataError("--at takes every row for the deployment: no reference is left.")
    return cohort[~there], cohort[there]
