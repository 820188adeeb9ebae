"""What correctors leave of the hospital against what they keep of the biology, at hospitals that they never saw.

Three TCGA cohorts, ten correctors, every number from patients or hospitals outside the fit: the long study's table
(``docs/scoreboard.csv``). Its values are computed anew from the data, without intervals; fast: some of one cohort.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.corrector_scoreboard.picture import ACROSS, STYLES, UP, front
from experiments.corrector_scoreboard.study import FULL, TABLES, correctors
from experiments.encoder_comparison import HOSPITALS, SUBSETS
from experiments.figures.command import run
from experiments.figures.paper import Check, Data, Result, committed, data_folder, records
from experiments.figures.style import GREY, key, mark, panels
from experiments.figures.wording import span

TITLE = "Correctors at unseen hospitals"
DATA: Data = "real"
NONE = "no correction"
KNN = "site_knn"
COLUMNS = ["table", "slides", "patients", "corrector", "name", "value", "low", "high", "chance", "change"]
COLUMNS += ["joint_low", "joint_high"]
FAST = ("ComBat, adapt", "LinearEraser", "NuisanceSubspace")


def compute(fast: bool, seed: int) -> Result:
    """Read the study, and compute its values anew."""
    folder = data_folder()
    tables, names = (["lung"], FAST) if fast else (list(TABLES), FULL.names)
    fresh = [row for table in tables for row in scored(folder, TABLES[table], names, seed)]
    rows = committed("scoreboard.csv")
    rows = rows[rows["name"].isin([ACROSS, KNN, UP])][COLUMNS]
    return {
        "study": records(rows),
        "fresh": fresh,
        "sizes": {
            "cohorts": len(TABLES),
            "correctors": int(rows["corrector"].nunique()) - 1,
            "patients": int(rows.drop_duplicates("table")["patients"].sum()),
            "computed anew": len(fresh),
        },
        "source": "docs/scoreboard.csv; values without intervals computed anew from the data",
    }


def scored(folder: Any, name: str, names: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    """Score correctors on one cohort without intervals."""
    from causalfm.datasets import tcga_hipt
    from causalfm.estimators import scoreboard

    cancers, hospitals = SUBSETS[name]
    cohort = tcga_hipt.load(folder, cancers=cancers, hospitals=hospitals)
    made = {key: one for key, one in correctors().items() if key in names}
    parts = ("site", "new_sites")
    board = scoreboard(cohort, HOSPITALS, made, readers=("linear",), parts=parts, halvings=0, random_state=seed)
    rows = board.to_frame()
    rows = rows[rows["name"].isin([ACROSS, UP])].assign(table=name)
    return records(rows[["table", "corrector", "name", "value"]])


def table(result: Result) -> pd.DataFrame:
    """One row per cohort and corrector."""
    wide = _wide(result)
    out = pd.DataFrame({"cohort": wide.index.get_level_values(0), "corrector": wide.index.get_level_values(1)})
    for name, words in (("value", ""), ("low", ", low"), ("high", ", high")):
        out[f"hospital left, linear{words}"] = wide[name, ACROSS].to_numpy()
    out["hospital left, neighbours"] = wide["value", KNN].to_numpy()
    out["chance"] = wide["chance", ACROSS].to_numpy()
    out["biology at unseen hospitals"] = wide["value", UP].to_numpy()
    for name, words in (("change", "change"), ("joint_low", "joint low"), ("joint_high", "joint high")):
        out[words] = wide[name, UP].to_numpy()
    return out


def _wide(result: Result) -> pd.DataFrame:
    rows = pd.DataFrame(result["study"])
    numbers = ["value", "low", "high", "chance", "change", "joint_low", "joint_high"]
    rows[numbers] = rows[numbers].astype(float)
    wide = rows.pivot(index=["table", "corrector"], columns="name", values=numbers)
    order = [(t, c) for t in dict.fromkeys(rows["table"]) for c in STYLES if (t, c) in wide.index]
    return wide.loc[order]


def _facts(result: Result) -> dict[str, Any]:
    """Count what the claim says."""
    wide = _wide(result)
    after = wide[wide.index.get_level_values(1) != NONE]
    sure = after[after["joint_low", UP].notna()]
    gains = sure[sure["joint_low", UP] > 0.0]
    least = after["value", ACROSS].groupby(level=0).idxmin()
    best = after["value", UP].groupby(level=0).idxmax()
    return {
        "before": wide.xs(NONE, level=1)["value", ACROSS],
        "after": after["value", ACROSS],
        "sure": sure,
        "gains": gains,
        "where": list(dict.fromkeys(gains.index.get_level_values(0))),
        "cohorts": len(least),
        "same": int((least == best).sum()),
    }


def checks(result: Result) -> list[Check]:
    """Hold what is removed against what is gained, and the values against those computed anew."""
    facts = _facts(result)
    sure, n = facts["sure"], len(facts["sure"])
    less = list(sure["high", ACROSS] < facts["before"].reindex(sure.index, level=0))
    above = list((sure["low", ACROSS] > sure["chance", ACROSS]) & (sure["low", KNN] > sure["chance", KNN]))
    known = {(r["table"], r["corrector"], r["name"]): r for r in result["study"]}
    pairs = [(row["value"], known[row["table"], row["corrector"], row["name"]]) for row in result["fresh"]]
    inside = [old["low"] <= new <= old["high"] for new, old in pairs]
    gap = max(abs(new - old["value"]) for new, old in pairs)
    gains = len(facts["gains"])
    return [
        Check.each("every corrector with an interval leaves less of the hospital", less),
        Check.each("none leaves nothing, by a linear probe and by neighbours", above, " above chance"),
        Check("gains at unseen hospitals are the exception", gains < n / 2, f"{gains} of {n} told from 0 jointly"),
        Check(
            "the least of the hospital is seldom the best classifier",
            2 * facts["same"] < facts["cohorts"],
            f"{facts['same']} of {facts['cohorts']} cohorts",
        ),
        Check.each("values computed anew lie in the study's intervals", inside, f", largest difference {gap:.5f}"),
    ]


def claim(result: Result) -> str:
    """Say what correctors take away and what it gains."""
    facts, sizes = _facts(result), result["sizes"]
    before, after = (span(facts[when], ".2f") for when in ("before", "after"))
    where = f", always in {facts['where'][0]!r}" if len(facts["where"]) == 1 else ""
    return (
        f"In {sizes['cohorts']} TCGA cohorts {sizes['correctors']} correctors lower the accuracy with which a linear "
        f"probe tells the hospital (before: {before}; after: {after}), none to chance; a gain in accuracy for the "
        f"cancer type at hospitals that neither corrector nor probe saw is told from 0 in {len(facts['gains'])} of "
        f"{len(facts['sure'])} cases{where}; the corrector that leaves the least of the hospital is the best "
        f"classifier in {facts['same']} of {facts['cohorts']} cohorts."
    )


def draw(result: Result) -> Any:
    """One panel per cohort, the front through the points that no other beats in both."""
    wide = _wide(result)
    cohorts = list(dict.fromkeys(wide.index.get_level_values(0)))
    figure, axes = panels(len(cohorts), height=3.3)
    for ax, name in zip(axes, cohorts, strict=True):
        part = wide.loc[name]
        _panel(ax, part)
        ax.set(title=name, xlabel="hospital left (accuracy, linear probe)", xlim=(0.15, 1.03))
    axes[0].set_ylabel("cancer type at unseen hospitals\n(accuracy)")
    marks = [mark(str(name), *STYLES[str(name)]) for name in wide.index.unique(level=1)]
    marks.append(mark("on it, no other is better in both", colour=GREY, ls="-"))
    key(figure, marks, columns=4)
    return figure


def _panel(ax: Any, part: pd.DataFrame) -> None:
    base = part.loc[NONE, ("value", UP)]
    ax.axhline(base, color=GREY, lw=0.5, ls=":")
    chance = part.loc[NONE, ("chance", ACROSS)]
    ax.axvline(chance, color=GREY, lw=0.5, ls=":")
    ax.text(chance + 0.015, 0.02, "chance", transform=ax.get_xaxis_transform())
    places = {}
    for name, row in part.iterrows():
        marker, colour = STYLES[str(name)]
        x, y = places[name] = (row["value", ACROSS], row["value", UP])
        if np.isfinite(row["joint_low", UP]):
            low, high = (base + row[end, UP] for end in ("joint_low", "joint_high"))
            ax.plot([x, x], [low, high], color=colour, lw=0.5, alpha=0.5, zorder=1)
            ax.plot([row["low", ACROSS], row["high", ACROSS]], [y, y], color=colour, lw=0.5, alpha=0.5, zorder=1)
        ax.plot(x, y, marker, color=colour, mfc=colour, ms=4.5, mew=0.5, ls="", zorder=3)
    ax.plot(*zip(*front(places), strict=True), color=GREY, lw=1.2, zorder=0)


if __name__ == "__main__":
    run(__file__)
