"""Numbers in hand-written pages: which of them look like results, and where each of them stands in a committed file.

A paragraph with such a number says where it is from, ``<!-- from: correctors.csv, MeanAligner -->``: a file beside the
page (or a path from the root), and words that its lines must hold. Numbers that are choices and no results (margins,
defaults, settings of a study) are listed: ``<!-- set: 95 .05 -->``. A mark standing alone belongs to what is before it.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BEGIN, END = (
    r"<!-- (?!from: )[^>]*(?:written by|from \S+: begin|begin|start|limits|answers|script)[^>]*-->",
    "(?:end|/limits)",
)
WRITTEN = re.compile(rf"{BEGIN}.*?<!-- [^>]*{END}[^>]*-->", re.S)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|\]\([^)]*\)|<[^!>][^>]*>", re.M | re.S)
NO_RESULTS = (  # versions, records, years, papers, schemas
    r"\b\d+\.\d+\.\d[\w.]*",
    r"(?:Python|HDF5|audit-|ADR) ?\d+(?:\.\d+)?",
    r"\b(?:19|20)\d\d\b",
    r"arXiv:?\s?\d+\.\d+",
    r"\b10\.\d{4,}/\S+",
)
NAMES = re.compile("|".join(NO_RESULTS))
NUMBER = r"-?\d[\d,]*\.?\d*|-?\.\d+"
UNITS = r"\s?(?:%|points?\b|times\b|seconds?\b|s\b|ms\b|minutes?\b|hours?\b|MiB\b|GiB\b|GB\b)"
RESULT = re.compile(rf"(?<![\w.,-])(?:({NUMBER})(?={UNITS})|(-?\d*\.\d+)(?![\w.]*\d)|({NUMBER}) of (?=\d))")


def paragraphs(page: Path) -> list[str]:
    """Return the hand-written paragraphs, items of lists and rows of tables of a page, without code."""
    text = CODE.sub(" ", WRITTEN.sub("", page.read_text("utf-8")))
    found: list[str] = []
    for part in re.split(r"\n\s*\n", text):
        if found and re.fullmatch(r"(?:\s*<!-- (?:from|set): [^>]*-->)+\s*", part):
            found[-1] += part
        else:
            found += re.split(r"\n(?=\s*(?:[-*]|\d+\.)\s)", part)
    return found


def results(paragraph: str) -> list[str]:
    """Return the numbers of a paragraph that look like results."""
    text = NAMES.sub(" ", re.sub(r"<!--.*?-->", " ", paragraph, flags=re.S))
    return [next(group for group in match.groups() if group).rstrip(",.") for match in RESULT.finditer(text)]


def marks(paragraph: str) -> list[tuple[str, str]]:
    """Return the marks of a paragraph: what they are, and what they say."""
    return re.findall(r"<!-- (from|set): (.*?) -->", " ".join(paragraph.split()))


def numbers_in(said: str) -> list[float]:
    """Return the numbers of the lines of a file that hold all words; ``said`` is ``file, word, word``."""
    name, *words = (part.strip() for part in said.split(","))
    path = DOCS / name if (DOCS / name).exists() else ROOT / name
    text = path.read_text("utf-8")
    lines = [line for line in text.splitlines() if all(word in line for word in words)]
    assert lines, f"{said}: no line of {name} holds these words"
    found = re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?|(?<![\w.])-?\.\d+", "\n".join(lines).replace("\u2212", "-"))
    return [float(number) for number in found]


def is_there(shown: str, known: list[float]) -> bool:
    """Return whether a number, as shown, is one of these rounded: itself, in per cent, or as a loss."""
    value = float(shown.replace(",", ""))
    digits = len(shown.partition(".")[2])
    half = 0.5 * 10.0**-digits + 1e-9
    return any(abs(scale * one - value) <= half for one in known for scale in (1.0, 100.0, -1.0, -100.0))


def unsourced(page: Path) -> list[str]:
    """Return what a page says without a source: paragraphs without a mark, numbers that their source does not hold."""
    wrong = []
    for paragraph in paragraphs(page):
        shown, said = results(paragraph), marks(paragraph)
        known = [one for kind, source in said if kind == "from" for one in numbers_in(source)]
        choices = {one for kind, listed in said if kind == "set" for one in listed.split()}
        missing = [one for one in shown if one not in choices and not is_there(one, known)]
        if missing:
            wrong.append(f"{', '.join(missing)}: {' '.join(paragraph.split())[:90]}")
    return wrong
