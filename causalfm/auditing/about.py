"""What an audit or a comparison is about: its question and its data, as pages, cards, indexes and gates say them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from causalfm.auditing.findings import Audit
from causalfm.auditing.formatting import clean, listing
from causalfm.confidence import DEFAULT_ALPHA, percent

UNKNOWN = "not declared"


def is_deployment(audit: Audit) -> bool:
    """Tell whether the audit asks about the step to a new hospital."""
    return "deployment_rows" in audit.data


def title_of(audit: Audit) -> str:
    """Return the question of an audit."""
    graph = audit.graph
    return clean(audit.title) or f"Do the embeddings carry {clean(graph.biology)}, or {listing(graph.technical)}?"


def title_of_comparison(encoders: int, biology: str, technical: Iterable[str]) -> str:
    """Return the question of a comparison of so many encoders."""
    return f"Which of {encoders} encoders carries {biology} rather than {listing(technical)}?"


def source_of(data: Mapping[str, Any]) -> str:
    """Return where the rows are from, as the cohort says."""
    found = data.get("info_source", data.get("reference_info_source", ""))
    return listing(found if isinstance(found, (list, tuple)) else [found]) or UNKNOWN


def encoder_of(data: Mapping[str, Any]) -> str:
    """Return the encoder, as the cohort says."""
    return clean(data.get("info_encoder", data.get("reference_info_encoder", ""))) or UNKNOWN


def fingerprint_of(data: Mapping[str, Any]) -> str:
    """Return the fingerprint of the rows that are judged: of the deployment, where there is one."""
    return clean(data.get("deployment_fingerprint", data.get("fingerprint", ""))) or UNKNOWN


def confidence_of(policy: Mapping[str, Any]) -> str:
    """Write the confidence level of a policy, ``"95%"`` for ``alpha: 0.05``."""
    return percent(float(policy.get("alpha") or DEFAULT_ALPHA))
