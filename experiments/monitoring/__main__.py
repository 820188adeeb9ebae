"""Run what is not in ``docs/monitoring.csv`` yet, then write the page and the figure from it.

``python -m experiments.monitoring --parts 3`` runs three parts at most; a part is one design, or one kind and size.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.monitoring import clean_streams, delays, page, tcga

STREAMS, OTHERS, CHANGES = 2000, 200, 25  # streams under the promise; beyond it, and for other rules; of each change
TABLE = Path("docs/monitoring.csv")


def clean(k: int, name: str) -> list[dict[str, Any]]:
    """Count alarms of one design."""
    design = clean_streams.DESIGNS[name]
    found: dict[str, list[float]] = {}
    for i in range(STREAMS if design.promised else OTHERS):
        seed = clean_streams.FIRST_SEED + 100_000 * k + i
        for rule, alpha in clean_streams.study(design, seed, others=i < OTHERS).items():
            found.setdefault(rule, []).append(alpha)
    return [
        {
            "part": "clean",
            "design": name,
            "rule": rule,
            "promised": design.promised and rule == "monitor",
            "streams": len(values),
            "alarms_05": int((np.array(values) <= 0.05).sum()),
            "alarms_01": int((np.array(values) <= 0.01).sum()),
        }
        for rule, values in found.items()
    ]


def delay(k: int, kind: str, size: float) -> list[dict[str, Any]]:
    """Summarise the delays of one kind and size."""
    found = [delays.one(kind, size, delays.FIRST_SEED + 10_000 * k + 3 * i) for i in range(CHANGES)]
    late = np.array([one.delay for one in found if not one.early])
    since = [abs(one.since) for one in found if np.isfinite(one.delay)]
    streams = Counter(one.stream for one in found if np.isfinite(one.delay))
    return [
        {
            "part": "delay",
            "design": kind,
            "size": size,
            "streams": len(found),
            "early": sum(one.early for one in found),
            "noticed": int(np.isfinite(late).sum()),
            **quantiles(np.where(np.isnan(late), np.inf, late)),
            "since_off_50": float(np.median(since)) if since else np.nan,
            **{f"by_{stream}": streams[stream] for stream in ("embedding", "scores", "errors")},
        }
    ]


def quantiles(delays: np.ndarray) -> dict[str, float]:
    """Return the quantiles of delays, of which some may be infinite."""
    found = np.quantile(delays, (0.1, 0.5, 0.9), method="inverted_cdf") if len(delays) else [np.nan] * 3
    return {f"delay_{percent}": float(value) for percent, value in zip((10, 50, 90), found, strict=True)}


def hospitals() -> list[dict[str, Any]]:
    """Summarise what came of watching hospitals of TCGA."""
    return [
        {
            "part": "tcga",
            "design": one.cancer,
            "rule": one.home,
            "patients": one.patients,
            "streams": tcga.SPLITS,
            "alarms_01": one.false,
            "changes": len(one.delays),
            "noticed": int(np.isfinite(one.delays).sum()),
            **quantiles(np.array(one.delays)),
        }
        for one in tcga.studies()
    ]


def main() -> None:
    """Run, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=10_000, help="stop after so many parts")
    left = parser.parse_args().parts
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"part": [], "design": [], "size": []})
    cells = [(kind, size) for kind, sizes in delays.GRID.items() for size in sizes]
    jobs: list[Any] = [("clean", name, np.nan, clean, (k, name)) for k, name in enumerate(clean_streams.DESIGNS)]
    jobs += [("delay", kind, size, delay, (k, kind, size)) for k, (kind, size) in enumerate(cells)]
    jobs.append(("tcga", tcga.CANCERS[0], np.nan, hospitals, ()))
    for part, design, size, run, arguments in jobs:
        there = (table["part"] == part) & (table["design"] == design) & (np.isnan(size) | (table["size"] == size))
        if there.any() or not left:
            continue
        left -= 1
        table = pd.concat([table, pd.DataFrame(run(*arguments))], ignore_index=True)
        table.to_csv(TABLE, index=False)
        print(part, design, size, flush=True)
    page.publish(table, TABLE.parent)


if __name__ == "__main__":
    main()
