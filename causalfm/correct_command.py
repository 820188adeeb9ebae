"""``causalfm correct``: fit a corrector to a reference cohort, save it, apply it to another one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalfm.command_options import Arrows, Biology, Columns, Group, Keep, Missing, Table, graph_of, pairs, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from causalfm.cohort import Cohort

NOT_IDENTIFIED = 3
Cohorts = Annotated[
    list[Path] | None, typer.Argument(metavar="[REFERENCE]...", help="Cohort to fit on; parts in order.")
]
Applied = Annotated[list[Path] | None, typer.Option(help="Cohort to correct; repeat for parts in order.")]
Target = Annotated[Path | None, typer.Option(help="Corrected cohort: .npz, .npy, .parquet, .h5ad or .zarr.")]


def correct(
    reference: Cohorts = None,
    corrector: Annotated[str, typer.Option(help="Name of a corrector; --list shows them.")] = "",
    factor: Annotated[str, typer.Option(help="Column of the factor to remove, such as the site.")] = "",
    biology: Biology = "",
    covariates: Columns = "",
    group: Group = "",
    graph: Arrows = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the corrector, such as form=oracle.")
    ] = None,
    unseen: Annotated[str, typer.Option(help="Levels the fit never saw: refuse, shrink or adapt.")] = "",
    on_violation: Annotated[str, typer.Option(help="Factor and biology go together: refuse or trim.")] = "",
    obs: Table = None,
    key: Annotated[str | None, typer.Option(help="Array of the reference's file.")] = None,
    keep: Keep = None,
    missing: Missing = "error",
    save: Annotated[Path | None, typer.Option(help="Write the fitted corrector to this .safetensors file.")] = None,
    load: Annotated[Path | None, typer.Option(help="Apply this saved corrector instead of fitting one.")] = None,
    apply: Applied = None,
    apply_obs: Table = None,
    apply_key: Annotated[str | None, typer.Option(help="Array of the file to correct.")] = None,
    out: Target = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the correctors and what each claims, and stop.")] = False,
) -> None:
    """Fit a corrector on a reference cohort, save it, apply it to another one. Every row comes out, in its order.

    Exit code 0: done, 2: bad input, 3: refused, because the factor cannot be told from biology.
    """
    from causalfm.errors import NotIdentifiedError

    if list_:
        return _show()
    _check(reference, corrector, load, save, apply, out)
    _refuse_clashes([*(reference or []), *(apply or [])], [*(obs or []), *(apply_obs or []), load], out, save)
    unused = {"biology": biology, "covariates": covariates, "group": group, "graph": graph, "obs": obs, "key": key}
    _refuse_unused(
        {} if load is None else {**unused, "keep": keep, "missing": missing != "error"},
        {} if apply else {"apply-obs": apply_obs, "apply-key": apply_key},
    )
    wanted = _settings(settings or [], {"unseen": unseen, "on_violation": on_violation})
    columns = split(factor)
    try:
        if load is not None:
            fitted = _loaded(load, wanted)
        else:
            roles = biology, columns, split(covariates), group
            fitted = _fitted(
                corrector, wanted, roles, graph, _reference(reference or [], obs, key, keep, missing, roles)
            )
    except NotIdentifiedError as error:
        typer.echo(f"causalfm: refused: {error}", err=True)
        raise typer.Exit(NOT_IDENTIFIED) from None
    _say_fit(fitted)
    if save is not None:
        fitted.save(save)
        typer.echo(f"Corrector: {save.resolve()}")
    if apply and out is not None:
        if {path.resolve() for path in apply} & {path.resolve() for path in reference or []}:
            typer.echo("The corrector was fitted on rows it is applied to: what they show is no measure of new rows.")
        _apply(fitted, apply, apply_obs, apply_key, columns, out)


def _check(
    reference: list[Path] | None,
    corrector: str,
    load: Path | None,
    save: Path | None,
    apply: list[Path] | None,
    out: Path | None,
) -> None:
    """Refuse before the long part what could not be finished."""
    from causalfm.io import ENDINGS

    if (load is None) == (not reference):
        raise typer.BadParameter("give a cohort to fit on, or a saved corrector with --load: one of the two.")
    if load is not None and (corrector or save is not None):
        raise typer.BadParameter("--load takes a fitted corrector as it is: leave --corrector and --save out.")
    if load is None and not corrector:
        raise typer.BadParameter("--corrector is needed; --list names them.")
    if (not apply) != (out is None):
        raise typer.BadParameter("--apply names the cohort to correct and --out where it goes: give both.")
    if not apply and save is None:
        raise typer.BadParameter("nothing would be kept: give --save, or --apply and --out, or all three.")
    if save is not None and save.suffix != ".safetensors":
        raise typer.BadParameter(f"--save {save.name!r}: choose a name that ends in .safetensors.")
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"--out {out.name!r}: a cohort is written as {', '.join(ENDINGS)}.")
    if any(not path.exists() for path in apply or []):
        raise typer.BadParameter("--apply: there is no file or folder where it points: check the path.")


def _refuse_clashes(cohorts: list[Path], others: list[Path | None], out: Path | None, save: Path | None) -> None:
    """Refuse to write over what is read, the tables beside arrays included, or into a folder of it."""
    from causalfm.formats.arrays import table_beside

    cohorts = [path.resolve() for path in cohorts]
    read = {path.resolve() for path in (*cohorts, *map(table_beside, cohorts), *others) if path is not None}
    beside = table_beside(out) if out is not None and out.suffix.lower() in (".npz", ".npy") else None
    for option, path in (("--out", out), ("--out", beside), ("--save", save)):
        if path is None:
            continue
        whole = path.resolve()
        if whole in read or read & set(whole.parents) or any(whole in other.parents for other in read):
            raise typer.BadParameter(
                f"{option} {path.name!r} is one of the files that are read, or lies among them: choose another name."
            )


def _refuse_unused(of_a_fit: Mapping[str, Any], of_applying: Mapping[str, Any]) -> None:
    """Refuse options that would not be looked at: whoever gave them believes that they were."""
    if given := [name for name, value in of_a_fit.items() if value]:
        raise typer.BadParameter(
            f"--{given[0]} is about the rows of a fit, and --load takes a corrector as it was fitted (every row of "
            f"--apply is corrected): leave --{given[0]} out."
        )
    if given := [name for name, value in of_applying.items() if value]:
        raise typer.BadParameter(f"--{given[0]} is about the cohort of --apply, which is not given.")


def _settings(texts: list[str], named: Mapping[str, str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` texts, values as in YAML and the level of a reference as text; add those with own options."""
    import yaml

    out: dict[str, Any] = {name: value for name, value in named.items() if value}
    for text in texts:
        name, found, value = text.partition("=")
        if not found:
            raise typer.BadParameter(f"--set {text!r} must read NAME=VALUE.")
        if name in out:
            raise typer.BadParameter(f"--set {text!r}: {name} is given twice.")
        if name == "graph":
            raise typer.BadParameter(f"--set {text!r}: arrows are given with --graph.")
        try:
            out[name] = value if name == "reference" else yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # the latter: 2024-13-45 is no date
            out[name] = []
        if not isinstance(out[name], (bool, int, float, str, type(None))):
            raise typer.BadParameter(f"--set {text!r}: the value is no number, true, false or word.")
    return out


def _loaded(path: Path, wanted: dict[str, Any]) -> Any:
    """Read a saved corrector; what to do with new levels may be decided where it is applied."""
    from causalfm.estimators.correctors.applying import load_any, with_policy

    if other := [name for name in wanted if name != "unseen"]:
        raise typer.BadParameter(f"{other[0]!r} was settled at the fit: with --load only --unseen can be chosen.")
    corrector = load_any(path)
    return with_policy(corrector, wanted["unseen"]) if wanted else corrector


def _fitted(name: str, wanted: dict[str, Any], roles: tuple[Any, ...], arrows: str, cohort: Cohort) -> Any:
    """Fit the corrector asked for."""
    from causalfm.estimators.correctors.applying import corrector_named, fit_on

    biology, factor, covariates, group = roles
    if name == "SCMCorrector":
        wanted = {**wanted, "graph": graph_of(arrows, biology, ",".join(factor), ",".join(covariates), group)}
    elif arrows or len(factor) > 1:
        raise typer.BadParameter(f"{name} removes one --factor and reads no --graph: SCMCorrector takes both.")
    return fit_on(corrector_named(name, wanted), cohort, factor, biology or None, covariates, group)


def _reference(
    paths: list[Path],
    obs: list[Path] | None,
    key: str | None,
    keep: list[str] | None,
    missing: str,
    roles: tuple[Any, ...],
) -> Cohort:
    """Read the rows to fit on; missing values are refused, made a level, or dropped and counted."""
    from causalfm.io import read
    from causalfm.selection import select_levels

    biology, factor, covariates, group = roles
    if not factor:
        raise typer.BadParameter("--factor is needed: name the column of what is to be removed.")
    known = [*factor, *([biology] if biology else []), *covariates, *([group] if group else [])]
    if twice := [name for at, name in enumerate(known) if name in known[:at]]:
        raise typer.BadParameter(
            f"column {twice[0]!r} is given twice: --factor, --biology, --covariates and --group take columns of their "
            "own."
        )
    cohort = read(paths if len(paths) > 1 else paths[0], obs or None, key=key)
    if keep:
        cohort = select_levels(cohort, pairs(keep), public=known[: len(known) - bool(group)])
    units = bool(group) and missing == "level"  # unknown patients are no level: the fit refuses them
    before = len(cohort)
    cohort = cohort.handle_missing(known[: len(known) - units], missing)  # type: ignore[arg-type]
    if len(cohort) < before:
        typer.echo(f"Left out of the fit: {before - len(cohort)} of {before} rows with missing values.")
    return cohort


def _say_fit(corrector: Any) -> None:
    report = getattr(corrector, "report_", None)
    if report is not None:
        given = (
            f"given {', '.join(report.given)}" if report.given else "given nothing: the case mix of a level goes too"
        )
        typer.echo(f"{report.corrector}, {given}. Assumption: {report.assumptions}.")
        for level in report.levels:
            typer.echo(f"  {level['level']:24} {level['rows']} rows")
    if corrector.trimmed_:
        typer.echo(f"Left out of the fit: {corrector.trimmed_}")


def _apply(
    corrector: Any, paths: list[Path], obs: list[Path] | None, key: str | None, factor: list[str], out: Path
) -> None:
    """Correct a cohort and write it; memory maps are read and written block by block."""
    from causalfm.estimators.correctors.applying import apply_to, factor_of, needs_factor
    from causalfm.io import read, write

    factor = factor or factor_of(corrector)
    if needs_factor(corrector) and not factor:
        raise typer.BadParameter("--factor is needed: this corrector moves each row by its level.")
    cohort = read(paths if len(paths) > 1 else paths[0], obs or None, key=key)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".correct-") as folder:
        result = apply_to(corrector, cohort, factor, Path(folder) / "rows.npy")
        record = result.info["corrections"][-1]
        if isinstance(record["done"], list):
            for level in record["done"]:
                typer.echo(f"  {level['level']:24} {level['rows']} rows: {level['done']}")
        write(result, out)
    typer.echo(f"{len(result)} rows of {len(cohort)} corrected: {out.resolve()}")


def _show() -> None:
    from causalfm.estimators.correctors.applying import CLAIMS, described

    for name in CLAIMS:
        does, claims, settings = described(name)
        typer.echo(f"{name}\n  does     {does}\n  claims   {claims}.\n  settings {settings}")
    typer.echo("Claims are not results: causalfm.estimators.scoreboard measures them on your own cohort.")
