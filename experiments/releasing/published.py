"""What is published: build it, check its metadata, install it where nothing else is, and use it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.releasing.environments import constrained, environment, index, pins
from experiments.releasing.steps import ROOT, TOOLS, Step, run, step

PYTHONS = ("3.11", "3.12", "3.13")
DIST = ROOT / "dist"
OWN = "3.11"
# Patients whose site shows in the embedding: the audit must say that it fails.
COHORT = """
import sys
import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
cohort, _ = linear_scm(n_groups=48, rows_per_group=4, n_sites=2, site_effect=3.0, confounding=0.0, d=8, random_state=0)
cfm.write(cohort, sys.argv[1])
"""
AUDIT = ("--biology", "tumour", "--technical", "site", "--group", "patient")
EXTRAS = ("umap", "slides", "encoders", "radiology", "scale")
FAILS = 1  # exit code of an audit that fails


def version() -> str:
    """Return the version of pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def steps() -> Iterator[Step]:
    """Do one after the other, the quick ones first; a failed one stops none but those that need it."""
    yield step("build wheel and sdist", OWN, _build)
    yield step("twine check --strict", OWN, _twine)
    yield step("CITATION.cff against its schema", OWN, _citation)
    yield step("the changelog has this version", "", _changelog)
    for python in PYTHONS:
        yield step("pins that have a wheel", python, partial(_wheels, python))
        yield step("core and extras resolve, wheels alone", python, partial(_resolves, python))
    for name, pattern, python in (*(("wheel", "*.whl", p) for p in PYTHONS), ("sdist", "*.tar.gz", OWN)):
        with tempfile.TemporaryDirectory() as folder:  # gone before the next: each takes gigabytes
            act = partial(_install, Path(folder) / f"{name}-{python}", pattern, python)
            yield step(f"{name} into an empty environment, --help, an audit", python, act)


def _build() -> str:
    shutil.rmtree(DIST, ignore_errors=True)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT])
    return ", ".join(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB" for path in sorted(DIST.iterdir()))


def _twine() -> str:
    run([TOOLS / "twine", "check", "--strict", *sorted(DIST.iterdir())])
    return f"{len(list(DIST.iterdir()))} files"


def _citation() -> str:
    return run([TOOLS / "cffconvert", "--validate", "-i", ROOT / "CITATION.cff"]).strip().splitlines()[-1]


def _install(folder: Path, pattern: str, python: str) -> str:
    (built,) = DIST.glob(pattern)
    held = pins() if python == OWN else pins("torch")  # elsewhere the newest of all but the largest
    found = environment(folder, python, [*constrained(folder, held), built])
    command = folder / "bin" / "causalfm"
    run([command, "--help"], cwd=folder)
    run([found, "-c", COHORT, folder / "cohort.npz"], cwd=folder)
    run([command, "audit", folder / "cohort.npz", *AUDIT, "--out", folder / "report"], cwd=folder, code=FAILS)
    if not (folder / "report" / "report.html").is_file():
        raise RuntimeError("the audit left no report.html")
    installed = json.loads(run([TOOLS / "uv", "pip", "list", "--quiet", "--python", found, "--format", "json"]))
    return f"{len(installed)} packages; the audit failed, as it must"


def _wheels(python: str) -> str:
    lines, lacking = pins(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        while True:  # uv names one that has none at a time
            (file := Path(folder) / "pins.txt").write_text("\n".join(line for line in lines if line not in lacking))
            try:
                _compile(["--no-deps", file], python)
            except RuntimeError as error:
                named = re.search(r"Because (\S+==\S+) has no", str(error))
                found = [line for line in lines if named and line.lower() == named[1].lower() and line not in lacking]
                if not found:
                    raise
                lacking += found
            else:
                break
    return f"{len(lines) - len(lacking)} of {len(lines)}" + (f"; not {', '.join(lacking)}" if lacking else "")


def _resolves(python: str) -> str:
    extras = [part for name in EXTRAS for part in ("--extra", name)]
    return f"{_compile([*extras, ROOT / 'pyproject.toml'], python)} packages"


def _compile(arguments: Sequence[str | Path], python: str) -> int:
    """Return how many packages uv chooses from wheels alone; a RuntimeError says why it finds no set."""
    command = [TOOLS / "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    return run([*command, "--python-version", python, *index(), *arguments]).count("==")


def _changelog() -> str:
    heading = rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d$"
    found = re.search(heading, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no heading '## [{version()}] - YYYY-MM-DD': date the changelog before you publish")
    return found[0]
