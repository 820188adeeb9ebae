"""Run the study so that nothing is lost when it is cut: one line per cohort, and what is there is not run again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from experiments.calibration.designs import FIRST_SEED, Cell

CHUNK = 20
PROBED = 6  # cohorts, evenly among those recorded, that are measured again before a cell goes on

Records = dict[int, dict[str, Any]]


def run(cells: Sequence[Cell], folder: Path, *, share: float = 1.0, workers: int | None = None) -> None:
    """Complete the records of the cells.

    Parameters
    ----------
    cells
        What to run.
    folder
        One ``.jsonl`` file per cell. A cell whose first cohorts no longer give the recorded numbers, because the code
        has changed, is started again; the old file is kept as ``.old``.
    share
        Part of the cohorts to run, for a rehearsal.
    workers
        Processes; the processors by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # one thread each: NumPy is loaded already, so that variables of the environment would come too late
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:
        stale = [pool.submit(_is_stale, cell, folder) for cell in cells]
        for cell, changed in zip(cells, stale, strict=True):
            if changed.result():
                path = record_path(cell, folder)
                print(f"{cell.measure}, {cell.name}: the code gives other numbers now; started again", flush=True)
                path.replace(path.with_suffix(".old"))
        for cell in cells:
            todo = list(_missing(cell, folder, share))
            if not todo:
                continue
            chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
            with record_path(cell, folder).open("a", encoding="utf-8") as file:
                file.write("\n" * (file.tell() > 0))  # after a line that was cut off
                for done in as_completed([pool.submit(_measure_all, cell, chunk) for chunk in chunks]):
                    file.writelines(json.dumps(line) + "\n" for line in done.result())
                    file.flush()
            print(f"{cell.measure}, {cell.name}: {len(todo)} cohorts", flush=True)


def record_path(cell: Cell, folder: Path) -> Path:
    """Return the file of a cell."""
    return folder / f"{cell.key}.jsonl"


def load(cell: Cell, folder: Path) -> Records:
    """Return ``{seed: values}`` of what has been measured for this very cell; a line that was cut off is left out."""
    path = record_path(cell, folder)
    records: Records = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue  # empty, or cut off when the process was killed: the cohort is measured again
            if line["cell"] == _identity(cell):
                records[line["seed"]] = line["values"]
    return records


def _identity(cell: Cell) -> str:
    return json.dumps([cell.measure, dict(cell.design), dict(cell.options)], sort_keys=True)


def _missing(cell: Cell, folder: Path, share: float) -> Iterator[int]:
    done = load(cell, folder)
    for seed in range(FIRST_SEED, FIRST_SEED + math.ceil(share * cell.cohorts)):
        if seed not in done:
            yield seed


def _measure_all(cell: Cell, seeds: Sequence[int]) -> list[dict[str, Any]]:
    from experiments.calibration.measures import COSTLY, measure

    return [
        {
            "cell": _identity(cell),
            "seed": seed,
            "values": measure(cell.measure, dict(cell.design), dict(cell.options), seed, seed < FIRST_SEED + COSTLY),
        }
        for seed in seeds
    ]


def _is_stale(cell: Cell, folder: Path) -> bool:
    records = load(cell, folder)
    seeds = sorted(records)
    seeds = [seeds[i * (len(seeds) - 1) // (PROBED - 1)] for i in range(PROBED)] if seeds else []
    again = {line["seed"]: line["values"] for line in _measure_all(cell, seeds)}
    return any(not _same(records[seed], again[seed]) for seed in seeds)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal names, and numbers equal to nine digits: processors differ in the last ones."""
    if a.keys() != b.keys():
        return False
    flat = [([x], [y]) if isinstance(x, float) else (x, y) for x, y in ((a[k], b[k]) for k in a)]
    pairs = [pair for x, y in flat for pair in zip(x, y, strict=True)]
    return all((math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12) for x, y in pairs)
