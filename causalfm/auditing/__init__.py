"""Audits: findings, verdicts, policy and reports."""

from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.policy import Policy, load_policy
from causalfm.auditing.runner import audit

__all__ = ["Audit", "Finding", "Policy", "audit", "load_policy"]
