"""Command line: one command per function, no logic of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from causalfm.card_command import card
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
    cohort_outside,
    graph_of,
    head_of,
    live,
    predictions_of,
    split,
)
from causalfm.command_output import leaderboard, summary
from causalfm.correct_command import correct
from causalfm.data_command import app as data
from causalfm.errors import CausalFMError
from causalfm.evidence_command import app as evidence
from causalfm.extract_command import extract
from causalfm.monitor_command import monitor
from causalfm.policy_command import policy as policy_commands
from causalfm.report_command import report
from causalfm.reports_command import reports
from causalfm.schedulers import MemoryLimit, PlanOnly, Scheduler, limit_of_rows, scheduled
from causalfm.shift_command import shift

USAGE, INTERNAL = 2, 70
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def audit(
    path: Annotated[
        list[Path], typer.Argument(help="Embeddings: .npz, .npy, .parquet or .h5ad; several parts in order.")
    ],
    biology: Biology = "",
    technical: Technical = "",
    group: Group = "",
    covariates: Columns = "",
    obs: Table = None,
    graph: Arrows = "",
    declared_by: DeclaredBy = "",
    key: Annotated[str | None, typer.Option(help="Array of an .npz file, or obsm key of an .h5ad file.")] = None,
    keep: Keep = None,
    missing: Missing = "error",
    head: Head = None,
    predictions: Predictions = None,
    policy: PolicyFile = None,
    policy_sha256: PolicyHash = None,
    corrections: Annotated[
        str, typer.Option(help="Try correctors where a factor fails: none, quick or full; default: the policy's.")
    ] = "",
    out: Out = Path("audit-report"),
    junit: Junit = None,
    seed: Seed = 0,
    scheduler: Scheduler = "",
    memory_limit: MemoryLimit = "",
    plan_only: PlanOnly = False,
) -> None:
    """Audit embeddings. Exit code 0: pass, 1: fail, 3: cannot tell, 2: bad input."""
    import causalfm
    from causalfm.auditing import load_policy
    from causalfm.auditing.junit import render_junit
    from causalfm.auditing.ledger import read_ledger, record
    from causalfm.auditing.report import write_text
    from causalfm.auditing.report_files import write_reports

    check_folder(out)
    declared = graph_of(graph, biology, technical, covariates, group, declared_by)
    rules = load_policy(policy, sha256=policy_sha256)
    read_ledger(out)  # one that cannot be read must not cost the run
    model = head_of(head)
    files = path if len(path) > 1 else path[0]
    outside = bool(scheduler or memory_limit or plan_only)
    limit = limit_of_rows(scheduler, memory_limit) if outside else 0
    with scheduled(scheduler) as workers:
        if outside:
            of_model = model is not None and not isinstance(model, str)  # a head fitted here asks the rows drawn
            limits: dict[str, Any] = {"memory_limit": limit, "scheduler": scheduler, "workers": workers}
            asked = (files, obs, key, keep, declared)
            cohort = cohort_outside(*asked, missing=missing, model=of_model, plan_only=plan_only, **limits)
        else:
            cohort = cohort_of(files, obs, key, keep, declared)
        if plan_only:
            return
        with live() as progress:
            result = causalfm.audit(
                cohort,
                declared,
                predictions=predictions_of(predictions, cohort),
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


@app.command()
def compare(
    path: Annotated[list[Path], typer.Argument(help="Embeddings of each encoder, the same rows in the same order.")],
    names: Annotated[str, typer.Option(help="Names of the encoders, separated by commas; default: the files'.")] = "",
    biology: Biology = "",
    technical: Technical = "",
    group: Group = "",
    covariates: Columns = "",
    obs: Table = None,
    graph: Arrows = "",
    declared_by: DeclaredBy = "",
    key: Annotated[
        list[str] | None,
        typer.Option(help="Array of .npz, or obsm key of .h5ad; repeat for several encoders in one file."),
    ] = None,
    keep: Keep = None,
    missing: Missing = "error",
    metrics: Annotated[str, typer.Option(help="Measures, separated by commas; default: all.")] = "",
    out: Out = Path("comparison"),
    seed: Seed = 0,
) -> None:
    """Compare encoders on the same rows. Exit code 0: done, 2: bad input."""
    import causalfm
    from causalfm.auditing.report_files import write_reports

    check_folder(out)
    declared = graph_of(graph, biology, technical, covariates, group, declared_by)
    files = _encoders(path, key or [], split(names))
    cohorts = {name: cohort_of(file, obs, array, keep, declared) for name, (file, array) in files.items()}
    wanted = split(metrics) or None
    with live() as progress:
        result = causalfm.compare(
            cohorts,
            declared,
            metrics=wanted,
            missing=missing,  # type: ignore[arg-type]
            progress=progress,
            random_state=seed,
        )
        page = write_reports(result, out, "comparison")
    leaderboard(result, page)


app.command()(correct)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("demo-report"),
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
) -> None:
    """Render a confounded cohort, encode it with a real network, audit it. Exit code 0 if it ran to the end."""
    from causalfm.demo import run_demo

    with live() as progress:
        result = run_demo(out, progress=progress, random_state=seed)
    summary(result, out / "report.html")


@app.command()
def doctor() -> None:
    """Check the installation: versions, devices, and which encoders can be loaded."""
    from causalfm.doctor import diagnose

    checks = diagnose()
    for check in checks:
        mark = {"pass": "ok", "fail": "FAIL" if check.details["required"] else "absent"}[check.verdict]
        typer.echo(f"{check.name:24} {mark:7} {check.sentence}")
    raise typer.Exit(int(any(c.verdict == "fail" and c.details["required"] for c in checks)))


app.add_typer(data, name="data")
app.add_typer(evidence, name="evidence")
app.command()(extract)
app.command()(report)
app.command()(reports)
app.command()(card)
app.command()(shift)

app.command()(monitor)
app.add_typer(policy_commands, name="policy")


def main() -> None:
    """Run the command line: bad input exits with 2, an internal error with 70."""
    try:
        app()
    except CausalFMError as error:
        typer.echo(f"causalfm: {error}", err=True)
        sys.exit(USAGE)
    except OSError as error:  # a full disk, a folder that may not be written: nothing is wrong with the program
        name = Path(error.filename).name if isinstance(error.filename, str) else "a file"
        reason = error.strerror or type(error).__name__
        typer.echo(f"causalfm: {name!r}: {reason}. Check the path and its rights.", err=True)
        sys.exit(USAGE)
    except Exception as error:
        import traceback

        lines = "".join(traceback.format_tb(error.__traceback__))  # without the message: it can quote patients
        typer.echo(f"{lines}{type(error).__name__}", err=True)
        typer.echo("causalfm: internal error, please report the lines above.", err=True)
        sys.exit(INTERNAL)


def _encoders(paths: list[Path], keys: list[str], names: list[str]) -> dict[str, tuple[Path, str | None]]:
    """Return file and array of each encoder: one file with several arrays, or files with one array each."""
    arrays: list[str | None] = [*keys]
    if len(paths) == 1:
        paths = paths * max(1, len(keys))
    elif len(keys) < 2:
        arrays = [keys[0] if keys else None] * len(paths)
    if len(arrays or [None]) != len(paths):
        raise typer.BadParameter(
            f"--key: {len(keys)} arrays for {len(paths)} files: give one for all, or one for each."
        )
    one_file = len(set(paths)) < len(paths)
    names = names or [
        str(array) if one_file else path.stem for path, array in zip(paths, arrays or [None], strict=True)
    ]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise typer.BadParameter(f"--names: give {len(paths)} different names, one for each encoder.")
    return dict(zip(names, zip(paths, arrays or [None], strict=True), strict=True))


if __name__ == "__main__":
    main()
