"""Audits and comparisons: findings, verdicts, policy, contrasts between encoders, and reports."""

from causalfm.auditing.comparing import compare
from causalfm.auditing.comparison import Board, Comparison, Contrast, Standing
from causalfm.auditing.comparison_metrics import METRICS, Metric
from causalfm.auditing.documents import schema_path
from causalfm.auditing.evidence import Evidence, EvidenceSet, collect_evidence
from causalfm.auditing.findings import Advice, Audit, Finding
from causalfm.auditing.loading import load_audit
from causalfm.auditing.model_cards import model_card
from causalfm.auditing.policy import Policy, load_policy
from causalfm.auditing.reports_index import index_reports
from causalfm.auditing.runner import audit

__all__ = [
    "METRICS",
    "Advice",
    "Audit",
    "Board",
    "Comparison",
    "Contrast",
    "Evidence",
    "EvidenceSet",
    "Finding",
    "Metric",
    "Policy",
    "Standing",
    "audit",
    "collect_evidence",
    "compare",
    "index_reports",
    "load_audit",
    "load_policy",
    "model_card",
    "schema_path",
]
