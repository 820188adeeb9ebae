"""Both cohorts as one table of patients: what drift is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.moments import cell_sums
from causalfm.shift.domains import UNKNOWN, Domain, Domains
from causalfm.units import Units, patient_units

MOST = 3000  # patients of each domain that drift is measured on
SIDES = np.array(["reference", "deployment"])


@dataclass(frozen=True, eq=False)
class PatientTable:
    """Patients of both domains.

    Attributes
    ----------
    cohort
        One row per patient and class with the mean embedding; the table has the columns of the graph, the site under a
        name of its domain, and ``column``.
    column
        The column that tells the cohorts apart.
    new, labelled
        ``(n,)`` rows of the deployment, and rows whose biology is known.
    left_out
        ``{domain: patients not used}``.
    """

    cohort: Cohort
    column: str
    new: np.ndarray
    labelled: np.ndarray
    left_out: dict[str, int]

    def part(self, rows: np.ndarray) -> PatientTable:
        """Return the table of some rows, given as a mask."""
        return PatientTable(self.cohort[rows], self.column, self.new[rows], self.labelled[rows], self.left_out)


def patient_table(domains: Domains, *, most: int = MOST) -> PatientTable:
    """Average rows to patients, and classes within them, in both domains.

    Parameters
    ----------
    domains
        Reference and deployment.
    most
        Patients used of each domain, drawn evenly over its sites.

    Returns
    -------
    PatientTable
        Columns that a domain lacks are left out of it.
    """
    sides = (domains.reference, domains.deployment)
    chosen = [patients_drawn(side, most, domains.random_state) for side in sides]
    parts = [_averaged(side, keep, len(domains.classes)) for side, keep in zip(sides, chosen, strict=True)]
    column = "cohort"
    while column in domains.graph.nodes or column in domains.graph.groups:
        column += "_"
    tables = []
    for at, (side, (first, _, label)) in enumerate(zip(sides, parts, strict=True)):
        tables.append(_columns(side, domains, first, label).assign(**{column: SIDES[at]}))
        site = pd.Series(domains.sites, dtype=str).to_numpy()[side.sites[first]]
        tables[-1][domains.site] = np.char.add(f"{SIDES[at]}: ", site.astype(str))
        tables[-1][domains.graph.group] = np.char.add(f"{at}:", side.units[first].astype(str))
    shared = [name for name in tables[0].columns if name in tables[1].columns]
    obs = pd.concat([table[shared] for table in tables], ignore_index=True)
    label = np.concatenate([part[2] for part in parts])
    X = np.concatenate([part[1] for part in parts])
    new = np.repeat([False, True], [len(part[2]) for part in parts])
    left = {name: int((~keep).sum()) for name, keep in zip(SIDES.tolist(), chosen, strict=True)}
    return PatientTable(Cohort(X, obs, {}), column, new, label != UNKNOWN, left)


def by_site(part: PatientTable, graph: CausalGraph, site: str, given: Sequence[str]) -> tuple[Units, np.ndarray]:
    """Return the patients with the site as their level, and which are new."""
    units = patient_units(part.cohort, graph, (site,), given)
    new = np.zeros(units.level.n_levels, dtype=bool)
    new[part.cohort.factor(site).codes[part.new]] = True
    return units, new[units.level.codes]


def patients_drawn(side: Domain, most: int, random_state: int) -> np.ndarray:
    """Mask ``(G,)`` of at most ``most`` patients: in turn from every site, so that each keeps as many as it can."""
    n_units = int(side.units.max()) + 1
    keep = np.ones(n_units, dtype=bool)
    if n_units <= most:
        return keep
    site = np.zeros(n_units, dtype=np.int64)
    site[side.units] = side.sites
    order = np.random.default_rng(random_state).permutation(n_units)
    order = order[np.argsort(site[order], kind="stable")]
    starts = np.flatnonzero(np.diff(site[order], prepend=-1))
    turn = np.arange(n_units) - np.repeat(starts, np.diff([*starts, n_units]))
    keep[order[np.argsort(turn, kind="stable")[most:]]] = False
    return keep


def _averaged(side: Domain, keep: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first row, mean embedding and label of every patient and class kept."""
    cells = np.where(keep[side.units], side.units * (n_classes + 1) + side.labels + 1, -1)
    used, first, codes = np.unique(cells, return_index=True, return_inverse=True)
    sums = cell_sums(side.cohort.X, codes.reshape(-1), len(used))
    there = used >= 0
    means = sums.total[there] / sums.count[there, None]
    return first[there], means, used[there] % (n_classes + 1) - 1


def _columns(side: Domain, domains: Domains, first: np.ndarray, label: np.ndarray) -> pd.DataFrame:
    """Lay out biology and covariates; a continuous one is the mean of its rows, others are those of the first row."""
    classes = np.array([*domains.classes, ""], dtype=object)
    out = {domains.graph.biology: pd.Categorical(classes[label], categories=list(domains.classes))}
    for name in domains.graph.covariates:
        if name not in side.cohort.obs.columns:
            continue
        if domains.graph.kind(name, domains.reference.cohort) == "continuous":
            sums = np.bincount(side.units, side.cohort.numeric(name)) / np.bincount(side.units)
            out[name] = sums[side.units[first]]
        else:
            factor = side.cohort.factor(name)
            out[name] = np.array(factor.levels, dtype=object)[factor.codes[first]]
    return pd.DataFrame(out)
