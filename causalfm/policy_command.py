"""``causalfm policy``: declare margins before a run, check them, and show what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from causalfm.auditing import Policy

policy = typer.Typer(
    help="The policy of an audit: init writes one to start from, check reads it, tells its SHA-256 and what differs.",
    no_args_is_help=True,
)
File = Annotated[Path, typer.Argument(help="Policy file (YAML).")]


@policy.command()
def init(file: File, force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False) -> None:
    """Write the default policy, with its comments, to start from. Exit code 0: written, 2: the file is there."""
    from causalfm.auditing.policy import DEFAULT
    from causalfm.auditing.report import write_text
    from causalfm.errors import PolicyError

    if file.exists() and not force:
        raise PolicyError(f"{file.name!r} is there: choose another name, or replace it with --force.")
    write_text(DEFAULT.read_text(encoding="utf-8"), file)
    typer.echo(
        f"Written: {file.name}. Fill in who declares what, change margins, then: causalfm policy check {file.name}"
    )


@policy.command()
def show() -> None:
    """Print the default policy with its comments."""
    from causalfm.auditing.policy import DEFAULT

    typer.echo(DEFAULT.read_text(encoding="utf-8"), nl=False)


@policy.command()
def check(
    file: File,
    against: Annotated[
        Path | None, typer.Option(help="Policy file, or report.json of an audit: show what changed since.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse the file if it has another SHA-256 than this.")] = None,
) -> None:
    """Check a policy: every key beside its default, the SHA-256, and what to do with it. Exit code 0: sound, 2: not."""
    from causalfm.auditing import load_policy

    found = load_policy(file, sha256=sha256)
    _table(found)
    if against is not None:
        _changes(against, found)
    typer.echo(f"SHA-256 of {file.name}: {found.sha256}")
    for line in _advice(found, file):
        typer.echo(line)


def _table(found: Policy) -> None:
    from causalfm.auditing.policy_table import policy_rows, shown

    rows = [{key: shown(value) for key, value in row.items()} for row in policy_rows(found.to_dict())]
    typer.echo(f"{'key':22} {'value':24} {'default':18} {'compared':12} stricter if")
    for row in rows:
        value = " ".join(row["value"].split())
        cells = row["key"], value if len(value) <= 24 else f"{value[:21]}...", row["default"], row["compared"]
        typer.echo("{:22} {:24} {:18} {:12} ".format(*cells) + row["stricter"])
    typer.echo("stricter: a pass is harder to get; looser: easier.")


def _changes(against: Path, found: Policy) -> None:
    from causalfm.auditing.policy_table import change_words, changes

    before = _policy_of(against)
    changed = changes(before, found.to_dict())
    typer.echo(f"Against {against.name}: {'no key differs.' if not changed else ''}".rstrip())
    for change in changed:
        typer.echo(f"  {change_words(change)}")


def _policy_of(path: Path) -> Mapping[str, Any]:
    """Return the policy of a report, or of a policy file."""
    from causalfm.auditing import load_policy
    from causalfm.errors import PolicyError

    if path.suffix.lower() != ".json":
        return load_policy(path).to_dict()
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["policy"]
        if isinstance(held, dict):
            return held
    except OSError as error:
        raise PolicyError(f"{path.name!r} cannot be read: {error.strerror}. Check the path.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise PolicyError(f"{path.name!r} is no report of an audit: give the report.json that 'causalfm audit' wrote.")


def _advice(found: Policy, file: Path) -> list[str]:
    from causalfm.auditing.policy import default_values
    from causalfm.auditing.policy_file import read_entries
    from causalfm.auditing.policy_problems import keys

    out = []
    if empty := [name for name, value in found.purpose.items() if not value.strip()]:
        out.append(f"Not declared: {', '.join(empty)}. Reports will say so.")
    if left_out := [key for key in keys() if key not in read_entries(file)[0]]:
        out.append(f"Left out, so that they follow the default of the causalfm that runs: {', '.join(left_out)}.")
    if found.name == default_values()["name"]:
        out.append("The name is still that of the default: give the policy its own.")
    return [
        *out,
        "Before the run: send the file, or its SHA-256, to somebody who will read the report. Reports print it.",
        f"The run: causalfm audit ... --policy {file.name} --policy-sha256 {found.sha256}",
    ]
