"""Templates of the reports: escaping for the page and for Markdown, and the filters that they share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.auditing.formatting import DASH, bounds, clean, first_up, interval, number, printable, requirement
from causalfm.results import plain

if TYPE_CHECKING:
    from jinja2 import Environment

MARKS = {"pass": "✓", "fail": "✕", "cannot tell": "?"}
MOST_ROWS = 300  # of a table on the page: report.json holds the rest
FEW_ROWS = 24  # shown without scrolling
MOST_REASONS = 5  # under the verdict: the first screen is read in half a minute
FEW_LEVELS = 40  # rows of a table in Markdown


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
    environment.filters |= {"plain": plain, "without": _without, "first_up": first_up}
    # digits and brackets only: the one text of ours that Markdown's escaping would make hard to read
    environment.filters["interval"] = lambda finding: Markup(interval(finding))
    environment.filters["change"] = _change
    environment.tests |= {"table": _is_table, "pairs": lambda value: isinstance(value, Mapping)}
    environment.globals |= {"marks": MARKS, "columns": _columns, "numeric": _numeric}
    environment.globals |= {
        "few_rows": FEW_ROWS,
        "few_levels": FEW_LEVELS,
        "most_rows": MOST_ROWS,
        "most_reasons": MOST_REASONS,
    }
    return environment


def tidied(markdown: str) -> str:
    """Return rendered Markdown with one empty line at most between two others, and one line end at its end."""
    return re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n"


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
