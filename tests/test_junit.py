"""JUnit XML: a gate is green exactly if the audit passes, and readers and schemas accept the file."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import typed
from report_samples import HOSTILE, hostile_audit, sample_audit, sample_findings

import causalfm as cfm
from causalfm.auditing import Audit
from causalfm.auditing.formatting import clean, interval
from causalfm.auditing.junit import render_junit
from causalfm.datasets.linear_scm import linear_scm

# What the schemas of Apache Ant (Windy Road) and of Jenkins' xUnit plugin both ask of a suite, part by part.
ORDER = ["properties", "testcase", "system-out", "system-err"]
NEEDED = {
    "testsuite": {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "package", "id"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "error": {"type", "message"},
    "failure": {"type", "message"},
    "skipped": {"message"},
    "properties": set(),
    "system-out": set(),
    "system-err": set(),
    "testsuites": set(),
}
INSIDE = {"testsuites": {"testsuite"}, "testsuite": set(ORDER), "properties": {"property"}}
INSIDE |= {"testcase": {"failure", "error", "skipped"}}


def suite_of(text: str) -> ElementTree.Element:
    """Parse, hold against the rules of both schemas, and return the one suite."""
    root = ElementTree.fromstring(text.encode())
    for element in root.iter():
        assert NEEDED[element.tag] <= set(element.attrib) <= NEEDED[element.tag] | {"skipped"}, element.tag
        assert {child.tag for child in element} <= INSIDE.get(element.tag, set())
        for key in {"name", "classname", "hostname", "package"} & set(element.attrib):
            assert element.attrib[key] == " ".join(element.attrib[key].split()) != ""
        for key in {"tests", "failures", "errors", "skipped", "id"} & set(element.attrib):
            assert re.fullmatch(r"\d+", element.attrib[key])
        for key in {"time"} & set(element.attrib):
            assert re.fullmatch(r"\d+(\.\d+)?", element.attrib[key])
    (suite,) = root
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    tags = [child.tag for child in suite]
    assert tags == sorted(tags, key=ORDER.index)
    assert [tags.count(name) for name in ("properties", "system-out", "system-err")] == [1, 1, 1]
    cases = suite.findall("testcase")
    assert all(len(case) <= 1 for case in cases)
    for name, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        assert int(suite.attrib[name]) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.attrib["tests"]) == len(cases)
    names = [(case.attrib["classname"], case.attrib["name"]) for case in cases]
    assert len(names) == len(set(names))
    return suite


MADE = {"created": "2026-01-02T03:04:05+00:00", "seed": 3, "seconds": 12.34, "versions": {"causalfm": "0.1.0"}}


def audit_of(*verdicts: str, **details: Any) -> Audit:
    """An audit with one finding for each verdict."""
    findings = [
        dataclasses.replace(finding, verdict=verdict, details={**finding.details, **details})
        for finding, verdict in zip(sample_findings(), verdicts, strict=False)
    ]
    return sample_audit(findings=tuple(findings), provenance=MADE)


def green(suite: ElementTree.Element) -> bool:
    """What a gate looks at."""
    return suite.attrib["failures"] == suite.attrib["errors"] == "0"


@pytest.mark.parametrize(
    "verdicts",
    [("pass",), ("fail",), ("cannot tell",), ("pass", "cannot tell"), ("fail", "cannot tell"), ("pass",) * 3, ()],
)
def test_green_exactly_if_the_audit_passes(verdicts: tuple[str, ...]) -> None:
    audit = audit_of(*verdicts)
    suite = suite_of(render_junit(audit))
    assert green(suite) == (audit.verdict == "pass") == (audit.exit_code == 0)


def test_every_finding_is_a_case_with_its_number() -> None:
    audit = sample_audit(provenance=MADE)
    suite = suite_of(render_junit(audit))
    cases = suite.findall("testcase")
    assert [case.attrib["name"] for case in cases] == [f"{f.title} ({f.factor})" for f in audit.findings]
    for case, finding in zip(cases, audit.findings, strict=True):
        told = {"pass": None, "fail": case.find("failure"), "cannot tell": case.find("error")}[finding.verdict]
        assert (told is None) == (finding.verdict == "pass") == (len(case) == 0)
        if told is not None:
            assert told.attrib == {"type": finding.verdict, "message": finding.sentence}
            assert interval(finding) in (told.text or "")
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["verdict"] == "fail"
    assert properties["data"] == "sha256:51ab0c42"
    assert suite.attrib["time"] == "12.3"
    assert suite.attrib["hostname"] == "localhost"


def test_what_is_not_monitored_is_skipped_and_cannot_make_a_gate_green_alone() -> None:
    suite = suite_of(render_junit(audit_of("fail", "pass", monitored=False)))
    assert [case[0].tag for case in suite.findall("testcase")[:2]] == ["skipped", "skipped"]
    assert not green(suite)


def test_hostile_text_stays_text() -> None:
    audit = dataclasses.replace(hostile_audit(), provenance=MADE)
    text = render_junit(audit)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u2028\u202e]", text)
    cases = suite_of(text).findall("testcase")
    assert [case.attrib["name"] for case in cases] == [clean(f"{name} ({name})") for name in HOSTILE]
    twice = dataclasses.replace(audit, findings=audit.findings[:1] * 3)
    names = [case.attrib["name"] for case in suite_of(render_junit(twice)).findall("testcase")]
    assert names == [names[0], f"{names[0]} #2", f"{names[0]} #3"]


def test_the_command_writes_it(tmp_path, monkeypatch) -> None:
    """The command for cohorts is asked for it in ``test_cli``."""
    cohort, _ = linear_scm(n_groups=32, random_state=0)
    cfm.write(cohort, tmp_path / "z.npz")
    cohort.obs.to_csv(tmp_path / "table.csv", index=False)
    roles = ("--biology", "tumour", "--technical", "site", "--group", "patient", "--obs", tmp_path / "table.csv")
    where = ("--at", "site=site1", "--out", tmp_path / "out", "--junit", tmp_path / "ci" / "junit.xml")
    code = typed(monkeypatch, "shift", tmp_path / "z.npz", *roles, *where)
    suite = suite_of((tmp_path / "ci" / "junit.xml").read_text(encoding="utf-8"))
    assert green(suite) == (code == 0)
    assert len(suite.findall("testcase")) >= 5
