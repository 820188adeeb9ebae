"""Arrow notation for causal graphs: text to edges and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from causalfm.errors import GraphError

EMBEDDING = "Z"  # the node that stands for the embedding
Pair = tuple[str, str]
_TOKEN = re.compile(
    r'(?P<space>[^\S\n]+|\#[^\n]*)|(?P<end>[;\n])|(?P<arrow><->|->|<-|[→←↔])|(?P<mark>[{},])|(?P<quoted>"[^"\n]*")|(?P<name>[\w.]+)'
)
_SAME = {"→": "->", "←": "<-", "↔": "<->"}
_BARE = re.compile(r"[\w.]+")
_GRAMMAR = (
    "Write arrows as 'a -> b', 'a <- b' or 'a <-> b', sets as '{a, b} -> c', statements on lines of their own or "
    "separated by ';', and column names with other characters in double quotes."
)


@dataclass(frozen=True)
class Arrows:
    """A parsed graph.

    Attributes
    ----------
    nodes
        In order of first appearance.
    edges
        ``(cause, effect)`` pairs without repeats.
    bidirected
        Pairs with an unmeasured common cause, without repeats, each in the order of ``nodes``.
    """

    nodes: tuple[str, ...]
    edges: tuple[Pair, ...]
    bidirected: tuple[Pair, ...]


def parse_arrows(text: str) -> Arrows:
    """Parse arrow notation.

    Parameters
    ----------
    text
        Statements separated by ``;`` or newlines: ``a -> b -> c``, ``a <- b``, ``a <-> b``, sets ``{a, b} -> c``; a
        bare ``a`` declares an isolated node; ``#`` starts a comment; names with other characters go in double quotes;
        ``→``, ``←`` and ``↔`` are arrows too.

    Returns
    -------
    Arrows
        Nodes, edges and bidirected edges.

    Raises
    ------
    GraphError
        Not text, a statement that cannot be read (it is quoted in the message), an arrow from a node to itself, or
        a cycle (it is named).
    """
    if not isinstance(text, str):
        raise GraphError(f"the graph must be text in arrow notation, not {type(text).__name__}. {_GRAMMAR}")
    nodes: dict[str, None] = {}
    edges: dict[Pair, None] = {}
    both: dict[frozenset[str], None] = {}
    for statement, tokens in _statements(text):
        members, arrows = _read(statement, tokens)
        nodes.update(dict.fromkeys(name for group in members for name in group))
        for left, arrow, right in zip(members, arrows, members[1:], strict=False):
            for a in left:
                for b in right:
                    if a == b:
                        raise GraphError(
                            f"an arrow leads from {a!r} to itself in the statement '{statement}': remove it."
                        )
                    if arrow == "<->":
                        both[frozenset((a, b))] = None
                    else:
                        edges[(a, b) if arrow == "->" else (b, a)] = None
    if not nodes:
        raise GraphError(f"the graph is empty. {_GRAMMAR}")
    order = {name: i for i, name in enumerate(nodes)}
    pairs = [sorted(pair, key=order.__getitem__) for pair in both]
    parsed = Arrows(tuple(nodes), tuple(edges), tuple((a, b) for a, b in pairs))
    _refuse_cycle(parsed)
    return parsed


def render_arrows(arrows: Arrows) -> str:
    """Write arrow notation that :func:`parse_arrows` reads back: one statement per set of parents, on one line.

    Parameters
    ----------
    arrows
        Nodes, edges and bidirected edges.

    Returns
    -------
    str
        For instance ``"site <-> tumour; site -> scanner; {tumour, site, scanner} -> Z"``.
    """
    children: dict[tuple[str, ...], list[str]] = {}
    for node in arrows.nodes:
        parents = tuple(a for a in arrows.nodes if (a, node) in arrows.edges)
        if parents:
            children.setdefault(parents, []).append(node)
    partners: dict[str, list[str]] = {}
    for a, b in arrows.bidirected:
        partners.setdefault(a, []).append(b)
    linked = {name for pair in (*arrows.edges, *arrows.bidirected) for name in pair}
    lines = [_set([node]) for node in arrows.nodes if node not in linked]
    lines += [f"{_set([a])} <-> {_set(b)}" for a, b in partners.items()]
    lines += [f"{_set(parents)} -> {_set(names)}" for parents, names in children.items()]
    return "; ".join(lines)


def standard_arrows(biology: str, technical: Sequence[str], covariates: Sequence[str]) -> str:
    """Return the arrows of :meth:`causalfm.CausalGraph.standard`."""
    columns = [biology, *technical, *covariates]
    if EMBEDDING in columns:
        raise GraphError(f"a column is called {EMBEDDING!r}, which stands for the embedding in every graph: rename it.")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise GraphError(f"{twice[0]!r} is named twice among biology, technical and covariates: a column has one role.")
    site, label = quote(technical[0]), quote(biology)
    statements = [f"{site} <-> {label}"]
    statements += [f"{site} <-> {quote(c)}; {quote(c)} -> {label}" for c in covariates]
    statements += [f"{site} -> {quote(f)}" for f in technical[1:]]
    statements += [f"{quote(n)} -> {EMBEDDING}" for n in (*covariates, biology, *technical)]
    return "; ".join(statements)


def names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise GraphError(f"{value!r} names no column: give a column name, or a list of them, as text.")
    return tuple(value)


def quote(name: str) -> str:
    """Return a node's name as it stands in arrow notation: bare if it can, else in double quotes."""
    if not isinstance(name, str) or not name.strip() or '"' in name or "\n" in name:
        raise GraphError(
            f"{name!r} cannot name a node: a name is text, not blank, without double quotes and newlines. Rename the "
            "column, for instance with obs.rename(columns=...)."
        )
    return name if _BARE.fullmatch(name) else f'"{name}"'


def _set(names: Sequence[str]) -> str:
    inner = ", ".join(map(quote, names))
    return inner if len(names) == 1 else f"{{{inner}}}"


def _statements(text: str) -> Iterable[tuple[str, list[str]]]:
    """Split into statements; a newline inside braces does not end one."""
    tokens: list[str] = []
    start = at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            line = text[start:].split("\n")[0].split(";")[0].strip()
            raise GraphError(f"cannot read {text[at]!r} in the statement '{line}'. {_GRAMMAR}")
        at = match.end()
        open_set = tokens.count("{") > tokens.count("}")
        if match["end"] and not (open_set and match["end"] == "\n"):
            if tokens:
                yield text[start : match.start()].strip(), tokens
            tokens, start = [], at
        elif not match["space"] and not match["end"]:
            tokens.append(_SAME.get(match[0], match[0]))
    if tokens:
        yield text[start:].strip(), tokens


def _read(statement: str, tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    """Read ``set arrow set arrow ... set``."""
    members: list[list[str]] = []
    arrows: list[str] = []
    rest = tokens[::-1]
    while True:
        members.append(_read_set(statement, rest))
        if not rest:
            return members, arrows
        arrow = rest.pop()
        if arrow not in ("->", "<-", "<->"):
            raise GraphError(f"expected an arrow before {arrow!r} in the statement '{statement}'. {_GRAMMAR}")
        arrows.append(arrow)


def _read_set(statement: str, rest: list[str]) -> list[str]:
    """Take one name or one braced set off the end of the reversed tokens."""

    def take() -> str:
        token = rest.pop() if rest else "the end"
        if not (_BARE.fullmatch(token) or token[0] == token[-1] == '"') or not token.strip('" '):
            raise GraphError(f"expected a column name, found {token} in the statement '{statement}'. {_GRAMMAR}")
        return token.strip('"')

    if not rest or rest[-1] != "{":
        return [take()]
    names: list[str] = []
    closing = "{"
    while closing != "}":
        rest.pop()  # the brace or comma just seen
        names.append(take())
        closing = rest[-1] if rest else "the end"
        if closing not in (",", "}"):
            raise GraphError(f"expected ',' or '}}', found {closing} in the statement '{statement}'. {_GRAMMAR}")
    rest.pop()
    return names


def _refuse_cycle(arrows: Arrows) -> None:
    parents = {node: [a for a, b in arrows.edges if b == node] for node in arrows.nodes}
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        cycle = " -> ".join(map(quote, error.args[1]))
        raise GraphError(
            f"the graph has a cycle: {cycle}. Causes come before effects: remove one arrow, or write '<->' for an "
            f"association without direction.\nGraph: {render_arrows(arrows)}"
        ) from None
