"""A corrector and cohorts: which columns go where, memory maps in and out, and the record of what was done."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm import __version__
from causalfm.arguments import did_you_mean
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators.correctors import NAMES
from causalfm.estimators.correctors.blocks import changed_blocks, output_dtype
from causalfm.estimators.correctors.site_wise import SiteWise
from causalfm.graph_checks import MAX_LEVELS
from causalfm.results import plain
from causalfm.validation import refuse_missing

CLAIMS = {
    "MeanAligner": "keeps the distances between class means; scales and correlations of sites stay",
    "ComBat": "keeps class means where biology is given; aligns scales too; few patients are shrunk to the rest",
    "TransportAligner": "keeps class means where biology is given; aligns means and covariances",
    "LinearEraser": "no linear read-out finds the factor; leace promises nothing of biology, oracle keeps class means",
    "NullspaceProjector": "directions that classifiers find are gone; biology along them goes too",
    "NuisanceSubspace": "directions between sites are gone; estimated class differences stay",
    "CausalComBat": "ComBat without extrapolation: fitted inside the common support of biology and covariates",
    "GradientReversalAdapter": "lowers what one adversary reads; proves nothing about other readers",
    "SCMCorrector": "removes what the graph calls technical, and nothing else, if the graph is true",
}


def corrector_named(name: str, settings: Mapping[str, Any]) -> Any:
    """Return a corrector that is not fitted.

    Parameters
    ----------
    name
        One of the names in :mod:`causalfm.estimators`.
    settings
        Parameters by name; those left out keep their default.

    Raises
    ------
    DataError
        An unknown name or parameter.
    """
    if name not in NAMES:
        raise DataError(f"there is no corrector {name!r}. Choose one of {', '.join(NAMES)}.{did_you_mean(name, NAMES)}")
    known = list(inspect.signature(_class_of(name).__init__).parameters)[1:]
    if unknown := [key for key in settings if key not in known]:
        offered = [key for key in known if key != "graph"]
        raise DataError(
            f"{name} has no setting {unknown[0]!r}; it has {', '.join(offered)}.{did_you_mean(unknown[0], offered)}"
        )
    return _class_of(name)(**settings)


def described(name: str) -> tuple[str, str, str]:
    """Return what a corrector does, what it claims, and its settings with their defaults, as text."""
    parameters = list(inspect.signature(_class_of(name).__init__).parameters.values())[1:]
    settings = ", ".join(f"{p.name}={p.default}" for p in parameters if p.name != "graph")
    return (inspect.getdoc(_class_of(name)) or "").split("\n", 1)[0], CLAIMS[name], settings


def load_any(path: str | os.PathLike[str]) -> Any:
    """Read a corrector of whatever class a file holds.

    Raises
    ------
    DataError
        Missing, damaged, edited, no corrector, or written under a newer schema.
    """
    from causalfm.model_files import kind_of

    kind = kind_of(path).removeprefix("causalfm.")
    if kind not in NAMES:
        raise DataError(f"{Path(path).name!r} holds a {kind}, which is no corrector: pass a file of causalfm correct.")
    return _class_of(kind).load(path)


def with_policy(corrector: Any, unseen: str) -> Any:
    """Choose what a fitted corrector does with levels that it never saw, and return it.

    Raises
    ------
    DataError
        A corrector that needs no levels, or whose model was fitted under a policy; an unknown policy.
    """
    if not isinstance(corrector, SiteWise) or not needs_factor(corrector):
        raise DataError(f"{type(corrector).__name__}: what is done with new levels was settled at the fit.")
    corrector.set_params(unseen=unseen)
    corrector._check_settings()
    return corrector


def fit_on(
    corrector: Any, cohort: Cohort, factor: Sequence[str], biology: str | None, covariates: Sequence[str], group: str
) -> Any:
    """Fit a corrector to the columns of a cohort and return it.

    Parameters
    ----------
    corrector
        Not fitted.
    cohort
        Reference.
    factor, biology, covariates, group
        Names of columns; ``None``, an empty list or ``""`` where there is none.

    Raises
    ------
    DataError, NotIdentifiedError
        As the corrector's ``fit``; a column that is not there; a factor or biology that holds measurements or an id.
    """
    for name in (*factor, *([] if biology is None else [biology])):
        _refuse_no_level(cohort, name)
    if group:
        refuse_missing(cohort.column(group), group, "complete it, or leave these rows out")
    table = pd.DataFrame({name: cohort.column(name) for name in covariates}) if covariates else None
    known = None if biology is None else cohort.column(biology)
    groups = cohort.column(group) if group else None
    fitted = corrector.fit(cohort.X, _levels(cohort, factor), biology=known, covariates=table, groups=groups)
    fitted.factor_ = tuple(factor)
    return fitted


def factor_of(corrector: Any) -> list[str]:
    """Return the columns of the factor that a corrector was fitted to; none if the fit did not tell their names."""
    return list(corrector.scm_.graph.technical if hasattr(corrector, "scm_") else getattr(corrector, "factor_", ()))


def needs_factor(corrector: Any) -> bool:
    """Whether rows are corrected by their level."""
    return bool(corrector._needs_factor()) if hasattr(corrector, "_needs_factor") else True


def apply_to(corrector: Any, cohort: Cohort, factor: Sequence[str], path: Path | None = None) -> Cohort:
    """Correct every row of a cohort, block by block where the corrector can.

    Parameters
    ----------
    corrector
        Fitted.
    cohort
        May be a memory map.
    factor
        Names of the columns of the factor; may be empty where the corrector needs none, or those of the fit are meant.
    path
        A ``.npy`` file to be made, in which the corrected rows lie instead of in memory.

    Returns
    -------
    Cohort
        The same rows and table; ``info["corrections"]`` has one record more.

    Raises
    ------
    DataError
        As the corrector's ``transform``; rows of another dimension; another column than that of the fit, of which no
        level was seen.
    """
    if cohort.X.shape[1] != corrector.n_features_in_:
        raise DataError(
            f"the corrector was fitted to {corrector.n_features_in_} dimensions and these rows have "
            f"{cohort.X.shape[1]}: it corrects embeddings of the encoder that it was fitted to."
        )
    factor = list(factor) if factor and needs_factor(corrector) else factor_of(corrector) or list(factor)
    if needs_factor(corrector):
        _refuse_other_column(corrector, cohort, factor)
    levels = _levels(cohort, factor) if needs_factor(corrector) else None
    if hasattr(corrector, "_change"):
        shape, dtype = cohort.X.shape, output_dtype(cohort.X)
        X = np.empty(shape, dtype) if path is None else np.lib.format.open_memmap(path, "w+", dtype, shape)
        for rows, block in transform_blocks(corrector, cohort.X, levels):
            X[rows] = block
    else:
        X = corrector.transform(cohort.X, factor=levels)
    before = list(cohort.info.get("corrections", []))
    info = {**cohort.info, "corrections": [*before, record_of(corrector, factor, levels)]}
    return cohort.replace(X=X, info=info)


def transform_blocks(corrector: Any, X: Any, factor: Any = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Correct rows as ``transform`` does and yield them block by block, for memory maps larger than memory.

    Parameters
    ----------
    corrector
        Fitted; any but ``SCMCorrector``, which looks at all rows at once.
    X, factor
        As for its ``transform``: all rows, because new levels are learned from all of theirs.

    Yields
    ------
    rows, block : slice, numpy.ndarray
        In order, no row left out.
    """
    X = corrector._read_rows(X)
    yield from changed_blocks(X, corrector._change(X, factor))


def record_of(corrector: Any, factor: Sequence[str], levels: Any) -> dict[str, Any]:
    """Say what was fitted on what, and what was done to rows of each level, as plain data."""
    report = getattr(corrector, "report_", None)
    body: dict[str, Any] = {
        "corrector": type(corrector).__name__,
        "settings": {k: str(v) if k == "graph" else v for k, v in corrector.get_params(deep=False).items()},
        "factor": list(factor),
        "fingerprint": corrector.scm_.fitted.fingerprint if report is None else report.fingerprint,
        "left_out_of_the_fit": corrector.trimmed_,
        "done": [dict(row) for row in corrector.account(levels).levels] if levels is not None else "without levels",
        "causalfm": __version__,
    }
    if report is not None:
        body |= {"given": list(report.given), "assumptions": report.assumptions}
        body["fitted_on"] = [{**level, "weight": round(float(level["weight"]), 6)} for level in report.levels]
    plain_body: dict[str, Any] = plain(body)
    return plain_body


def _refuse_no_level(cohort: Cohort, name: str) -> None:
    """Refuse measurements and ids, whose values would be printed and saved as levels."""
    column = cohort.column(name)
    if pd.api.types.is_float_dtype(column.dtype) and not column.dropna().mod(1).eq(0).all():
        raise DataError(f"column {name!r} holds numbers that are no levels: make levels of it, such as decades.")
    if (held := column.nunique()) > MAX_LEVELS:
        raise DataError(
            f"column {name!r} has {held} levels in {len(column)} rows; at most {MAX_LEVELS} are taken. If it is an id, "
            "it is no factor and no biology; else merge rare levels."
        )


def _refuse_other_column(corrector: Any, cohort: Cohort, factor: Sequence[str]) -> None:
    """Refuse a column of another name, none of whose levels was seen: its values may be patients'."""
    fitted = factor_of(corrector)
    if not fitted or list(factor) == fitted or not isinstance(corrector, SiteWise):
        return
    if not any(level in corrector.levels_ for name in factor for level in cohort.column(name).dropna().map(str)):
        raise DataError(
            f"the corrector was fitted to levels of {', '.join(map(repr, fitted))}, and no level of "
            f"{', '.join(map(repr, factor))} is among them: name the column that holds the same factor, or rename it "
            "if it is the same."
        )


def _levels(cohort: Cohort, factor: Sequence[str]) -> Any:
    columns = {name: cohort.column(name) for name in factor}
    for name, column in columns.items():
        refuse_missing(column, name, "complete it, or leave these rows out")
    return next(iter(columns.values())) if len(columns) == 1 else pd.DataFrame(columns)


def _class_of(name: str) -> Any:
    return getattr(import_module(f"causalfm.estimators.correctors.{NAMES[name]}"), name)
