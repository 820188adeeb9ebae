"""Does balanced counterfactual augmentation help where the hospital is a shortcut? TCGA, lung cancers, two hospitals.

``python -m experiments.balanced_augmentation DATA [--splits 100] [--per-class 12] [--C 0.01 0.0001] [--fast]``

Trains on few patients of two classes whose hospital agrees with the class in half, three quarters or all of them, and
tests on every other patient, cells with equal weight. ``C`` is fixed: cross-validation within a confounded training set
would choose by the shortcut. Prints the table, writes it as CSV beside the page, and into the
page between its two marks. With ``--state FOLDER`` finished splits are kept, and not run again. Needs combatlearn and
concept-erasure (the dev extra).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.balanced_augmentation.hospitals import AGREEMENT, HOSPITALS, Pool, Split, draw_split, load_pool
from experiments.balanced_augmentation.jackknife import MEASURES, interval
from experiments.balanced_augmentation.methods import METHODS, Method
from experiments.balanced_augmentation.shared_effects import shared_effects

SEED = 0
MARKS = ("<!-- table: written by experiments.balanced_augmentation -->", "<!-- end of table -->")
Outcome = dict[str, np.ndarray | str]
TITLES = {
    "balanced": "Balanced training set (what one would like to have)",
    "75/25": "75/25: three quarters agree with the shortcut",
    "full": "Full: hospital and class are one",
}


def one_split(
    pool: Pool, split: Split, number: int, Cs: Sequence[float], state: Path | None, methods: Mapping[str, Method]
) -> Outcome:
    """Return each method's correctness ``(len(Cs), tested)`` or its refusal; kept under the training set's own name."""
    name = hashlib.sha256(pool.cohort.X[split.train].tobytes() + repr(list(Cs)).encode()).hexdigest()[:16]
    file, out = None if state is None else state / f"{name}.npz", {}
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as found:
            out = {m: found[m] if found[m].ndim else str(found[m]) for m in methods if m in found}
    missing = {m: method for m, method in methods.items() if m not in out}
    for m, method in missing.items():
        rows = method(pool, split, number)
        right = pool.label[split.test]
        out[m] = rows if isinstance(rows, str) else np.stack([rows.classify(C) == right for C in Cs])
    if file is not None and missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **{m: np.asarray(value) for m, value in out.items()})
    return out


def one_training(
    pool: Pool,
    training: str,
    splits: int,
    per_class: int,
    Cs: Sequence[float],
    state: Path | None = None,
    *,
    methods: Mapping[str, Method] = METHODS,
    seed: int = SEED,
) -> pd.DataFrame:
    """Return one row per classifier, method and measure, with the paired difference to the first, no correction."""
    cell = pool.cell[pool.lung]  # lung comes first
    n = len(cell)
    correct, used = {m: np.full((len(Cs), splits, n), np.nan) for m in methods}, np.zeros((splits, n), dtype=bool)
    refusals: dict[str, str] = {}
    for b in range(splits):
        split = draw_split(pool, training, per_class, seed, b)
        used[b, split.train] = True
        for m, value in one_split(pool, split, b, Cs, state, methods).items():
            if isinstance(value, str):
                refusals[m] = value
            else:
                correct[m][:, b, split.test] = value
    rows, first = [], next(iter(methods))
    for (k, C), m, measure in itertools.product(enumerate(Cs), methods, MEASURES):
        row = {"C": C, "training": training, "method": m, "measure": measure, "refused": refusals.get(m, "")}
        if m not in refusals:
            own = interval(correct[m][k], used, cell, MEASURES[measure])
            apart = interval(correct[m][k] - correct[first][k], used, cell, MEASURES[measure])
            row |= {"value": own.value, "low": own.low, "high": own.high, "difference": apart.value}
            row |= {"difference_low": apart.low, "difference_high": apart.high}
        rows.append(row)
    return pd.DataFrame(rows).assign(splits=splits, per_class=per_class, patients=n)


def markdown(table: pd.DataFrame) -> str:
    """Set one table per classifier and training set, accuracies in percent."""
    lines = []
    for (C, training), part in table.groupby(["C", "training"], sort=False):
        lines += [
            f"**{TITLES[str(training)]}; C = {C:g}**",
            "",
            "| method | accuracy | agreeing | conflicting | accuracy: gain | ",
        ]
        lines[-1] += "conflicting: gain |"
        lines += ["|---|---|---|---|---|---|"]
        for method, rows in part.groupby("method", sort=False):
            by = rows.set_index("measure")
            if by["refused"].iloc[0]:
                lines.append(f"| {method} | {by['refused'].iloc[0]} | | | | |")
                continue
            cells = [_percent(by.loc[m], "value", "low", "high") for m in MEASURES]
            gains = [
                ""
                if method == "no correction"
                else _percent(by.loc[m], "difference", "difference_low", "difference_high")
                for m in ("accuracy", "conflicting")
            ]
            lines.append(f"| {method} | {' | '.join(cells + gains)} |")
        lines.append("")
    return "\n".join(lines)


def effects(table: pd.DataFrame) -> str:
    """Set the hospital's effects on each cancer."""
    names = list(dict.fromkeys(table["quantity"]))
    lines = ["**What moving from one hospital to the other does to each cancer (all patients)**", ""]
    lines += [f"| cancer | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for cancer, rows in table.groupby("cancer", sort=False):
        by = rows.set_index("quantity")
        cells = [
            "" if n not in by.index else "{value:.2f} ({low:.2f} to {high:.2f})".format(**by.loc[n]) for n in names
        ]
        lines.append(f"| {cancer} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _percent(row: pd.Series, value: str, low: str, high: str) -> str:
    sign = "+" if value == "difference" else ""
    if np.isnan(row[low]):  # too few splits
        return f"{100 * row[value]:{sign}.1f}"
    return f"{100 * row[value]:{sign}.1f} ({100 * row[low]:{sign}.1f} to {100 * row[high]:{sign}.1f})"


def write_page(page: Path, text: str) -> None:
    """Put the table between the marks of the page; the rest of it stays."""
    block = f"{MARKS[0]}\n\n{text}\n{MARKS[1]}"
    old = page.read_text("utf-8") if page.is_file() else f"{MARKS[0]}{MARKS[1]}\n"
    before, rest = old.split(MARKS[0], 1)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(before + block + rest.split(MARKS[1], 1)[1], "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description="Balanced augmentation where the hospital is a shortcut.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--per-class", type=int, default=12, help="training patients per class, a multiple of 4")
    parser.add_argument("--C", type=float, nargs="+", default=[0.01, 0.0001], help="of the logistic regression")
    parser.add_argument("--fast", action="store_true", help="three splits: does it run?")
    parser.add_argument("--out", type=Path, default=Path("augmentation-study/augmentation_study.md"))
    parser.add_argument("--state", type=Path, help="folder that keeps finished splits")
    options = parser.parse_args(arguments)
    pool, splits = load_pool(options.data), 3 if options.fast else options.splits
    print(
        f"{int(pool.lung.sum())} lung patients of {' and '.join(HOSPITALS)}, {int((~pool.lung).sum())} of other organs"
    )
    tables = []
    for training in AGREEMENT:
        tables.append(one_training(pool, training, splits, options.per_class, options.C, options.state))
        print(markdown(tables[-1]), flush=True)
    table = pd.concat(tables).sort_values("C", kind="stable", ascending=False)
    write_page(options.out, markdown(table) + "\n" + effects(shared_effects(pool)))
    table.round(4).to_csv(options.out.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
