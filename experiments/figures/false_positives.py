"""How often tests find a hospital effect where there is none, when patients bring several tiles.

``python -m experiments.figures.false_positives [--fast] [--out FOLDER] [--seed N]``

The shares of the long calibration study (``docs/calibration.csv``), and fresh cohorts of the same designs beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration.designs import NULLS, UNEVEN
from experiments.calibration.summary import ALPHA, SIZE
from experiments.figures import style
from experiments.figures.agreement import in_band, same_share
from experiments.figures.command import main
from experiments.figures.paper import Check, PaperFigure, Result, committed, records

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
            f"patients permuted, studentised: {band} on every design", all(low <= s <= high for s in ours), _span(ours)
        ),
        Check(
            "not studentised: outside of it on some designs, on both sides",
            min(plain) < low and max(plain) > high,
            f"{wrong} of {len(plain)}, {_span(plain)}",
        ),
        Check("tiles permuted: rejects more often than not on every design", min(tiles) > 0.5, _span(tiles)),
        Check("fresh cohorts agree with the study", all(alike), f"{sum(alike)} of {n} shares"),
        Check("so do those of all designs together", together, f"{hits / drawn:.1%} of {drawn}, study {wanted:.1%}"),
        Check("fresh cohorts keep the level", all(held), f"{sum(held)} of {len(held)} designs"),
    ]


def _span(shares: list[float]) -> str:
    return f"{min(shares):.1%} to {max(shares):.1%}"


def claim(result: Result) -> str:
    """Say how often each way of testing is wrong."""
    ours, plain, tiles = (_shares(result, test) for test in METHODS)
    return (
        f"On {len(ours)} designs without a hospital effect, a test at 5% that takes tiles for independent finds one "
        f"in {_span(tiles)} of cohorts; permuting patients without studentisation in {_span(plain)}; permuting "
        f"patients within their biology with a studentised statistic in {_span(ours)}."
    )


COLOURS = {OURS: style.BLUE, PLAIN: style.ORANGE, TILES: style.VERMILION}
SHAPES = {OURS: "o", PLAIN: "s", TILES: "X"}


def draw(result: Result) -> Any:
    """One line per design; the whole scale, and the part about the nominal level."""
    designs = list(dict.fromkeys(row["design"] for row in result["study"]))
    figure, axes = style.panels(2, width=style.TWO_COLUMNS, height=2.9, sharey=True)
    for ax, limit in zip(axes, (1.03, 0.115), strict=True):
        ax.axvspan(*SIZE, color="#e4e7ea", lw=0)
        ax.axvline(ALPHA, color=style.GREY, lw=0.5, ls=":")
        for row in result["study"]:
            place = designs.index(row["design"])
            if row["test"] in OTHERS:
                ax.plot(row["share"], place, "D", mfc="white", mec=style.GREY, ms=3.0, mew=0.6, zorder=2)
                continue
            colour = COLOURS[row["test"]]
            ax.plot(row["share"], place, SHAPES[row["test"]], color=colour, ms=3.6, mew=0.0, zorder=4)
            half = 1.96 * float(np.sqrt(row["share"] * (1.0 - row["share"]) / row["cohorts"]))
            style.interval(ax, place, row["share"] - half, row["share"] + half, colour=colour)
        for row in result["fresh"] if ax is axes[0] else ():  # of few cohorts each: too coarse for the other scale
            share, place = row["rejected"] / row["cohorts"], designs.index(row["design"]) + 0.3
            ax.plot(share, place, SHAPES[row["test"]], mfc="none", mec=COLOURS[row["test"]], ms=2.6, mew=0.5, zorder=3)
        ax.set(xlim=(-0.02 * limit, limit), xlabel="rejected at 5% (share of cohorts)")
    axes[0].set_yticks(range(len(designs)), designs)
    axes[0].set(ylim=(len(designs) - 0.4, -0.6), title="No hospital effect on the mean in any cohort")
    axes[1].set_title("The same about the nominal level")
    _key(axes[0])
    return figure


def _key(ax: Any) -> None:
    from matplotlib.lines import Line2D

    about = {"ms": 3.6, "mew": 0.6, "ls": ""}
    marks = [Line2D([], [], marker=SHAPES[t], color=COLOURS[t], label=METHODS[t], **about) for t in METHODS]
    grey = {"mfc": "white", "mec": style.GREY}
    marks.append(Line2D([], [], marker="D", label="other software on tiles", **about, **grey))
    marks.append(Line2D([], [], marker="o", label="small and hollow: fresh cohorts (a)", **about | {"ms": 2.6}, **grey))
    ax.figure.legend(handles=marks, loc="outside lower center", ncols=3)


FIGURE = PaperFigure(
    "false_positives", "False positives with clustered tiles", "simulated", compute, table, draw, claim, checks
)

if __name__ == "__main__":
    raise SystemExit(main([FIGURE]))
