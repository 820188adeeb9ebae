"""``causalfm card``: a model card for a Hugging Face repository, from audits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    path: Annotated[list[Path], typer.Argument(help="report.json of audits of one model.")],
    out: Annotated[Path, typer.Option(help="The card.")] = Path("README.md"),
    name: Annotated[str, typer.Option(help="Name of the model, for instance owner/model; default: the encoder.")] = "",
    replace: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write a model card for a Hugging Face repository from audits. Exit code 0: done, 2: bad input."""
    from causalfm.auditing import load_audit, model_card
    from causalfm.auditing.report import write_text

    if out.exists() and not replace:  # a repository's README is written by hand
        raise typer.BadParameter(f"{out.name} is there already: give another --out, or --replace it.")
    write_text(model_card(*map(load_audit, path), name=name), out)
    typer.echo(f"Model card: {out.resolve()}")
