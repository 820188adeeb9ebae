"""The audit as a page, as Markdown, as JSON and as a notebook summary."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.auditing.findings import Audit
from causalfm.auditing.formatting import DASH, bounds, clean, interval, listing, number, printable, requirement
from causalfm.errors import DataError
from causalfm.results import CAVEAT, Result, plain

if TYPE_CHECKING:
    from jinja2 import Environment

MARKS = {"pass": "✓", "fail": "✕", "cannot tell": "?"}


def render_html(audit: Audit) -> str:
    """Render one self-contained page: no script, nothing fetched, light and dark, printable.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    str
        The page. Every name from the data is escaped.
    """
    return _page("report.html.j2", audit, figures=_figures(audit))


def render_markdown(audit: Audit) -> str:
    """Render Markdown for a pull request, an issue or a laboratory notebook.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    str
        Tables stay intact whatever the names hold: pipes, line breaks, HTML and links are escaped.
    """
    return re.sub(r"\n{3,}", "\n\n", _page("report.md.j2", audit)).strip() + "\n"


def render_json(audit: Result) -> str:
    """Render strict JSON (no NaN, no infinity: null) with its schema version.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    str
        Two-space indented, keys in the order of the report.
    """
    return json.dumps(audit.to_dict(), allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def render_summary(audit: Audit) -> str:
    """Render the verdict, the headline and the findings for a notebook cell.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    str
        An HTML fragment with inline styles only: a notebook's own style sheet stays untouched.
    """
    return _page("summary.html.j2", audit)


def write_text(text: str, path: str | Path | None) -> str:
    """Write a text file in one step: a reader sees the old file or the new one, never half of it.

    Parameters
    ----------
    text
        What to write, as UTF-8.
    path
        Target; parent folders are created. None writes nothing.

    Returns
    -------
    str
        The text.

    Raises
    ------
    DataError
        The path is a folder.
    OSError
        The disk refuses; an earlier file stays as it was.
    """
    if path is None:
        return text
    target = Path(path)
    if target.is_dir():
        raise DataError(f"{target.name!r} is a folder: give the name of a file in it, for instance report.html")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return text


def _page(template: str, audit: Audit, **extra: Any) -> str:
    findings = [(f"finding-{i}", finding) for i, finding in enumerate(audit.findings, 1)]
    verdict = audit.verdict
    assumptions = list(audit.assumptions)
    if not any(CAVEAT in sentence for sentence in assumptions):
        assumptions.append(CAVEAT)
    listed = listing(audit.graph.technical)
    return (
        environment(markdown=template.endswith(".md.j2"))
        .get_template(template)
        .render(
            audit=audit,
            verdict=verdict,
            findings=findings,
            reasons=[finding for _, finding in findings if finding.verdict == verdict != "pass"],
            unanswered=[(key, finding) for key, finding in findings if finding.verdict == "cannot tell"],
            tally={name: sum(f.verdict == name for f in audit.findings) for name in MARKS},
            questions=dict.fromkeys(f.question for f in audit.findings),
            title=clean(audit.title) or f"Do the embeddings carry {clean(audit.graph.biology)}, or {listed}?",
            assumptions=assumptions,
            **extra,
        )
    )


def _figures(audit: Audit) -> dict[str, Any]:
    """Draw everything as inline SVG; our own SVG is the only text that enters the page unescaped."""
    from markupsafe import Markup

    from causalfm.plot import by_quantity, plot_findings, plot_graph, plot_overlap, to_svg

    unit = f"independent units ({audit.graph.group})"
    findings, overlaps = {}, {}
    for i, (quantity, rows) in enumerate(by_quantity(audit.findings).items()):
        seen = "; ".join(f"{f.factor} {interval(f)}, {f.verdict}" for f in rows)
        drawing = plot_findings(rows, titled=False)
        label = f"{quantity or 'number'}, with interval, chance and margin"
        findings[quantity] = Markup(to_svg(drawing, label=label, description=seen, ident=f"findings {i}"))
    for i, (factor, table) in enumerate(audit.tables.items()):
        drawing = plot_overlap(table, factor=factor, unit=unit)
        label = f"Cells of {audit.graph.biology} by {factor}, in {unit}"
        seen = "The overlap table of this page has the same numbers."
        overlaps[factor] = Markup(to_svg(drawing, label=label, description=seen, ident=f"overlap {i}"))
    graph = to_svg(plot_graph(audit.graph), label="Declared causal graph", description=str(audit.graph))
    return {"findings": findings, "overlaps": overlaps, "graph": Markup(graph)}


@cache
def environment(*, markdown: bool) -> Environment:
    """Build a template environment in which every expression is escaped unless the template says otherwise."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=_markdown if markdown else _html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "requirement": requirement, "label": _label, "inline": _inline}
    environment.filters |= {"plain": plain, "without": _without}
    # digits and brackets only: the one text of ours that Markdown's escaping would make hard to read
    environment.filters["interval"] = lambda finding: Markup(interval(finding))
    environment.filters["change"] = _change
    environment.tests |= {"table": _is_table, "pairs": lambda value: isinstance(value, Mapping)}
    environment.globals |= {"marks": MARKS, "columns": _columns, "numeric": _numeric}
    return environment


def _change(cell: Mapping[str, float]) -> Any:
    """Write the change of an accuracy with its interval, or the accuracy where there is no correction to change it."""
    from markupsafe import Markup

    if math.isnan(cell["change"]):
        return Markup(bounds(cell["value"], math.nan, math.nan))
    sign = "+" if cell["change"] > 0 else ""
    return Markup(sign + bounds(cell["change"], cell["low"], cell["high"], 0.0))


def _html(value: Any) -> Any:
    """Keep what is escaped already; in the rest, control characters become blanks before escaping."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else printable(value)


def _markdown(value: Any) -> Any:
    """Escape text for Markdown: one line, no cell borders, HTML, emphasis, code or links of its own."""
    from markupsafe import Markup

    if isinstance(value, Markup):  # the output of a macro: escaped already
        return value
    text = re.sub(r"&(?=[#a-zA-Z])", "&amp;", printable(value))  # "a < b & c" is fine as it is, and legible
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    return Markup(re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text))  # site_id is no emphasis, _site_ would be


def _label(key: object) -> str:
    """Turn a key into words: ``n_groups`` -> ``n groups``. One that is in words may hold a column's name: it stays."""
    text = clean(key)
    return text if " " in text else text.replace("_", " ")


def _inline(value: Any) -> str:
    """Write nested settings on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_label(key)} {_inline(item)}" for key, item in value.items())
    if not isinstance(value, (list, tuple)):
        return number(value)
    parts = [f"{{{_inline(item)}}}" if isinstance(item, (list, tuple, Mapping)) else _inline(item) for item in value]
    return ", ".join(parts) or DASH


def _without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Leave out keys that are shown elsewhere."""
    return {key: value for key, value in mapping.items() if key not in keys}


def _is_table(value: Any) -> bool:
    """Tell whether a value is a non-empty list of records."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _columns(records: list[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all records in order of first appearance."""
    return list(dict.fromkeys(key for record in records for key in record))


def _numeric(records: list[Mapping[str, Any]]) -> list[str]:
    """Return the keys that hold numbers and what is missing, so that the first record does not decide alone."""
    held = {key: [record[key] for record in records if record.get(key) is not None] for key in _columns(records)}
    return [key for key, values in held.items() if values and all(isinstance(v, (int, float)) for v in values)]
