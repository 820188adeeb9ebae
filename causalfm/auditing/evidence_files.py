"""Evidence as a table, and as Markdown."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from causalfm.auditing.formatting import bounds, clean, number

if TYPE_CHECKING:
    from causalfm.auditing.evidence import Evidence, EvidenceSet

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(evidence: EvidenceSet) -> str:
    """Render one row per record: numbers in full, an empty field where there is none, text on one line.

    Text that a spreadsheet would run as a formula (names come from the data) gets an apostrophe in front.
    """
    evidence.to_dict()  # the schema is checked whatever is written
    rows = evidence.rows()
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _field(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _field(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        text = clean(value)
        return f"'{text}" if text.startswith(FORMULA) else text
    return value


def render_markdown(evidence: EvidenceSet) -> str:
    """Render what is covered, the records, the reports and the mapping as tables; every name is escaped."""
    from markupsafe import Markup

    from causalfm.auditing.templating import environment, tidied

    body = evidence.to_dict()
    page = (
        environment(markdown=True)
        .get_template("evidence.md.j2")
        .render(
            body=body,
            asked=[record for record in evidence.records if record.verdict != "not asked"],
            others=[record for record in evidence.records if record.verdict == "not asked"],
            told=lambda record: Markup(bounds(record.estimate, record.low, record.high, record.margin)),
            limit=_limit,
            lines=list(evidence.mapping.lines.values()),
            number=number,
        )
    )
    return tidied(page)


def _limit(record: Evidence) -> str:
    sign = {"below": "< ", "above": "> "}.get(record.want, "")
    return sign + number(record.margin) if math.isfinite(record.margin) else number(None)
