"""What commands print of their results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from causalfm.auditing import Audit, Comparison


def summary(result: Audit, page: Path) -> None:
    """Print the verdict, the findings, what was run before and where the report is; small cells are hidden here too."""
    from causalfm.auditing.ledger_words import sentences
    from causalfm.auditing.suppression import published

    result = published(result)

    typer.echo(f"{result.verdict.upper()}: {result.headline}")
    for finding in result.findings:
        mark = "" if finding.monitored else "(not monitored) "
        typer.echo(f"  {finding.verdict:12} {mark}{finding.sentence}")
    for advice in result.advice:
        typer.echo(f"  {advice.factor}: {advice.sentence}")
        if advice.command:
            typer.echo(f"    {advice.command}")
    for sentence in sentences(result):
        typer.echo(f"  {sentence}")
    typer.echo(f"Report: {page.resolve()}")


def leaderboard(result: Comparison, page: Path) -> None:
    """Print the encoders by metric, those that none is shown to beat marked, and where the report is."""
    from causalfm.auditing.comparison_words import heading
    from causalfm.auditing.formatting import beside_chance, number

    for board in result.boards:
        typer.echo(f"{heading(board)} ({board.better} is better)")
        leaders = board.leaders()
        for name, e in board.scores.items():
            mark = "*" if name in leaders else " "
            typer.echo(f" {mark} {name:24} {beside_chance(e):24} chance {number(e.chance)}")
    typer.echo("* no other encoder is shown to be better")
    for sentence in result.headline:
        typer.echo(f"  {sentence}")
    typer.echo(f"Report: {page.resolve()}")
