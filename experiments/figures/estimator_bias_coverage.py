"""Bias and coverage of effect estimators where the hospital goes with the biology.

``python -m experiments.figures.estimator_bias_coverage [--fast] [--out FOLDER] [--seed N]``

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
from experiments.calibration.effect_estimators import WHAT, laid_out
from experiments.calibration.summary import COVERAGE, FEW_COVERAGE
from experiments.figures import style
from experiments.figures.agreement import LEVEL, in_band, same_share
from experiments.figures.command import main
from experiments.figures.paper import Check, PaperFigure, Result, committed, records
from experiments.figures.without_graph import difference_of_means, regression_on_tiles

FIRST_SEED = 33_000_000  # fixed before the first run
DESIGN: dict[str, Any] = {"n_groups": 120, "n_sites": 2, "d": 8, "rows_per_group": (4, 16), "site_effect": 0.6}
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8)
PLAIN, TILES, OURS = "difference of means", "regression on tiles", "standardisation over patients"
REPEATED = "20 patients"  # the design of the study that is simulated again
LIBRARY = ("standardisation", "ridge", "partially linear", "AIPW")
ECONML = {"EconML on rows, groups given": "EconML on tiles", "EconML on patients": "EconML on patients"}
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
    cohorts, strengths = (40, STRENGTHS[::2]) if fast else (1000, STRENGTHS)
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


def _fresh(result: Result, method: str) -> list[dict[str, Any]]:
    return [row for row in result["fresh"] if row["method"] == method]


def _library(result: Result) -> list[dict[str, Any]]:
    return [row for row in result["study"] if row["method"] in LIBRARY]


def checks(result: Result) -> list[Check]:
    """Hold bias against zero and coverage against 95 %."""
    n = len(result["fresh"]) + 1
    limit = float(stats.norm.ppf(1.0 - LEVEL / n / 2.0))
    unbiased = [abs(row["bias"]) <= limit * row["error"] for row in _fresh(result, OURS) + _fresh(result, TILES)]
    naive, tiles, ours = (_fresh(result, name)[-1] for name in (PLAIN, TILES, OURS))
    kept = [in_band(r["covered"], r["cohorts"], *COVERAGE, comparisons=n) for r in _fresh(result, OURS)]
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
        Check("adjusted estimates are not biased", all(unbiased), f"{sum(unbiased)} of {len(unbiased)}"),
        Check(
            "tiles taken for independent: intervals miss",
            not in_band(tiles["covered"], tiles["cohorts"], *COVERAGE),
            _cover(tiles),
        ),
        Check("standardisation over patients: intervals hold", all(kept), _cover(ours)),
        Check(
            "every estimator of the library holds in the study",
            not low,
            f"{min(shares):.1%} to {max(shares):.1%}, {len(shares)} cells",
        ),
        Check("fresh cohorts agree with the study", alike, f"{_cover(again)}, study {own['share']:.1%}"),
    ]


def _cover(row: dict[str, Any]) -> str:
    return f"{row['covered'] / row['cohorts']:.1%} of {row['cohorts']}"


def claim(result: Result) -> str:
    """Say what ignoring biology or patients costs."""
    naive, tiles, _ = (_fresh(result, name)[-1] for name in (PLAIN, TILES, OURS))
    ours = [row["covered"] / row["cohorts"] for row in _fresh(result, OURS)]
    shares = [row["share"] for row in _library(result)]
    return (
        f"With strong confounding ({naive['confounding']:g}) a difference of means is off by {naive['bias']:+.2f} "
        f"(truth {naive['truth']:+.2f}) and its 95 % intervals hold the truth in "
        f"{naive['covered'] / naive['cohorts']:.0%} of cohorts; a regression that takes tiles for independent has no "
        f"bias and holds in {tiles['covered'] / tiles['cohorts']:.0%}; standardisation over patients holds in "
        f"{min(ours):.0%} to {max(ours):.0%} at every strength, and the four estimators of the library in "
        f"{min(shares):.1%} to {max(shares):.1%} over {len(shares)} cells of the study."
    )


COLOURS = {PLAIN: style.VERMILION, TILES: style.ORANGE, OURS: style.BLUE}
MARKS = dict(zip((*LIBRARY, *ECONML.values()), "os^Dxv", strict=True))
HUES = dict(
    zip(
        (*LIBRARY, *ECONML.values()),
        (style.BLUE, style.GREEN, style.SKY, style.PURPLE, style.VERMILION, style.ORANGE),
        strict=True,
    )
)


# Where names of the upper lines stand: panel, place in the panel, alignment.
NAMES = (
    (0, PLAIN, 0.60, 0.84, "right"),
    (0, TILES, 0.98, 0.03, "right"),
    (0, OURS, 0.02, 0.32, "left"),
    (1, PLAIN, 0.98, 0.12, "right"),
    (1, TILES, 0.02, 0.40, "left"),
    (1, OURS, 0.98, 0.80, "right"),
)
SHORT = {"20 patients": "20", "60 patients": "60", "60 patients, variance by site": "60, variance\nby site"}
SHORT |= {"300 patients": "300"}


def draw(result: Result) -> Any:
    """Above the fresh cohorts by strength of confounding, below the study."""
    figure, axes = style.panels(2, 2, height=4.4)
    for ax, name in zip(axes, ("bias", "coverage"), strict=False):
        for method in COLOURS:
            _line(ax, _fresh(result, method), name, COLOURS[method])
        ax.set(xlabel="confounding (0: both hospitals see the same patients)")
    for panel, method, x, y, side in NAMES:
        axes[panel].text(x, y, method, color=COLOURS[method], ha=side, transform=axes[panel].transAxes)
    truth = result["fresh"][0]["truth"]
    axes[0].set(title="Two hospitals", ylabel=f"bias (truth {truth:+.2f})")
    axes[1].set(title="The same: coverage", ylabel="intervals that hold the truth", ylim=(0.0, 1.03))
    for ax, name in zip(axes[2:], ("bias", "coverage"), strict=True):
        _study(ax, result["study"], name)
        ax.set(xlabel="patients")
    axes[2].set(title="Calibration study", ylabel="bias (standard errors)")
    axes[3].set(title="The same: coverage", ylabel="intervals that hold the truth")
    for ax in axes[::2]:
        ax.axhline(0.0, color=style.GREY, lw=0.5, ls=":")
    for ax in axes[1::2]:
        _band(ax)
    figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _band(ax: Any) -> None:
    ax.axhspan(*COVERAGE, color="#e4e7ea", lw=0)


def _line(ax: Any, rows: list[dict[str, Any]], name: str, colour: str) -> None:
    x = [row["confounding"] for row in rows]
    shares = np.array([row["covered"] / row["cohorts"] for row in rows])
    y = shares if name == "coverage" else np.array([row["bias"] for row in rows])
    sizes = np.array([row["cohorts"] for row in rows])
    error = np.sqrt(shares * (1.0 - shares) / sizes) if name == "coverage" else np.array([row["error"] for row in rows])
    ax.plot(x, y, "o-", color=colour)
    for at, value, half in zip(x, y, 1.96 * error, strict=True):
        style.interval(ax, at, value - half, value + half, colour=colour, upright=True)


def _study(ax: Any, rows: list[dict[str, Any]], name: str) -> None:
    scalar = [row for row in rows if row["what"] == WHAT[0]]
    designs, methods = list(dict.fromkeys(row["design"] for row in scalar)), list(MARKS)
    for method in methods:
        own = [row for row in scalar if row["method"] == method]
        x = [designs.index(row["design"]) + 0.13 * (methods.index(method) - 2.5) for row in own]
        y = [row["share"] if name == "coverage" else _in_errors(row) for row in own]
        halves = [1.96 * np.sqrt(_variance(row, name) / row["answered"]) for row in own]
        for at, value, half in zip(x, y, halves, strict=True):
            style.interval(ax, at, value - half, value + half, colour=HUES[method], upright=True)
        ax.plot(x, y, MARKS[method], color=HUES[method], ls="", ms=3.4, mew=0.8, label=method)
    ax.set_xticks(range(len(designs)), [SHORT[design] for design in designs])
    ax.tick_params(axis="x", length=0)


def _in_errors(row: dict[str, Any]) -> float:
    """Bias in units of the estimate's standard error, which the width of its interval tells."""
    return float((row["mean"] - row["truth"]) / (row["width"] / 2.0 / 1.96))


def _variance(row: dict[str, Any], name: str) -> float:
    return float(row["share"] * (1.0 - row["share"])) if name == "coverage" else 1.0


FIGURE = PaperFigure(
    "estimator_bias_coverage",
    "Bias and coverage of effect estimators",
    "simulated",
    compute,
    table,
    draw,
    claim,
    checks,
)

if __name__ == "__main__":
    raise SystemExit(main([FIGURE]))
