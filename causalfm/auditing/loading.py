"""Audits read back from JSON, of every schema version so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from causalfm.auditing.documents import check_schema, read_json
from causalfm.auditing.findings import SCHEMA_VERSION, Advice, Audit, Finding
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph

NUMBERS = ("value", "low", "high", "chance", "margin")
WAY_OUT = "Write the report again with causalfm audit or causalfm shift, or undo the change."

Body = dict[str, Any]
# From each old version to the next: what it did not say yet is said to be empty, never guessed.
UPGRADES: dict[str, tuple[str, Callable[[Body], Body]]] = {
    "1.0": ("1.1", lambda body: {**body, "advice": []}),
    "1.1": ("1.2", lambda body: {**body, "title": ""}),
    "1.2": ("1.3", lambda body: {**_named(body), "purpose": {}, "earlier": []}),
}
# Up to 1.2, a question about a deployment that had no answer carried the name of its step.
STEPS = {
    "drift of the embeddings": "drift",
    "covariates and technical columns": "columns",
    "what it costs": "cost",
    "for whom": "subgroups",
    "why: mechanisms": "why",
    "why: inputs or labels": "split",
    "why: within strata": "reversal",
}


def load_audit(path: str | Path) -> Audit:
    """Read an audit back from its ``report.json``.

    Parameters
    ----------
    path
        Written by ``causalfm audit``, ``causalfm shift`` or :meth:`causalfm.auditing.Audit.to_json`, by this version
        or an earlier one.

    Returns
    -------
    Audit
        It renders to the same page, Markdown and JSON as the one that was written. What an older schema did not hold
        is empty.

    Raises
    ------
    DataError
        No strict JSON, another kind of document, a newer or unknown schema version, a document that does not fit its
        schema or contradicts itself; the message names the place and the way out.
    """
    body, _ = read_json(path)
    return audit_of(body, repr(Path(path).name))


def audit_of(body: Any, name: str = "the audit") -> Audit:
    """Build an audit from what :meth:`causalfm.auditing.Audit.to_dict` gives; errors as for :func:`load_audit`.

    Parameters
    ----------
    body
        The document. It stays unmodified.
    name
        What to call it in messages.
    """
    version = audit_version(body, name)
    check_schema(body, f"audit-{version}", name, WAY_OUT)
    body = dict(body)
    while version in UPGRADES:
        version, upgrade = UPGRADES[version]
        body = upgrade(body)
    audit = _restored(body, name)
    for key, told in (("verdict", audit.verdict), ("exit_code", audit.exit_code)):
        if body[key] != told:
            raise DataError(f"{name}: {key} is {body[key]!r}, and its findings give {told!r}: it was edited. {WAY_OUT}")
    return audit


def audit_version(body: Any, name: str) -> str:
    """Return the schema version of an audit that this version of causalfm reads.

    Raises
    ------
    DataError
        Another document, or another version.
    """
    if not isinstance(body, Mapping):
        raise DataError(f"{name} holds no JSON object: give the report.json of an audit.")
    if "boards" in body and "findings" not in body:
        raise DataError(
            f"{name} is a comparison, not an audit: give a report.json of causalfm audit or causalfm shift."
        )
    version, known = body.get("schema_version"), [*UPGRADES, SCHEMA_VERSION]
    if version in known:
        return str(version)
    if version is None:
        raise DataError(f"{name} has no schema_version: it is no report of causalfm. Give the report.json of an audit.")
    if isinstance(version, str) and _parts(version) > _parts(SCHEMA_VERSION):
        raise DataError(
            f"{name} has schema_version {version[:20]}, newer than {SCHEMA_VERSION}, the latest that this version of "
            "causalfm reads: install a newer causalfm."
        )
    raise DataError(f"{name}: schema_version must be one of {', '.join(known)}, as text. {WAY_OUT}")


def _parts(version: str) -> tuple[int, ...]:
    parts = version[:20].split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()


def _named(body: Body) -> Body:
    renamed = [{**one, "question": STEPS.get(one["question"], one["question"])} for one in body["findings"]]
    return {**body, "findings": renamed}


def _restored(body: Body, name: str) -> Audit:
    try:
        graph = CausalGraph.from_dict(body["graph"])
    except GraphError as error:
        raise DataError(f"{name}, graph: {error}") from None
    kept = {f.name: body[f.name] for f in dataclasses.fields(Audit)}
    findings = tuple(Finding(**_with_nan(finding, NUMBERS)) for finding in body["findings"])
    advice = tuple(Advice(**{**one, "tried": tuple(map(_tried, one["tried"]))}) for one in body["advice"])
    listed = {key: tuple(body[key]) for key in ("assumptions", "earlier")}
    return Audit(**{**kept, **listed, "graph": graph, "findings": findings, "advice": advice})


def _tried(row: Body) -> Body:
    return {key: _with_nan(cell, tuple(cell)) if isinstance(cell, Mapping) else cell for key, cell in row.items()}


def _with_nan(body: Mapping[str, Any], keys: tuple[str, ...]) -> Body:
    """Numbers that are not there: null in JSON, ``nan`` in memory."""
    return {key: float("nan") if value is None and key in keys else value for key, value in body.items()}
