"""``causalfm monitor``: watch a folder of daily files with a monitor that is kept in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalfm.command_options import Arrows, Biology, Columns, Group, Seed, Table, Technical, graph_of, split
from causalfm.results import EXIT_CODES

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph
    from causalfm.shift import Monitor, MonitorStatus


def monitor(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of daily files, read in the order of their names; new ones only.")
    ] = None,
    state: Annotated[
        Path, typer.Option(help="File of the monitor (.safetensors); written after every daily file.")
    ] = Path("monitor.safetensors"),
    reference: Annotated[
        list[Path] | None, typer.Option(help="Make the monitor: patients as they should be; repeat for parts in order.")
    ] = None,
    obs: Table = None,
    biology: Biology = "",
    technical: Technical = "",
    group: Group = "",
    covariates: Columns = "",
    graph: Arrows = "",
    alpha: Annotated[float, typer.Option(help="Bound on the probability that a false alarm is ever raised.")] = 0.01,
    given: Annotated[str, typer.Option(help="Columns whose change is benign, separated by commas.")] = "",
    scores: Annotated[
        list[str] | None, typer.Option(help="CLASS=COLUMN: column with the probability of a class; repeat for all.")
    ] = None,
    unit: Annotated[str, typer.Option(help="A patient is the mean of her rows, or one row drawn at random.")] = "mean",
    reset: Annotated[
        bool, typer.Option("--reset", help="Take an alarm back, and start again from the reference.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Watch a stream of patients. Exit code 0: no alarm, 1: alarm, 3: too early to tell, 2: bad input."""
    from causalfm.shift import Monitor

    made = {"--biology": biology, "--technical": technical, "--group": group, "--given": given, "--scores": scores}
    if reference:
        watched = _made(
            state,
            reference,
            obs,
            graph_of(graph, biology, technical, covariates, group),
            alpha,
            given,
            scores or [],
            unit,
            seed,
        )
    elif used := [name for name, value in made.items() if value]:
        raise typer.BadParameter(f"{used[0]} was settled when the monitor was made: it goes with --reference only.")
    else:
        watched = Monitor.load(state)
    if reset:
        watched.reset()
    status = watched.status()
    if folder is not None:
        status = _follow(watched, folder, status)
    typer.echo(f"{status.verdict.upper()}: {status.sentence}")
    raise typer.Exit(EXIT_CODES[status.verdict])


def _made(
    state: Path,
    reference: list[Path],
    obs: list[Path] | None,
    graph: CausalGraph,
    alpha: float,
    given: str,
    scores: list[str],
    unit: str,
    seed: int,
) -> Monitor:
    """Fit a monitor and write it; one that is there is never written over."""
    from causalfm.io import read
    from causalfm.shift import Monitor

    if state.exists():
        raise typer.BadParameter(f"--state {state.name!r} is there already: choose another name, or remove it first.")
    if state.suffix != ".safetensors":
        raise typer.BadParameter(f"--state {state.name!r}: choose a name that ends in .safetensors.")
    columns: dict[str, str] = {}
    for text in scores:
        name, found, column = text.partition("=")
        if not found or name in columns:
            raise typer.BadParameter(f"--scores {text!r} must read CLASS=COLUMN, each class once.")
        columns[name] = column
    cohort = read(reference if len(reference) > 1 else reference[0], obs or None)
    made = Monitor.fit(
        cohort,
        graph,
        alpha=alpha,
        given=split(given),
        scores=columns or None,
        unit=unit,  # type: ignore[arg-type]
        random_state=seed,
    )
    made.save(state)
    typer.echo(f"Monitor: {state.resolve()}")
    return made


def _follow(watched: Monitor, folder: Path, status: MonitorStatus) -> MonitorStatus:
    """Read the files that the monitor has not seen, in the order of their names; a line for each."""
    from causalfm.io import read

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder.name!r} is no folder: name the folder of the daily files.")
    files, others = _daily(folder)
    for path in files:
        stamp = _stamp(path)
        if watched.has_seen(path.name, stamp):
            continue
        status = watched.update(read(path), name=path.name, stamp=stamp)
        again = "seen before, nothing done" if status.repeated else f"{status.returned} seen before"
        typer.echo(f"  {path.name:32} {status.verdict:12} {status.patients} compared so far, {again}")
    if others:
        typer.echo(f"Left out: {others} entries of {folder.name!r} that are no embeddings.")
    return status


def _daily(folder: Path) -> tuple[list[Path], int]:
    """Return the files of embeddings, sorted by name, and how many other entries there are."""
    from causalfm.formats.arrays import table_beside
    from causalfm.io import ENDINGS

    there = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)
    beside = {table_beside(path) for path in there}
    there = [path for path in there if path not in beside]
    files = [path for path in there if path.suffix.lower() in ENDINGS]
    return files, len(there) - len(files)


def _stamp(path: Path) -> str:
    """Return sizes and times of a file or store, and of the table beside it: another version has another stamp."""
    from causalfm.formats.arrays import table_beside

    parts = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path, table_beside(path)]
    found = [part.stat() for part in parts if part.exists()]
    return f"{sum(one.st_size for one in found)} {max(one.st_mtime_ns for one in found)}"
