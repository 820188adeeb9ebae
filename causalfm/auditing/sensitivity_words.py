"""How strong an undeclared cause would have to be, in words and tables for a reader of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.estimators.robustness.benchmarks import Sensitivity
from causalfm.estimators.robustness.observed_strength import ALL


def sensitivity_record(found: Sensitivity) -> dict[str, Any]:
    """Lay out the sensitivity of an effect: its sentence with the strongest benchmark, and every benchmark.

    Parameters
    ----------
    found
        Sensitivity of the largest contrast of the embedding.

    Returns
    -------
    dict
        ``pair``, ``distance`` with interval, ``robustness_value``, ``robustness_value_low``, ``sentence`` and
        ``benchmarks``: what a hidden cause some times as strong as a declared column would leave of the distance.
    """
    rows = [
        {
            "a cause as strong as": row["column"],
            "times": row["times"],
            "explains of the assignment": row["r2_treatment"],
            "explains of the embedding": row["r2_outcome"],
            "distance left": row["value"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in found.benchmarks
    ]
    return {
        "pair": list(found.pair),
        "distance": {"value": found.value, "low": found.low, "high": found.high},
        "robustness_value": found.robustness_value,
        "robustness_value_low": found.robustness_value_low,
        "like_declared": found.like_declared,
        "sentence": f"{found.sentence} {_benchmark(found)}",
        "benchmarks": rows,
    }


def _benchmark(found: Sensitivity) -> str:
    """Say what a hidden cause would do that is as strong as the strongest declared column."""
    columns = [row for row in found.benchmarks if row["times"] == 1.0 and row["column"] != ALL]
    if not columns:
        return "No declared column can be compared with it: each is constant or held fixed where levels are compared."
    worst = min(columns, key=lambda row: (row["value"], -row["r2_treatment"] * row["r2_outcome"]))
    which = f"{worst['column']}, the strongest of {len(columns)} declared" if len(columns) > 1 else worst["column"]
    if worst["value"] <= 0.0 or not np.isfinite(worst["value"]):
        return f"A hidden cause as strong as {which} could account for the whole distance."
    return f"A hidden cause as strong as {which} would leave a distance of {worst['value']:.3g}, of {found.value:.3g}."
