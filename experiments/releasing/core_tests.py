"""The core tests with other versions than those pinned: the lowest that pyproject.toml allows, and the newest."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.releasing.environments import constrained, environment, index, pins
from experiments.releasing.steps import DONE, ROOT, TOOLS, Step, run, step

OWN, OTHERS = "3.11", ("3.12", "3.13")
TESTERS = ("pytest", "hypothesis", "scanpy")  # what the tests themselves need
# Readers and writers, the graph, neighbours, overlap, correctors, an audit with its tests and effects, its report.
CORE_TESTS = (
    "test_accessor.py",
    "test_cohort.py",
    "test_conditioning_oracles.py",
    "test_conditioning_sets.py",
    "test_formats.py",
    "test_formats_slides.py",
    "test_formats_slide_stores.py",
    "test_graph_checks.py",
    "test_graph_declaration.py",
    "test_io.py",
    "test_neighbours.py",
    "test_positivity.py",
    "test_report_files.py",
    "test_sklearn_pipelines.py",
)


def lowest() -> Iterator[Step]:
    """Resolve to the lowest version of each direct dependency, and the newest fitting one of the others; test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "lowest"
        yield (found := step("resolve to the lowest versions", OWN, partial(_resolve, folder)))
        if found.outcome == DONE:
            yield from _tested(folder, OWN, ["-r", _chosen(folder)])


def newest() -> Iterator[Step]:
    """Install what a user gets today, but for torch, with each later Python, and test."""
    for python in OTHERS:
        with tempfile.TemporaryDirectory() as name:  # gone before the next: each takes gigabytes
            folder = Path(name) / python
            yield from _tested(folder, python, [*constrained(folder, pins("torch")), *TESTERS])


def _chosen(folder: Path) -> Path:
    return folder.with_name("chosen.txt")


def _resolve(folder: Path) -> str:
    tools = [TOOLS / "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    found = run([*tools, "--resolution", "lowest-direct", "--python-version", OWN, *index(), ROOT / "pyproject.toml"])
    chosen = [line for line in found.splitlines() if "==" in line]
    _chosen(folder).write_text("\n".join([*chosen, *pins("pytest", "hypothesis")]))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    direct = {name.split(">")[0].split("=")[0].split("<")[0] for name in declared}
    return ", ".join(line for line in chosen if line.split("==")[0] in direct)


def _tested(folder: Path, python: str, arguments: Sequence[str | Path]) -> Iterator[Step]:
    def install() -> str:
        environment(folder, python, [*arguments, ROOT])
        return ", ".join(_versions(folder))

    def test() -> str:
        quiet = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-o", "filterwarnings=default")
        tests = [f"tests/{name}" for name in CORE_TESTS]
        printed = run([folder / "bin" / "python", "-m", "pytest", *quiet, *tests])
        return printed.strip().splitlines()[-1].strip("= ")

    yield (installed := step("install", python, install))
    if installed.outcome == DONE:
        yield step("core tests", python, test)


def _versions(folder: Path) -> list[str]:
    names = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "anndata", "zarr")
    code = "import sys, importlib.metadata as m\nfor name in sys.argv[1:]: print(name, m.version(name))"
    return run([folder / "bin" / "python", "-c", code, *names]).splitlines()
