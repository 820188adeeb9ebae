"""The files of a report in a folder: a page, a text, data, for an audit a model card, and a line in the ledger."""

from __future__ import annotations

from pathlib import Path

from causalfm.auditing.comparison import Comparison
from causalfm.auditing.findings import Audit
from causalfm.auditing.ledger import record


def write_reports(result: Audit | Comparison, out: str | Path, name: str = "report") -> Path:
    """Write ``<name>.html``, ``.md`` and ``.json``, of an audit ``model-card.md`` too; return the path of the page.

    An audit is entered in the folder's ledger, ``audits.jsonl``, before: no report without a line.
    """
    folder = Path(out)
    if isinstance(result, Audit):
        result = record(result, folder, f"{name}.json")
    page = folder / f"{name}.html"
    result.to_html(page)
    result.to_markdown(folder / f"{name}.md")
    result.to_json(folder / f"{name}.json")
    if isinstance(result, Audit):
        result.to_model_card(folder / "model-card.md")
    return page
