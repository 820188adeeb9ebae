"""The written part of ``docs/evidence.md``: the mapping as tables, and what it gives for the demonstration's report.

``causalfm demo --out demo-report``, then ``python -m experiments.evidence_page demo-report/report.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from causalfm.auditing import EvidenceSet, collect_evidence
from causalfm.auditing.evidence_map import EvidenceMap, load_evidence_map

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
MARKS = ("<!-- written by experiments.evidence_page -->\n", "<!-- end -->\n")
COUNTS = ("pass", "fail", "no verdict", "cannot tell", "not asked")
EXAMPLE = """## An example

`causalfm demo`, then `causalfm evidence export demo-report/report.json --out evidence.json`: {records} records. The
demonstration has no deployment and no comparison: what they would answer is told as not asked.

{coverage}

One of its records, its assumptions and versions cut:

```json
{record}
```
"""


def mapping_tables(mapping: EvidenceMap) -> str:
    """Write the frameworks and the lines of a mapping."""
    out = ["| framework | item | |", "|---|---|---|"]
    for framework in mapping.frameworks:
        for item in framework["items"] or [{"id": "(empty slot)", "title": framework["note"]}]:
            out.append(f"| `{framework['id']}`: {framework['reference']} | `{item['id']}` | {item['title']} |")
    out += ["", "| question | aspect | maps to | because |", "|---|---|---|---|"]
    for line in mapping.lines.values():
        out.append(f"| {line.question} | {line.aspect} | {', '.join(line.maps_to) or '–'} | {line.reason} |")
    return "\n".join(out) + "\n"


def example(found: EvidenceSet) -> str:
    """Write the coverage of a report, and one of its records."""
    rows = [f"| item | status | {' | '.join(COUNTS)} |", f"|---|---|{'---:|' * len(COUNTS)}"]
    for row in found.coverage():
        rows.append(f"| {row['title']} | {row['status']} | {' | '.join(str(row[name]) for name in COUNTS)} |")
    record = next(record.to_dict() for record in found.records if record.question == "effect")
    record["assumptions"] = [*record["assumptions"][:1], "..."]
    record["source"] = {**record["source"], "versions": {"causalfm": record["source"]["versions"]["causalfm"]}}
    shown = json.dumps(record, indent=2, ensure_ascii=False)
    return EXAMPLE.format(records=len(found.records), coverage="\n".join(rows), record=shown)


def main() -> None:
    """Write the tables and the example between the marks of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    found = collect_evidence([parser.parse_args().report])
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    written = f"{mapping_tables(load_evidence_map())}\n{example(found)}"
    PAGE.write_text(before + MARKS[0] + written + MARKS[1] + after, encoding="utf-8")


if __name__ == "__main__":
    main()
