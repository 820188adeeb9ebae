"""How often tests find a hospital effect where there is none, when patients bring several tiles.

The shares of the long calibration study (``docs/calibration.csv``), and fresh cohorts of the same designs beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration.designs import NULLS, UNEVEN
from experiments.calibration.summary import ALPHA, SIZE
from experiments.figures.agreement import in_band, same_share
from experiments.figures.command import run
from experiments.figures.forest import name_rows
from experiments.figures.paper import Check, Data, Result, committed, records
from experiments.figures.style import BAND, BLUE, GREY, ORANGE, VERMILION, error_bar, key, mark, panels
from experiments.figures.wording import span

TITLE = "False positives with clustered tiles"
DATA: Data = "simulated"
FIRST_SEED = 32_000_000  # fixed before the first run; the study's own cohorts are others
PATIENTS = 64
OURS, PLAIN, TILES = "patients", "unstudentised", "rows as units"
METHODS = {OURS: "patients permuted, studentised", PLAIN: "patients permuted, not studentised", TILES: "tiles permuted"}
OTHERS = {"hyppo Dcorr, rows": "Dcorr on tiles (hyppo)", "dowhy kernel, rows": "kernel test on tiles (DoWhy)"}
PEER_NULL = ", no effect"
FAST = ("site depends on biology", "small sites vary more", "small sites bring more tiles")


def compute(fast: bool, seed: int) -> Result:
    """Read the study, and test fresh cohorts of its designs; fast: of three."""
    from experiments.calibration.measures import measure

    every = NULLS | UNEVEN
    cohorts, designs = (40, FAST) if fast else (100, tuple(every))
    fresh = []
    for number, name in enumerate(every):
        if name not in designs:
            continue
        first = FIRST_SEED + 1_000_000 * seed + 10_000 * number
        design = {"n_groups": PATIENTS, **every[name]}
        found = [measure("mean_test", design, {}, first + i, False) for i in range(cohorts)]
        for method in METHODS:
            rejected = sum(one[method] <= ALPHA for one in found)
            fresh.append({"design": name, "test": method, "rejected": int(rejected), "cohorts": cohorts})
    return {
        "study": study(),
        "fresh": fresh,
        "sizes": {"fresh cohorts of each design": cohorts, "fresh designs": len(designs), "patients": PATIENTS},
        "source": "docs/calibration.csv; fresh cohorts simulated now",
    }


def study() -> list[dict[str, Any]]:
    """Return the shares that the calibration study published for these tests."""
    all_rows = committed("calibration.csv")
    own = all_rows[all_rows["measure"] == "mean_test"]
    peers = all_rows[(all_rows["measure"] == "peers") & all_rows["quantity"].isin(OTHERS)]
    peers = peers[peers["design"].str.endswith(PEER_NULL)]
    peers = peers.assign(design=peers["design"].str.removesuffix(PEER_NULL))
    both = pd.concat([own, peers])[["design", "quantity", "share", "answered"]]
    return records(both.set_axis(["design", "test", "share", "cohorts"], axis=1))


def table(result: Result) -> pd.DataFrame:
    """One row per design and test."""
    fresh = {(row["design"], row["test"]): row for row in result["fresh"]}
    rows = []
    for row in result["study"]:
        again = fresh.get((row["design"], row["test"]))
        rows.append(
            {
                "design": row["design"],
                "test": (METHODS | OTHERS)[row["test"]],
                "rejected at 5%": row["share"],
                "cohorts": row["cohorts"],
                "rejected, fresh cohorts": again["rejected"] / again["cohorts"] if again else np.nan,
                "fresh cohorts": again["cohorts"] if again else 0,
            }
        )
    return pd.DataFrame(rows)


def _shares(result: Result, test: str) -> list[float]:
    return [row["share"] for row in result["study"] if row["test"] == test]


def checks(result: Result) -> list[Check]:
    """Hold the study against the nominal level, and fresh cohorts against the study."""
    ours, plain, tiles = (_shares(result, test) for test in METHODS)
    low, high = SIZE
    band = f"between {low:.0%} and {high:.0%}"
    wrong = sum(not low <= share <= high for share in plain)
    n = len(result["fresh"])
    known = {(row["design"], row["test"]): row for row in result["study"]}
    alike = [
        same_share(
            row["rejected"],
            row["cohorts"],
            known[row["design"], row["test"]]["share"],
            known[row["design"], row["test"]]["cohorts"],
            comparisons=n,
        )
        for row in result["fresh"]
    ]
    own = [row for row in result["fresh"] if row["test"] == OURS]
    hits, drawn = (sum(row[name] for row in own) for name in ("rejected", "cohorts"))
    wanted = float(np.mean([known[row["design"], OURS]["share"] for row in own]))
    together = same_share(hits, drawn, wanted, sum(known[row["design"], OURS]["cohorts"] for row in own))
    held = [in_band(row["rejected"], row["cohorts"], low, high, comparisons=n) for row in own]
    return [
        Check(
            f"patients permuted, studentised: {band} on every design", all(low <= s <= high for s in ours), span(ours)
        ),
        Check(
            "not studentised: outside of it on some designs, on both sides",
            min(plain) < low and max(plain) > high,
            f"{wrong} of {len(plain)}, {span(plain)}",
        ),
        Check("tiles permuted: rejects more often than not on every design", min(tiles) > 0.5, span(tiles)),
        Check.each("fresh cohorts agree with the study", alike, " shares"),
        Check("so do those of all designs together", together, f"{hits / drawn:.1%} of {drawn}, study {wanted:.1%}"),
        Check.each("fresh cohorts keep the level", held, " designs"),
    ]


def claim(result: Result) -> str:
    """Say how often each way of testing is wrong."""
    ours, plain, tiles = (_shares(result, test) for test in METHODS)
    return (
        f"On {len(ours)} designs without a hospital effect, a test at 5% that takes tiles for independent finds one "
        f"in {span(tiles)} of cohorts; permuting patients without studentisation in {span(plain)}; permuting "
        f"patients within their biology with a studentised statistic in {span(ours)}."
    )


LOOK = {  # place in the row last
    OURS: ("o", BLUE, -0.3),
    PLAIN: ("s", ORANGE, -0.1),
    TILES: ("X", VERMILION, 0.1),
    **dict.fromkeys(OTHERS, ("D", GREY, 0.3)),
}


def draw(result: Result) -> Any:
    """One row per design; the whole scale, and the part about the nominal level."""
    designs = list(dict.fromkeys(row["design"] for row in result["study"]))
    figure, axes = panels(2, height=4.2, sharey=True)
    for ax, limit in zip(axes, (1.03, 0.115), strict=True):
        ax.axvspan(*SIZE, color=BAND, lw=0)
        for row in result["study"]:
            marker, colour, shift = LOOK[row["test"]]
            place = designs.index(row["design"]) + shift
            own = row["test"] in METHODS
            if own:  # others ran on few cohorts
                error = float(np.sqrt(row["share"] * (1.0 - row["share"]) / row["cohorts"]))
                error_bar(ax, place, row["share"], error, colour=colour)
            ax.plot(row["share"], place, marker, color=colour, mfc=colour if own else "white", mew=0.6, zorder=4)
        for row in result["fresh"] if ax is axes[0] else ():  # of few cohorts each: too coarse for the other scale
            marker, colour, shift = LOOK[row["test"]]
            share, place = row["rejected"] / row["cohorts"], designs.index(row["design"]) + shift
            ax.plot(share, place, "|", color=colour, ms=5.0, mew=0.8, zorder=3)
        name_rows(ax, designs, label="rejected at 5% (share of cohorts)", line=ALPHA)
        ax.set_xlim(-0.02 * limit, limit)
    axes[0].set_title("No hospital effect on the mean in any cohort")
    axes[1].set_title("The same about the nominal level")
    marks = [mark(name, *LOOK[test][:2]) for test, name in METHODS.items()]
    marks.append(mark("other software on tiles", "D", GREY, filled=False))
    marks.append(mark("fresh cohorts, beside their test (a)", "|", GREY))
    key(figure, marks, columns=3)
    return figure


if __name__ == "__main__":
    run(__file__)
