"""The picture of bias and coverage: above fresh cohorts by strength of confounding, below the calibration study."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.calibration.effect_estimators import WHAT
from experiments.calibration.summary import COVERAGE
from experiments.figures import style
from experiments.figures.paper import Result

PLAIN, TILES, OURS = "difference of means", "regression on tiles", "standardisation over patients"
LIBRARY = ("standardisation", "ridge", "partially linear", "AIPW")
ECONML = {"EconML on rows, groups given": "EconML on tiles", "EconML on patients": "EconML on patients"}
HAND = {PLAIN: ("D", style.VERMILION), TILES: ("s", style.ORANGE), OURS: ("o", style.BLUE)}  # of the upper panels
MARKS = dict(zip((*LIBRARY, *ECONML.values()), "os^Dxv", strict=True))
HUES = dict(
    zip(
        (*LIBRARY, *ECONML.values()),
        (style.BLUE, style.GREEN, style.SKY, style.PURPLE, style.VERMILION, style.ORANGE),
        strict=True,
    )
)
SHORT = {"20 patients": "20", "60 patients": "60", "60 patients, variance by site": "60, variance\nby site"}
SHORT |= {"300 patients": "300"}


def of_method(result: Result, method: str) -> list[dict[str, Any]]:
    """Return the fresh cohorts' rows of a method, by strength of confounding."""
    return [row for row in result["fresh"] if row["method"] == method]


def draw(result: Result) -> Any:
    """Above the fresh cohorts by strength of confounding, below the study."""
    figure, axes = style.panels(2, 2, height=4.6)
    for ax, name in zip(axes, ("bias", "coverage"), strict=False):
        for method in HAND:
            _line(ax, of_method(result, method), name, *HAND[method])
        ax.set(xlabel="confounding (0: both hospitals see the same patients)")
    truth = result["fresh"][0]["truth"]
    axes[0].set(title="Two hospitals", ylabel=f"bias (truth {truth:+.2f})")
    by_hand = [style.mark(name, *look, filled=name != TILES, ls="-") for name, look in HAND.items()]
    axes[0].legend(handles=by_hand, loc="upper left")
    axes[1].set(title="The same: coverage", ylabel="intervals that hold the truth", ylim=(-0.03, 1.03))
    for ax, name in zip(axes[2:], ("bias", "coverage"), strict=True):
        _study(ax, result["study"], name)
        ax.set(xlabel="patients")
    axes[2].set(title="Calibration study", ylabel="bias (standard errors)")
    axes[3].set(title="The same: coverage", ylabel="intervals that hold the truth")
    for ax in axes[::2]:
        ax.axhline(0.0, color=style.GREY, lw=0.5, ls=":")
    for ax in axes[1::2]:
        ax.axhspan(*COVERAGE, color=style.BAND, lw=0)
    style.key(figure, [style.mark(name, MARKS[name], HUES[name]) for name in MARKS], columns=len(MARKS))
    return figure


def _line(ax: Any, rows: list[dict[str, Any]], name: str, marker: str, colour: str) -> None:
    x = [row["confounding"] for row in rows]
    y, errors = [row["bias"] for row in rows], [row["error"] for row in rows]
    if name == "coverage":
        y = [row["covered"] / row["cohorts"] for row in rows]
        errors = [np.sqrt(share * (1.0 - share) / row["cohorts"]) for share, row in zip(y, rows, strict=True)]
    for at, value, error in zip(x, y, errors, strict=True):
        style.error_bar(ax, at, value, error, colour=colour, upright=True)
    size, face = (5.0, "white") if marker == HAND[TILES][0] else (style.POINT, colour)  # seen behind another
    ax.plot(x, y, marker, ls="-", color=colour, mfc=face, ms=size)


def _study(ax: Any, rows: list[dict[str, Any]], name: str) -> None:
    scalar = [row for row in rows if row["what"] == WHAT[0]]
    designs, methods = list(dict.fromkeys(row["design"] for row in scalar)), list(MARKS)
    for method in methods:
        own = [row for row in scalar if row["method"] == method]
        x = [designs.index(row["design"]) + 0.13 * (methods.index(method) - 2.5) for row in own]
        y = [row["share"] if name == "coverage" else _in_errors(row) for row in own]
        errors = [np.sqrt(_variance(row, name) / row["answered"]) for row in own]
        for at, value, error in zip(x, y, errors, strict=True):
            style.error_bar(ax, at, value, error, colour=HUES[method], upright=True)
        ax.plot(x, y, MARKS[method], color=HUES[method], ls="", ms=3.4, mew=0.8)
    ax.set_xticks(range(len(designs)), [SHORT[design] for design in designs])
    ax.tick_params(axis="x", length=0)


def _in_errors(row: dict[str, Any]) -> float:
    """Bias in units of the estimate's standard error, which the width of its interval tells."""
    return float((row["mean"] - row["truth"]) / (row["width"] / 2.0 / 1.96))


def _variance(row: dict[str, Any], name: str) -> float:
    return float(row["share"] * (1.0 - row["share"])) if name == "coverage" else 1.0
