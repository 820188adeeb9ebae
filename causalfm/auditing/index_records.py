"""Reports found in a folder: what an index shows of each, small enough for hundreds on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from causalfm.auditing.about import encoder_of, is_deployment, source_of, title_of
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import clean, interval, number, requirement
from causalfm.errors import CausalFMError
from causalfm.results import VERDICTS, plain

FILE = "report.json"
PAGE = "report.html"


@dataclass(frozen=True)
class Answer:
    """One finding, as a line of a comparison: texts are formatted as in the report."""

    question: str
    title: str
    factor: str
    verdict: str
    quantity: str
    number: str
    chance: str
    margin: str
    margin_value: float | None
    want: str


@dataclass(frozen=True)
class Run:
    """One audit.

    Attributes
    ----------
    path, page
        Where its JSON is, relative to the index; the address of its page from there, empty without a page.
    title, kind, verdict, tally, headline
        What was asked and answered; ``kind`` is ``"cohort"`` or ``"deployment"``.
    made, seed, versions
        Time stamp, seed, versions.
    encoder, source, rows, units, unit, data
        What was audited; ``data`` are the fingerprints, which are equal for equal rows, embeddings and columns.
    factors, graph
        Technical factors; arrows.
    policy
        Policy as it was in force.
    answers
        The findings.
    embeddings
        Fingerprints of the embeddings alone: they stay when another graph names other columns. Empty if not known.
    """

    path: str
    page: str
    title: str
    kind: str
    verdict: str
    tally: str
    headline: str
    made: str
    seed: str
    versions: Mapping[str, str]
    encoder: str
    source: str
    rows: str
    units: str
    unit: str
    data: str
    factors: tuple[str, ...]
    graph: str
    policy: Mapping[str, Any]
    answers: tuple[Answer, ...]
    embeddings: str = ""


@dataclass(frozen=True)
class Broken:
    """A file or folder that could not be read, and why."""

    path: str
    reason: str


def find_reports(
    folder: Path, base: Path, load: Callable[[Path], Audit], say: Callable[[str, int, int], None]
) -> tuple[list[Run], list[Broken]]:
    """Read every ``report.json`` under a folder, at any depth; links to folders are not followed.

    Parameters
    ----------
    folder
        Where to look.
    base
        Folder of the index, which the paths are relative to.
    load
        Reads one audit and raises :class:`causalfm.errors.CausalFMError` or ``OSError`` where it cannot.
    say
        Called with (what is being done, steps done, steps in all).

    Returns
    -------
    list of Run
        The newest first.
    list of Broken
        What could not be read, by path. Nothing is left out silently.
    """
    runs: list[Run] = []
    broken: list[Broken] = []

    def refused(error: OSError) -> None:
        broken.append(Broken(_relative(Path(os.fsdecode(error.filename)), base), _reason(error)))

    found = [Path(here) / FILE for here, inside, files in os.walk(folder, onerror=refused) if FILE in files + inside]
    for done, path in enumerate(found):
        say("reading reports", done, len(found))
        try:
            runs.append(run_of(load(path), path, base))
        except (CausalFMError, OSError) as error:
            broken.append(Broken(_relative(path, base), _reason(error)))
    say("done", len(found), len(found))
    by_path = sorted(runs, key=lambda run: run.path)
    return sorted(by_path, key=lambda run: run.made, reverse=True), sorted(broken, key=lambda one: one.path)


def run_of(audit: Audit, path: Path, base: Path) -> Run:
    """Keep of an audit what an index shows of it.

    Parameters
    ----------
    audit
        The audit.
    path
        Its JSON.
    base
        Folder of the index.
    """
    data, graph, provenance = audit.data, audit.graph, audit.provenance
    deployed = is_deployment(audit)
    prints = ("reference_fingerprint", "deployment_fingerprint") if deployed else ("fingerprint",)
    known = [clean(data[key]) for key in prints if data.get(key)]
    alone = [f"{key}_of_embeddings" for key in prints]
    tally = {name: sum(f.verdict == name for f in audit.findings) for name in VERDICTS}
    page = path.with_name(PAGE)
    return Run(
        path=_relative(path, base),
        page=_address(page, base) if page.is_file() else "",
        title=title_of(audit),
        kind="deployment" if deployed else "cohort",
        verdict=audit.verdict,
        tally=", ".join(f"{count} {name}" for name, count in tally.items() if count),
        headline=clean(audit.headline),
        made=clean(provenance.get("created", "")),
        seed=number(provenance.get("seed")),
        versions={clean(key): clean(value) for key, value in dict(provenance.get("versions") or {}).items()},
        encoder=encoder_of(data),
        source=source_of(data),
        rows=number(data.get("deployment_rows" if deployed else "rows")),
        units=number(data.get("deployment_units" if deployed else "units")),
        unit=clean(data.get("unit", graph.group)),
        data=" + ".join(known),
        factors=tuple(clean(name) for name in graph.technical),
        graph=clean(graph),
        policy={clean(key): plain(value) for key, value in audit.policy.items()},
        answers=tuple(_answer(finding) for finding in audit.findings),
        embeddings=" + ".join(clean(data[key]) for key in alone) if all(data.get(key) for key in alone) else "",
    )


def _answer(finding: Finding) -> Answer:
    margin = finding.margin
    return Answer(
        question=clean(finding.question),
        title=clean(finding.title),
        factor=clean(finding.factor),
        verdict=finding.verdict,
        quantity=clean(finding.quantity),
        number=interval(finding),
        chance=number(finding.chance),
        margin=requirement(finding),
        margin_value=margin if margin == margin else None,
        want=clean(finding.details.get("want", "")),
    )


def _relative(path: Path, base: Path) -> str:
    """Write a path as seen from the index; names of the file system that are no text stay visible."""
    seen = Path(os.path.relpath(path, base)).as_posix()
    return os.fsencode(seen).decode("utf-8", "backslashreplace")


def _address(path: Path, base: Path) -> str:
    """Write a path as a relative address: the dot keeps a folder called ``javascript:`` from being one."""
    seen = Path(os.path.relpath(path, base)).as_posix()
    return f"./{quote(os.fsencode(seen))}"


def _reason(error: CausalFMError | OSError) -> str:
    """Say what is wrong without a path of this machine."""
    if isinstance(error, OSError) and not isinstance(error, CausalFMError):
        return error.strerror or type(error).__name__
    return clean(error)
