"""Which correctors destroy biology: the figure, and its part of ``docs/correctors.md``, from the published tables.

``python -m experiments.corrector_biology_page``: no simulation is run; the tables are written by ``corrector_biology``
and ``corrector_intervals``.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from causalfm.drawing import GREY, INK
from experiments.corrector_intervals import BLOCKS

DOCS = Path(__file__).parents[1] / "docs"
MARKS = ("<!-- written by experiments.corrector_biology_page -->\n", "<!-- end -->\n")
BLIND = ", no biology given"
WITHIN = 0.05  # a share of biology is called kept if its interval lies within this of 1
SHADES = {0.0: "#f0b33c", 0.3: "#d55e00", 0.6: "#8b2f6b", 0.9: "#1b1b4f"}  # light to dark: told apart in grey too
WORDS = {"kept": "kept", "lost": "lost", "open": "cannot tell"}
PANELS = {
    "site_left": "share of the site's squared\neffect that is left",
    "biology_over_sites": "share of the biology effect\nthat is left, over all rows",
}
TEXT = """## Which ones destroy biology, and is it kept within its interval?
![What is left of site and biology, and coverage, by corrector](images/corrector_biology.png)

*`linear_scm`, {cohorts}, bars two standard errors. Right: share of {more} cohorts in which a 95 %
interval of the biology effect over corrected new patients holds the truth; hollow: the corrector taken as given;
filled: its error added, fitted anew without each of {blocks} blocks of its patients (`python -m
experiments.corrector_intervals`).*

A share of biology is called kept if its 95 % interval over cohorts lies within {within:.0%} of 1 at every
confounding, lost if it lies below that at one of them; otherwise the cohorts cannot tell. Numbers in brackets are
shares at confounding {most:g}.

{points}
"""
POINTS = (
    "**Kept, with biology given** ({n_kept} of {n_given}): {kept}. Of the site they leave {kept_site} where classes "
    "and sites are balanced and {kept_site_most} at confounding {most:g}.",
    "**Lost, with biology given** ({n_lost} of {n_given}): {lost}.",
    "**Cannot tell, with biology given** ({n_open} of {n_given}): {open}. Without any correction: {none}, since the "
    "difference between classes then holds what sites differ in.",
    "**Biology not given**: lost by {n_blind_lost} of {n_blind}. At confounding {most:g} {blind_least:.2f} "
    "({blind_worst}) to {blind_most:.2f} of it is left, and of the site {blind_site}; the same correctors with biology "
    "leave {seeing_site}.",
    "**Intervals** after correctors that keep biology. The corrector taken as given: the truth is held in {given} of "
    "cohorts at confounding 0 and {given_most} at {most:g}. Its error added: {anew} and {anew_most} (standard errors "
    "up to {error:.1%}). Where biology was not given, at {most:g}, with the error added: {destroyed}.",
)


def verdicts(table: pd.DataFrame) -> pd.Series:
    """Return ``"kept"``, ``"lost"`` or ``"cannot tell"`` by method: what the cohorts say of biology over all rows."""
    reach = stats.t.ppf(0.975, table["cohorts"] - 1) * table["biology_over_sites_se"]
    low, high = table["biology_over_sites"] - reach, table["biology_over_sites"] + reach
    kept = ((low >= 1 - WITHIN) & (high <= 1 + WITHIN)).groupby(table["method"], sort=False).all()
    lost = (high < 1 - WITHIN).groupby(table["method"], sort=False).any()
    return kept.map({True: "kept", False: "cannot tell"}).mask(lost, "lost")


def section(table: pd.DataFrame, intervals: pd.DataFrame) -> str:
    """Return the part of the page, every number made from the two tables."""
    told, most = verdicts(table), table["confounding"].max()
    given = [name for name in told.index if name != "none" and not name.endswith(BLIND)]
    blind = [name for name in told.index if name.endswith(BLIND)]
    by = {verdict: [name for name in given if told[name] == verdict] for verdict in WORDS.values()}
    end = table[table["confounding"] == most].set_index("method")
    start = table[table["confounding"] == 0.0].set_index("method")
    over = end["biology_over_sites"]

    def listed(names: list[str]) -> str:
        return "; ".join(f"{name} ({over[name]:.2f})" for name in names) or "none"

    covered = intervals[intervals["method"].isin(by["kept"])]
    reach = {}
    for column, word in (("corrector_as_given", "given"), ("corrector_fitted_anew", "anew")):
        for confounding, suffix in ((0.0, ""), (most, "_most")):
            shares = covered.loc[covered["confounding"] == confounding, column]
            reach[word + suffix] = f"{shares.min():.0%} to {shares.max():.0%}"
    ends = intervals[(intervals["confounding"] == most) & intervals["method"].isin(blind)].to_dict("records")
    destroyed = ", ".join(f"{row['corrector_fitted_anew']:.0%} ({row['method'].removesuffix(BLIND)})" for row in ends)
    numbers = {
        "most": most,
        **{f"n_{word}": len(by[verdict]) for word, verdict in WORDS.items()},
        **{word: listed(by[verdict]) for word, verdict in WORDS.items()},
        "n_given": len(given),
        "none": told["none"],
        "kept_site": _span(start.loc[by["kept"], "site_left"]),
        "kept_site_most": _span(end.loc[by["kept"], "site_left"]),
        "n_blind": len(blind),
        "n_blind_lost": int((told[blind] == "lost").sum()),
        "blind_least": over[blind].min(),
        "blind_most": over[blind].max(),
        "blind_worst": over[blind].idxmin().removesuffix(BLIND),
        "blind_site": _span(end.loc[blind, "site_left"]),
        "seeing_site": _span(end.loc[[name.removesuffix(BLIND) for name in blind], "site_left"]),
        "error": intervals["corrector_fitted_anew_se"].max(),
        "destroyed": destroyed,
    }
    points = "\n".join(_point(text.format(**numbers, **reach)) for text in POINTS)
    counts = {"cohorts": _cohorts(table), "more": intervals["cohorts"].min(), "blocks": BLOCKS}
    return TEXT.format(points=points, within=WITHIN, most=most, **counts)


def _cohorts(table: pd.DataFrame) -> str:
    """Say how many cohorts are behind a point, and where they are fewer."""
    most = int(table["cohorts"].max())
    least = table.groupby("method", sort=False)["cohorts"].min()
    fewer = "; ".join(f"{name}: {int(n)}" for name, n in least.items() if n < most)
    return f"{most} cohorts per point" + (f" (at least, where fewer: {fewer})" if fewer else "")


def _point(text: str) -> str:
    return textwrap.fill(text, 130, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _span(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def draw(table: pd.DataFrame, intervals: pd.DataFrame, path: Path) -> None:
    """Draw methods as lines, confounding as shades; methods that were not given biology below.

    Parameters
    ----------
    table, intervals
        The two published tables.
    path
        A ``.png`` file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(table["method"]))
    blind = [name for name in names if name.endswith(BLIND)]
    names = [name for name in names if name not in blind]
    place = {name: float(i) for i, name in enumerate(names)}
    place |= {name: len(names) + 1.0 + i for i, name in enumerate(blind)}
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11.0, 1.6 + 0.3 * len(place)), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (measure, label) in zip(axes, PANELS.items(), strict=False):
            _points(ax, table, measure, f"{measure}_se", place)
            ax.set_xlabel(label)
        _points(axes[2], intervals, "corrector_as_given", "", place, filled=False)
        _points(axes[2], intervals, "corrector_fitted_anew", "", place)
        axes[2].set_xlabel("share of cohorts in which\nan interval holds the truth")
        titles = "Is the site removed?", "Is biology kept?", "Is it kept within its interval?"
        for ax, line, title in zip(axes, (0.0, 1.0, 0.95), titles, strict=True):
            ax.axvline(line, color=GREY, lw=1.0, zorder=0)
            ax.axhline(len(names), color=GREY, lw=0.6, ls=":")
            ax.set_xlim(-0.03, 1.1)
            ax.set_title(title, loc="left")
        axes[0].set_yticks(list(place.values()), [name.removesuffix(BLIND) for name in place])
        axes[0].set_ylim(max(place.values()) + 0.7, -0.7)
        aside = {
            "transform": axes[0].get_yaxis_transform(),
            "ha": "right",
            "va": "top",
            "style": "italic",
            "color": INK,
        }
        axes[0].text(1.0, len(names) + 0.05, "below: biology not given", **aside)
        handles = [axes[0].plot([], [], "o", color=c, label=f"confounding {v:g}")[0] for v, c in SHADES.items()]
        for face, label in (
            ("white", "right, hollow: corrector taken as given"),
            (GREY, "right, filled: its error added"),
        ):
            handles.append(axes[0].plot([], [], "o", color=GREY, mfc=face, label=label)[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=110)


def _points(
    ax: Any, table: pd.DataFrame, value: str, error: str, place: dict[str, float], *, filled: bool = True
) -> None:
    strengths = sorted(table["confounding"].unique())
    for row in table[table["method"].isin(place)].to_dict("records"):
        shift = 0.18 * (strengths.index(row["confounding"]) - (len(strengths) - 1) / 2)
        colour, bar = SHADES[row["confounding"]], 2.0 * row[error] if error else 0.0
        ax.errorbar(
            row[value],
            place[row["method"]] + shift,
            xerr=bar or None,
            fmt="o",
            ms=4,
            color=colour,
            mfc=colour if filled else "white",
            lw=0.9,
        )


def written(page: str, text: str) -> str:
    """Return a page with the part between the marks replaced."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return before + MARKS[0] + text + MARKS[1] + after


def main() -> None:
    """Write figure and text."""
    table, intervals = (pd.read_csv(DOCS / name) for name in ("correctors.csv", "corrector_intervals.csv"))
    page = DOCS / "correctors.md"
    page.write_text(written(page.read_text(encoding="utf-8"), section(table, intervals)), encoding="utf-8")
    draw(table, intervals, DOCS / "images" / "corrector_biology.png")


if __name__ == "__main__":
    main()
