"""Coverage of the intervals of ``gap_paths`` on cohorts whose paths are known.

``python -m experiments.gap_coverage --cohorts 200 --workers 16 --out gap_coverage.jsonl``

One line per cohort; lines that are there are not computed again. ``--show`` prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM, GapPaths, gap_paths
from causalfm.scm.refits import FOLDS, quantile

FIRST_SEED = 1_000_000  # fixed before the first run; 100,000 to a design
D, ROWS = 12, 3  # dimensions, rows per patient
PARTS = ("site itself", "through scanner", "case mix")
GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates="age", group="patient")
SHARES = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])  # of scanners at each site
TUMOUR = np.array([0.3, 0.7, 0.5])  # share of the second class at each site
AGEING = 0.8  # mean age rises by this many standard deviations from site to site


@dataclass(frozen=True)
class Design:
    """Patients per site, lengths of the effects of site, scanner, class and age in patient standard deviations."""

    patients: tuple[int, int, int]
    site: float
    scanner: float
    tumour: float = 0.6
    age: float = 0.5


DESIGNS = {
    "weak site, no scanner effect, 40/30/30": Design((40, 30, 30), 0.3, 0.0),
    "strong site and scanner, 20/12/16": Design((20, 12, 16), 1.0, 0.6),
    "strong site and scanner, 40/30/30": Design((40, 30, 30), 1.0, 0.6),
    "no effect at all, 40/30/30": Design((40, 30, 30), 0.0, 0.0, 0.0, 0.0),
    "one site of 80 patients, one of 8": Design((80, 8, 30), 1.0, 0.6),
}


def draw(design: Design, seed: int) -> tuple[Cohort, np.ndarray]:
    """Draw a cohort; effects are the same in all of them, patients are new.

    Returns
    -------
    cohort : Cohort
        Three sites, three scanners, two classes, age.
    truth : numpy.ndarray
        ``(3, d)`` parts of the gap between the first two sites: :data:`PARTS`.
    """
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(5)
    sizes = (design.site, 3), (design.scanner, 3), (design.tumour, 2)
    site_effect, scanner_effect, tumour_effect = (
        size * fixed.standard_normal((k, D)) / np.sqrt(2 * D) for size, k in sizes
    )
    ageing = design.age * fixed.standard_normal(D) / np.sqrt(D)
    site = np.repeat(np.arange(3), design.patients)
    tumour = (rng.random(len(site)) < TUMOUR[site]).astype(int)
    scanner = (SHARES.cumsum(axis=1)[site] < rng.random(len(site))[:, None]).sum(axis=1)
    age = rng.standard_normal(len(site)) + AGEING * (site - 1)
    spread = (np.arange(D) + 1.0) ** -0.5
    spread /= np.linalg.norm(spread)
    mean = site_effect[site] + scanner_effect[scanner] + tumour_effect[tumour] + age[:, None] * ageing
    row = np.repeat(np.arange(len(site)), ROWS)
    Z = (mean + rng.standard_normal(mean.shape) * spread)[row] + rng.standard_normal((len(row), D)) * spread
    columns = {"patient": row, "site": site[row], "scanner": scanner[row], "tumour": tumour[row]}
    obs = pd.DataFrame({name: [f"{name}{code}" for code in codes] for name, codes in columns.items()})
    truth = [
        site_effect[0] - site_effect[1],
        (SHARES[0] - SHARES[1]) @ scanner_effect,
        (TUMOUR[0] - TUMOUR[1]) * (tumour_effect[1] - tumour_effect[0]) - AGEING * ageing,
    ]
    return Cohort(Z, obs.assign(age=age[row])), np.stack(truth)


def study(name: str, seed: int) -> dict[str, Any]:
    """Split the gap of one cohort and say which intervals hold the truth; parts in the order of :data:`PARTS`."""
    design = DESIGNS[name]
    cohort, truth = draw(design, seed)
    line: dict[str, Any] = {"design": name, "seed": seed}
    direction = np.random.default_rng(1).standard_normal(D)
    try:
        scm = EmbeddingSCM(GRAPH, assume="additive").fit(cohort)
        found = gap_paths(scm, cohort, ("site0", "site1"), model=lambda X: X @ direction)
    except CausalFMError as error:
        return line | {"refused": type(error).__name__}
    if found.names != PARTS:
        return line | {"refused": "parts: " + ", ".join(found.names)}
    return line | held(found, design, truth, direction)


def held(found: GapPaths, design: Design, truth: np.ndarray, direction: np.ndarray) -> dict[str, Any]:
    """Per part: the share of dimensions held; whether its product with the gap, its share, its score are held."""
    t = quantile(FOLDS, min(design.patients[:2]))
    gap, table = truth.sum(axis=0), found.to_frame()
    inside = np.abs(found.vectors - truth) <= t * found.standard_error
    out: dict[str, Any] = {"dimensions": inside.mean(axis=1).tolist()}
    rows = table[(table["outcome"] == "Z") & ~table["is_sum"]]
    wanted = truth @ gap
    out["product"] = ((rows["low"].to_numpy() <= wanted) & (wanted <= rows["high"].to_numpy())).tolist()
    if gap @ gap > 0 and np.isfinite(rows["share"].to_numpy()).all():
        wanted = truth @ gap / (gap @ gap)
        out["share"] = ((rows["share_low"].to_numpy() <= wanted) & (wanted <= rows["share_high"].to_numpy())).tolist()
    rows = table[(table["outcome"] != "Z") & ~table["is_sum"]]
    wanted = truth @ direction
    out["score"] = ((rows["low"].to_numpy() <= wanted) & (wanted <= rows["high"].to_numpy())).tolist()
    return out


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read what is there; a last line that was cut off is not counted."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


def table_of(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Say the coverage of each design in per cent, and how many cohorts it rests on."""
    for name in DESIGNS:
        mine = [line for line in lines if line["design"] == name]
        kept = [line for line in mine if "refused" not in line]
        shown = []
        for key in ("dimensions", "product", "share", "score") if kept else ():
            values = [line[key] for line in kept if key in line]
            each = ", ".join(f"{100 * v:.1f}" for v in np.mean(values, axis=0)) if values else "none"
            shown.append(f"{key} {each}" + (f" ({len(values)})" if len(values) < len(kept) else ""))
        yield f"{name}: {len(kept)} cohorts, {len(mine) - len(kept)} refused; {'; '.join(shown)}"


def main(arguments: list[str] | None = None) -> None:
    """Run the cohorts that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description="Coverage of gap_paths: site itself, through scanner, case mix.")
    parser.add_argument("--cohorts", type=int, default=200, help="per design")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=Path("gap_coverage.jsonl"))
    parser.add_argument("--show", action="store_true", help="compute nothing")
    options = parser.parse_args(arguments)
    done = {(line["design"], line["seed"]) for line in lines_of(options.out)}
    seeds = [(name, FIRST_SEED + 100_000 * k + i) for i in range(options.cohorts) for k, name in enumerate(DESIGNS)]
    asked = [] if options.show else [task for task in seeds if task not in done]
    if asked:
        with (
            ProcessPoolExecutor(options.workers, initializer=threadpool_limits, initargs=(1,)) as pool,
            options.out.open("a", encoding="utf-8") as file,
        ):
            file.write("\n" * (file.tell() > 0))  # after a line that was cut off
            for future in as_completed([pool.submit(study, *task) for task in asked]):
                file.write(json.dumps(future.result()) + "\n")
                file.flush()
    for text in table_of(lines_of(options.out)):
        print(text, flush=True)


if __name__ == "__main__":
    main()
