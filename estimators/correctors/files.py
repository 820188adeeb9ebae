"""A fitted corrector in one safetensors file: settings and arrays, no row and no group."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.correctors.inputs import Regressors
from causalfm.estimators.correctors.report import FitReport
from causalfm.model_files import read_model, write_model
from causalfm.results import plain


def save_corrector(corrector: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted corrector; see :meth:`Corrector.save`."""
    names = getattr(corrector, "feature_names_in_", None)
    header = {
        "settings": plain(corrector.get_params(deep=False)),
        "factor": list(getattr(corrector, "factor_", ())),
        "levels": list(corrector.levels_),
        "regressors": list(corrector.regressors_.names),
        "shifts": dict(corrector.regressors_.shifts or {}),
        "features": int(corrector.n_features_in_),
        "names": None if names is None else [str(name) for name in names],
        "grouped": corrector.grouped_,
        "n_units": int(corrector.n_units_),
        "trimmed": corrector.trimmed_,
        "report": corrector.report_.to_dict(),
    }
    write_model(path, header, corrector.solution_, kind=_kind(type(corrector)))


def load_corrector(cls: type, path: str | os.PathLike[str]) -> Any:
    """Read a corrector of a class; see :meth:`Corrector.load`."""
    header, tensors = read_model(path, kind=_kind(cls))
    try:
        corrector = cls(**header["settings"])
        corrector._fitted_with = corrector.get_params(deep=False)
        corrector.levels_, corrector.factor_ = tuple(header["levels"]), tuple(header.get("factor", ()))
        corrector.regressors_ = Regressors(tuple(header["regressors"]), header["shifts"])
        corrector.n_features_in_, corrector.grouped_ = header["features"], header["grouped"]
        corrector.n_units_, corrector.trimmed_ = header["n_units"], header["trimmed"]
        report = header["report"]
        levels, given = tuple(report.pop("levels")), tuple(report.pop("given"))
        corrector.report_ = FitReport(levels=levels, given=given, **report)
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"the file lacks settings of {cls.__name__}: save the corrector again.") from None
    if header["names"] is not None:
        corrector.feature_names_in_ = np.array(header["names"], dtype=object)
    corrector.moments_, corrector.solution_ = None, tensors
    return corrector


def refuse_other_settings(corrector: Any) -> None:
    """Refuse settings that were changed after the fit; what is done with new levels may be."""
    for name, value in corrector._fitted_with.items():
        now = getattr(corrector, name)
        if name not in ("unseen", "on_violation") and now != value:
            raise DataError(f"{name}={value!r} at the fit and {name}={now!r} now: fit again, or set it back.")


def _kind(cls: type) -> str:
    return f"causalfm.{cls.__name__}"
