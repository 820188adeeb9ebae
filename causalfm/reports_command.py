"""``causalfm reports``: one page that lists, filters and compares the audits under a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalfm.command_options import live
from causalfm.errors import DataError

LIMIT = 5 * 2**20


def reports(
    folder: Annotated[Path, typer.Argument(help="Folder that holds reports, at any depth.")],
    out: Annotated[Path | None, typer.Option(help="The page; default: index.html in the folder.")] = None,
) -> None:
    """Index the reports under a folder on one page, without a server.

    Exit code 0: done, 2: bad input, or reports that could not be read; these are listed, and the page is written.
    """
    from causalfm.auditing import index_reports

    page = folder / "index.html" if out is None else out
    with live() as progress:
        index = index_reports(folder, page, progress=progress)
    for one in index.broken:
        typer.echo(f"not readable: {one.path}: {one.reason}", err=True)
    for change in index.changed:
        typer.echo(f"rules changed on the same data: {change['about'].source}, {change['runs']} audits")
    if (size := page.stat().st_size) > LIMIT:
        typer.echo(
            f"The page has {size / 2**20:.0f} MiB: browsers are slow with it. Index parts of the folder.", err=True
        )
    typer.echo(f"{len(index.runs)} audits. Index: {page.resolve()}")
    if index.broken:
        raise DataError(f"{len(index.broken)} of {len(index.broken) + len(index.runs)} reports could not be read.")
