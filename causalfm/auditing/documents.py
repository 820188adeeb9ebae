"""Reports as files: strict JSON read without trust, and the schemas that they are held against."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from causalfm.arguments import did_you_mean
from causalfm.errors import DataError
from causalfm.formats.durable import existing

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

SCHEMAS = Path(__file__).with_name("schemas")
MAX_BYTES = 64 * 2**20  # a report of 200 sites x 30 classes takes a few MiB
SHOWN = 3  # problems that a message names
MAX_DEPTH = 64  # reports nest about ten deep
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = {"object": "an object", "array": "a list", "string": "text", "number": "a number", "integer": "a whole number",
         "boolean": "true or false", "null": "null"}  # fmt: skip


def schema_path(name: str) -> Path:
    """Return the file of a JSON Schema that is shipped with causalfm.

    Parameters
    ----------
    name
        For instance ``"audit-1.3"``, ``"comparison-1.0"`` or ``"evidence-1.0"``.

    Returns
    -------
    pathlib.Path
        A JSON file of the package.

    Raises
    ------
    DataError
        There is no such schema; the message names those there are.
    """
    known = sorted(path.stem for path in SCHEMAS.glob("*.json"))
    if name not in known:
        raise DataError(f"there is no schema {name!r}: choose from {', '.join(known)}.{did_you_mean(name, known)}")
    return SCHEMAS / f"{name}.json"


def read_json(path: str | Path) -> tuple[Any, str]:
    """Read one strict JSON document.

    Parameters
    ----------
    path
        UTF-8, at most 64 MiB, nested at most 64 deep.

    Returns
    -------
    Any
        The document.
    str
        SHA-256 of the file.

    Raises
    ------
    DataError
        No such file, too large, not UTF-8, no JSON (line and column are named), a key given twice, NaN or infinity,
        numbers beyond a double, half of a surrogate pair, nested too deep.
    """
    source = Path(path)
    name = repr(source.name)
    if source.is_dir():
        raise DataError(f"{name} is a folder: give the report.json in it.")
    existing(source)
    if (size := source.stat().st_size) > MAX_BYTES:
        raise DataError(
            f"{name} has {size / 2**20:,.0f} MiB, a report at most {MAX_BYTES // 2**20}: give a report.json."
        )
    content = source.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{name} is not UTF-8 text: give a report.json as causalfm wrote it.") from None
    return parse_json(text, name), hashlib.sha256(content).hexdigest()


def parse_json(text: str, name: str) -> Any:
    """Parse strict JSON; parameters and errors as for :func:`read_json`.

    Parameters
    ----------
    text
        The document.
    name
        What to call it in messages.
    """

    def refuse(what: str) -> NoReturn:
        raise DataError(f"{name} {what}, which JSON does not know: write null for a number that is not there.")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        body = dict(pairs)
        if len(body) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{name} has the key {_short(twice)} twice in one object: which one counts? Remove one.")
        return body

    def finite(digits: str) -> float:
        if (value := float(digits)) in (float("inf"), float("-inf")):
            refuse("holds a number beyond the range of a double")
        return value

    try:
        body = json.loads(
            text, parse_constant=lambda word: refuse(f"holds {word}"), parse_float=finite, object_pairs_hook=once
        )
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}. Copy it again, or write the "
            "report again."
        ) from None
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} holds a whole number of thousands of digits: no report has one.") from None
    _check_depth_and_text(body, name)
    return body


def _too_deep(name: str) -> DataError:
    return DataError(f"{name} is nested more than {MAX_DEPTH} deep: no report is. Write the report again.")


def _check_depth_and_text(body: Any, name: str) -> None:
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and SURROGATE.search(value):
                raise DataError(f"{name} holds half of a surrogate pair, which is no text: write the report again.")
        if not below:
            return
        level = below
    raise _too_deep(name)


@cache
def _validator(schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema_path(schema).read_text(encoding="utf-8")))


def check_schema(body: Any, schema: str, name: str, way_out: str) -> None:
    """Hold a document against a shipped schema.

    Parameters
    ----------
    body
        The document.
    schema
        Name as for :func:`schema_path`.
    name, way_out
        What to call it, and what to do, for the message.

    Raises
    ------
    DataError
        Naming up to three places, what is wrong there and how it should be. Values are not quoted.
    """
    problems = sorted(
        _validator(schema).iter_errors(body),
        key=lambda error: [(isinstance(part, str), part) for part in error.absolute_path],
    )
    if problems:
        shown = "; ".join(dict.fromkeys(_words(problem) for problem in problems[:SHOWN]))
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"{name} does not fit the schema {schema}: {shown}{more}. {way_out}")


def place(path: Iterable[Any]) -> str:
    """Write a path into a document: ``findings[2].details["per level"]``."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += f"[{json.dumps(_short(part), ensure_ascii=False)}]" if re.search(r"\W", part) else f".{_short(part)}"
    return out.removeprefix(".") or "the document"


def _words(problem: ValidationError) -> str:
    """Say what is wrong and how it should be; the value may be anything, and is not quoted."""
    where, rule = place(problem.absolute_path), str(problem.validator)
    wanted: Any = problem.validator_value
    around: Any = problem.schema
    instance: Any = problem.instance
    if rule == "required":
        lacking = [name for name in wanted if name not in instance]
        return f"{where} lacks {', '.join(map(repr, lacking))}"
    if rule == "additionalProperties":
        known = around.get("properties", {})
        extra = [name for name in instance if name not in known]
        hint = did_you_mean(extra[0], known).strip()
        return f"{where} has the unknown key {_short(extra[0])!r}" + (f" ({hint})" if hint else "")
    if rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else list(wanted)
        return f"{where} must be {' or '.join(KINDS[kind] for kind in kinds)}"
    if rule in ("enum", "const"):
        values = wanted if isinstance(wanted, list) else [wanted]
        return f"{where} must be {' or '.join(json.dumps(value, ensure_ascii=False) for value in values)}"
    if problem.context:  # of several kinds it fits none: the deepest complaint is about the one that was meant
        inner = max(problem.context, key=lambda error: len(error.absolute_path))
        told = around.get("description") if inner.absolute_path == problem.absolute_path else None
        return f"{where} must be {told}" if told else _words(inner)
    return f"{where} breaks the rule {rule}: {json.dumps(wanted, ensure_ascii=False)[:80]}"


def _short(text: Any) -> str:
    words = str(text)
    return words if len(words) <= 60 else f"{words[:57]}..."
