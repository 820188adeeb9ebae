"""The written part of ``docs/releasing.md``, from the records beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from causalfm.auditing.report import write_text
from experiments.releasing.steps import ROOT, Step

PAGE = ROOT / "docs" / "releasing.md"
PARTS = ("release", "minimum", "newest")
MARKS = ("<!-- {}: written by experiments.releasing -->\n", "<!-- end of {} -->\n")
COLUMNS = ("date", *(field.name for field in fields(Step)))


def record_of(part: str) -> Path:
    """Return where the last run of a part is kept."""
    return PAGE.with_name(f"releasing_{part}.csv")


def table(rows: Iterable[dict[str, str]]) -> str:
    """Write a record as a table; nothing of no record."""
    rows = list(rows)
    if not rows:
        return ""
    lines = ["| checked on | what | Python | outcome | | s |", "|---|---|---|---|---|---:|"]
    for row in rows:
        cells = [row[name].replace("|", "/") for name in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rows_of(part: str) -> list[dict[str, str]]:
    """Read a record; none where the part was never run."""
    if not record_of(part).is_file():
        return []
    with record_of(part).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def parts(page: str) -> Iterator[tuple[str, str]]:
    """Yield what the page says of each part."""
    for part in PARTS:
        begin, end = (mark.format(part) for mark in MARKS)
        yield part, page.split(begin)[1].split(end)[0]


def keep(part: str, found: Step) -> None:
    """Keep one step in its place, or after the others, and write the page anew."""
    row = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), **{k: str(v) for k, v in asdict(found).items()}}
    rows = {(one["what"], one["python"]): one for one in rows_of(part)}
    rows[found.what, found.python] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    write_text(text.getvalue(), record_of(part))
    page = PAGE.read_text("utf-8")
    begin, end = (mark.format(part) for mark in MARKS)
    before, rest = page.split(begin)
    write_text(f"{before}{begin}\n{table(rows.values())}\n{end}{rest.split(end)[1]}", PAGE)
