"""``causalfm report``: the page and the Markdown of an audit, rendered again from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalfm.command_options import check_folder


def report(
    path: Annotated[Path, typer.Argument(help="report.json of causalfm audit or causalfm shift, of any version.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the page; default: beside the JSON.")] = None,
) -> None:
    """Render an audit again from its JSON. Exit code 0: done, 2: bad input."""
    from causalfm.auditing import load_audit

    folder = path.parent if out is None else out
    check_folder(folder)
    audit = load_audit(path)
    page = folder / f"{path.stem}.html"
    audit.to_html(page)
    audit.to_markdown(page.with_suffix(".md"))
    typer.echo(f"{audit.verdict.upper()}: {audit.headline}")
    typer.echo(f"Report: {page.resolve()}")
