"""``docs/scale_measured.md`` from ``docs/scale.json``: every number on it is one of that file, or follows from them."""

from __future__ import annotations

from typing import Any

from causalfm.lazy_rows import size_text
from experiments.scale.audits import exponent
from experiments.scale.paper import HOURS, TILES_OF_A_PATIENT, on_paper, seconds_per_gib

TILES = (10**8, 10**9)
SECTIONS = ("sizes", "workers", "equality", "streaming", "moments", "draws")


def page(body: dict[str, Any]) -> str:
    """Render the page from the parts that were measured; it names those that were not.

    Parameters
    ----------
    body
        ``docs/scale.json``: ``{part: {"about": machine, "found": numbers}}``.
    """
    lines = [
        "# Data larger than memory, measured",
        "",
        "Written by `python -m experiments.scale page` from `scale.json`; do not edit. What it is: [scale](scale.md).",
        "",
        _machine(next(iter(body.values()))["about"]),
        "",
    ]
    for name in SECTIONS:
        if name in body:
            lines += [*PARTS[name](body[name]["found"]), ""]
    if "streaming" in body and "sizes" in body:
        lines += [*_paper(body["streaming"]["found"], body["sizes"]["found"]), ""]
    missing = [name for name in SECTIONS if name not in body]
    lines += [f"Not measured yet: {', '.join(missing)}.", ""] if missing else []
    return "\n".join(lines).rstrip() + "\n"


def _machine(about: dict[str, Any]) -> str:
    return (
        f"{about['processor']}, {about['cores']} cores, {about['memory_gib']:g} GiB; one thread of every library "
        f"unless a line says more. Python {about['python']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
        + "."
    )


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _sizes(runs: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{r['rows']:,}",
            f"{r['gib']:.3g}",
            f"{r['peak_gib']:.2f}",
            f"{r['seconds']:.0f}",
            f"{r['processor_seconds']:.0f}",
        ]
        for r in runs
    ]
    per_row = (runs[-1]["peak_gib"] - runs[0]["peak_gib"]) * 2**30 / (runs[-1]["rows"] - runs[0]["rows"])
    return [
        f"## `causalfm audit --memory-limit {runs[0]['limit_gib']:g}GiB`",
        "",
        "Generated cohorts in Zarr with two technical factors, the command that a user types, one process. Memory is "
        "the largest resident set as the system counted it, Python and all libraries included.",
        "",
        *_table(["rows", "GiB of embeddings", "memory, GiB", "seconds", "seconds of the processors"], rows),
        "",
        f"From the smallest to the largest memory grew by {per_row:.0f} bytes for each row: the table and what "
        f"questions make of its columns; a row of embeddings has {runs[0]['gib'] * 2**30 / runs[0]['rows']:,.0f}. "
        f"The exponent of time in the rows is {exponent(runs, 'seconds'):.2f}, of processor time "
        f"{exponent(runs, 'processor_seconds'):.2f}: questions of rows drawn take the same time at any size.",
    ]


def _workers(runs: list[dict[str, Any]]) -> list[str]:
    here, rows = runs[0], []
    for run in runs:
        count = int(run["scheduler"].rpartition(":")[2]) if ":" in run["scheduler"] else 0
        total = [sum(one["seconds"].values()) for one in (here, run)]
        each = ", ".join(f"{seconds:.3g}" for seconds in run["seconds"].values())
        gain, bits = total[0] / total[1], "yes" if run["same"] else "**no**"
        gains = [f"{gain:.2f}", f"{run['best']:.2f}", f"{gain / count:.0%}" if count else ""]
        rows.append([run["scheduler"], each, f"{total[1]:.3g}", *gains, f"{run['all_gib']:.2f}", bits])
    head = ["scheduler", "seconds of each", "together", "times faster", "at best", "of each worker"]
    head += ["memory of all, GiB", "the same bits"]
    return [
        "## Several processes",
        "",
        f"{here['gib']:.3g} GiB ({here['rows']:,} rows), limit {here['limit_gib']:g} GiB for all processes together. "
        f"Seconds are those of: {', '.join(here['seconds'])}. All numbers of the answers are compared bit by bit with "
        "those of one process. At best: how much more as many processes do here that share nothing, each by itself. "
        "Libraries are loaded before. More processes than cores gain nothing: the machine is named above.",
        "",
        *_table(head, rows),
        "",
        "The model of the embedding, the fingerprint and questions of the rows drawn run in the process that asks.",
    ]


def _equality(found: dict[str, Any]) -> list[str]:
    rows = [[name, "the same" if value == 0 else f"{value:.1g}"] for name, value in found["differences"].items()]
    return [
        "## Outside memory and in memory",
        "",
        f"{found['gib']:.3g} GiB ({found['rows']:,} rows), the same question of both: the largest relative difference "
        "of all numbers of the answer; rows and similarities relative to the largest of them.",
        "",
        *_table(["question", "difference"], rows),
    ]


def _streaming(found: dict[str, Any]) -> list[str]:
    runs = found["runs"]
    rows, sizes = [], ", ".join(f"{run['gib']:.3g}" for run in runs)
    for name in runs[0]["parts"]:
        spent = [run["parts"][name] for run in runs]
        rate = runs[-1]["gib"] / spent[-1]["seconds"]
        powers = found["exponents"][name]
        seconds = ", ".join(f"{part['seconds']:.3g}" for part in spent)
        rows.append([name, seconds, f"{powers['seconds']:.2f}", f"{powers['processor_seconds']:.2f}", f"{rate:.2g}"])
    return [
        "## What streams",
        "",
        f"{sizes} GiB; each part is a pass or several over the rows.",
        "",
        *_table(["part", "seconds at each size", "exponent", "of processor time", "GiB a second, largest"], rows),
    ]


def _moments(found: dict[str, Any]) -> list[str]:
    return [
        "## Ten million rows",
        "",
        f"Sums by patient of {found['rows']:,} rows of {found['d']:,} dimensions ({found['gib']:.3g} GiB, the largest "
        f"cohort on disk several times over): {found['seconds']:.0f} s, {found['predicted']:.0f} s expected from the "
        f"rates above (ratio {found['seconds'] / found['predicted']:.2f}), memory {found['peak_gib']:.2f} GiB.",
    ]


def _draws(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, ways in found["answers"].items():
        for way, one in ways.items():
            rows.append(
                [
                    name,
                    way,
                    f"{one['mean']:.3f}",
                    f"{one['standard deviation']:.3f}",
                    f"{one['half width']:.3f}",
                    f"{one['coverage']:.1%} of {one['intervals']}",
                ]
            )
    design = found["design"]
    return [
        "## What drawing rows adds to an interval",
        "",
        f"{design['cohorts']} cohorts drawn anew ({design['n_groups']} patients of {design['rows_per_group']} rows, "
        f"{design['n_sites']} sites), each asked of all rows and as an audit of a large cohort asks. Coverage is "
        "of the mean over the cohorts; 95 % is wanted.",
        "",
        *_table(["question", "asked of", "mean", "standard deviation", "half of the interval", "coverage"], rows),
    ]


def _paper(streaming: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    per_row = (runs[-1]["peak_gib"] - runs[0]["peak_gib"]) * 2**30 / (runs[-1]["rows"] - runs[0]["rows"])
    rows = []
    for tiles in TILES:
        e = on_paper(tiles, seconds_per_gib(streaming), per_row)
        rows.append(
            [
                f"{e.tiles:,}",
                size_text(e.pass_bytes),
                size_text(e.read_bytes),
                size_text(e.sums_bytes),
                size_text(e.table_bytes),
                f"{e.shared_hours:,.1f}",
                f"{e.alone_hours:,.1f}",
                str(e.machines),
            ]
        )
    head = ["tiles", "one pass", "read in all", "sums by patient", "table", "hours of one processor, shared"]
    head += ["hours of one process, not shared", f"machines of 16 cores for {HOURS:g} hours"]
    return [
        "## On paper",
        "",
        f"From the rates above, rows of 1,536 dimensions in single precision, {TILES_OF_A_PATIENT:,} tiles of a "
        "patient. Every audit needs its table in the memory of one machine; beyond what that holds, average tiles to "
        "slides first (`cohort.aggregate`), which is one pass.",
        "",
        *_table(head, rows),
    ]


PARTS = {
    "sizes": _sizes,
    "workers": _workers,
    "equality": _equality,
    "streaming": _streaming,
    "moments": _moments,
    "draws": _draws,
}
