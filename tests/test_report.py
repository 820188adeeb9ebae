"""The report: what a reader sees, and what a hostile name must not do."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import clean, interval, number, requirement
from causalfm.auditing.report import CAVEAT, render_html, render_json, render_markdown, render_summary, write_text
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.plot import plot_findings, plot_graph, plot_overlap, to_svg

SITES = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
CLASSES = ["BRCA", "COAD", "LUAD", "STAD"]


# fmt: off
NAN = float("nan")
PER_LEVEL = [
    {"level": "Christiana Healthcare", "reference": "Asterand", "squared_norm": 0.51234, "low": 0.41, "high": 0.6661},
    {"level": "Indivumed", "reference": "Asterand", "squared_norm": 0.2231, "low": 0.1785, "high": 0.29},
]
ROWS: list[dict[str, Any]] = [
    {"question": "overlap", "title": "Can {site} and tumour be told apart in this cohort?", "factor": "{site}",
     "verdict": "pass", "sentence": "Every tumour type was seen in at least three hospitals; one of 16 cells is empty.",
     "numbers": (0.21, NAN, NAN, 0.0, 0.5), "want": "below", "quantity": "Cramér's V, bias-corrected",
     "details": {"smallest_cell": 4, "effective_sample_size": 612.34567}},
    {"question": "invariance", "title": "Does the embedding depend on {site} among equal patients?", "factor": "{site}",
     "verdict": "fail", "sentence": "Patients of equal tumour and age differ in their embeddings (p = 0.001).",
     "numbers": (0.41, 0.36, 0.47, 0.0, 0.1), "want": "below", "quantity": "share of variance",
     "advice": "Do not pool hospitals without a correction; see the effect below for its size.",
     "details": {"p_value": 0.001, "permutations": 999, "given": ("tumour", "age"), "strata_left_out": [],
                 "valid_alternatives": [["tumour"], ["tumour", "age"]]}},
    {"question": "effect", "title": "How large is the effect of {site}, beside that of tumour?", "factor": "{site}",
     "verdict": "fail", "sentence": "Another hospital moves the embedding 1.31 times as far as another tumour does.",
     "numbers": (1.31, 1.12, 1.58, NAN, 0.25), "want": "below", "quantity": "effect / biology effect",
     "advice": "Correct the embedding or restrict its use to the hospitals seen.", "details": {"per_level": PER_LEVEL}},
    {"question": "neighbourhood", "title": "Do neighbours share the tumour or the {site}?", "factor": "{site}",
     "verdict": "fail", "sentence": "Neighbours come from the same {site} more often than from the same tumour.",
     "numbers": (0.142, 0.101, 0.192, 0.489, 0.5), "want": "above", "quantity": "robustness index, 2 x 2 reference",
     "advice": "Do not use nearest-neighbour search or clustering across hospitals.",
     "details": {"k": 11, "curve": [{"k": 11, "value": 0.14186}, {"k": 21, "value": 0.13792}]}},
    {"question": "readout", "title": "Can {site} be read from the embedding?", "factor": "{site}", "verdict": "fail",
     "sentence": "A linear probe names the {site} of an unseen patient in 98 % of cases; chance is 25 %.",
     "numbers": (0.981, 0.969, 0.99, 0.25, 0.4), "want": "below", "quantity": "balanced accuracy, logistic"},
    {"question": "overlap", "title": "Can scanner and {site} be told apart?", "factor": "scanner",
     "verdict": "cannot tell", "sentence": "Each hospital used one scanner: its effect is not separable.",
     "advice": "Re-scan some slides on a second scanner, or ask the joint question."},
    {"question": "effect", "title": "How large is the effect of scanner, beside that of tumour?", "factor": "scanner",
     "verdict": "cannot tell", "sentence": "The interval reaches from well below the margin to well above it.",
     "numbers": (0.22, 0.05, 0.41, NAN, 0.25), "want": "below", "quantity": "effect / biology effect",
     "advice": "About 90 more patients with both scanners would decide."},
    {"question": "neighbourhood", "title": "Do neighbours share the tumour or the scanner?", "factor": "scanner",
     "verdict": "pass", "sentence": "Neighbours agree in the tumour far more often than in the scanner.",
     "numbers": (0.83, 0.79, 0.87, 0.5, 0.5), "want": "above", "quantity": "robustness index, 2 x 2 reference"},
    {"question": "readout", "title": "Can scanner be read from the embedding?", "factor": "scanner", "verdict": "pass",
     "sentence": "The scanner is read hardly better than by chance.",
     "numbers": (0.52, 0.48, 0.56, 0.5, 0.6), "want": "below", "quantity": "balanced accuracy, logistic"},
    {"question": "biology", "title": "Does the embedding carry tumour?", "factor": "tumour", "verdict": "pass",
     "sentence": "The tumour type of an unseen patient is read in 90 % of cases; chance is 25 %.",
     "numbers": (0.9, 0.88, 0.93, 0.25, 0.5), "want": "above", "quantity": "balanced accuracy, logistic"},
]
TABLES = {
    "site": {"biology": CLASSES, "levels": SITES, "cramers_v": 0.2134,
             "groups": np.array([[120, 0, 61, 44], [9, 70, 35, 81], [33, 41, 60, 50], [22, 61, 4, 80]]),
             "rows": np.array([[122, 0, 61, 46], [9, 71, 37, 83], [33, 41, 60, 52], [22, 61, 4, 83]])},
    "scanner": {"biology": CLASSES, "levels": ["AT2", "S360"], "cramers_v": 0.05, "nested_in": None,
                "groups": [[100, 125], [90, 105], [94, 90], [87, 80]],
                "rows": [[100, 127], [90, 110], [94, 92], [87, 85]]},
}
RECORD = {
    "policy": {"name": "default", "hash": "9f2c1a77", "margins": {"robustness_index": 0.5, "effect_ratio": 0.25}},
    "data": {"rows": 785, "dimensions": 192, "groups": 771, "fingerprint": "sha256:51ab0c42",
             "missing": {"scanner": {"how": "level", "rows": 12}}, "info": {"source": ["hipt.npz"], "encoder": "HIPT"}},
    "provenance": {"versions": {"causalfm": "0.1.0", "numpy": "2.2.1"}, "seed": 0, "time": "2026-01-02T03:04:05Z",
                   "timings": [{"step": "positivity", "seconds": 0.31}, {"step": "neighbours", "seconds": 22.123}]},
}
# fmt: on


def sample_findings(site: str = "site") -> tuple[Finding, ...]:
    """What an audit of four cancers in four hospitals could say."""
    findings = []
    for row in ROWS:
        row = {k: v.replace("{site}", site) if isinstance(v, str) else v for k, v in row.items()}
        numbers = dict(zip(("value", "low", "high", "chance", "margin"), row.pop("numbers", ()), strict=False))
        details = {**row.pop("details", {}), "want": row.pop("want", "")}
        shared = {"n": 785, "n_groups": 771, "unit": "patient", "target": "4 hospitals x 4 classes, 15 of 16 cells"}
        findings.append(Finding(**row, **numbers, **shared, details=details))
    return tuple(findings)


def sample_audit(**changes: Any) -> Audit:
    parts: dict[str, Any] = {
        "findings": sample_findings(),
        "headline": "The embedding carries the hospital more strongly than the tumour: site dominates.",
        "tables": TABLES,
        "graph": CausalGraph.standard(
            biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient"
        ),
        "assumptions": ("The declared graph is right: an arrow that is not drawn is absent.",),
        **RECORD,
    }
    return Audit(**(parts | changes))


VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://evil.example/x onerror=alert(1)>',
    "a|b\r\nc | d",
    "--> ]]> $x^{$ &amp; {{ 7*7 }} {% raw %}",
    "![x](https://evil.example/x) `code` [a](b)",
    "\u202eright\x00to\x1bleft\u2028",
    "北京协和医院",
]


class Page(HTMLParser):
    """What the tests ask of a page: balanced tags, ids, references, headings, and the text in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def audit() -> Audit:
    return sample_audit()


@pytest.fixture(scope="module")
def page(audit: Audit) -> Page:
    return Page(render_html(audit))


def one_finding(value: float = 0.3, low: float = 0.2, high: float = 0.4, **more: Any) -> Finding:
    return Finding("effect", "How large?", "site", "fail", "Large.", value, low, high, **more)


def test_page_is_well_formed_and_complete_in_itself(audit: Audit, page: Page) -> None:
    assert len(page.all("h1")) == 1
    assert not page.all("script")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 100  # three figures and their parts share the page
    references = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("href", "src", "srcset", "xlink:href")]
    assert references
    assert {str(r) for r in references} <= {f"#{i}" for i in ids}  # every link stays inside and arrives
    text = render_html(audit)
    assert "@import" not in text
    assert {f"#{i}" for i in ids} >= set(re.findall(r"url\(([^)]*)\)", text))
    assert set(re.findall(r"https?://[^\s\"<]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_tables_have_captions_and_scopes(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption")) >= 5
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    assert all(attrs.get("aria-label") for attrs in page.all("svg"))


def test_verdict_first_then_reasons_then_all_findings(audit: Audit, page: Page) -> None:
    words = page.words()
    failing = [f.sentence for f in audit.findings if f.verdict == "fail"]
    marks = ["FAIL", audit.headline, "Why it fails", *failing, "Findings"]
    places = [words.index(mark) for mark in marks if mark != "FAIL"]
    assert words.index("✕ FAIL", words.index("Do the embeddings carry")) < places[0]
    assert places == sorted(places)
    for finding in audit.findings:
        assert words.count(finding.title) >= 2  # in the table and in its own section
        for text in (finding.sentence, finding.advice, finding.target, interval(finding)):
            assert text in words
    for text in (
        "0.14 [0.10, 0.19]",
        "> 0.5",
        "International Genomics Consortium",
        "{tumour}, {tumour, age}",
        "sha256:51ab0c42",
    ):
        assert text in words
    assert "REAL-FM" not in words


def test_numbers_missing_from_the_plot_are_not_missing_from_the_page(page: Page) -> None:
    unanswered = page.words().split("What could not be answered")[1].split("Assumptions")[0]
    assert "Each hospital used one scanner" in unanswered
    assert "Re-scan some slides" in unanswered


def test_caveat_is_always_there_and_once(page: Page) -> None:
    listed = sample_audit(assumptions=(f"{CAVEAT} Sensitivity 1.2.",))
    for text in (page.words(), render_markdown(sample_audit()), render_markdown(listed)):
        assert text.count(CAVEAT) == 1


@pytest.mark.parametrize(("verdict", "why"), [("pass", None), ("cannot tell", "Why it cannot be told")])
def test_other_verdicts(verdict: Any, why: str | None) -> None:
    findings = [f for f in sample_findings() if f.verdict in ("pass", verdict)]
    words = Page(render_html(sample_audit(findings=tuple(findings)))).words()
    assert f"{verdict.upper()} {len(findings) - 2 * (verdict != 'pass')} pass · 0 fail" in words
    assert ("Why it" in words) == (why is not None)
    assert why is None or why in words
    assert ("Every question was answered." in words) == (verdict == "pass")


def test_audit_without_anything_still_renders() -> None:
    empty = sample_audit(findings=(), tables={}, policy={}, data={}, provenance={}, assumptions=())
    words = Page(render_html(empty)).words()
    assert "CANNOT TELL" in words
    assert "no finding has a number" in words
    assert "nan" not in render_markdown(empty)
    assert json.loads(render_json(empty))["exit_code"] == 3


def hostile_audit() -> Audit:
    """Every hostile name in every place that the data can reach."""
    findings = []
    for name in HOSTILE:
        details = {"per_level": [{name: name, "value": float("inf")}], name: [name, name]}
        texts = dict.fromkeys(("title", "factor", "sentence", "quantity", "target", "advice", "unit"), name)
        findings.append(dataclasses.replace(one_finding(), **texts, details=details))
    levels = {"biology": HOSTILE[::-1], "levels": HOSTILE, "groups": np.eye(7, dtype=int), "rows": np.eye(7, dtype=int)}
    return sample_audit(
        findings=tuple(findings),
        headline=" / ".join(HOSTILE),
        tables={HOSTILE[0]: levels},
        policy={name: {name: name} for name in HOSTILE},
        data={"info": {name: name for name in HOSTILE}},
        assumptions=tuple(HOSTILE),
    )


def test_hostile_names_stay_text_in_html() -> None:
    audit = hostile_audit()
    for text in (render_html(audit), render_summary(audit)):
        hostile = Page(text)
        assert {tag for tag, _ in hostile.tags}.isdisjoint({"script", "img", "iframe", "a:b"})
        assert not any(key.startswith("on") for _, attrs in hostile.tags for key in attrs)
        assert all(clean(name) in hostile.words() for name in HOSTILE)
        assert all(c.isprintable() or c == "\n" for c in text)


def test_hostile_names_stay_text_in_markdown_and_json() -> None:
    audit = hostile_audit()
    text = render_markdown(audit)
    assert not re.search(r"<[a-z!/]", text)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert not re.search(r"(?<!\\)[\[`](?!\d)", text.replace("[95 %", ""))  # no link, image or code of its own
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert [len(table.splitlines()) - 2 for table in tables] == [len(HOSTILE), len(HOSTILE)]
    for table in tables:  # as many cell borders in every row
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert json.loads(render_json(audit))["assumptions"] == HOSTILE


def test_hostile_column_names_in_the_graph() -> None:
    factor = "<script>alert(1)</script>"
    graph = CausalGraph.standard(biology="a & b", technical=[factor], group="patient", covariates=["$cost$"])
    drawing = ElementTree.fromstring(to_svg(plot_graph(graph), label=str(graph)))
    shown = {element.text for element in drawing.iter() if element.text and element.text.strip()}
    assert {"a & b", "<script>alert(…", "$cost$", "Z"} <= shown
    assert not Page(render_html(sample_audit(graph=graph))).all("script")


def test_json_is_strict_and_versioned(audit: Audit) -> None:
    text = render_json(audit)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    body = json.loads(text, parse_constant=refuse)
    assert list(body)[:3] == ["schema_version", "verdict", "exit_code"]
    assert (body["verdict"], body["exit_code"]) == ("fail", 1)
    assert body["findings"][3]["value"] == 0.142
    assert body["findings"][5]["value"] is None  # no number: null, not NaN
    assert body["tables"]["site"]["groups"][0] == [120, 0, 61, 44]
    assert text.endswith("}\n")


def test_markdown_lists_every_finding(audit: Audit) -> None:
    text = render_markdown(audit)
    assert text.startswith(
        "# Do the embeddings carry tumour, or site and scanner?\n\n**✕ FAIL** (4 pass, 4 fail, 2 cannot tell)"
    )
    rows = [line for line in text.split("## In detail")[0].splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(audit.findings)
    assert rows[3].endswith(" the site? | site | ✕ FAIL | 0.14 [0.10, 0.19] | 0.489 | > 0.5 | patient |")
    assert "| Christiana Healthcare | 0 | 70 | 41 | 61 |" in text


def test_summary_is_a_small_fragment(audit: Audit) -> None:
    text = audit._repr_html_()
    assert len(text) < 8000
    assert not {tag for tag, _ in Page(text).tags} & {"html", "style", "svg", "script"}
    assert Page(text).words().count("0.14 [0.10, 0.19]") == 1


@pytest.mark.parametrize(
    ("value", "low", "high", "margin", "text"),
    [
        (0.14186, 0.101, 0.192, float("nan"), "0.14 [0.10, 0.19]"),
        (0.31, float("nan"), float("nan"), 0.5, "0.31"),
        (float("nan"), float("nan"), float("nan"), 0.5, "–"),
        (0.45, 0.41, 0.4996, 0.5, "0.4500 [0.4100, 0.4996]"),  # rounding must not put an end on the margin
        (0.0421, 0.0311, 0.0542, float("nan"), "0.042 [0.031, 0.054]"),
        (-0.02, -0.3, 0.26, float("nan"), "−0.02 [−0.30, 0.26]"),
        (-0.0004, -0.3, 0.3, float("nan"), "0.00 [−0.30, 0.30]"),
        (1234.5, 1001.2, 1500.0, float("nan"), "1,234 [1,001, 1,500]"),
        (12.34, 11.0, 14.06, float("nan"), "12.3 [11.0, 14.1]"),
        (2.5e-5, 1e-5, 4e-5, float("nan"), "2.50e−05 [1.00e−05, 4.00e−05]"),
        (0.5, 0.2, float("inf"), float("nan"), "0.50 [0.20, ∞]"),
        (0.0, 0.0, 0.0, float("nan"), "0.00 [0.00, 0.00]"),
    ],
)
def test_interval_text(value: float, low: float, high: float, margin: float, text: str) -> None:
    assert interval(one_finding(value, low, high, margin=margin)) == text


def test_number_and_requirement_text() -> None:
    values = [None, float("nan"), True, 12345, 0.48912, 0.5, 612.345, 12345.6, -0.25, 0.0, 1e-9, "a"]
    shown = ["–", "–", "yes", "12,345", "0.489", "0.5", "612", "12,346", "−0.25", "0", "1.00e−09", "a"]
    assert [number(value) for value in values] == shown
    wants = [{"want": "below"}, {"want": "above"}, {}]
    assert [requirement(one_finding(margin=0.25, details=d)) for d in wants] == ["< 0.25", "> 0.25", "0.25"]
    assert requirement(one_finding()) == "–"
    assert clean("a\n\tb\x00\u202ec  d") == "a b c d"


def test_svg_is_deterministic_and_ids_do_not_clash(audit: Audit) -> None:
    table = audit.tables["site"]
    first, again = (to_svg(plot_overlap(table, factor="site"), label="a") for _ in range(2))
    other = to_svg(plot_overlap(table, factor="site"), label="a", ident="second")
    assert first == again
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg in (first, to_svg(plot_findings(audit)), to_svg(plot_graph(audit.graph))):
        assert svg.startswith("<svg ")
        assert "<metadata" not in svg
        assert "<style" not in svg
        assert "currentColor" in svg
        assert "#22262b" not in svg.replace("fill: #22262b; fill-opacity: 0.18", "")
        assert set(re.findall(r'href="([^"]+)"|url\(([^)]+)\)', svg)) or "url(" not in svg


def test_figures_return_axes_and_touch_no_pyplot(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now raises
    for draw, what in ((plot_findings, audit), (plot_graph, audit.graph), (plot_overlap, audit.tables["site"])):
        ax = Figure().subplots()
        assert draw(what, ax) is ax  # type: ignore[operator]
        assert draw(what).figure is not ax.figure  # type: ignore[operator]


def test_figures_show_what_the_audit_says(audit: Audit) -> None:
    heat = plot_overlap(audit.tables["site"])
    assert [bool(patch.get_hatch()) for patch in heat.patches].count(True) == 1
    assert sorted(int(t.get_text()) for t in heat.texts) == sorted(
        audit.tables["site"]["groups"][np.nonzero(audit.tables["site"]["groups"])]
    )
    forest = plot_findings(audit)
    shown = [text.get_text() for panel in forest.child_axes for text in panel.texts]
    assert len(forest.child_axes) == 5  # one scale per quantity
    assert [interval(f) in shown for f in audit.findings] == [np.isfinite(f.value) for f in audit.findings]
    graph = audit.graph
    drawn = plot_graph(graph)
    assert len(drawn.patches) == len(graph.nodes) + len(graph.edges) + len(graph.bidirected)
    assert {t.get_text() for t in drawn.texts} == set(graph.nodes)


def test_arrows_of_the_usual_graphs_avoid_other_nodes() -> None:
    for covariates in ([], ["age"], ["age", "sex", "purity"]):
        graph = CausalGraph.standard(
            biology="tumour", technical=["site", "scanner", "stain"], covariates=covariates, group="patient"
        )
        ax = plot_graph(graph)
        ax.figure.draw_without_rendering()
        boxes = {t.get_text(): patch for t, patch in zip(ax.texts, ax.patches, strict=False)}
        arrows = ax.patches[len(boxes) :]
        for (tail, head), arrow in zip([*graph.edges, *graph.bidirected], arrows, strict=True):
            path = arrow.get_path().interpolated(30).transformed(ax.transData)
            for node, box in boxes.items():
                extent = box.get_window_extent()
                inside = [extent.contains(x, y) for x, y in path.vertices]
                assert node in (tail, head) or not any(inside), (tail, head, node)


def test_write_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "folder" / "report.html"
    assert write_text("first é", target) == "first é"
    assert target.read_bytes() == "first é".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text("half \ud800", target)  # cannot be encoded: fails after the temporary file was opened

    def full(self: Path, other: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_text("second", target)
    assert target.read_text(encoding="utf-8") == "first é"
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_write_without_or_with_a_wrong_path(tmp_path: Path) -> None:
    assert write_text("text", None) == "text"
    with pytest.raises(DataError, match="is a folder: give the name of a file"):
        write_text("text", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_audit_methods_write_what_they_return(audit: Audit, tmp_path: Path) -> None:
    for method, name in ((audit.to_html, "a.html"), (audit.to_markdown, "a.md"), (audit.to_json, "a.json")):
        assert method(tmp_path / name) == (tmp_path / name).read_text(encoding="utf-8")
