"""The figure of ``docs/invariance.md``: how often every method, and other software, rejects with and without an effect.

``python -m experiments.calibration.methods_figure`` draws it anew from the committed table; the study does so as well.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.calibration.summary import SIZE

NAME = "invariance_methods.svg"
NONE, SOME = ", no effect", ", effect"
MARKS = {"methods": ("o", "#0b5394"), "rows": ("x", "#cc0000"), "patient means": ("s", "#b45f06")}
WORDS = {"methods": "causalfm", "rows": "other software, rows", "patient means": "other software, means of patients"}


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return size and power of every method and of other software on the designs that all were run on.

    Parameters
    ----------
    table
        As ``docs/calibration.csv``.

    Returns
    -------
    pandas.DataFrame
        Columns ``design``, ``who`` (name of the test), ``kind`` (key of ``MARKS``), ``size`` and ``power``.
    """
    part = table[table["measure"].isin(["methods", "peers"])]
    share = {(r.measure, r.design, r.quantity): r.share for r in part.itertuples()}
    designs = [d.removesuffix(NONE) for m, d, _ in share if m == "peers" and d.endswith(NONE)]
    out = []
    for design in dict.fromkeys(designs):
        for measure, name, quantity in share:
            if name == design + NONE:
                who, _, units = quantity.partition(", ")
                power = share[measure, design + SOME, quantity]
                out.append((design, who, units or "methods", share[measure, name, quantity], power))
    return pd.DataFrame(out, columns=["design", "who", "kind", "size", "power"])


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw one column of panels per design: above the share rejected without an effect, below with one."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = shares(table)
    if found.empty:  # a rehearsal without these cells
        return
    who, designs = list(dict.fromkeys(found["who"])), list(dict.fromkeys(found["design"]))
    style = {"svg.hashsalt": "calibration", "font.size": 8, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style):
        size = (2.7 * len(designs) + 1.4, 2.0 + 0.36 * len(who))
        figure, axes = plt.subplots(2, len(designs), figsize=size, sharey=True, layout="constrained", squeeze=False)
        for column, design in enumerate(designs):
            for ax, what in zip(axes[:, column], ("size", "power"), strict=True):
                for kind, (mark, colour) in MARKS.items():
                    own = found[(found["design"] == design) & (found["kind"] == kind)]
                    y = [who.index(name) for name in own["who"]]
                    ax.plot(own[what], y, mark, ms=5, mfc="none", color=colour, label=WORDS[kind])
                ax.set(xlim=(-0.04, 1.04), yticks=range(len(who)), yticklabels=who)
                ax.grid(lw=0.3)
            axes[0, column].axvspan(*SIZE, color="#d9ead3", lw=0)
            axes[0, column].set_title(f"{design}\nno effect: share rejected at 5%")
            axes[1, column].set_title("effect: share rejected at 5%")
        axes[0, 0].invert_yaxis()
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(pd.read_csv("docs/calibration.csv"), Path("docs/images") / NAME)
