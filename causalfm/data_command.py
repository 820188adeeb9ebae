"""``causalfm data``: public data sets with a loader, listed, fetched and checked."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from causalfm.command_options import split
from causalfm.errors import DataError

app = typer.Typer(help="Public data sets that have a loader: list, get, check.", no_args_is_help=True)


@app.command("list")
def list_sets() -> None:
    """List the sets: licence, size, and the roles that their graphs declare."""
    from causalfm.datasets.public_sets import described

    for data, roles in described():
        typer.echo(f"{data.name}: {data.title}")
        typer.echo(f"  access    {data.access}; {data.licence}")
        typer.echo(f"  size      {data.size}")
        for role, columns in roles.items():
            if columns:
                typer.echo(f"  {role:9} {columns}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="Name of the set, as 'causalfm data list' gives it.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the files; what is there and unchanged is kept.")],
    parts: Annotated[str, typer.Option(help="Parts wanted, separated by commas; default: all.")] = "",
    accept: Annotated[str, typer.Option(help="The licence, spelt as the list gives it, where it binds you.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host that the source may send on to; repeat for more.")
    ] = None,
) -> None:
    """Fetch a set, or go on with it. Exit code 0: done and checked, 2: refused or failed."""
    from causalfm.datasets.public_sets import module_of

    module = module_of(name)
    typer.echo(f"{module.SET.title}, {module.SET.licence}: {module.SET.terms}")
    if allow_host and "hosts" not in inspect.signature(module.download).parameters:
        raise DataError(f"the source of {name} sends on to no other host: leave out --allow-host.")
    more = {"hosts": tuple(allow_host)} if allow_host else {}
    module.download(folder, parts=split(parts) or None, accept=accept or None, progress=_Told(), **more)
    typer.echo(f"Done: {folder.resolve()}. Roles, traps and layout: datasets/{name}.md")


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="Folder that 'causalfm data get' filled.")]) -> None:
    """Compare the files of a folder with the checksums recorded in it. Exit code 0: unchanged, 2: not."""
    from causalfm.datasets.checksum_lock import LOCK, changed, read_lock

    locks = sorted(folder.rglob(LOCK)) if folder.is_dir() else []
    if not locks:
        raise DataError(f"there is no {LOCK} in the folder: nothing was fetched into it by causalfm.")
    total = sum(len(read_lock(lock.parent)["files"]) for lock in locks)
    odd = sum(len(changed(lock.parent)) for lock in locks)
    if odd:
        raise DataError(
            f"{odd} of {total} files are missing or not as recorded: 'causalfm data get' fetches them again."
        )
    typer.echo(f"{total} files are as they were recorded.")


class _Told:
    """Prints a line per file when it begins, and one per tenth of it."""

    def __init__(self) -> None:
        self.last: tuple[str, int] | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        from causalfm.datasets.disk_room import in_words

        tenth = 10 * done // total if total else 0
        if (name, tenth) != self.last:
            self.last = (name, tenth)
            typer.echo(f"  {name}: {in_words(done)}" + (f" of {in_words(total)}" if total else ""), err=True)
