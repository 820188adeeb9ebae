"""The reference holds every public name, the bibliography every source, and what is named elsewhere exists."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import causalfm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
YEAR = re.compile(r"(?<![\d:.])(?:19|20)\d\d(?![\d.])")
PROTOCOL = "_is_protocol"
ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")


def public():
    """Every public object under every path that gives it."""
    for name in causalfm._NAMES:
        yield f"causalfm.{name}", getattr(causalfm, name)
    for folder in causalfm._FOLDERS:
        module = importlib.import_module(f"causalfm.{folder}")
        for name in module.__all__:
            yield f"causalfm.{folder}.{name}", getattr(module, name)


@pytest.fixture(scope="module")
def pages(api_pages):
    return api_pages.module_pages()


@pytest.fixture(scope="module")
def api_pages():
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("api_pages")
    finally:
        sys.path.remove(str(DOCS))


def test_every_public_name_has_one_entry(pages):
    entries = re.findall(r"^\.\. (?:autoclass|autofunction|py:data):: (\S+)$", "".join(pages.values()), re.M)
    assert len(entries) == len(set(entries))
    things = {id(found(path)): path for path in entries}
    missing = [path for path, thing in public() if id(thing) not in things]
    assert missing == []
    listed = (DOCS / "reference.md").read_text("utf-8")
    unlisted = [m for m in pages if f"api/{m}\n" not in listed and not m.startswith("causalfm.datasets.")]
    assert unlisted == []


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def lacking(thing):
    """Return the sections that the docstring of a public object lacks."""
    text = inspect.getdoc(thing) or ""
    has = {title for title in ("Parameters", "Returns", "Attributes", "Yields") if f"{title}\n---" in text}
    if re.search(r"Parameters\b[^:]*(?::| are those of) (?:as )?:\w+:`", text):
        return []  # those of a sibling, by a link
    if inspect.isclass(thing):
        made_by = inspect.getdoc(getattr(thing, "fit", None)) or ""
        plain = PROTOCOL in vars(thing) or issubclass(thing, Exception)
        return [] if has or "Parameters\n---" in made_by or (plain and text) else ["Parameters or Attributes"]
    signature = inspect.signature(thing)
    needed = ["Parameters"] if signature.parameters else []
    if signature.return_annotation not in (None, "None"):
        needed.append("Returns")
    return [title for title in needed if title not in has]


def test_every_public_name_has_the_sections_of_numpydoc():
    wrong = {path: lacking(thing) for path, thing in public() if callable(thing) and lacking(thing)}
    assert wrong == {}


def test_the_check_of_sections_can_fail():
    def bare(x):
        """Do something."""
        return x

    assert lacking(bare) == ["Parameters", "Returns"]


def test_every_function_answers_a_question():
    text = (DOCS / "questions.md").read_text("utf-8")
    named = re.findall(r"\{py:(?:func|class)\}`~([\w.]+)`", text)
    things = {id(found(path)) for path in named}  # each of them exists, or this fails
    correctors = [
        thing for path, thing in public() if path.startswith("causalfm.estimators.") and hasattr(thing, "fit")
    ]
    functions = [thing for path, thing in public() if inspect.isfunction(thing)]
    unasked = [thing.__name__ for thing in [*functions, *correctors] if id(thing) not in things]
    assert len(functions) > 80
    assert unasked == []


def sources():
    """Yield (where, text) of every References section."""
    for folder in ("causalfm", "estimators", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if folder == "causalfm" and path.parts[len(ROOT.parts) + 1] in ("estimators", "datasets"):
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
                    text = ast.get_docstring(node) or ""
                    if "References\n----" in text:
                        yield f"{path.relative_to(ROOT)}: {getattr(node, 'name', '')}", text.split("References\n")[1]


def bibliography():
    """Return (first surname, its years and arXiv numbers) of every entry."""
    lines = [line[2:] for line in (DOCS / "bibliography.md").read_text("utf-8").splitlines() if line.startswith("- ")]
    return [(re.split(r",| \(", line)[0], set(YEAR.findall(line)) | set(ARXIV.findall(line))) for line in lines]


def unknown(text, entries):
    """Return the years and arXiv numbers of a text that belong to no entry whose first author is named there."""
    text = " ".join(text.split())
    known = set().union(*(marks for surname, marks in entries if surname in text), set())
    return [mark for mark in [*YEAR.findall(ARXIV.sub("", text)), *ARXIV.findall(text)] if mark not in known]


def test_every_source_of_a_docstring_is_in_the_bibliography():
    entries = bibliography()
    cited = dict(sources())
    assert len(cited) > 100
    assert {where: bad for where, text in cited.items() if (bad := unknown(text, entries))} == {}


def test_a_source_that_is_missing_is_noticed():
    entries = bibliography()
    assert unknown("Holm, Scand. J. Statist. 6 (1979) 65-70.", entries) == []
    assert unknown("Holm, Scand. J. Statist. 6 (1978) 65-70.", entries) == ["1978"]
    assert unknown("Nobody, arXiv:2401.12345.", entries) == ["2401.12345"]


def test_versions_of_peers_are_those_that_ran():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line[:60])
    page = (DOCS / "comparison.md").read_text("utf-8")
    ran = re.findall(r"^\| ([\w.-]+) \| ([\d.]+) \| yes \|", page, re.M)
    assert len(ran) >= 6
    lower = {name.lower(): version for name, version in pins.items() if not name.startswith("#")}
    assert {name: lower[name.lower()] for name, _ in ran} == dict(ran)
