"""The written part of ``docs/evidence.md``: the mapping as tables, and what it gives for a report of simulated data.

``python -m experiments.evidence_page``: the report is kept with the tests, so that the page can be held against it.
"""

from __future__ import annotations

import json
from pathlib import Path

from causalfm.auditing import EvidenceSet, collect_evidence
from causalfm.auditing.evidence_map import EvidenceMap, load_evidence_map

ROOT = Path(__file__).parents[1]
PAGE, REPORT = ROOT / "docs" / "evidence.md", ROOT / "tests" / "published" / "reports" / "audit-1.2.json"
MARKS = ("<!-- written by experiments.evidence_page -->\n", "<!-- end -->\n")
COUNTS = ("pass", "fail", "no verdict", "cannot tell", "not asked")
EXAMPLE = """## An example

`causalfm evidence export tests/published/reports/audit-1.2.json`: a report on {units} simulated patients (`linear_scm`,
audited with seed {seed}) gives {records} records. It has no deployment, no model and no comparison: what they would
answer is told as not asked.

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
    (source,) = found.sources
    about = {"units": source["data"][0]["units"], "seed": source["seed"], "records": len(found.records)}
    return EXAMPLE.format(**about, coverage="\n".join(rows), record=shown)


def written() -> str:
    """Return the page with its tables and its example as they are now."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    tables, shown = mapping_tables(load_evidence_map()), example(collect_evidence([REPORT]))
    return f"{before}{MARKS[0]}{tables}\n{shown}{MARKS[1]}{rest.split(MARKS[1])[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
