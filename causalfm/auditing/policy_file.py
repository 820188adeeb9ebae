"""A policy as a file: YAML read without trust, every key once, with the line and the text it was written with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm.errors import PolicyError

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 64 * 2**10  # fifty times the default with its comments
MAX_DIGITS = 40
MAX_DEPTH = 4  # of brackets in brackets: a list of columns is one
START = "Start from the default: causalfm policy init FILE."
TYPES = ("str", "int", "float", "bool", "null", "seq", "map")
# YAML 1.1 has numbers that nobody means: 010 is eight, 1_000 a thousand, 16:39 is 999, 0x10 sixteen
PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+|[-+]?\.(inf|nan)", re.I)


@dataclass(frozen=True)
class Entry:
    """One key of the file.

    Attributes
    ----------
    value
        Plain data: text, number, true or false, None, list.
    line
        Where the key stands, from 1.
    written
        What stands there, as far as it is one word.
    """

    value: Any
    line: int
    written: str


def read_entries(path: Path) -> tuple[dict[str, Entry], list[str], bytes]:
    """Read the keys of a policy file.

    Parameters
    ----------
    path
        UTF-8 YAML, at most 64 KiB: ``key: value`` lines and comments.

    Returns
    -------
    entries : dict
        Keys in the order of the file.
    problems : list of str
        Keys given twice, or keys that are no words.
    content : bytes
        The file.

    Raises
    ------
    PolicyError
        No file, or no YAML of keys and values; the message names line and column, and the way out.
    """
    content = _content(path)
    name = path.name
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PolicyError(f"{name}, line {line}: not UTF-8 text. Save the file again as UTF-8.") from None
    node, loader = _composed(name, text)
    try:
        return (*_pairs(node, loader), content)
    finally:
        loader.dispose()


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise PolicyError(f"{path.name!r} is a folder: name the policy file in it.")
    if not path.is_file():
        raise PolicyError(f"there is no policy file {path.name!r}: check the path. {START}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path.name!r} cannot be read: {error.strerror}. Check its rights.") from None
    if len(content) > MAX_BYTES:
        raise PolicyError(f"{path.name} has more than {MAX_BYTES // 2**10} KiB: that is no policy. {START}")
    return content


def _composed(name: str, text: str) -> tuple[yaml.Node, yaml.SafeLoader]:
    """Parse the text into nodes; aliases, which can make a small file huge, tags and deep nests are refused."""
    import yaml

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise PolicyError(f"{name}, line {line}: *{event.anchor} refers to another place. Write the value out.")
            if (tag := getattr(event, "tag", None)) is not None:
                raise PolicyError(f"{name}, line {line}: {tag!r} is a tag. Write the value without it.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise PolicyError(f"{name}, line {line}: nested too deep. A policy has lines of 'key: value'.")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax(name, error) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        where = text[: getattr(error, "position", 0)].count("\n") + 1
        raise PolicyError(f"{name}, line {where}: holds a control character. Remove it.") from None
    if node is None:
        raise PolicyError(f"{name} is empty. {START}")
    if not isinstance(node, yaml.MappingNode):
        what = "a list" if isinstance(node, yaml.SequenceNode) else "text"
        raise PolicyError(f"{name} is {what}, and a policy has lines of 'key: value'. {START}")
    return node, loader


def _syntax(name: str, error: yaml.MarkedYAMLError) -> PolicyError:
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    hint = "write lines of 'key: value', with a space behind the colon, and put text with : or # in quotes"
    if "\\t" in str(error.problem):
        hint = "indent with spaces, not with a tab"
    if "single document" in str(error.context or ""):
        hint = "a policy is one document: remove the line '---'"
    return PolicyError(f"{name}{where}: not valid YAML ({error.problem}): {hint}.")


def _pairs(node: Any, loader: yaml.SafeLoader) -> tuple[dict[str, Entry], list[str]]:
    import yaml

    entries: dict[str, Entry] = {}
    problems = []
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"line {line}: a key must be a word, such as effect_ratio.")
            continue
        key = str(key_node.value)
        if key in entries:
            problems.append(f"{key} stands in lines {entries[key].line} and {line}: keep one of them.")
            continue
        written = str(value_node.value) if isinstance(value_node, yaml.ScalarNode) else ""
        entries[key] = Entry(_plain(value_node, loader), line, written)
    return entries, problems


def _plain(node: Any, loader: yaml.SafeLoader) -> Any:
    """Return plain data; dates stay as they are written, and so do numbers in a notation that could be misread."""
    import yaml

    kind = node.tag.rpartition(":")[2]
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, loader) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): None for key, _ in node.value}
    plain = len(node.value) <= MAX_DIGITS and PLAIN_NUMBER.fullmatch(node.value)
    if kind not in TYPES or (kind in ("int", "float") and not plain):
        return node.value
    return loader.construct_object(node)
