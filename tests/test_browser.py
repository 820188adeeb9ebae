"""The report in a real browser: what is shown, what is read out, what is reached by keyboard, what is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Visit, chromium, executed, visit
from report_samples import HOSTILE, hostile_audit, large_audit, sample_audit

import causalfm as cfm
from causalfm.auditing.formatting import clean
from causalfm.auditing.report import render_html
from causalfm.datasets.linear_scm import linear_scm
from causalfm.datasets.planted_shifts import planted_shift

WINDOWS = [("sample", width, scheme) for width in (400, 1280) for scheme in ("light", "dark")]
WINDOWS += [("hostile", 400, "light"), ("hostile", 1280, "dark"), ("real", 400, "dark"), ("real", 1600, "light")]
PAPER = 688  # CSS pixels between the margins of A4
LETTER = 710  # and of letter
PAGES = ["sample", "hostile", "real"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual report, one with a hostile name in every place, and a real audit whose columns and levels are hostile."""
    folder = tmp_path_factory.mktemp("pages")
    audits = {"sample": sample_audit(), "hostile": hostile_audit(), "real": audit_of_hostile_columns()}
    audits |= {"large": large_audit(), "deployment": audit_of_a_deployment()}
    for name, audit in audits.items():
        (folder / f"{name}.html").write_text(render_html(audit), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in audits}


SITE, BIOLOGY, PATIENT = HOSTILE[0], "tumour '{{ 7*7 }}' </style>", "patient & case"


def audit_of_hostile_columns() -> Any:
    cohort, _ = linear_scm(n_groups=40, n_sites=4, site_effect=1.0, d=8)
    obs = cohort.obs.rename(columns={"site": SITE, "tumour": BIOLOGY, "patient": PATIENT})
    levels = dict(zip(sorted(obs[SITE].unique()), (HOSTILE[1], HOSTILE[8], HOSTILE[10], HOSTILE[11]), strict=True))
    obs[SITE] = obs[SITE].map(levels)
    obs[PATIENT] = "SENTINEL-" + obs[PATIENT].astype(str)
    obs.index = [f"SENTINEL-ROW-{i}" for i in range(len(obs))]
    graph = cfm.CausalGraph.standard(biology=BIOLOGY, technical=[SITE], covariates=["age"], group=PATIENT)
    return cfm.audit(cfm.Cohort(cohort.X, obs, {}), graph)


def audit_of_a_deployment() -> Any:
    size = {"n_groups": 80, "new_groups": 30, "rows_per_group": 2, "d": 6, "n_sites": 8}
    reference, deployment, graph, _ = planted_shift("scanner", 2.5, random_state=1, **size)
    return cfm.audit(reference, graph, deployment=deployment)


@pytest.mark.parametrize(("name", "width", "scheme"), WINDOWS)
def test_no_violation_no_overflow_no_trouble(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with visit(browser, pages[name], width=width, scheme=scheme) as seen:
        assert seen.overflow() == []
        assert seen.violations() == []  # opens what is closed
        assert seen.overflow() == []
        assert not executed(seen.page)
        dark = seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 24)"
        assert dark == (scheme == "dark")
        assert seen.trouble == []


@pytest.mark.parametrize("name", PAGES)
def test_print(browser: Any, pages: dict[str, Path], name: str) -> None:
    """On paper: white, nothing cut off at the right, the closed parts open, no menu."""
    with visit(browser, pages[name], width=PAPER, scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not seen.page.locator("nav").is_visible()
        closed = seen.page.locator("details:not([open]) > dl")
        assert closed.count() >= 2
        assert all(closed.nth(i).bounding_box()["height"] > 10 for i in range(closed.count()))
        assert seen.overflow() == []
        clipped = (
            "[...document.querySelectorAll('.scroll, .drawing')].filter(e => getComputedStyle(e).overflow != 'visible')"
        )
        assert seen.page.evaluate(f"{clipped}.length") == 0
        assert seen.page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize(("paper", "width"), [("A4", PAPER), ("Letter", LETTER)])
def test_pages_of_the_print(browser: Any, pages: dict[str, Path], tmp_path: Path, paper: str, width: int) -> None:
    """A report of ten findings is a booklet; no page ends with a heading, and nothing is outside the paper."""
    with visit(browser, pages["sample"], width=width) as seen:
        seen.page.emulate_media(media="print")
        assert seen.overflow() == []
        headings = [
            " ".join(text.split()) for text in seen.page.locator("h2, h3, h4").all_inner_texts() if text.strip()
        ]
        (tmp_path / "report.pdf").write_bytes(seen.page.pdf(format=paper))
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("pdftotext not found: apt-get install poppler-utils")
    text = subprocess.run(
        [reader, "-layout", str(tmp_path / "report.pdf"), "-"], capture_output=True, check=True, text=True
    ).stdout
    sheets = [" ".join(sheet.split()) for sheet in text.split("\f") if sheet.strip()]
    assert 5 <= len(sheets) <= 16
    for sheet in sheets[:-1]:
        assert not any(sheet.endswith(heading) for heading in headings), sheet[-80:]
    whole = " ".join(sheets)
    assert sum(heading in whole for heading in headings) > 0.9 * len(headings)  # a heading may break over two lines


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
@pytest.mark.parametrize("name", ["large", "deployment"])
def test_many_hospitals_and_a_deployment(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with visit(browser, pages[name], width=width, scheme=scheme) as seen:
        seen.open_details()
        assert seen.overflow() == []
        assert seen.trouble == []


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
@pytest.mark.parametrize("name", [pytest.param("large", marks=pytest.mark.slow), "deployment"])  # half a minute each
def test_rules_on_many_hospitals_and_a_deployment(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with visit(browser, pages[name], width=width, scheme=scheme) as seen:
        assert seen.violations() == []


def test_headers_of_long_tables_stay_in_sight(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["large"]) as seen:
        box = seen.page.locator(".tall:visible").first
        box.evaluate("e => e.scrollTop = 2000")
        header, window = box.locator("thead th").first.bounding_box(), box.bounding_box()
        assert abs(header["y"] - window["y"]) < 2  # at the top of the box, where the caption was
        assert box.evaluate("e => e.scrollTop") > 500


def test_many_hospitals_print_in_a_booklet(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["large"], width=PAPER) as seen:
        seen.page.emulate_media(media="print")
        assert seen.overflow() == []
        assert seen.page.locator("table.cells").first.is_hidden()
        assert seen.page.evaluate("document.documentElement.scrollHeight") < 60 * 1000


def test_keyboard_reaches_everything_and_opens_it(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["sample"]) as seen:
        page = seen.page
        stops = seen.tab_stops()
        assert all(stop["outline"] >= 1 for stop in stops)
        assert stops[0]["text"] == "Skip to the findings"
        links = page.locator("a").evaluate_all("links => links.map(e => e.getAttribute('href'))")
        assert [stop["href"] for stop in stops if stop["tag"] == "A"] == links
        parts = page.locator("details").count()
        assert [stop["tag"] for stop in stops].count("SUMMARY") == parts >= 5
        for i in range(parts):
            page.locator("summary").nth(i).focus()
            page.keyboard.press("Enter")
            assert page.locator("details").nth(i).evaluate("e => e.open")
            page.keyboard.press("Enter")
            assert not page.locator("details").nth(i).evaluate("e => e.open")


def test_the_skip_link_skips(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["sample"]) as seen:
        seen.page.keyboard.press("Tab")
        box = seen.page.locator(".skip").bounding_box()
        assert min(box["x"], box["y"]) >= 0  # in sight while it has the focus
        seen.page.keyboard.press("Enter")
        seen.page.keyboard.press("Tab")
        inside = "document.activeElement.closest('.scroll').getAttribute('aria-label')"
        assert seen.page.evaluate(inside) == "Table of the findings"


@pytest.mark.parametrize("width", [400, 1280])  # a phone shows cards; for a screen reader they stay a table
def test_screen_reader(browser: Any, pages: dict[str, Path], width: int) -> None:
    audit = sample_audit()
    with visit(browser, pages["sample"], width=width) as seen:
        tree = seen.tree()
    assert ("heading", "Do the embeddings carry tumour, or site and scanner? FAIL") in tree
    for landmark in (("banner", ""), ("main", ""), ("navigation", "Sections"), ("contentinfo", "")):
        assert tree.count(landmark) == 1
    headings = [name for role, name in tree if role == "heading"]
    assert headings[1:3] == ["Why it fails", "Intended use and estimand"]
    for name in ("Question", "Factor", "Verdict", "Number", "Chance", "Margin", "Unit"):
        assert ("columnheader", name) in tree
    headers = [name for role, name in tree if role == "rowheader"]
    assert all(any(name.startswith(finding.title) for name in headers) for finding in audit.findings)
    assert tree.count(("table", "Every question, its answer and the number behind it. Brackets: 95% interval.")) == 1
    pictures = [name for role, name in tree if role in ("image", "img")]
    assert len(pictures) == 8  # five quantities, two overlaps, the graph
    assert all(pictures)
    assert [role for role, _ in tree if role == "DisclosureTriangle"]


def test_headings_descend_one_by_one(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["sample"]) as seen:
        levels = seen.page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(e => +e.tagName[1])")
        assert seen.page.locator("html").get_attribute("lang") == "en"
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_names_are_shown_as_text(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["hostile"], width=400) as seen:
        shown = " ".join(seen.page.locator("main").inner_text().split())
        for name in HOSTILE:
            assert clean(name) in shown
        assert seen.page.locator("main script, main img, main iframe, main style").count() == 0
        addresses = seen.page.locator("a").evaluate_all("links => links.map(e => e.href)")
        assert all(address.startswith(pages["hostile"].as_uri() + "#") for address in addresses)
        assert not executed(seen.page)


def test_a_real_audit_shows_hostile_names_and_no_id(browser: Any, pages: dict[str, Path]) -> None:
    assert "SENTINEL" not in pages["real"].read_text(encoding="utf-8")
    with visit(browser, pages["real"], width=400) as seen:
        shown = " ".join(seen.page.locator("main").inner_text().split())
    for name in (SITE, BIOLOGY, PATIENT, HOSTILE[1], HOSTILE[8], HOSTILE[10], HOSTILE[11]):
        assert clean(name) in shown


FINE = "<!DOCTYPE html><html lang=en><title>t</title><main><h1>t</h1>{}</main>"
SHUT = "<details><summary>s</summary><p style='color:#ccc'>faint</p></details>"
FAULTS = {
    "<p>fine</p>": "",
    "<img alt='' src='https://evil.example/x.png'>": r"request: https://evil\.example/x\.png",
    "<script>throw new Error('thrown')</script>": "error: Error: thrown|error: thrown",
    "<script>console.error('printed')</script>": "console: printed",
    "<script>alert('asked')</script>": "dialog: asked",
    "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>": "image-alt",
    "<p style='color:#bbb'>faint</p>": "color-contrast",
    SHUT: "color-contrast",
    "<h3>too deep</h3>": "heading-order",
    "<div style='width:3000px;height:9px'></div>": r"DIV\.null: 3\d\d\d.*page: 3\d\d\d",
    "<script>window.executed = 1</script>": "executed",
    "<p style='outline:none' tabindex=0>no focus ring</p>": "outline 0",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_can_fail(browser: Any, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(FINE.format(fault), encoding="utf-8")
    with visit(browser, path) as seen:
        found = seen.violations() + seen.overflow() + ["executed"] * executed(seen.page) + faint(seen) + seen.trouble
    assert re.search(FAULTS[fault], "; ".join(found)) if FAULTS[fault] else found == []


def faint(seen: Visit) -> list[str]:
    return [f"outline {stop['outline']}" for stop in seen.tab_stops() if stop["outline"] < 1]
