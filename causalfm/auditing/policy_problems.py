"""What is wrong with a policy, in words: the key, what stands there, what may stand there, a line that is right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from causalfm.arguments import did_you_mean
from causalfm.auditing.policy_file import MAX_DIGITS, PLAIN_NUMBER, Entry

SCHEMA_FILE = Path(__file__).parent / "schemas" / "policy-1.json"
SHOWN = 60  # characters of what was written
KINDS = {"number": "a number", "integer": "a whole number", "string": "text", "array": "a list of column names"}


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy, which is shipped as ``schemas/policy-1.json``."""
    return dict(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def keys() -> dict[str, dict[str, Any]]:
    """Return the schema of every key, in the order of the default policy."""
    return dict(schema()["properties"])


def problems_of(entries: Mapping[str, Entry], defaults: Mapping[str, Any]) -> list[str]:
    """List everything that is wrong with the keys of a file.

    Parameters
    ----------
    entries
        Keys and values as they were read.
    defaults
        Values of the keys that the file leaves out.

    Returns
    -------
    list of str
        One sentence or two for each problem, with the line, the key, and a line that would be right.
    """
    known, out = keys(), []
    for key, entry in entries.items():
        where = f"line {entry.line}, {key}"
        if key not in known:
            listed = did_you_mean(key, known) or f" Known keys: {', '.join(known)}."
            out.append(f"{where}: there is no such key; check how it is written.{listed}")
        elif wrong := _wrong(known[key], entry):
            out.append(f"{where}: {wrong} Write for instance: {_example(key, known[key], entry)}")
    missing = [key for key in schema()["required"] if key not in entries]
    out += [f"{key} is missing. Add the line: {_example(key, known[key], None)}" for key in missing]
    return out or _together({**defaults, **{key: entry.value for key, entry in entries.items()}})


def _together(values: Mapping[str, Any]) -> list[str]:
    """Check what two keys must fulfil together; both have a value of the right kind."""
    alpha, permutations, below = values["alpha"], values["permutations"], values["suppress_below"]
    if below in (1, 2):
        return [
            f"suppress_below: {below} hides nothing: a count that is marked as fewer than 2, and is not 0, is 1. Write "
            "0 to print all, or at least: suppress_below: 3"
        ]
    if below == values["minimum_groups"] + 1:
        return [
            f"suppress_below: {below} tells some counts: a cell that is hidden, and not left out for fewer than "
            f"minimum_groups ({below - 1}), holds {below - 1}. Write at least: suppress_below: {below + 1}"
        ]
    if (permutations + 1) * alpha < 1.0 - 1e-9:
        least = math.ceil(1.0 / alpha - 1e-9) - 1
        return [
            f"permutations: {permutations} cannot give a p-value as small as alpha ({alpha:g}), so that no test could "
            f"fail. Write at least: permutations: {least}"
        ]
    return []


def _wrong(rule: Mapping[str, Any], entry: Entry) -> str:
    """Say what is wrong with a value, or nothing."""
    value, kind = entry.value, rule.get("type")
    if value is None:
        return "has no value."
    if "const" in rule:
        same = value == rule["const"] and isinstance(value, int) and not isinstance(value, bool)
        return "" if same else f"{_shown(entry)} is no version that this causalfm reads, which is {rule['const']}."
    if "enum" in rule:
        fits = isinstance(value, str) and value in rule["enum"]
        choices = ", ".join(rule["enum"])
        return "" if fits else f"{_shown(entry)} is none of {choices}.{did_you_mean(value, rule['enum'])}"
    return {"number": _number, "integer": _number, "string": _text, "array": _columns}[str(kind)](rule, entry)


def _number(rule: Mapping[str, Any], entry: Entry) -> str:
    value, whole = entry.value, rule["type"] == "integer"
    what = KINDS[rule["type"]]
    if isinstance(value, bool):
        return f"{_shown(entry)} means {str(value).lower()} in YAML, and {what} is needed."
    if isinstance(value, str):
        quoted = len(value) <= MAX_DIGITS and PLAIN_NUMBER.fullmatch(value) is not None
        reason = "a percentage" if value.strip().endswith("%") else "text in quotes" if quoted else "no plain number"
        return f"{_shown(entry)} is {reason}, and {what} is needed ({_range(rule)})."
    if not isinstance(value, (int, float)):
        return f"a list or a table stands here, and {what} is needed ({_range(rule)})."
    if not math.isfinite(value):
        return f"{_shown(entry)} is no finite number ({_range(rule)})."
    if whole and isinstance(value, float):
        return f"{_shown(entry)} has a decimal point, and a whole number is needed ({_range(rule)})."
    low, above, high = rule.get("minimum", -math.inf), rule.get("exclusiveMinimum", -math.inf), rule["maximum"]
    if low <= value <= high and value > above:
        return ""
    return f"{_shown(entry)} is outside of what may stand here: {_range(rule)}."


def allowed(rule: Mapping[str, Any]) -> str:
    """Say what may stand behind a key, from its schema."""
    if "enum" in rule:
        return ", ".join(rule["enum"])
    if rule.get("type") in ("number", "integer"):
        return _range(rule) if rule["type"] == "number" else f"whole, {_range(rule)}"
    return "day, 2026-05-04" if "pattern" in rule else KINDS[rule["type"]].removeprefix("a ")


def _range(rule: Mapping[str, Any]) -> str:
    if "exclusiveMinimum" in rule:
        return f"above {rule['exclusiveMinimum']:,}, at most {rule['maximum']:,}"
    return f"{rule['minimum']:,} to {rule['maximum']:,}"


def _text(rule: Mapping[str, Any], entry: Entry) -> str:
    value = entry.value
    if not isinstance(value, str):
        return f"{_shown(entry)} is no text in YAML: put it in quotes."
    if len(value.strip()) < rule.get("minLength", 0):
        return "is empty."
    if len(value) > rule.get("maxLength", math.inf):
        return f"has {len(value):,} characters, of {rule['maxLength']:,} that a report can show."
    if "pattern" in rule and value:
        if not re.match(rule["pattern"], value):
            return f"{_shown(entry)} is no day as year-month-day."
        try:
            date.fromisoformat(value)
        except ValueError:
            return f"{_shown(entry)} is no day of the calendar."
    return ""


def _columns(rule: Mapping[str, Any], entry: Entry) -> str:
    value = entry.value
    if not isinstance(value, list):
        return f"{_shown(entry)} is no list: put the column names in square brackets."
    odd = [item for item in value if not isinstance(item, str)]
    if odd:
        return f"{str(odd[0])[:SHOWN]!r} is no text in YAML: put the column name in quotes."
    if "" in value:
        return "holds an empty name."
    twice = [name for name in value if value.count(name) > 1]
    return f"{twice[0]!r} stands in the list twice." if twice else ""


def _shown(entry: Entry) -> str:
    text = entry.written or str(entry.value)
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _example(key: str, rule: Mapping[str, Any], entry: Entry | None) -> str:
    """Write a line that is right, with what was meant where that can be told."""
    meant = _meant(rule, entry) if entry else None
    value = rule["examples"][0] if meant is None else meant
    if isinstance(value, list):
        return f"{key}: [{', '.join(json.dumps(v, ensure_ascii=False) if _odd(v) else v for v in value)}]"
    if isinstance(value, str):
        return f"{key}: {json.dumps(value, ensure_ascii=False) if _odd(value) else value}"
    return f"{key}: {value}"


def _odd(text: str) -> bool:
    """Whether YAML could take a text for something else."""
    return re.fullmatch(r"[^\W\d][\w ]*", text) is None or text.lower() in ("yes", "no", "on", "off", "true", "false")


def _meant(rule: Mapping[str, Any], entry: Entry) -> Any:
    """Guess the value that was meant, if it would be right: 5% is 0.05, "0,5" is 0.5, 3.0 is 3, site is [site]."""
    written, kind = entry.written.strip(), rule.get("type")
    found: Any = None
    if kind in ("number", "integer") and len(written) <= SHOWN and not isinstance(entry.value, bool):
        plain = written.rstrip("% ").replace(",", ".")
        if re.fullmatch(r"[-+]?(0|[1-9]\d*|\d?)(\.\d*)?([eE][-+]?\d+)?", plain) and re.search(r"\d", plain):
            found = float(plain) / (100.0 if "%" in written else 1.0)
            found = float(f"{found:.12g}")
            found = int(found) if kind == "integer" and math.isfinite(found) and found == int(found) else found
    elif kind == "array" and isinstance(entry.value, str) and written:
        found = list(dict.fromkeys(name.strip() for name in written.split(",") if name.strip()))
    elif kind == "array" and isinstance(entry.value, list):
        found = list(dict.fromkeys(str(item) for item in entry.value if item not in ("", None)))
    elif kind == "string" and "pattern" not in rule and entry.value is not None and len(written) <= SHOWN:
        found = written or None
    elif "enum" in rule and isinstance(entry.value, str):
        found = next((choice for choice in rule["enum"] if choice == written.casefold()), None)
    return found if found is not None and not _wrong(rule, Entry(found, 0, str(found))) else None
