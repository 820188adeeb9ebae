"""``python -m experiments.calibration.levels [--share 1.0] [--workers N]``: accuracy at every level of a factor.

How often is a hospital named worse than the others where none is, and do the intervals of all hospitals hold the truth
together? Hits of a given model are drawn patient by patient, with known recalls; the audit's own probe is fitted to
cohorts of :func:`causalfm.datasets.linear_scm` in which hospitals do nothing. Records go to ``calibration-records/``,
the table and its page to ``docs/performance_by_level.*``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph
from causalfm.metrics.probes import predict
from causalfm.shift.costs.level_performance import LevelScore, labelled, level_scores
from causalfm.shift.costs.subgroups import FEWEST
from experiments.calibration.designs import Cell
from experiments.calibration.study import load, run

GIVEN, PROBE = 1000, 300  # cohorts; the probe takes a third of a second
RECORDS, PAGE = Path("calibration-records"), Path("docs/performance_by_level.md")
GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
MARGIN = 0.1
FEWEST_OF_CLASS = 3
# Hits: patients of each hospital, tiles of each patient, recalls of two classes, share of the second class by hospital
# from first to last, how much patients differ (standard deviation on the probit scale), fall at the last hospital.
DESIGNS: dict[str, dict[str, Any]] = {
    "6 hospitals of 40 patients": {"patients": [40] * 6},
    "8 hospitals of 12 patients": {"patients": [12] * 8},
    "unequal hospitals, 10 to 200 patients": {"patients": [10, 15, 25, 60, 200]},
    "1 to 20 tiles, patients differ more": {"patients": [40] * 6, "tiles": [1, 20], "spread": 1.5},
    "case mix differs by hospital": {"patients": [40] * 6, "recalls": [0.95, 0.6], "mix": [0.1, 0.9]},
    "hardly an error": {"patients": [30] * 6, "recalls": [0.99, 0.99]},
    "at chance": {"patients": [40] * 6, "recalls": [0.5, 0.5]},
    "40 hospitals of 15 patients": {"patients": [15] * 40},
    "class varies within patients": {"patients": [40] * 6, "tiles": [4, 8], "within": True},
    "every patient at every scanner": {"patients": [60] * 3, "same": True, "tiles": [2, 2], "spread": 1.5},
    "3 hospitals of 400 patients": {"patients": [400] * 3},
    "one hospital 10 points worse": {"patients": [100] * 6, "fall": 0.1},
    "one hospital 30 points worse": {"patients": [40] * 6, "fall": 0.3},
}
PROBED: dict[str, dict[str, Any]] = {
    "own probe, 4 hospitals of 30 patients": {"n_groups": 120, "n_sites": 4, "rows_per_group": [1, 6]},
    "own probe, site depends on biology": {"n_groups": 120, "n_sites": 4, "rows_per_group": 2, "confounding": 0.5},
    "own probe, no biology": {"n_groups": 120, "n_sites": 4, "rows_per_group": [1, 6], "biology_effect": 0.0},
}
QUANTITIES = (
    "a level named worse",
    "shortfalls, all levels",
    "accuracies, all levels",
    "worst, its interval",
    "verdict, pass",
    "verdict, fail",
)


def level_cells() -> list[Cell]:
    """Return the cells of the study."""
    own = [Cell("levels", name, {"probe": True, **design}, PROBE) for name, design in PROBED.items()]
    return [*(Cell("levels", name, design, GIVEN) for name, design in DESIGNS.items()), *own]


def level_values(design: dict[str, Any], seed: int) -> dict[str, Any]:
    """Draw one cohort, and say whether a level is named worse and whether intervals hold the truth."""
    settings = dict(design)
    found, true = (_probe_scores if settings.pop("probe", False) else _given_scores)(settings, seed)
    judged = [(s, t) for s, t in zip(found, true, strict=True) if not s.reason]
    lows, highs = (np.array([end(s) for s, _ in judged]) for end in (lambda s: s.shortfall[1], lambda s: s.upper))
    truth = np.array([t for _, (t, _) in judged])
    out = {
        "judged": float(len(judged)),
        "a level named worse": float((lows > 0.0).any()),
        "shortfalls, all levels": float(all(s.shortfall[1] <= t <= s.shortfall[2] for s, (t, _) in judged)),
        "worst, its interval": float(lows.max() <= truth.max() <= highs.max()),
        "verdict, pass": float(highs.max() < MARGIN),
        "verdict, fail": float(lows.max() > MARGIN),
    }
    if all(np.isfinite(a) for _, (_, a) in judged):
        out["accuracies, all levels"] = float(all(s.accuracy[1] <= a <= s.accuracy[2] for s, (_, a) in judged))
    return out


Truth = list[tuple[float, float]]


def _given_scores(design: dict[str, Any], seed: int) -> tuple[tuple[LevelScore, ...], Truth]:
    """Hits of a given model, with the true shortfall and accuracy of every hospital."""
    rng = np.random.default_rng(seed)
    patients, same = np.array(design["patients"]), design.get("same", False)
    recalls, L = np.array(design.get("recalls", [0.9, 0.8])), len(patients)
    mix = np.linspace(*design.get("mix", [0.5, 0.5]), L)
    site = np.repeat(np.arange(L), patients)
    person = np.concatenate([np.arange(n) for n in patients]) if same else np.arange(len(site))
    second = (rng.random(person.max() + 1) < 0.5)[person] if same else rng.random(len(site)) < mix[site]
    low, high = design.get("tiles", [1, 4])
    tiles = rng.integers(low, high + 1, len(site))
    rows = np.repeat(np.arange(len(site)), tiles)
    y = np.where(design.get("within", False), rng.random(len(rows)) < mix[site[rows]], second[rows]).astype(np.int64)
    true = recalls[None, :] - np.r_[np.zeros(L - 1), design.get("fall", 0.0)][:, None]
    spread = design.get("spread", 1.0)
    cut = norm.ppf(true) * np.sqrt(1.0 + spread**2)
    own = rng.normal(size=person.max() + 1)[person]
    hit = rng.normal(size=len(rows)) + spread * own[rows] < cut[site[rows], y]
    scores = np.where((hit[:, None] == (np.arange(2)[None, :] == y[:, None])), 0.9, 0.1)
    answers = labelled(scores, y, person[rows], np.zeros(len(y), dtype=np.int64), None)
    names = [f"hospital {k}" for k in range(L)]
    found = level_scores(answers, site[rows], names, "patient", fewest=FEWEST, fewest_of_class=FEWEST_OF_CLASS)
    share = mix if not same else np.full(L, 0.5)
    return found, _truth(true, share, y, site[rows], person[rows])


def _truth(true: np.ndarray, share: np.ndarray, y: np.ndarray, site: np.ndarray, person: np.ndarray) -> Truth:
    """Compare the recalls of each hospital with those of the others' patients, over the classes that are compared."""
    entry = np.unique(np.stack([site, person]), axis=1, return_inverse=True)[1].reshape(-1)
    weights = 1.0 / np.bincount(entry)[entry]
    L = len(true)
    held = np.bincount(site * 2 + y, weights, 2 * L).reshape(L, 2)
    units = np.unique(np.stack([site * 2 + y, person]), axis=1)
    counts = np.bincount(units[0], minlength=2 * L).reshape(L, 2)
    out = []
    for k in range(L):
        others = np.delete(np.arange(L), k)
        seen = [len(np.unique(units[1, (units[0] % 2 == c) & (units[0] // 2 != k)])) for c in range(2)]
        compared = [c for c in range(2) if min(counts[k, c], seen[c]) >= FEWEST_OF_CLASS]
        recalls = (held[others] * true[others]).sum(axis=0) / np.maximum(held[others].sum(axis=0), 1e-300)
        shortfall = float(np.mean((recalls - true[k])[compared])) if compared else float("nan")
        out.append((shortfall, float((1.0 - share[k]) * true[k, 0] + share[k] * true[k, 1])))
    return out


def _probe_scores(design: dict[str, Any], seed: int) -> tuple[tuple[LevelScore, ...], Truth]:
    """Ask the audit's own probe where hospitals do nothing: there is no true shortfall."""
    design = {**design, "rows_per_group": design["rows_per_group"] if isinstance(design["rows_per_group"], int)
              else tuple(design["rows_per_group"])}  # fmt: skip
    cohort, _ = linear_scm(**design, random_state=seed)
    p = predict(cohort, GRAPH, of="tumour", random_state=seed)
    site = cohort.factor("site")
    sites = site.codes[p.rows]
    answers = labelled(p.probabilities, p.y, p.groups, sites, 1.0 / p.probabilities.shape[1])
    found = level_scores(answers, sites, site.levels, "patient", fewest=FEWEST, fewest_of_class=FEWEST_OF_CLASS)
    return found, [(0.0, float("nan"))] * site.n_levels


def table_of(records: Path) -> pd.DataFrame:
    """One row per design: shares of cohorts, with their Monte Carlo error."""
    rows = []
    for cell in level_cells():
        found = list(load(cell, records).values())
        if found:
            row: dict[str, Any] = {"design": cell.name, "cohorts": len(found)}
            for name in QUANTITIES:
                values = [one[name] for one in found if name in one]
                row[name] = float(np.mean(values)) if values else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


HEAD = f"""# Accuracy at every level: calibration

Written by `python -m experiments.calibration.levels`; seeds fixed before the first run, every design shown. Two
classes, recognised in 90% and 80% unless the design says otherwise; patients bring 1 to 4 tiles and differ. A hospital
is *named worse* if the joint interval of its shortfall (balanced accuracy of the other hospitals less its own) lies
above 0: in at most 5% of cohorts where no hospital is worse. *Shortfalls* and *accuracies*: share of cohorts in which
the intervals of all hospitals hold the truth together; *worst*: in which the interval of the largest shortfall does;
95% or more is wanted. *Pass* and *fail*: verdicts against a margin of {MARGIN:g}. Intervals are joint
by Bonferroni, and those of the audit's own probe allow for patients who train each other's probes: both make them wide.

"""


def write_page(table: pd.DataFrame, page: Path) -> None:
    """Write the table and its page."""
    from causalfm.tables import atomic

    heads = ["design", "cohorts", "named worse", "shortfalls", "accuracies", "worst", "pass", "fail"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in table.itertuples(index=False):
        shares = ["" if np.isnan(value) else f"{value:.1%}" for value in row[2:]]
        lines.append(f"| {' | '.join([row[0], str(row[1]), *shares])} |")
    with atomic(page) as part:
        Path(part).write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    with atomic(page.with_suffix(".csv")) as part:
        table.round(4).to_csv(part, index=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the study, or go on with it."""
    parser = argparse.ArgumentParser(description="Calibration of accuracy by level: runs what is missing.")
    parser.add_argument("--share", type=float, default=1.0, help="part of the cohorts, for a rehearsal")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--page", type=Path, default=None, help="default: docs/ for the whole study, else none")
    options = parser.parse_args(arguments)
    run(level_cells(), options.records, share=options.share, workers=options.workers)
    page = options.page or (PAGE if options.share >= 1.0 else None)
    if page:
        write_page(table_of(options.records), page)


if __name__ == "__main__":
    main()
