"""Paired null designs: patients of ``linear_scm`` seen by several scanners, each its own control."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, linear_scm

# What the calibration of paired designs simulates; seeds from FIRST_SEED on were fixed before the first run.
FIRST_SEED = 8_000_000
PAIRED: dict[str, dict[str, Any]] = {
    "two scanners": {},
    "three scanners, levels missing": {"n_scanners": 3, "missing": 0.35},
    "four scanners, uneven tiles": {"n_scanners": 4, "missing": 0.3, "rows_per_group": (4, 20)},
    "scanners vary unlike": {"n_scanners": 3, "missing": 0.3, "spread_by_scanner": 3.0},
    "same tiles scanned again": {"n_scanners": 3, "same_tissue": True, "missing": 0.35, "rows_per_group": (1, 6)},
    "biology within patient": {
        "n_scanners": 2,
        "biology_within_group": True,
        "confounding": 0.6,
        "rows_per_group": (6, 16),
        "biology_effect": 3.0,
    },
    "ten patients": {"n_groups": 10, "n_sites": 2, "n_scanners": 2},
    "sixteen patients, levels missing": {"n_groups": 16, "n_sites": 2, "n_scanners": 3, "missing": 0.3},
    "high dimension": {"n_scanners": 3, "missing": 0.3, "d": 256, "decay": 0.5, "spread_by_scanner": 2.0},
}


def rescanned(
    *,
    n_scanners: int = 2,
    scanner_effect: float = 0.0,
    interaction: float = 0.7,
    missing: float = 0.0,
    spread_by_scanner: float = 0.0,
    same_tissue: bool = False,
    n_groups: int = 40,
    rows_per_group: int | tuple[int, int] = (4, 8),
    random_state: int = 0,
    **design: Any,
) -> tuple[Cohort, LinearTruth]:
    """Draw patients that several scanners saw.

    Parameters
    ----------
    n_scanners, scanner_effect
        Scanners and the root mean square distance between two of them.
    interaction
        Root of the trace of what a scanner does to one patient only: all rows of patient and scanner share it.
    missing
        Probability that a scanner did not see a patient; two at least did.
    spread_by_scanner
        The last scanner's interaction and noise have ``1 + spread_by_scanner`` times the first's standard deviation.
    same_tissue
        Every tile is scanned by all the patient's scanners; else each tile by one, at random and in unequal shares.
    n_groups, rows_per_group, design
        Arguments of ``linear_scm``; rows are tiles.
    random_state
        Seed of the cohort.

    Returns
    -------
    cohort : Cohort
        ``obs`` has ``patient``, ``site``, ``tumour``, ``age``, ``scanner`` and ``tile``.
    truth : LinearTruth
        True level means.
    """
    base, truth = linear_scm(
        n_groups=n_groups,
        rows_per_group=rows_per_group,
        n_scanners=n_scanners,
        scanner_effect=scanner_effect,
        random_state=random_state,
        **design,
    )
    rng = np.random.default_rng([random_state, 1])
    groups, first = base.factor("patient"), base.factor("scanner")
    Z = base.X - truth.scanner[first.codes]
    seen = rng.random((n_groups, n_scanners)) >= missing
    for row in seen:
        row[rng.permutation(n_scanners)[:2]] = True
    if same_tissue:
        tile, scanner = np.nonzero(seen[groups.codes])
    else:
        tile, taste = np.arange(len(Z)), rng.random((n_groups, n_scanners)) + 0.2
        weight = (taste * seen)[groups.codes] * rng.random((len(Z), n_scanners))
        scanner = weight.argmax(axis=1)
        for g in range(n_groups):  # the first tiles of a patient make sure that every scanner saw one
            rows, scanners = np.flatnonzero(groups.codes == g), np.flatnonzero(seen[g])
            n = min(len(rows), len(scanners))
            scanner[rows[:n]] = scanners[:n]
    d = base.d
    scale = (np.arange(d) + 1.0) ** (-design.get("decay", 1.0) / 2)
    scale /= np.sqrt((scale**2).sum())
    spread = 1.0 + spread_by_scanner * np.arange(n_scanners) / max(n_scanners - 1, 1)
    of_patient = interaction * spread[None, :, None] * rng.standard_normal((n_groups, n_scanners, d)) * scale
    noise = 0.5 * spread[scanner][:, None] * rng.standard_normal((len(tile), d)) * scale
    X = Z[tile] + truth.scanner[scanner] + of_patient[groups.codes[tile], scanner] + noise
    obs = base.obs.iloc[tile].assign(
        scanner=[f"scanner{s}" for s in scanner], tile=[f"tile{t}" for t in tile], age=base.obs["age"].to_numpy()[tile]
    )
    return Cohort(X, obs.reset_index(drop=True), base.info), truth
