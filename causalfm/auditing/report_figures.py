"""The figures of a report as inline SVG."""

from __future__ import annotations

from typing import Any

from causalfm.auditing.findings import Audit
from causalfm.auditing.formatting import interval
from causalfm.auditing.rooms import is_large


def figures_of(audit: Audit) -> dict[str, Any]:
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
        if is_large(table):
            continue
        drawing = plot_overlap(table, factor=factor, unit=unit)
        label = f"Cells of {audit.graph.biology} by {factor}, in {unit}"
        seen = "The overlap table of this page has the same numbers."
        overlaps[factor] = Markup(to_svg(drawing, label=label, description=seen, ident=f"overlap {i}"))
    graph = to_svg(plot_graph(audit.graph), label="Declared causal graph", description=str(audit.graph))
    return {"findings": findings, "overlaps": overlaps, "graph": Markup(graph)}
