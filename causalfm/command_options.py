"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

Columns = Annotated[str, typer.Option(help="Column names, separated by commas.")]
Biology = Annotated[str, typer.Option(help="Column with the biological label.")]
Technical = Annotated[str, typer.Option(help="Technical columns separated by commas, the hospital first.")]
Group = Annotated[str, typer.Option(help="Column of the independent unit, usually the patient.")]
Table = Annotated[list[Path] | None, typer.Option(help="Table of the rows: .csv, .csv.gz or .parquet.")]
Arrows = Annotated[str, typer.Option(help="Arrows, or a file with arrows; default: the standard graph.")]
DeclaredBy = Annotated[str, typer.Option(help="Who declared the graph: the report names them.")]
Keep = Annotated[list[str] | None, typer.Option(help="COLUMN=LEVEL: keep these rows only; repeat for more levels.")]
Missing = Annotated[str, typer.Option(help="Missing values in these columns: error, level or drop.")]
Head = Annotated[
    Path | None,
    typer.Option(
        help="Downstream head to audit: .safetensors file that RobustHead.save wrote, or the word linear: a linear "
        "head is fitted here and decides about units that it has not seen."
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(help="Or probabilities of the rows, in their order: .csv or .parquet with a column for each class."),
]
Junit = Annotated[Path | None, typer.Option(help="Write JUnit XML too, for a gate: a case for each finding.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with margins, thresholds and subgroups, see 'causalfm policy'; default: causalfm's own."
    ),
]
PolicyHash = Annotated[
    str | None, typer.Option("--policy-sha256", help="Run only if the policy has this SHA-256, as it was announced.")
]
Out = Annotated[Path, typer.Option(help="Folder for the report.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds, permutations and draws.")]


def graph_of(
    arrows: str, biology: str, technical: str, covariates: str, group: str, declared_by: str = ""
) -> CausalGraph:
    """Return the declared graph: the standard one, or arrows from the command line or a file."""
    from causalfm.graph import CausalGraph

    for name, text in {"technical": technical, "covariates": covariates, "group": group}.items():
        if text.rstrip().endswith(","):  # a shell takes what follows a blank for another file
            raise typer.BadParameter(f"--{name} {text!r} ends with a comma: leave no blank after commas.")
    roles: dict[str, Any] = {"biology": biology, "technical": split(technical), "group": split(group)}
    for name, value in roles.items():
        if not value:
            raise typer.BadParameter(f"--{name} is needed: name the column.")
    if not arrows:
        return CausalGraph.standard(**roles, covariates=split(covariates), declared_by=declared_by)
    if not any(arrow in arrows for arrow in ("->", "<-", "→", "←", "↔")):
        try:
            arrows = Path(arrows).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise typer.BadParameter("--graph holds no arrow and is no readable file of arrows (UTF-8).") from None
    return CausalGraph(arrows, **roles, covariates=split(covariates) or None, declared_by=declared_by)


def cohort_of(
    path: Path | list[Path],
    obs: list[Path] | None,
    key: str | None,
    keep: list[str] | None,
    graph: CausalGraph,
) -> Cohort:
    """Read a cohort and keep the levels asked for; messages show levels of the graph's factors only."""
    from causalfm.io import read

    return _kept(read(path, obs or None, key=key), keep, graph)


def cohort_outside(
    path: Path | list[Path],
    obs: list[Path] | None,
    key: str | None,
    keep: list[str] | None,
    graph: CausalGraph,
    *,
    missing: Any,
    model: bool,
    memory_limit: int,
    scheduler: str,
    workers: int,
    plan_only: bool,
) -> Cohort:
    """Read a cohort that stays outside memory, and print what an audit will read and hold before any row is read.

    What the table takes is not left for embeddings; an audit that does not fit is refused. The plan is that of the rows
    left once missing values are handled; the audit handles them itself.
    """
    from causalfm.auditing.audit_plan import plan_audit
    from causalfm.auditing.running import refuse_missing_units
    from causalfm.io import read_unchecked
    from causalfm.schedulers import beside_table

    cohort, finite = read_unchecked(path, obs or None, key=key, memory_limit=memory_limit)
    cohort = beside_table(_kept(cohort, keep, graph), scheduler)
    if missing == "level":
        refuse_missing_units(cohort, graph)
    plan = plan_audit(cohort.handle_missing(graph.columns, missing), graph, model=model, workers=workers)
    for line in plan.lines():
        typer.echo(line)
    plan.refuse_what_does_not_fit()
    return cohort if finite or plan_only else cohort.replace()


def _kept(cohort: Cohort, keep: list[str] | None, graph: CausalGraph) -> Cohort:
    from causalfm.arrows import names
    from causalfm.selection import select_levels

    if not keep:
        return cohort
    ids = {*graph.groups, *names(graph.specimen)}
    return select_levels(cohort, pairs(keep), public=set(graph.measured) - ids)


def head_of(path: Path | None) -> Any:
    """Return a head on embeddings from its file; ``linear`` stays a word: the audit fits one."""
    if path is None or str(path) == "linear":
        return None if path is None else "linear"
    from causalfm.training import RobustHead

    return RobustHead.load(path)


def predictions_of(path: Path | None, cohort: Cohort) -> pd.DataFrame | None:
    """Return a table of probabilities under the ids of the cohort's rows, whose order it follows.

    Columns that the cohort's table has too must hold the same: they show that the order is the same.
    """
    if path is None:
        return None
    from causalfm.errors import DataError, positions
    from causalfm.tables import existing, read_table

    table = read_table(existing(path))
    if len(table) != len(cohort):
        raise DataError(
            f"{path.name} has {len(table)} rows and the cohort {len(cohort)}: give one row of probabilities for each "
            "row that is audited, in the same order."
        )
    shared = [name for name in table.columns if name in cohort.obs.columns]
    for name in shared:
        same = table[name].astype(str).to_numpy() == cohort.obs[name].astype(str).to_numpy()
        if not same.all():
            where = positions([i for i, equal in enumerate(same) if not equal])
            raise DataError(
                f"column {name!r} of {path.name} differs from the cohort's ({where}): bring rows into one order."
            )
    return table.drop(columns=shared).set_axis(cohort.obs.index, axis=0)


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made because a file is in the way."""
    if taken := [p for p in (out, *out.parents) if p.exists() and not p.is_dir()]:
        raise typer.BadParameter(f"--out: {taken[0].name!r} is a file: name a folder.")


def split(text: str) -> list[str]:
    """Split at commas; a name with a comma is put in double quotes."""
    import csv

    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


def pairs(texts: list[str], option: str = "--keep") -> dict[str, list[str]]:
    """Turn ``COLUMN=LEVEL`` texts into levels by column."""
    wanted: dict[str, list[str]] = {}
    for text in texts:
        column, found, level = text.partition("=")
        if not found:
            raise typer.BadParameter(f"{option} {text!r} must read COLUMN=LEVEL.")
        wanted.setdefault(column, []).append(level)
    return wanted


@contextmanager
def live() -> Iterator[Any]:
    """Show a bar on standard error; yields what ``progress=`` takes."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:40}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda what, done, steps: bar.update(task, description=what, completed=done, total=steps)
