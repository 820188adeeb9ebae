"""An audit as JUnit XML, for the gate of a continuous integration: one test case for each finding."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from causalfm.auditing.about import title_of
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import clean, interval, number, requirement
from causalfm.auditing.suppression import published

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# What could not be told must not look like what passed: gates show an error in red, and let a skipped case through.
ELEMENTS = {"fail": "failure", "cannot tell": "error"}


def render_junit(audit: Audit) -> str:
    """Render JUnit XML that Jenkins, GitLab and the schema of Apache Ant accept.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    str
        One suite. Fail is a ``failure``; cannot tell an ``error`` of type ``cannot tell``; a finding that the policy
        does not monitor is ``skipped``, as it does not decide. The suite is green exactly if the audit passes: one
        whose verdict rests on nothing has an error of its own.
    """
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    audit = published(audit)
    suite = Element("testsuite", _about(audit))
    properties = SubElement(suite, "properties")
    for name, value in _properties(audit).items():
        SubElement(properties, "property", {"name": name, "value": clean(value)})
    seen: Counter[str] = Counter()
    for finding in audit.findings:
        suite.append(_case(finding, seen))
    if audit.verdict != "pass" and not suite.findall("testcase/failure") + suite.findall("testcase/error"):
        case = SubElement(suite, "testcase", {"classname": "causalfm", "name": "verdict of the audit", "time": "0"})
        SubElement(case, "error", {"type": audit.verdict, "message": "No finding decides."})
    kinds = Counter(part.tag for case in suite.findall("testcase") for part in case)
    counts = {"failures": kinds["failure"], "errors": kinds["error"], "skipped": kinds["skipped"]}
    for name, count in {"tests": len(suite.findall("testcase")), **counts}.items():
        suite.set(name, str(count))
    SubElement(suite, "system-out").text = clean(audit.headline)
    SubElement(suite, "system-err")
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _about(audit: Audit) -> dict[str, str]:
    seconds = audit.provenance.get("seconds")
    about = {
        "name": title_of(audit),
        "package": "causalfm",
        "id": "0",
        "hostname": "localhost",
    }  # no machine is named in a report
    about["time"] = f"{seconds:.1f}" if isinstance(seconds, (int, float)) else "0"
    made = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(audit.provenance.get("created", "")))
    return about | ({"timestamp": made[0]} if made else {})


def _properties(audit: Audit) -> dict[str, Any]:
    data, policy = audit.data, audit.policy
    return {
        "verdict": audit.verdict,
        "data": data.get("deployment_fingerprint", data.get("fingerprint", "")),
        "policy": policy.get("name", ""),
        "policy_sha256": policy.get("sha256", ""),
        "seed": audit.provenance.get("seed", ""),
        "causalfm": dict(audit.provenance.get("versions") or {}).get("causalfm", ""),
    }


def _case(finding: Finding, seen: Counter[str]) -> Element:
    from xml.etree.ElementTree import Element, SubElement

    kind = re.sub(r"[^\w-]+", "-", clean(finding.question)) or "finding"
    name = clean(f"{finding.title} ({finding.factor})")
    seen[f"{kind} {name}"] += 1
    if (again := seen[f"{kind} {name}"]) > 1:  # readers take cases of one name for one case
        name = f"{name} #{again}"
    case = Element("testcase", {"classname": f"causalfm.{kind}", "name": name, "time": "0"})
    if not finding.monitored:
        SubElement(case, "skipped", {"message": f"not monitored by the policy: {finding.verdict}"})
    elif finding.verdict != "pass":
        about = {"type": finding.verdict, "message": clean(finding.sentence)}
        SubElement(case, ELEMENTS[finding.verdict], about).text = _numbers(finding)
    return case


def _numbers(finding: Finding) -> str:
    """Write the number with its interval, margin, chance, units and what to do, one on each line."""
    lines = {
        clean(finding.quantity) or "number": interval(finding),
        "margin to pass": requirement(finding),
        "chance": number(finding.chance),
        "independent units": f"{number(finding.n_groups)} ({clean(finding.unit)})",
        "holds for": clean(finding.target) or "not said",
        "what to do": clean(finding.advice) or "see the report",
    }
    return "\n".join(f"{name}: {text}" for name, text in lines.items())
