"""Hundreds of audits for the index: what a hospital's folder could hold after some years."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from report_samples import HOSTILE, sample_audit, sample_findings

from causalfm.auditing import Audit, load_policy
from causalfm.auditing.report import write_text

ENCODERS = ("UNI", "Virchow2", "H-optimus-1", "HIPT", "Prov-GigaPath")
SOURCES = ("archive of the north", "archive of the south", "TCGA slides")


def numbered_audit(i: int) -> Audit:
    """Return audit ``i``: other encoders, dates, verdicts, numbers; every tenth on the data before it, more loosely."""
    keep = slice(None) if i % 3 == 0 else slice(5, 8) if i % 3 == 1 else slice(7, None)
    moved = [dataclasses.replace(f, value=f.value + i / 1e4) for f in sample_findings()[keep]]
    policy = load_policy().to_dict() | {"name": f"policy {i % 4}", "effect_ratio": 0.8 if i % 10 == 9 else 0.5}
    data = {"rows": 785 + i, "dimensions": 192, "unit": "patient", "units": 771, "info_encoder": ENCODERS[i % 5]}
    print_of = i - 1 if i % 10 == 9 else i
    data |= {"info_source": SOURCES[i % 3], "fingerprint": f"{print_of:064x}"}
    month, day = i // 28 % 12 + 1, i % 28 + 1
    versions = {"causalfm": f"0.{i % 3}.0", "numpy": "2.2.1"}
    made = {"created": f"2026-{month:02d}-{day:02d}T08:00:00+00:00", "seed": i, "versions": versions}
    return sample_audit(
        findings=tuple(moved),
        headline=f"Headline of audit {i}.",
        title=f"Audit number {i}: tumour or hospital?",
        policy=policy,
        data=data,
        provenance=made,
    )


def hostile_run(text: str) -> Audit:
    """Return an audit with one text in every field that an index shows."""
    texts = dict.fromkeys(("question", "title", "factor", "sentence", "quantity", "target", "advice", "unit"), text)
    finding = dataclasses.replace(sample_findings()[0], **texts)
    names = ("fingerprint", "info_source", "info_encoder", "unit", "rows", "units")
    return sample_audit(
        findings=(finding,),
        headline=text,
        title=text,
        tables={},
        advice=(),
        assumptions=(text,),
        policy={"name": text, "sha256": text, text: text, "effect_ratio": 0.5},
        data=dict.fromkeys(names, text),
        provenance={"created": text, "seed": text, "versions": {text: text, "causalfm": text}},
    )


def written(folder: Path, audits: dict[str, Audit], *, pages: bool = True) -> Path:
    """Write one folder for each audit: its JSON, and a page that says which it is."""
    for name, audit in audits.items():
        audit.to_json(folder / name / "report.json")
        if pages:
            write_text(f"<!DOCTYPE html><title>{name}</title>", folder / name / "report.html")
    return folder


def many(folder: Path, count: int) -> Path:
    return written(folder, {f"{i // 28 % 12 + 1:02d}/run-{i}": numbered_audit(i) for i in range(count)})


def hostile(folder: Path) -> Path:
    return written(folder, {f"run-{i}": hostile_run(text) for i, text in enumerate(HOSTILE)})


def rewritten(path: Path, **changes: Any) -> None:
    """Change entries of a report on the disk."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
