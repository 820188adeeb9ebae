"""Evidence towards the technical-readiness dimension of REAL-FM, tied to public frameworks; it rates nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from causalfm.auditing.documents import check_schema
from causalfm.auditing.evidence_items import ITEMS
from causalfm.auditing.evidence_map import EvidenceMap, load_evidence_map
from causalfm.auditing.evidence_sources import Report, not_asked, read_report
from causalfm.errors import DataError
from causalfm.results import Result

EVIDENCE_VERSION = "1.0"
DIMENSION = "technical readiness"
STATEMENT = (
    "Evidence towards the technical-readiness dimension of REAL-FM, and on questions of public frameworks, as reports "
    "of causalfm give it. It rates nothing: evidence on a question is for or against, and what is open or was not "
    "asked stands beside it."
)

Outcome = Literal["pass", "fail", "no verdict", "cannot tell", "not asked"]
ANSWERED: tuple[Outcome, ...] = ("pass", "fail", "no verdict")
OUTCOMES: tuple[Outcome, ...] = (*ANSWERED, "cannot tell", "not asked")


@dataclass(frozen=True)
class Evidence(Result):
    """One answer of a report, or the record that there is none.

    Attributes
    ----------
    dimension, aspect
        ``"technical readiness"``; ``"causal reasoning"``, ``"domain robustness"``, ``"generalisation"`` or
        ``"calibration under shift"``.
    question, title, factor, subject
        Key of the question, the question in words, what it is about, and the encoder where several are compared.
    quantity, estimate, low, high, confidence
        What was measured, the number, its interval, and the confidence of the interval. ``nan`` where there is none.
    chance, margin, want
        What the design gives by chance, the policy's margin, and its side that passes (``"below"``, ``"above"``).
    unit, n, n_groups
        The independent unit, rows, and independent units; None where the report does not say.
    holds_for, assumptions
        Patients, levels and strata that the number speaks for; what it leans on.
    verdict, monitored, sentence
        The report's verdict, and whether its policy lets it decide; ``"no verdict"`` where no margin is set,
        ``"not asked"`` where there is no answer.
    source
        Report (SHA-256), data with fingerprints, graph, policy, seed, versions; None for what no report was asked.
    maps_to
        Items of frameworks: ``framework``, ``item``, ``title``.
    """

    dimension: str
    aspect: str
    question: str
    title: str
    factor: str
    subject: str
    quantity: str
    estimate: float
    low: float
    high: float
    confidence: float
    chance: float
    margin: float
    want: str
    unit: str
    n: int | str | None
    n_groups: int | str | None
    holds_for: str
    assumptions: tuple[str, ...]
    verdict: Outcome
    monitored: bool
    sentence: str
    source: Mapping[str, Any] | None
    maps_to: tuple[Mapping[str, str], ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this record: the source by its hash, items as ``framework/item``."""
        body = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        source = self.source or {}
        data = source.get("data", ())
        return [
            {
                **{key: value for key, value in body.items() if key != "assumptions"},
                "source": source.get("report_sha256", ""),
                "maps_to": " ".join(f"{one['framework']}/{one['item']}" for one in self.maps_to),
                "report": source.get("kind", ""),
                "data": " ".join(f"{one['name']}:{one['fingerprint']}" for one in data),
                "graph": source.get("graph", ""),
                "policy": (source.get("policy") or {}).get("sha256", ""),
                "seed": source.get("seed"),
                "causalfm": source.get("versions", {}).get("causalfm", ""),
                "assumptions": " ".join(self.assumptions),
            }
        ]


@dataclass(frozen=True)
class EvidenceSet(Result):
    """All evidence of some reports.

    Attributes
    ----------
    mapping
        What ties questions to frameworks.
    sources
        The reports, in the order given.
    records
        Answers in the order of the reports, then what no report was asked.
    """

    mapping: EvidenceMap
    sources: tuple[Mapping[str, Any], ...]
    records: tuple[Evidence, ...]

    def coverage(self) -> list[dict[str, Any]]:
        """Return one row per item of a framework: how much evidence there is, what is open, what was not asked."""
        out = []
        for framework, item in self.mapping.items():
            mine = [
                record.verdict
                for record in self.records
                if any((to["framework"], to["item"]) == (framework["id"], item["id"]) for to in record.maps_to)
            ]
            counts: dict[str, Any] = {outcome: mine.count(outcome) for outcome in OUTCOMES}
            told = "evidence" if sum(counts[o] for o in ANSWERED) else "open" if counts["cannot tell"] else "not asked"
            about: dict[str, Any] = {"framework": framework["id"], "item": item["id"], "title": item["title"]}
            out.append(about | {"status": told} | counts)
        return out

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per record."""
        return [row for record in self.records for row in record.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data, held against the shipped schema ``evidence-1.0``."""
        frameworks = [{k: v for k, v in one.items() if k != "items"} for one in self.mapping.frameworks]
        body = {
            "schema_version": EVIDENCE_VERSION,
            "dimension": DIMENSION,
            "statement": STATEMENT,
            "mapping": {"name": self.mapping.name, "sha256": self.mapping.sha256, "frameworks": frameworks},
            "sources": [dict(source) for source in self.sources],
            "coverage": self.coverage(),
            "records": [record.to_dict() for record in self.records],
        }
        check_schema(
            body, f"evidence-{EVIDENCE_VERSION}", "the evidence", "Please report this: the export is at fault."
        )
        return body

    def to_json(self, path: str | Path | None = None) -> str:
        """Render strict JSON; write it atomically if ``path`` is given."""
        from causalfm.auditing.report import render_json, write_text

        return write_text(render_json(self), path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Render one row per record; write it atomically if ``path`` is given."""
        from causalfm.auditing.evidence_files import render_csv
        from causalfm.auditing.report import write_text

        return write_text(render_csv(self), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Render coverage and records as tables; write it atomically if ``path`` is given."""
        from causalfm.auditing.evidence_files import render_markdown
        from causalfm.auditing.report import write_text

        return write_text(render_markdown(self), path)


def collect_evidence(paths: Sequence[str | Path], *, mapping: str | Path | None = None) -> EvidenceSet:
    """Take up the evidence of reports.

    Parameters
    ----------
    paths
        ``report.json`` of audits of cohorts and deployments, ``comparison.json`` of comparisons; of one encoder or
        model, as the evidence is about it.
    mapping
        YAML file that ties questions to frameworks; None for the one that is shipped.

    Returns
    -------
    EvidenceSet
        The same bytes for the same reports in the same order and the same mapping: nothing is added, not even a date.

    Raises
    ------
    DataError
        A report or a mapping that cannot be read, the same report twice, or a question that the mapping does not know.
    """
    if isinstance(paths, (str, Path)) or not paths:
        raise DataError("give at least one report, in a list: the report.json of causalfm audit, shift or compare.")
    chosen = load_evidence_map(mapping)
    reports = [read_report(path) for path in paths]
    hashes = [report.source["report_sha256"] for report in reports]
    for i, digest in enumerate(hashes):
        if digest in hashes[:i]:
            names = [repr(Path(paths[j]).name) for j in (hashes.index(digest), i)]
            raise DataError(f"{' and '.join(names)} are the same report: its evidence would count twice. Give it once.")
    return EvidenceSet(chosen, tuple(report.source for report in reports), tuple(_records(reports, chosen)))


def _records(reports: Sequence[Report], mapping: EvidenceMap) -> Iterable[Evidence]:
    answered: set[str] = set()
    for report in reports:
        for answer in report.answers:
            answered.add(answer["question"])
            yield _record(answer, mapping, report.source, report.assumptions)
    for question in mapping.lines:
        if question not in answered:
            yield _record(not_asked(question), mapping, None, ())


def _record(
    answer: Mapping[str, Any], mapping: EvidenceMap, source: Mapping[str, Any] | None, assumptions: tuple[str, ...]
) -> Evidence:
    if answer["question"] not in ITEMS:
        raise DataError(
            f"a report answers {answer['question']!r}, which this version of causalfm does not know as evidence: "
            "install the causalfm that wrote the report, or a newer one."
        )
    line = mapping.lines[answer["question"]]
    known = {(framework["id"], item["id"]): item["title"] for framework, item in mapping.items()}
    targets = [tuple(target.split("/", 1)) for target in line.maps_to]
    return Evidence(
        dimension=DIMENSION,
        aspect=line.aspect,
        assumptions=assumptions,
        source=source,
        maps_to=tuple({"framework": f, "item": i, "title": known[f, i]} for f, i in targets),
        **{"subject": "", "monitored": True, **answer},
    )
