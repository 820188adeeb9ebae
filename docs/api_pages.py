"""Pages made at build time: every public name on one page per folder, the command line, and the data sets' cards."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = HERE / "api"
# Constants have no docstring: what they are stands here, and one that is not listed stops the build.
CONSTANTS = {
    "causalfm.auditing.METRICS": "Measures of :func:`causalfm.compare`, each a :class:`causalfm.auditing.Metric`.",
    "causalfm.augment.CONTENTS": "Names of what :func:`causalfm.augment.tile_content` tells apart, by code.",
    "causalfm.augment.SITE_PRESETS": "Invented radiology sites by name, each a :class:`causalfm.augment.SitePreset`.",
    "causalfm.extraction.ENCODERS": ":doc:`/encoders` by name, each a :class:`causalfm.extraction.EncoderSpec`.",
}
# Written by scikit-learn, in its own words and with its own links.
ROUTING = "set_fit_request, set_transform_request, set_partial_fit_request, set_score_request"


def public() -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every public name once, under the shortest path that gives it.

    Returns
    -------
    Iterator
        ``("causalfm", "audit")``, ..., ``("causalfm.metrics", "kbet")``, ...
    """
    import causalfm

    top = {id(getattr(causalfm, name)) for name in causalfm._NAMES}
    yield from (("causalfm", name) for name in sorted(causalfm._NAMES))
    for folder in causalfm._FOLDERS:
        module = importlib.import_module(f"causalfm.{folder}")
        yield from ((module.__name__, name) for name in module.__all__ if id(getattr(module, name)) not in top)


def entry(module: str, name: str, thing: Any) -> str:
    """Return one entry of a reference page."""
    path = f"{module}.{name}"
    if inspect.isclass(thing):
        return f".. autoclass:: {path}\n   :members:\n   :exclude-members: {ROUTING}\n\n"
    if callable(thing):
        return f".. autofunction:: {path}\n\n"
    return f".. py:data:: {path}\n\n   {CONSTANTS[path]}\n\n"


def title(text: str) -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{'=' * len(text)}\n\n"


def module_pages() -> dict[str, str]:
    """Return the text of the page of every folder, and of the package."""
    pages: dict[str, str] = {}
    for module, name in public():
        if module not in pages:
            pages[module] = title(module) + first_line(module)
        pages[module] += entry(module, name, getattr(importlib.import_module(module), name))
    for module, names in extra_modules().items():
        pages[module] = title(module) + first_line(module)
        pages[module] += "".join(entry(module, n, getattr(importlib.import_module(module), n)) for n in names)
    return pages


def first_line(module: str) -> str:
    """Return what a module says of itself, as the first paragraph of its page."""
    return (inspect.getdoc(importlib.import_module(module)) or "").partition("\n\n")[0] + "\n\n"


def extra_modules() -> dict[str, list[str]]:
    """Return public modules that have no list of names: their own functions and classes."""
    found = ["causalfm.confidence", "causalfm.errors", "causalfm.results", "causalfm.extraction.sources"]
    found += [f"causalfm.datasets.{name}" for name in data_sets()]
    seen = {id(getattr(importlib.import_module(module), name)) for module, name in public()}
    return {
        name: [n for n in own_names(name) if id(getattr(importlib.import_module(name), n)) not in seen]
        for name in found
    }


def own_names(module: str) -> list[str]:
    """Return the public functions and classes that a module lists in ``__all__``, or else defines."""
    loaded = importlib.import_module(module)
    named = [n for n, thing in vars(loaded).items() if not n.startswith("_") and callable(thing)]
    listed = getattr(loaded, "__all__", [n for n in named if getattr(vars(loaded)[n], "__module__", "") == module])
    return sorted(n for n in named if n in listed)


def data_sets() -> list[str]:
    """Return the names of the data sets: a module with a card of the same name."""
    folder = HERE.parent / "datasets"
    return sorted(card.stem for card in folder.glob("*.md") if card.with_suffix(".py").exists())


def command_pages() -> str:
    """Return the page of the command line, from the commands themselves."""
    import click
    import typer

    from causalfm.cli import app

    lines = ["# Command line", "", "Every command prints the same with `--help`.", ""]

    def tell(path: str, command: click.Command) -> None:
        if hasattr(command, "commands"):
            for name in sorted(command.commands):
                tell(f"{path} {name}", command.commands[name])
            return
        lines.extend(
            [f"## `{path}`", "", (command.help or "").strip(), "", "| argument or option | meaning |", "|---|---|"]
        )
        for parameter in command.params:
            if parameter.name != "help":
                lines.append(f"| {spelling(parameter)} | {cell(getattr(parameter, 'help', '') or '')} |")
        lines.append("")

    tell("causalfm", typer.main.get_command(app))
    return "\n".join(lines)


def spelling(parameter: Any) -> str:
    """Return how an argument or option is written."""
    if parameter.param_type_name == "argument":
        return f"`{(parameter.name or '').upper()}`"
    return ", ".join(f"`{name}`" for name in parameter.opts)


def cell(text: str) -> str:
    """Return text that fits into one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def card_page() -> str:
    """Return one page that holds the card of every data set."""
    names = [
        f"```{{include}} ../../datasets/{name}.md\n:heading-offset: 1\n:relative-images:\n:relative-docs: ..\n```\n"
        for name in data_sets()
    ]
    intro = "Modules of `causalfm.datasets`. Nothing is downloaded unless you ask; no patient's data lie here."
    return "\n".join(["# Data sets", "", intro, "", *names])


def write_pages(app: object = None) -> None:
    """Write all pages into ``docs/api``; files that would not change are left alone."""
    pages = {f"{module}.rst": text for module, text in module_pages().items()}
    pages |= {"commands.md": command_pages(), "data_sets.md": card_page()}
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = OUT / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this: the pages are written before it looks for them."""
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
