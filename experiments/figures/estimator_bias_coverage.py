"""Bias and coverage of effect estimators where the hospital goes with the biology.

Fresh cohorts of two hospitals that see more and more different patients, with what one would compute without a graph;
and the estimators of the library, with EconML beside them, from the long study (``docs/calibration.csv``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.estimators.influence.standardising import saturated
from causalfm.standardisation import contrast_levels
from experiments.calibration.designs import ESTIMATORS
from experiments.calibration.effect_estimators import laid_out
from experiments.calibration.summary import COVERAGE, FEW_COVERAGE
from experiments.figures import estimator_picture
from experiments.figures.agreement import LEVEL, in_band, same_share
from experiments.figures.command import run
from experiments.figures.estimator_picture import ECONML, LIBRARY, OURS, PLAIN, TILES, of_method
from experiments.figures.paper import Check, Data, Result, committed, records
from experiments.figures.without_graph import difference_of_means, regression_on_tiles
from experiments.figures.wording import span

TITLE = "Bias and coverage of effect estimators"
DATA: Data = "simulated"
FIRST_SEED = 33_000_000  # fixed before the first run
DESIGN: dict[str, Any] = {"n_groups": 120, "n_sites": 2, "d": 8, "rows_per_group": (4, 16), "site_effect": 0.6}
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8)
REPEATED = "20 patients"  # the design of the study that is simulated again
EFFECT = ", effect"


def standardised(cohort: Cohort, design: dict[str, Any]) -> tuple[float, float, float]:
    """Compare the last hospital with the first, both given the same classes, as the library does."""
    units, compared = laid_out(cohort, design)
    ends = np.eye(len(compared.levels))
    found = saturated(compared, contrast_levels(units, "tumour").design).contrast(ends[[-1]] - ends[[0]])
    low, high = found.interval()
    return float(found.estimate[0, 0]), float(low[0, 0]), float(high[0, 0])


def compute(fast: bool, seed: int) -> Result:
    """Draw cohorts at every strength of confounding, repeat one design of the study, and read the study."""
    cohorts, strengths = (40, STRENGTHS[::2]) if fast else (400, STRENGTHS)
    first = FIRST_SEED + 1_000_000 * seed
    lines = []
    for number, strength in enumerate(STRENGTHS):
        if strength not in strengths:
            continue
        design = {**DESIGN, "confounding": strength}
        found: dict[str, list[tuple[float, float, float]]] = {PLAIN: [], TILES: [], OURS: []}
        for i in range(cohorts):
            cohort, truth = linear_scm(**design, random_state=first + 10_000 * number + i)
            found[PLAIN].append(difference_of_means(cohort))
            found[TILES].append(regression_on_tiles(cohort))
            found[OURS].append(standardised(cohort, design))
        true = float(truth.site_total()[1, 0] - truth.site_total()[0, 0])
        lines += [{"confounding": strength, "method": name, **judged(rows, true)} for name, rows in found.items()]
    design = {**ESTIMATORS[REPEATED], "site_effect": 0.6}
    rows = []
    for i in range(cohorts):
        cohort, truth = linear_scm(**design, random_state=first + 900_000 + i)
        rows.append(standardised(cohort, design))
    true = float(truth.site_total()[-1, 0] - truth.site_total()[0, 0])
    return {
        "fresh": lines,
        "repeated": {"design": REPEATED, **judged(rows, true)},
        "study": study(),
        "sizes": {"fresh cohorts of each design": cohorts, **{k: v for k, v in DESIGN.items() if k != "site_effect"}},
        "source": "docs/calibration.csv; fresh cohorts simulated now",
    }


def judged(rows: list[tuple[float, float, float]], truth: float) -> dict[str, Any]:
    """Bias with its standard error, and how many intervals hold the truth."""
    value, low, high = np.array(rows).T
    return {
        "truth": truth,
        "bias": float(value.mean() - truth),
        "error": float(value.std(ddof=1) / np.sqrt(len(rows))),
        "covered": int(((low <= truth) & (truth <= high)).sum()),
        "cohorts": len(rows),
    }


def study() -> list[dict[str, Any]]:
    """Return bias and coverage of the study's estimators, designs with an effect."""
    rows = committed("calibration.csv")
    rows = rows[rows["measure"].isin(["effects", "econml"]) & rows["design"].str.endswith(EFFECT)]
    rows = rows[~rows["design"].str.endswith("no effect")]
    what, method = rows["quantity"].str.split(", ", n=1).str[0], rows["quantity"].str.split(", ", n=1).str[1]
    found = rows.assign(what=what, method=method.replace(ECONML), design=rows["design"].str.removesuffix(EFFECT))
    columns = ["design", "what", "method", "share", "answered", "cohorts", "truth", "mean", "width"]
    return records(found[columns])


def table(result: Result) -> pd.DataFrame:
    """One row per design, estimator and quantity."""
    rows = [
        {
            "design": f"confounding {row['confounding']:g}",
            "quantity": "scalar",
            "estimator": row["method"],
            "truth": row["truth"],
            "bias": row["bias"],
            "coverage": row["covered"] / row["cohorts"],
            "cohorts": row["cohorts"],
            "abstained": 0,
        }
        for row in result["fresh"]
    ]
    rows += [
        {
            "design": row["design"],
            "quantity": row["what"],
            "estimator": row["method"],
            "truth": row["truth"],
            "bias": row["mean"] - row["truth"],
            "coverage": row["share"],
            "cohorts": row["cohorts"],
            "abstained": row["cohorts"] - row["answered"],
        }
        for row in result["study"]
    ]
    return pd.DataFrame(rows)


def _library(result: Result) -> list[dict[str, Any]]:
    return [row for row in result["study"] if row["method"] in LIBRARY]


def checks(result: Result) -> list[Check]:
    """Hold bias against zero and coverage against 95%."""
    n = len(result["fresh"]) + 1
    limit = float(stats.norm.ppf(1.0 - LEVEL / n / 2.0))
    unbiased = [abs(row["bias"]) <= limit * row["error"] for row in of_method(result, OURS) + of_method(result, TILES)]
    naive, tiles, ours = (of_method(result, name)[-1] for name in (PLAIN, TILES, OURS))
    kept = [in_band(r["covered"], r["cohorts"], *COVERAGE, comparisons=n) for r in of_method(result, OURS)]
    low = [
        row["share"] for row in _library(result) if row["share"] < (FEW_COVERAGE if "20 " in row["design"] else 0.93)
    ]
    own = next(r for r in result["study"] if (r["design"], r["what"], r["method"]) == (REPEATED, "scalar", LIBRARY[0]))
    again = result["repeated"]
    alike = same_share(again["covered"], again["cohorts"], own["share"], own["answered"], comparisons=n)
    shares = [row["share"] for row in _library(result)]
    return [
        Check(
            "ignoring the biology is biased",
            abs(naive["bias"]) > limit * naive["error"],
            f"{naive['bias']:+.2f} at confounding {naive['confounding']:g}, truth {naive['truth']:+.2f}",
        ),
        Check("its intervals miss", not in_band(naive["covered"], naive["cohorts"], *COVERAGE), _cover(naive)),
        Check.each("adjusted estimates are not biased", unbiased),
        Check(
            "tiles taken for independent: intervals miss",
            not in_band(tiles["covered"], tiles["cohorts"], *COVERAGE),
            _cover(tiles),
        ),
        Check("standardisation over patients: intervals hold", all(kept), _cover(ours)),
        Check(
            "every estimator of the library holds in the study",
            not low,
            f"{span(shares)}, {len(shares)} cells",
        ),
        Check("fresh cohorts agree with the study", alike, f"{_cover(again)}, study {own['share']:.1%}"),
    ]


def _cover(row: dict[str, Any]) -> str:
    return f"{row['covered'] / row['cohorts']:.1%} of {row['cohorts']}"


def claim(result: Result) -> str:
    """Say what ignoring biology or patients costs."""
    naive, tiles, _ = (of_method(result, name)[-1] for name in (PLAIN, TILES, OURS))
    ours = [row["covered"] / row["cohorts"] for row in of_method(result, OURS)]
    shares = [row["share"] for row in _library(result)]
    return (
        f"With strong confounding ({naive['confounding']:g}) a difference of means is off by {naive['bias']:+.2f} "
        f"(truth {naive['truth']:+.2f}) and its 95% intervals hold the truth in "
        f"{naive['covered'] / naive['cohorts']:.0%} of cohorts; a regression that takes tiles for independent has no "
        f"bias and holds in {tiles['covered'] / tiles['cohorts']:.0%}; standardisation over patients holds in "
        f"{span(ours, '.0%')} at every strength, and the four estimators of the library in {span(shares)} over "
        f"{len(shares)} cells of the study."
    )


draw = estimator_picture.draw

if __name__ == "__main__":
    run(__file__)
