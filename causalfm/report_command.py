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
    from causalfm.auditing.report import write_text
    from causalfm.errors import CausalFMError, DataError

    folder = path.parent if out is None else out
    check_folder(folder)
    audit = load_audit(path)
    try:
        page, text = audit.to_html(), audit.to_markdown()
    except CausalFMError:
        raise
    except Exception as error:  # the schema leaves tables and settings behind a number free, and templates read them
        raise DataError(
            f"{path.name!r} fits its schema, but its tables or details are not as causalfm writes them "
            f"({type(error).__name__}): undo the change, or audit again."
        ) from None
    target = folder / f"{path.stem}.html"
    write_text(page, target)
    write_text(text, target.with_suffix(".md"))
    typer.echo(f"{audit.verdict.upper()}: {audit.headline}")
    typer.echo(f"Report: {target.resolve()}")
