"""The report: what a reader sees, and what a hostile name must not do."""

from __future__ import annotations

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
from report_samples import HOSTILE, hostile_audit, one_finding, sample_audit, sample_findings

from causalfm.auditing.findings import Audit
from causalfm.auditing.formatting import clean, interval, number, requirement
from causalfm.auditing.report import render_html, render_json, render_markdown, render_summary, write_text
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.plot import plot_findings, plot_graph, plot_overlap, to_svg
from causalfm.results import CAVEAT

VOID = {"meta", "br", "img", "link", "input", "hr"}


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
    named = {attrs.get("id") for attrs in page.all("title") + page.all("desc")}
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert {svg["aria-labelledby"], svg["aria-describedby"]} <= named


def test_verdict_first_then_reasons_then_all_findings(audit: Audit, page: Page) -> None:
    words = page.words()
    failing = [f.sentence for f in audit.findings if f.verdict == "fail"]
    marks = ["FAIL", audit.headline, "Why it fails", *failing, "Intended use and estimand", "Findings by question"]
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


def test_what_to_do_has_the_same_numbers_on_the_page_in_markdown_and_in_json(audit: Audit, page: Page) -> None:
    advice = audit.advice[0]
    markdown = render_markdown(audit)
    shown = ["0.61", "+0.09 [0.04, 0.14]", "+0.008 [−0.014, 0.029]", "−0.43 [−0.61, −0.25]"]
    said = [advice.sentence, advice.command, "refused: site", "is not a gain", "MeanAligner (unseen=adapt) ●"]
    for text in (page.words(), markdown):
        assert [piece for piece in (*shown, *said) if piece not in text.replace("\\", "")] == []
    tried = json.loads(render_json(audit))["advice"][0]["tried"]
    assert tried[1]["new_levels"] == {"value": 0.6977, "change": 0.0913, "low": 0.0428, "high": 0.1397}
    assert tried[2]["new_levels"]["value"] is None
    for nothing in (render_html(sample_audit(advice=())), render_markdown(sample_audit(advice=()))):
        assert "no correction was tried" in nothing


def test_numbers_missing_from_the_plot_are_not_missing_from_the_page(page: Page) -> None:
    unanswered = page.words().split("What could not be answered")[2].split("Assumptions")[0]
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
    assert f"{len(findings)} questions: {len(findings) - 2 * (verdict != 'pass')} pass, 0 fail" in words
    assert ("Why it" in words) == (why is not None)
    assert why is None or why in words
    assert ("Every question was answered." in words) == (verdict == "pass")


def test_audit_without_anything_still_renders() -> None:
    empty = sample_audit(findings=(), tables={}, policy={}, data={}, provenance={}, assumptions=())
    words = Page(render_html(empty)).words()
    assert "CANNOT TELL" in words
    assert "No finding has a number" in words
    assert not re.search(r"\bnan\b", render_markdown(empty))  # "discriminant" holds the letters
    assert json.loads(render_json(empty))["exit_code"] == 3


def test_hostile_names_stay_text_in_html() -> None:
    audit = hostile_audit()
    for text in (render_html(audit), render_summary(audit)):
        hostile = Page(text)
        assert {tag for tag, _ in hostile.tags}.isdisjoint({"script", "img", "iframe", "a:b"})
        assert not any(key.startswith("on") for _, attrs in hostile.tags for key in attrs)
        assert all(clean(name) in hostile.words() for name in HOSTILE)
        assert all(c.isprintable() or c in "\n\u200d" for c in text)


def test_hostile_names_stay_text_in_markdown_and_json() -> None:
    audit = hostile_audit()
    text = render_markdown(audit)
    assert not re.search(r"<[a-z!/]", text)
    assert all(c.isprintable() or c in "\n\u200d" for c in text)
    assert not re.search(r"(?<!\\)[\[`](?!−?\d)", text.replace("[95 %", ""))  # no link, image or code of its own
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    cells, details, findings = len(HOSTILE), [1] * len(HOSTILE), len(HOSTILE)  # an effect's distances are shown
    assert [len(table.splitlines()) - 2 for table in tables] == [cells, findings, *details, *([3] * len(HOSTILE))]
    for table in tables:  # as many cell borders in every row
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert json.loads(render_json(audit))["assumptions"] == HOSTILE


def test_hostile_column_names_in_the_graph() -> None:
    factor = "<script>alert(1)</script>"
    graph = CausalGraph.standard(biology="a & b", technical=[factor], group="patient", covariates=["$cost$"])
    drawing = ElementTree.fromstring(to_svg(plot_graph(graph), label=str(graph)))
    shown = {element.text for element in drawing.iter() if element.text and element.text.strip()}
    assert {"a & b", "<script>alert…", "$cost$", "Z"} <= shown
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
        "# Do the embeddings carry tumour, or site and scanner?\n\ncausalfm audit of a cohort of embeddings\n\n"
        "**✕ FAIL** (4 pass, 4 fail, 2 cannot tell). At least one margin of the policy is exceeded."
    )
    part = text.split("## Findings by question")[1].split("###")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")][2:]
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
