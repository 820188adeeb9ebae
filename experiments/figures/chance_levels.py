"""The robustness index of noise is not 1/2: its chance value by design, derived and simulated.

Embeddings are independent noise: they know neither class nor hospital. The index of such embeddings depends on how many
classes and hospitals there are, how unequal they are and how they go together, and not on the number of neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.metrics import robustness_index
from experiments.figures.agreement import mean_and_error, same_mean
from experiments.figures.command import run
from experiments.figures.paper import Check, Data, Result
from experiments.figures.style import GREY, PALETTE, error_bar, key, mark, name_lines, panels

TITLE = "The chance value of the robustness index"
DATA: Data = "simulated"
GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
FIRST_SEED = 31_000_000  # fixed before the first run
PATIENTS, ROWS, DIMENSIONS, K = 240, 2, 8, 11
SLACK = 0.005  # a ratio of sums is not quite without bias
FAR = 0.1  # from 1/2
SHAPES = {"2 × 6": (2, 6), "3 × 3": (3, 3), "6 × 2": (6, 2)}
ASSOCIATIONS = (0.0, 0.25, 0.5, 0.75, 0.95)
CLASSES, SITES = (2, 4, 8), (2, 3, 4, 6, 10)
MAJORITY = (0.5, 0.6, 0.7, 0.8, 0.9)
NEIGHBOURS = (1, 3, 11, 31, 61)


def table_of_counts(shares: np.ndarray) -> np.ndarray:
    """Round shares of patients by class and hospital to counts that add up, largest remainders first."""
    expected = PATIENTS * shares / shares.sum()
    counts = np.floor(expected).astype(int)
    rest = np.argsort((counts - expected).ravel(), kind="stable")[: PATIENTS - counts.sum()]
    counts.ravel()[rest] += 1
    return counts


def associated(classes: int, sites: int, strength: float) -> np.ndarray:
    """Shares by class and hospital: every hospital sees one class more, the larger ``strength``, up to it alone."""
    favoured = np.zeros((classes, sites))
    favoured[np.arange(max(classes, sites)) % classes, np.arange(max(classes, sites)) % sites] = 1.0
    return (1.0 - strength) / (classes * sites) + strength * favoured / favoured.sum()


def designs() -> list[dict[str, Any]]:
    """Return every design: its panel, its line, the place on the line, its table and the number of neighbours."""
    out = []

    def add(panel: str, line: str, x: float, shares: np.ndarray, k: int = K) -> None:
        counts = table_of_counts(shares)
        out.append({"panel": panel, "line": line, "x": x, "k": k, "counts": counts.tolist(), "v": cramers_v(counts)})

    for name, shape in SHAPES.items():
        for strength in ASSOCIATIONS:
            add(
                "association",
                name,
                cramers_v(table_of_counts(associated(*shape, strength))),
                associated(*shape, strength),
            )
    for classes in CLASSES:
        for sites in SITES:
            add("levels", f"{classes} classes", sites, np.ones((classes, sites)))
    for share in MAJORITY:
        add("prevalence", "2 × 2", share, np.array([[share] * 2, [1.0 - share] * 2]))
    for k in NEIGHBOURS:
        add("k", "2 × 6", k, np.ones((2, 6)), k)
    return out


def cramers_v(counts: np.ndarray) -> float:
    """Association of class and hospital, 0 to 1."""
    from scipy.stats.contingency import association

    return float(association(counts, method="cramer"))


def noise(counts: np.ndarray, rng: np.random.Generator) -> Cohort:
    """Draw patients of every cell, with embeddings that depend on nothing."""
    cells = np.repeat(np.arange(counts.size), counts.ravel())
    patient = np.repeat(np.arange(len(cells)), ROWS)
    obs = {
        "patient": [f"p{p}" for p in patient],
        "tumour": [f"class{c}" for c in cells[patient] // counts.shape[1]],
        "site": [f"site{s}" for s in cells[patient] % counts.shape[1]],
    }
    return Cohort(rng.standard_normal((len(patient), DIMENSIONS)), pd.DataFrame(obs))


def compute(fast: bool, seed: int) -> Result:
    """Derive chance on every design, and simulate it; fast: simulate every fourth, with fewer cohorts."""
    cohorts, every, cells = (8, 4, designs()) if fast else (30, 1, designs())
    for number, cell in enumerate(cells):
        rng = np.random.default_rng([FIRST_SEED, seed, number])
        simulated = number % every == 0
        found = [
            robustness_index(noise(np.array(cell["counts"]), rng), GRAPH, k=cell["k"], standardised=False)
            for _ in range(cohorts if simulated else 1)
        ]
        cell["chance"] = found[0].chance
        cell["index"] = [one.value for one in found] if simulated else []
        cell["weighted"] = [one.details["weighted"].value for one in found] if simulated else []
    sizes = {
        "designs": len(cells),
        "simulated": len(_simulated(cells)),
        "cohorts of each": cohorts,
        "patients": PATIENTS,
        "rows of each": ROWS,
        "dimensions": DIMENSIONS,
    }
    return {"cells": cells, "sizes": sizes, "source": "simulated now"}


def _simulated(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [cell for cell in cells if cell["index"]]


def table(result: Result) -> pd.DataFrame:
    """One row per design."""
    rows = []
    for cell in result["cells"]:
        nothing = (np.nan, np.nan)
        mean, error = mean_and_error(np.array(cell["index"])) if cell["index"] else nothing
        weighted, weighted_error = mean_and_error(np.array(cell["weighted"])) if cell["index"] else nothing
        rows.append(
            {
                "classes": len(cell["counts"]),
                "hospitals": len(cell["counts"][0]),
                "largest class": max(map(sum, cell["counts"])) / PATIENTS,
                "Cramér's V": cell["v"],
                "k": cell["k"],
                "chance, derived": cell["chance"],
                "index of noise": mean,
                "standard error": error,
                "weighted index of noise": weighted,
                "its standard error": weighted_error,
            }
        )
    return pd.DataFrame(rows)


def checks(result: Result) -> list[Check]:
    """Hold the derived values against the simulated ones, and both against 1/2."""
    cells, frame = result["cells"], table(result)
    tried, k_moves = _simulated(cells), [cell["panel"] == "k" for cell in cells]
    n = 2 * len(tried)
    gaps = (frame["index of noise"] - frame["chance, derived"]).abs()
    own = [same_mean(np.array(c["index"]), c["chance"], slack=SLACK, comparisons=n) for c in tried]
    half = [same_mean(np.array(c["weighted"]), 0.5, slack=SLACK, comparisons=n) for c in tried]
    far = (frame["chance, derived"] - 0.5).abs() > FAR
    by_k = float(np.ptp(frame[k_moves]["chance, derived"]))
    return [
        Check.each("the derived value is what noise gives", own, f", largest gap {gaps.max():.3f}"),
        Check(
            "on most designs it is far from 1/2", far.mean() > 0.5, f"{far.sum()} of {len(far)} by more than {FAR:g}"
        ),
        Check.each("the weighted index of noise is 1/2", half),
        Check("k does not move it", by_k < 1e-9, f"range {by_k:.1e}"),
    ]


def claim(result: Result) -> str:
    """Say between which values chance lies."""
    frame = table(result)
    chance = frame["chance, derived"]
    gap = (frame["index of noise"] - chance).abs().max()
    return (
        f"The robustness index of embeddings that hold nothing lies between {chance.min():.2f} and {chance.max():.2f} "
        f"on {len(frame)} designs, not at 1/2; on the {len(_simulated(result['cells']))} that were simulated the value "
        f"derived from the design is off by at most {gap:.3f}, and the weighted index of noise is at 1/2."
    )


WORDS = {
    "association": ("Class and hospital associated (classes × hospitals)", "Cramér's V of class and hospital"),
    "levels": ("Numbers of classes and hospitals", "hospitals"),
    "prevalence": ("Unequal classes", "share of the larger class"),
    "k": ("Neighbours", "neighbours counted, k"),
}


def draw(result: Result) -> Any:
    """Lines: derived. Points: simulated. Hollow: the weighted index."""
    figure, axes = panels(2, 2, height=4.2, sharey=True)
    marks = [mark("derived", ls="-"), mark("simulated", "o"), mark("weighted index, simulated", "o", filled=False)]
    key(figure, [*marks, mark("1/2", colour=GREY, ls=":")], columns=4)  # before lines are named: it takes room
    for ax, (panel, (title, label)) in zip(axes, WORDS.items(), strict=True):
        cells = [cell for cell in result["cells"] if cell["panel"] == panel]
        lines = list(dict.fromkeys(cell["line"] for cell in cells))
        ax.set(title=title if len(lines) > 1 else f"{title} ({lines[0]})", xlabel=label, ylim=(-0.04, 1.04))
        if panel == "k":
            ax.set_xscale("log")
            ax.set_xticks(NEIGHBOURS, [str(k) for k in NEIGHBOURS], minor=False)
            ax.minorticks_off()
        places = [cell["x"] for cell in cells]
        ax.plot([min(places), max(places)], [0.5, 0.5], color=GREY, lw=0.5, ls=":")
        ends = [
            _line(ax, [cell for cell in cells if cell["line"] == line], colour)
            for line, colour in zip(lines, PALETTE, strict=False)
        ]
        if len(lines) > 1:
            name_lines(ax, ends)
    for ax in axes[::2]:
        ax.set_ylabel("robustness index of noise")
    return figure


def _line(ax: Any, cells: list[dict[str, Any]], colour: str) -> tuple[float, float, str, str]:
    """Draw a line of designs, and return its end, its name and its colour."""
    ax.plot([cell["x"] for cell in cells], [cell["chance"] for cell in cells], color=colour)
    for name, face in (("weighted", "white"), ("index", colour)):
        for cell in _simulated(cells):
            mean, error = mean_and_error(np.array(cell[name]))
            error_bar(ax, cell["x"], mean, error, colour=colour, upright=True)
            ax.plot(cell["x"], mean, "o", mfc=face, mec=colour, mew=0.6, ms=3.0, zorder=3)
    return cells[-1]["x"], cells[-1]["chance"], cells[-1]["line"], colour


if __name__ == "__main__":
    run(__file__)
