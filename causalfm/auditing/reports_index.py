"""An index page of many audits: a table that sorts, filters and compares two runs, in one file without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.auditing.formatting import DASH, number
from causalfm.auditing.index_records import Answer, Broken, Run, find_reports
from causalfm.auditing.policy_problems import keys
from causalfm.auditing.policy_table import WORDS, changes
from causalfm.auditing.report import write_text
from causalfm.auditing.templating import environment
from causalfm.errors import DataError

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Index:
    """What an index page shows: the audits, what could not be read, and where the rules changed on the same data."""

    runs: tuple[Run, ...]
    broken: tuple[Broken, ...]
    changed: tuple[Mapping[str, Any], ...]


def index_reports(
    folder: str | Path, out: str | Path | None = None, *, progress: Callable[[str, int, int], None] | None = None
) -> Index:
    """Write an index page of every ``report.json`` under a folder.

    Parameters
    ----------
    folder
        Searched at any depth.
    out
        The page; default: ``index.html`` in the folder. Links are relative to it.
    progress
        Called with (what is being done, steps done, steps in all).

    Returns
    -------
    Index
        What the page shows.

    Raises
    ------
    DataError
        No such folder, or no report in it.
    """
    from causalfm.auditing.loading import load_audit

    source = Path(folder)
    if not source.is_dir():
        raise DataError(f"there is no folder {source.name!r}: give one with reports in it.")
    target = source / "index.html" if out is None else Path(out)
    runs, broken = find_reports(source, target.parent, load_audit, progress or (lambda what, done, steps: None))
    if not runs and not broken:
        raise DataError(f"no report.json lies in {source.name!r} or below: run causalfm audit --out into it.")
    index = Index(tuple(runs), tuple(broken), tuple(changed_rules(runs)))
    write_text(render_index(index), target)
    return index


def changed_rules(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Find data that were audited more than once with different margins, or with different graphs.

    Parameters
    ----------
    runs
        The audits.

    Returns
    -------
    list of dict
        One per data fingerprint: ``data``, ``about`` (the first run) and ``steps``, in order of time: ``run``,
        ``before``, ``changed`` (see :func:`causalfm.auditing.policy_table.changes`) and ``graph``, whether another
        graph was declared.
    """
    by_data: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.made, run.path)):
        if run.data:
            by_data.setdefault(run.data, []).append(run)
    found = []
    for data, same in by_data.items():
        steps = [
            {"run": run, "before": last, "changed": moved, "graph": run.graph != last.graph}
            for last, run in pairwise(same)
            if (moved := _moved(last, run)) or run.graph != last.graph
        ]
        if steps:
            found.append({"data": data, "about": same[0], "runs": len(same), "steps": steps})
    return found


def _moved(before: Run, after: Run) -> list[dict[str, Any]]:
    """List the keys that differ; the policy's name, and who declared it for what, are no margins."""
    return [change for change in changes(before.policy, after.policy) if change["key"] not in WORDS]


def larger_is_looser() -> dict[str, int]:
    """Return 1 for every key of the policy of which a larger value lets more pass, -1 where a smaller one does."""
    signs = {"lower": 1, "higher": -1}
    return {key: signs[rule["stricter"]] for key, rule in keys().items() if rule.get("stricter") in signs}


def render_index(index: Index) -> str:
    """Render the page: one inline script that its hash admits, data as JSON, nothing fetched.

    Parameters
    ----------
    index
        What to show.

    Returns
    -------
    str
        The page. Without JavaScript it is a plain table. Every name from the data is escaped, and set as text by the
        script.
    """
    from markupsafe import Markup

    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "index.css"))
    script = (TEMPLATES / "index.js").read_text(encoding="utf-8")
    flagged = {step["run"].path for change in index.changed for step in change["steps"]}
    return (
        environment(markdown=False)
        .get_template("index.html.j2")
        .render(
            index=index,
            flagged=flagged,
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
            data=_embedded(index, flagged),
            tally={v: sum(run.verdict == v for run in index.runs) for v in ("fail", "cannot tell", "pass")},
            factors=sorted({name for run in index.runs for name in run.factors}),
            encoders=sorted({run.encoder for run in index.runs}),
            sources=sorted({run.source for run in index.runs}),
            value=lambda value: DASH if value in (None, []) else _shown(value),
            day=lambda made: made.replace("T", " ")[:16],
        )
    )


def _hash(text: str) -> str:
    """Return the source expression that admits exactly this text under the page's policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _embedded(index: Index, flagged: set[str]) -> Markup:
    """Return what the script reads. Every text is there once: hundreds of reports ask the same questions."""
    from markupsafe import Markup

    texts: dict[str, int] = {}
    policies: dict[str, int] = {}

    def text(value: str) -> int:
        return texts.setdefault(value, len(texts))

    def policy(values: Mapping[str, Any]) -> int:
        return policies.setdefault(
            json.dumps([[key, _shown(value), value] for key, value in values.items()]), len(policies)
        )

    def answer(a: Answer) -> list[Any]:
        words = (a.question, a.factor, a.title, a.quantity, a.verdict, a.number, a.chance, a.margin, a.want)
        return [*map(text, words), a.margin_value]

    runs = [
        {
            **{key: text(getattr(run, key)) for key in ("path", "page", "title", "kind", "verdict", "made", "seed")},
            **{key: text(getattr(run, key)) for key in ("encoder", "source", "data", "graph", "headline", "tally")},
            "size": text(f"{run.rows} rows, {run.units} independent units ({run.unit})"),
            "versions": text("; ".join(f"{name} {version}" for name, version in run.versions.items())),
            "factors": [text(name) for name in run.factors],
            "policy": policy(run.policy),
            "flagged": run.path in flagged,
            "answers": [answer(a) for a in run.answers],
        }
        for run in index.runs
    ]
    body = {
        "runs": runs,
        "texts": list(texts),
        "policies": [json.loads(p) for p in policies],
        "looser": larger_is_looser(),
    }
    plain = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # inside a script element only these could end it or begin a comment
    return Markup(plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _shown(value: Any) -> str:
    """Write a value of a policy as a reader sees it."""
    from causalfm.auditing.formatting import clean

    if isinstance(value, list):
        return ", ".join(map(clean, value)) or DASH
    return clean(value if isinstance(value, Mapping) else number(value)) or DASH
