"""``python -m experiments.figures.page [--figures FOLDER] [--docs FOLDER]``: ``docs/figures.md`` from ``result.json``.

Tables are aggregates. A picture is shown only where its data were simulated or rendered.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.auditing.report import write_text
from causalfm.errors import DataError
from causalfm.tables import atomic
from experiments.figures.command import NAMES, OUT

HEAD = """# Figures of the paper

Written by `python -m experiments.figures.page` from the files of `python -m experiments.figures`; `make figures` does
both. Every figure is one script in `experiments/figures/`, run with a seed fixed before its first run. It writes its
numbers (`result.json`, with versions, commit and sizes), a table (`table.csv`, `table.tex`) and the picture (`pdf`,
`svg`, `png`) to `figures/NAME/`, and tries its claim again from the numbers. `--fast` takes seconds.
"""
LONGEST = 24  # rows of a table on the page
SHOWN = 6  # checks that hold, of each figure


def written(folder: Path, docs: Path) -> str:
    """Return the page, and copy the pictures that may be shown.

    Raises
    ------
    DataError
        No results, or results of fast runs, which are no evidence.
    """
    found = [folder / name for name in NAMES if (folder / name / "result.json").is_file()]
    if not found:
        raise DataError(f"no results in {folder.name!r}: run python -m experiments.figures first")
    parts = [HEAD, _index([_read(path) for path in found])]
    missing = [name for name in NAMES if folder / name not in found]
    if missing:
        parts.append(f"Not made yet: {', '.join(missing)}.\n")
    for path in found:
        about = _read(path)
        if about["fast"]:
            raise DataError(f"figure {about['figure']!r} is a fast run: run it without --fast before it is published")
        parts.append(_section(about, pd.read_csv(path / "table.csv")))
        if about["data"] != "real":
            with atomic(docs / "images" / "figures" / f"{about['figure']}.svg") as part:
                shutil.copyfile(path / "figure.svg", part)
    return "\n".join(parts)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return found


def _index(every: list[dict[str, Any]]) -> str:
    lines = ["| figure | data | claim |", "|---|---|---|"]
    for about in every:
        holds = "holds" if about["holds"] else "**does not hold**"
        lines.append(f"| [{about['title']}](#{_anchor(about['title'])}) | {about['data']} | {holds} |")
    return "\n".join(lines) + "\n"


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")


def _section(about: dict[str, Any], table: pd.DataFrame) -> str:
    name, environment = about["figure"], about["environment"]
    lines = [f"## {about['title']}", "", about["claim"], ""]
    if about["data"] != "real":
        lines += [f"![{about['title']}](images/figures/{name}.svg)", ""]
    lines += _checks(about["checks"])
    sizes = ", ".join(f"{key} {_plain(value)}" for key, value in about["numbers"]["sizes"].items())
    lines += [
        "",
        f"`python -m experiments.figures.{name}`, seed {about['seed']}, {environment['date']}; "
        f"{about['numbers']['source']}; {sizes}.",
        "",
        *_rows(table),
    ]
    if len(table) > LONGEST:
        lines += ["", f"The first {LONGEST} of {len(table)} rows; all are in `table.csv`."]
    return "\n".join(lines) + "\n"


def _checks(checks: list[dict[str, Any]]) -> list[str]:
    """List what does not hold, all of it, and of what holds the first."""
    failed, held = ([one for one in checks if one["holds"] is way] for way in (False, True))
    lines = [f"- **Does not hold**: {one['name']} ({one['detail']})." for one in failed]
    lines += [f"- Holds: {one['name']} ({one['detail']})." for one in held[:SHOWN]]
    return lines + [f"- {len(held) - SHOWN} more hold; all are in `result.json`."] * (len(held) > SHOWN)


def _rows(table: pd.DataFrame) -> list[str]:
    numbers = set(table.select_dtypes("number").columns)
    out = [f"| {' | '.join(table)} |", f"|{'|'.join('---:' if name in numbers else '---' for name in table)}|"]
    for row in table.head(LONGEST).itertuples(index=False):
        out.append(f"| {' | '.join(_plain(value) for value in row)} |")
    return out


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return " / ".join(_plain(one) for one in value)
    return str(value).replace("|", "\\|")


def main(arguments: list[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the page of the paper's figures from their results.")
    parser.add_argument("--figures", type=Path, default=OUT)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    write_text(written(options.figures, options.docs), options.docs / "figures.md")


if __name__ == "__main__":
    main()
