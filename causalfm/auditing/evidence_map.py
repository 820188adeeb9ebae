"""The mapping: which question of a report speaks to which question of a public framework, and why."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.arguments import did_you_mean
from causalfm.auditing.documents import check_schema, place
from causalfm.auditing.evidence_items import ITEMS
from causalfm.errors import DataError
from causalfm.formats.durable import existing

if TYPE_CHECKING:
    import yaml

DEFAULT = Path(__file__).with_name("evidence_map.yaml")
MAX_BYTES = 2**20
WAY_OUT = "Compare it with the mapping that is shipped (docs/evidence.md shows it)."
# A mapping ties evidence to questions. Whatever would rate a model by REAL-FM is refused: a key anywhere, and words.
RATINGS = ("level", "score", "grade", "rating", "tier", "stage", "stars", "maturity")
_WORDS = "|".join(RATINGS)
NAME = re.compile(r"real[-_ ]?fm\b", re.IGNORECASE)
NEAR = re.compile(
    rf"real[-_ ]?fm\W+(\w+\W+){{0,6}}({_WORDS})s?\b|\b({_WORDS})s?\W+(\w+\W+){{0,6}}real[-_ ]?fm\b", re.IGNORECASE
)
VALUE = re.compile(rf"\b({_WORDS})\W{{1,3}}([0-9]+|[ivx]+)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One line: a question of a report, the aspect it belongs to, the items it speaks to (``framework/item``), why."""

    question: str
    aspect: str
    maps_to: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class EvidenceMap:
    """A mapping of evidence to frameworks.

    Attributes
    ----------
    name, sha256
        Its name and the hash of its file.
    frameworks
        ``id``, ``name``, ``reference``, ``note`` and ``items`` (``id``, ``title``) of each.
    lines
        By question.
    """

    name: str
    sha256: str
    frameworks: tuple[Mapping[str, Any], ...]
    lines: Mapping[str, Line]

    def items(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, str]]]:
        """Give every item with its framework, in the order of the file."""
        for framework in self.frameworks:
            for item in framework["items"]:
                yield framework, item


def load_evidence_map(path: str | Path | None = None) -> EvidenceMap:
    """Read and check a mapping.

    Parameters
    ----------
    path
        YAML file; None for the one that is shipped.

    Returns
    -------
    EvidenceMap
        The mapping with the hash of its file.

    Raises
    ------
    DataError
        No YAML, a key twice, an alias, an unknown or missing key or question, an item that is not declared, or a level
        or score of REAL-FM; the message names the key and the way out.
    """
    source = DEFAULT if path is None else Path(path)
    if source.is_dir():
        raise DataError(f"--map: {source.name!r} is a folder: give a YAML file.")
    existing(source)
    name = repr(source.name)
    if source.stat().st_size > MAX_BYTES:
        raise DataError(f"{name} has more than 1 MiB: no mapping has. {WAY_OUT}")
    content = source.read_bytes()
    body = _parsed(content, name)
    ours = isinstance(body, Mapping) and "frameworks" in body  # of another file the schema says more
    for where, rating in _ratings(body, ()) if ours else ():
        raise DataError(
            f"{name}, {place(where)}: {rating} would rate a model. A mapping ties evidence to questions; it sets no "
            "level and no score of REAL-FM or of another framework. Remove it."
        )
    check_schema(body, "evidence-map-1.0", name, WAY_OUT)
    lines = {line["question"]: Line(**{**line, "maps_to": tuple(line["maps_to"])}) for line in body["lines"]}
    _check_references(body, name)
    return EvidenceMap(body["name"], hashlib.sha256(content).hexdigest(), tuple(body["frameworks"]), lines)


def _check_references(body: Mapping[str, Any], name: str) -> None:
    """Refuse ids that repeat, items that no framework has, and questions that no report asks or no line maps."""
    ids = [framework["id"] for framework in body["frameworks"]]
    items = [f"{framework['id']}/{item['id']}" for framework in body["frameworks"] for item in framework["items"]]
    asked = [line["question"] for line in body["lines"]]
    for what, names in (("framework", ids), ("item", items), ("question", asked)):
        if twice := [one for one in names if names.count(one) > 1]:
            raise DataError(f"{name}: the {what} {twice[0]!r} is there twice. Keep one.")
    for i, line in enumerate(body["lines"]):
        if line["question"] not in ITEMS:
            hint = did_you_mean(line["question"], ITEMS)
            raise DataError(
                f"{name}, lines[{i}].question: no report answers {line['question']!r}. Questions: {', '.join(ITEMS)}."
                f"{hint}"
            )
        if unknown := [one for one in line["maps_to"] if one not in items]:
            hint = did_you_mean(unknown[0], items)
            raise DataError(
                f"{name}, lines[{i}].maps_to: no framework has the item {unknown[0]!r}. Items: {', '.join(items)}."
                f"{hint}"
            )
    if lacking := [question for question in ITEMS if question not in asked]:
        raise DataError(
            f"{name}, lines: no line for {', '.join(map(repr, lacking))}. Give each question a line; one that speaks "
            "to no item has maps_to: [] and the reason why."
        )


def _ratings(value: Any, where: tuple[Any, ...], inside: bool = False) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Find what would rate a model: a key anywhere, words about REAL-FM, ``level 3`` inside its own framework."""
    if isinstance(value, Mapping):
        inside = inside or any(NAME.search(str(value.get(key, ""))) for key in ("id", "name"))
        for key, inner in value.items():
            words = set(re.split(r"[\W_]+", str(key).lower()))
            if found := [rating for rating in RATINGS if {rating, f"{rating}s"} & words]:
                yield (*where, key), f"the key {found[0]!r}"
            yield from _ratings(inner, (*where, key), inside)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _ratings(inner, (*where, i), inside)
    elif isinstance(value, str) and (match := NEAR.search(value) or (inside and VALUE.search(value)) or None):
        yield where, f"{match.group(0)[:60]!r}"


def _parsed(content: bytes, name: str) -> Any:
    import yaml

    try:
        return yaml.load(content.decode("utf-8-sig"), Loader=_loader())
    except UnicodeDecodeError:
        raise DataError(f"{name} is not UTF-8 text: save it again as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DataError(f"{name}{where} is not valid YAML: {error.problem}. {WAY_OUT}") from None
    except (yaml.YAMLError, ValueError):  # a control character, a date that no calendar has
        raise DataError(
            f"{name} is not valid YAML: it holds a character or a value that YAML refuses. {WAY_OUT}"
        ) from None
    except RecursionError:
        raise DataError(f"{name} is nested too deep for a mapping. {WAY_OUT}") from None


@cache
def _loader() -> type[yaml.SafeLoader]:
    """Build a safe loader that takes no alias (a small file could grow without bound) and no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, "an alias (*) is not taken here: write it out", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if (word := str(key.value)) in seen:
                    text = f"the key {word[:60]!r} is there twice: keep one"
                    raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
                seen.add(word)
            return super().construct_mapping(node, deep)

    return Loader
