"""The audit as a page, as Markdown, as JSON and as a notebook summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from causalfm.auditing import estimands, rooms
from causalfm.auditing.about import confidence_of, is_deployment, title_of
from causalfm.auditing.findings import Audit
from causalfm.auditing.ledger_words import sentences
from causalfm.auditing.policy_table import policy_rows
from causalfm.auditing.report_figures import figures_of
from causalfm.auditing.suppression import published
from causalfm.auditing.templating import MARKS, environment, tidied
from causalfm.errors import DataError
from causalfm.formats.durable import atomic
from causalfm.results import CAVEAT, Result


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
    shown = published(audit)
    return _page("report.html.j2", shown, figures=figures_of(shown))


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
    return tidied(_page("report.md.j2", published(audit)))


def render_json(result: Result) -> str:
    """Render strict JSON (no NaN, no infinity: null) with its schema version.

    Parameters
    ----------
    result
        An audit, a comparison or evidence.

    Returns
    -------
    str
        Two-space indented, keys in the order of the report.
    """
    return json.dumps(result.to_dict(), allow_nan=False, ensure_ascii=False, indent=2) + "\n"


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
    return _page("summary.html.j2", published(audit))


def write_text(text: str, path: str | Path | None) -> str:
    """Write a text file in one step, onto the disk: a reader sees the old file or the new one, never half of it.

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
    with atomic(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return text


def _page(template: str, audit: Audit, **extra: Any) -> str:
    findings = [(f"finding-{i}", finding) for i, finding in enumerate(audit.findings, 1)]
    verdict = audit.verdict
    assumptions = list(audit.assumptions)
    if not any(CAVEAT in sentence for sentence in assumptions):
        assumptions.append(CAVEAT)
    deciding = [(key, finding) for key, finding in findings if finding.monitored]
    return (
        environment(markdown=template.endswith(".md.j2"))
        .get_template(template)
        .render(
            audit=audit,
            purpose={"intended_use": "", "declared_by": "", "declared_on": "", **audit.purpose},
            verdict=verdict,
            findings=findings,
            cards=rooms.cards(findings),
            headings=rooms.ROOMS,
            rooms=rooms,
            words=estimands,
            declared_by=audit.graph.declared_by,
            kind="a deployment" if is_deployment(audit) else "a cohort of embeddings",
            deployment=is_deployment(audit),
            level=confidence_of(audit.policy),
            known=policy_rows(audit.policy),
            before=sentences(audit),
            reasons=sorted(
                ((key, finding) for key, finding in deciding if finding.verdict == verdict != "pass"),
                key=lambda reason: reason[1].margin != reason[1].margin,  # those with a margin first
            ),
            unanswered=[(key, finding) for key, finding in findings if finding.verdict == "cannot tell"],
            tally={name: sum(f.verdict == name for f in audit.findings) for name in MARKS},
            questions=dict.fromkeys(f.question for f in audit.findings),
            title=title_of(audit),
            assumptions=assumptions,
            **extra,
        )
    )
