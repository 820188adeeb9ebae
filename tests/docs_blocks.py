"""Runs a page as a reader would: its blocks in their order, in one folder, Python in one process, commands as typed.

A fenced block is run unless the line above says why not: ``<!-- not run: needs a GPU -->``. Reasons are a fixed list.
"""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
REASONS = (
    "installs packages",
    "needs a cluster",
    "needs a container engine",
    "needs a GPU",
    "needs gated weights",
    "needs an optional package",
    "takes minutes",
    "downloads data",
)
VERDICTS = ("audit", "shift", "monitor")  # commands whose exit code is the verdict
SHOWN = ("text", "markdown", "docker", "{literalinclude}", "{include}", "{toctree}")
FENCE = re.compile(r"^(?P<mark><!-- not run: [^\n]*-->\n)?```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, in which language, and why it is not run (empty: it is)."""

    page: str
    line: int
    language: str
    code: str
    reason: str


def pages() -> list[str]:
    """Return the README and the pages of the documentation; records of decisions show no commands."""
    found = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
    return ["README.md", "CONTRIBUTING.md", *found]


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        reason = (match["mark"] or "").removeprefix("<!-- not run: ").partition(" -->")[0]
        found.append(Block(page, line, match["language"].strip(), match["code"], reason))
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), f"{page}: a fence that is not understood"
    return found


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a page in a folder that holds the files it names; return the names that its Python leaves."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.reason:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), names)
        elif block.language == "bash":
            for command in commands(block.code):
                run_command(command, where, monkeypatch)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "yaml":
            yaml.safe_load(block.code)
        else:
            assert block.language.split(" ")[0] in SHOWN, f"{where}: name the language, or mark the block"
    return names


def commands(code: str) -> list[list[str]]:
    """Return the commands of a block, as a shell would split them."""
    lines = re.sub(r"\\\n\s*", " ", code).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command: causalfm in this process, Python in another; nothing else is known."""
    if words[0] == "causalfm":
        from causalfm import cli

        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        allowed = (0, 1, 3) if words[1] in VERDICTS else (0,)
        assert (ended.value.code or 0) in allowed, f"{where}: {shlex.join(words)} ended with {ended.value.code}"
        return
    assert words[0] == "python", f"{where}: {words[0]} is no command that a test can run: mark the block"
    out = None
    if ">" in words:
        words, out = words[: words.index(">")], words[words.index(">") + 1]
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{where}: {done.stderr}"
    if out is not None:
        Path(out).write_text(done.stdout, encoding="utf-8")
