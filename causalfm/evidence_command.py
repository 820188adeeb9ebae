"""``causalfm evidence export``: evidence records from the reports of audits, deployments and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Evidence towards public frameworks, from reports.", no_args_is_help=True)
FORMATS = {".json": "json", ".csv": "csv", ".md": "markdown"}


@app.callback()
def evidence() -> None:
    """Evidence towards public frameworks, from reports."""


@app.command()
def export(
    path: Annotated[list[Path], typer.Argument(help="report.json of audit or shift, comparison.json of compare.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("evidence.json"),
    mapping: Annotated[
        Path | None,
        typer.Option("--map", help="YAML file that ties questions to frameworks; default: the shipped one."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="json, csv or markdown; default: by the ending of --out, else json.")
    ] = "",
) -> None:
    """Write evidence records. Exit code 0: done, whatever the verdicts are; 2: bad input."""
    from causalfm.auditing import collect_evidence

    chosen = kind or FORMATS.get(out.suffix.lower(), "json")
    if chosen not in FORMATS.values():
        raise typer.BadParameter(f"--format {chosen!r}: choose one of {', '.join(FORMATS.values())}.")
    if out.is_dir():
        raise typer.BadParameter(f"--out: {out.name!r} is a folder: name a file in it, for instance evidence.json.")
    if any(out.exists() and out.samefile(one) for one in path if one.exists()):
        raise typer.BadParameter(f"--out: {out.name!r} is one of the reports: name another file.")
    found = collect_evidence(path, mapping=mapping)
    {"json": found.to_json, "csv": found.to_csv, "markdown": found.to_markdown}[chosen](out)
    for row in found.coverage():
        counts = ", ".join(f"{row[name]} {name}" for name in ("pass", "fail", "no verdict", "cannot tell", "not asked"))
        typer.echo(f"{row['status']:10} {row['title']} ({counts})")
    typer.echo(f"Evidence, {len(found.records)} records: {out.resolve()}")
