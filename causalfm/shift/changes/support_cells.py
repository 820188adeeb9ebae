"""Levels and cells of the deployment that the reference does not have."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.shift.changes.covariate_shifts import unseen_levels
from causalfm.shift.domains import Domain, Domains


def unseen_everywhere(domains: Domains) -> dict[str, dict[str, dict[str, int]]]:
    """Rows and patients at levels that the reference does not have, of every column but the site."""
    graph, out = domains.graph, {}
    for name in (*graph.technical, *graph.covariates):
        if name == domains.site or name not in domains.deployment.cohort.obs.columns:
            continue
        if graph.kind(name, domains.reference.cohort) != "continuous" and (found := unseen_levels(domains, name)):
            out[name] = found
    return out


def empty_cells(domains: Domains) -> list[dict[str, Any]]:
    """Cells of biology and another column, and ends of numbers, that the deployment has and the reference has not."""
    graph, new, out = domains.graph, domains.deployment, []
    for name in (*graph.covariates, *(n for n in graph.technical if n != domains.site)):
        if name not in new.cohort.obs.columns:
            continue
        if graph.kind(name, domains.reference.cohort) == "continuous":
            known, values = domains.reference.cohort.numeric(name), new.cohort.numeric(name)
            low, high = float(known.min()), float(known.max())
            if (rows := (values < low) | (values > high)).any():
                out.append(_cell(f"{name} beyond {low:g} to {high:g}", rows, new))
            continue
        theirs, ours = domains.reference.cohort.factor(name), new.cohort.factor(name)
        held = {(theirs.levels[a], int(b)) for a, b in zip(theirs.codes, domains.reference.labels, strict=True)}
        for code, level in enumerate(ours.levels):
            if level not in theirs.levels:
                continue
            for c, name_of in enumerate(domains.classes):
                rows = (ours.codes == code) & (new.labels == c)
                if rows.any() and (level, c) not in held:
                    out.append(_cell(f"{graph.biology}={name_of}, {name}={level}", rows, new))
    return out


def _cell(name: str, rows: np.ndarray, side: Domain) -> dict[str, Any]:
    return {"cell": name, "rows": int(rows.sum()), "patients": len(np.unique(side.units[rows]))}
