"""The index in a real browser: sorting, search, comparison, state in the address, no JavaScript, paper."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Visit, chromium, executed, visit
from index_samples import hostile_run, numbered_audit, written
from report_samples import HOSTILE

from causalfm.auditing import index_reports
from causalfm.auditing.formatting import clean
from causalfm.auditing.index_records import Broken, Run, run_of
from causalfm.auditing.report import write_text
from causalfm.auditing.reports_index import Index, changed_rules, render_index

MANY = 500
PAPER = 688  # CSS pixels between the margins of A4
WINDOWS = [("few", 400, "light"), ("few", 1280, "dark"), ("few", 1600, "light"), ("hostile", 400, "dark")]
WINDOWS += [("hostile", 1600, "light")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def series() -> list[Run]:
    """Five hundred audits from thirty that differ, each with a place, a date and data of its own."""
    kinds = [run_of(numbered_audit(i), Path(f"run-{i}/report.json"), Path()) for i in range(30)]
    out = []
    for i in range(MANY):
        made = f"2026-{i // 28 % 12 + 1:02d}-{i % 28 + 1:02d}T08:00:00+00:00"
        about = {"path": f"run-{i:03d}/report.json", "page": f"./run-{i:03d}/report.html", "made": made}
        data = f"{i - 1 if i % 10 == 9 else i:064x}"
        out.append(dataclasses.replace(kinds[i % 30], **about, title=f"Audit number {i}: tumour?", data=data))
    return sorted(out, key=lambda run: run.made, reverse=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hundreds of audits; a few with what cannot be read and what changed; one hostile name in every place."""
    folder = tmp_path_factory.mktemp("index")
    runs = series()
    few = [run for run in runs if int(run.path[4:7]) in range(12)]
    hostile = [run_of(hostile_run(text), Path(f"run-{i}/report.json"), Path()) for i, text in enumerate(HOSTILE)]
    broken = (Broken("a/report.json", "'report.json' is no JSON"),)
    nasty = tuple(Broken(text, text) for text in HOSTILE)
    indexes = {
        "many": Index(tuple(runs), (), tuple(changed_rules(runs))),
        "few": Index(tuple(few), broken, tuple(changed_rules(few))),
        "hostile": Index(tuple(hostile), nasty, tuple(changed_rules(hostile))),
    }
    for name, index in indexes.items():
        write_text(render_index(index), folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in indexes}


def shown(seen: Visit) -> list[str]:
    """Titles in the rows that are seen, from top to bottom."""
    rows = "[...document.querySelectorAll('#runs tbody tr')].filter(row => row.offsetParent !== null)"
    return seen.page.evaluate(f"{rows}.map(row => row.cells[0].firstElementChild.textContent)")


def cells(seen: Visit, column: int) -> list[str]:
    rows = "[...document.querySelectorAll('#runs tbody tr')].filter(row => row.offsetParent !== null)"
    return seen.page.evaluate(f"{rows}.map(row => row.cells[{column}].firstChild.textContent.trim())")


def pick(seen: Visit, *numbers: int) -> None:
    for number in numbers:
        seen.page.get_by_role("checkbox", name=f"Compare Audit number {number}: tumour?").check()


def address(seen: Visit) -> str:
    """What the address holds, once the script has written it."""
    seen.page.wait_for_timeout(400)
    return str(seen.page.evaluate("location.hash"))


@pytest.mark.parametrize(("name", "width", "scheme"), WINDOWS)
def test_no_violation_no_overflow_no_trouble(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with visit(browser, pages[name], width=width, scheme=scheme) as seen:
        boxes = seen.page.locator("#runs input[type=checkbox]")
        boxes.nth(3).check()
        boxes.nth(9).check()
        assert seen.page.locator("#comparison").is_visible()
        assert seen.violations() == []
        assert seen.overflow() == []
        assert not executed(seen.page)
        assert seen.trouble == []


def test_every_column_sorts_both_ways(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["many"]) as seen:
        assert len(shown(seen)) == MANY
        made = cells(seen, 2)
        assert made == sorted(made, reverse=True)
        for column, name in enumerate(["Audit", "Verdict", "Made", "Encoder", "Data", "Policy"]):
            button = seen.page.get_by_role("button", name=name, exact=True)
            button.click()
            head = seen.page.locator("#runs th").nth(column)
            once = head.get_attribute("aria-sort")
            forward = cells(seen, column)
            button.click()
            assert {once, head.get_attribute("aria-sort")} == {"ascending", "descending"}
            assert seen.page.locator("#runs th[aria-sort]").count() == 1
            backward = cells(seen, column)
            assert len(forward) == MANY
            if name in ("Verdict", "Encoder", "Policy"):
                ends = {"Verdict": ["✕ FAIL", "✓ PASS"]}.get(name, [min(forward), max(forward)])
                assert [forward[0], forward[-1]] == ends
                assert [backward[-1], backward[0]] == ends
                groups = [text for text, last in zip(forward, ["", *forward], strict=False) if text != last]
                assert len(groups) == len(set(groups))  # equal ones stand together
            elif name == "Data":
                seen_last = [int(re.findall(r"\d+", title)[0]) for title in shown(seen)]
                prints = [i - 1 if i % 10 == 9 else i for i in seen_last]
                assert prints == sorted(prints, reverse=True)
            else:
                assert forward == backward[::-1]
        seen.page.get_by_role("button", name="Audit", exact=True).click()
        assert shown(seen)[:3] == [f"Audit number {i}: tumour?" for i in range(3)]  # 2 before 10: numbers, not letters
        assert seen.trouble == []


def test_search_and_filters_narrow_and_say_how_many(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["many"]) as seen:
        page = seen.page
        page.get_by_label("Search").fill("NUMBER 123: tumour")
        assert shown(seen) == ["Audit number 123: tumour?"]
        assert page.locator("#count").inner_text() == f"1 of {MANY} shown."
        page.get_by_label("Search").fill("no such audit")
        assert shown(seen) == []
        page.get_by_role("button", name="Show all").click()
        assert len(shown(seen)) == MANY
        page.get_by_label("Verdict").select_option("cannot tell")
        assert set(cells(seen, 1)) == {"? CANNOT TELL"}
        page.get_by_label("Encoder").select_option("HIPT")
        assert set(cells(seen, 3)) == {"HIPT"}
        page.get_by_label("From").fill("2026-02-01")
        page.get_by_label("To", exact=True).fill("2026-02-28")
        assert 0 < len(shown(seen)) < 28
        assert all(text.startswith("2026-02") for text in cells(seen, 2))
        page.get_by_role("button", name="Show all").click()
        page.get_by_role("checkbox", name="Rules changed").check()
        assert len(shown(seen)) == MANY // 10
        page.get_by_label("Factor").select_option("scanner")
        assert len(shown(seen)) == MANY // 10
        assert seen.violations() == []
        assert seen.trouble == []


def test_the_address_keeps_the_state(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["many"]) as seen:
        page = seen.page
        page.get_by_label("Verdict").select_option("fail")
        page.get_by_role("button", name="Encoder", exact=True).click()
        pick(seen, 0, 3)
        kept, before, compared = address(seen), shown(seen), page.locator("#tables").inner_text()
        assert kept.count("run=") == 2
        page.goto("about:blank")
        page.goto(pages["many"].as_uri() + kept)
        seen.trouble.clear()  # the gate of the tests knows the bare address only
        assert shown(seen) == before
        assert page.locator("#tables").inner_text() == compared
        assert page.locator("#runs th[aria-sort]").inner_text() == "Encoder"
        page.evaluate("location.hash = '#sort=nothing&down=1&run=nowhere&verdict=nothing&from=x'")
        page.wait_for_timeout(400)
        assert len(shown(seen)) == MANY  # what is not known is no filter
        page.get_by_role("button", name="Made", exact=True).click()
        page.evaluate("location.hash = '#audits'")  # a link to a part of the page changes nothing
        page.wait_for_timeout(400)
        assert len(shown(seen)) == MANY
        assert seen.trouble == []


def test_two_runs_compared(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["few"]) as seen:
        page = seen.page
        assert not page.locator("#comparison").is_visible()
        pick(seen, 9, 8)
        assert page.locator("#chosen").inner_text() == "Two audits compared, above the table."
        told = table(seen, 0)
        assert told["Audit"][1:3] == ["Audit number 8: tumour?", "Audit number 9: tumour?"]  # the earlier one first
        assert told["Data fingerprint"][-1] == "same"
        assert told["Declared graph"][-1] == "same"
        assert told["Policy"][-1] == "differs in 1 key"
        assert told["Encoder"][-1] == "differs"
        assert table(seen, 2) == {"effect_ratio": ["effect_ratio", "0.5", "0.8", "looser"]}
        pick(seen, 3)  # a third one takes the place of the one chosen first
        assert table(seen, 0)["Audit"][1:3] == ["Audit number 3: tumour?", "Audit number 8: tumour?"]
        assert page.locator("#runs input:checked").count() == 2
        page.get_by_role("button", name="Show the comparison").click()
        assert page.evaluate("document.activeElement.id") == "compared"
        assert "no test" in page.locator("#comparison").inner_text()
        page.get_by_role("button", name="Choose none").click()
        assert not page.locator("#comparison").is_visible()
        assert seen.trouble == []


def test_findings_are_held_against_each_other(browser: Any, tmp_path: Path) -> None:
    one = numbered_audit(0)
    first, second, third = one.findings[:3]
    changed = (
        dataclasses.replace(first, margin=0.9),
        dataclasses.replace(second, verdict="pass", value=0.05, low=0.01, high=0.09, margin=0.05),
        dataclasses.replace(third, factor="stain"),
    )
    later = {"created": "2027-01-01T00:00:00+00:00", "seed": 0, "versions": {}}
    other = dataclasses.replace(one, findings=changed, title="Audit number 1: tumour?", provenance=later)
    written(
        tmp_path,
        {"a": dataclasses.replace(one, findings=one.findings[:3], title="Audit number 0: tumour?"), "b": other},
    )
    index_reports(tmp_path)
    with visit(browser, tmp_path / "index.html") as seen:
        pick(seen, 0, 1)
        rows = table(seen, 1)
        heads = [clean(f"{f.title} ({f.factor})") for f in (first, second, third)]
        assert rows[heads[0]][1:] == ["PASS", "0.21", "< 0.5", "PASS", "0.21", "< 0.9", "margin looser"]
        assert rows[heads[1]][4:] == ["PASS", "0.050 [0.010, 0.090]", "< 0.05", "verdict, number, margin stricter"]
        assert rows[heads[2]][4:] == ["not asked", "–", "–", "asked once"]
        assert len(rows) == 4
        assert seen.page.locator("#tables .differs").count() >= 4
        assert seen.trouble == []


def table(seen: Visit, number: int) -> dict[str, list[str]]:
    """Rows of one table of the comparison by their first words."""
    rows = "[...document.querySelectorAll('#tables table')[NUMBER].tBodies[0].rows]".replace("NUMBER", str(number))
    found = seen.page.evaluate(f"{rows}.map(row => [...row.cells].map(cell => cell.innerText.split('\\n')[0]))")
    return {row[0]: row for row in found}


def test_hostile_names_are_text_in_the_table_and_in_the_comparison(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["hostile"], width=400) as seen:
        boxes = seen.page.locator("#runs input[type=checkbox]")
        for i in range(len(HOSTILE)):
            boxes.nth(i).check()
        text = " ".join(seen.page.locator("main").inner_text().split())
        assert all(clean(name) in text for name in HOSTILE)
        assert seen.page.locator("main script, main img, main iframe, main style").count() == 0
        links = seen.page.locator("a").evaluate_all("links => links.map(e => e.href)")
        assert all(link.startswith("file:") for link in links)
        assert not executed(seen.page)
        assert seen.trouble == []


def test_keyboard_reaches_every_control(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["few"]) as seen:
        controls = seen.page.locator("a, button, input, select, summary, [tabindex='0']")
        wanted = sum(controls.nth(i).is_visible() for i in range(controls.count()))
        # a date has a stop of its own for day, month and year, which the browser sees to
        seen.page.evaluate("document.querySelectorAll('input[type=date]').forEach(e => e.tabIndex = -1)")
        stops = seen.tab_stops()
        assert len(stops) == wanted - 2
        assert all(stop["outline"] >= 1 for stop in stops)
        seen.page.get_by_role("button", name="Verdict", exact=True).focus()
        seen.page.keyboard.press("Enter")
        assert cells(seen, 1)[0] == "✕ FAIL"
        assert seen.page.evaluate("document.activeElement.textContent") == "Verdict"  # the focus stays where it was
        box = seen.page.locator("#runs input[type=checkbox]").first
        box.focus()
        seen.page.keyboard.press("Space")
        assert box.is_checked()
        assert seen.trouble == []


def test_a_screen_reader_hears_the_table(browser: Any, pages: dict[str, Path]) -> None:
    for width in (400, 1280):
        with visit(browser, pages["few"], width=width) as seen:
            tree = seen.tree()
            for landmark in ("banner", "main", "contentinfo"):
                assert [role for role, _ in tree].count(landmark) == 1
            for name in ("Audit", "Verdict", "Made", "Encoder", "Data", "Policy", "Compare"):
                assert ("columnheader", name) in tree
            assert sum(role == "rowheader" for role, _ in tree) == 12
            assert ("table", "Every audit found. A heading sorts by its column.") in tree
            assert [name for role, name in tree if role == "status"]


def test_without_javascript_it_is_a_plain_table(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["many"].as_uri())
    assert page.locator("#runs tbody tr").count() == MANY
    assert page.get_by_role("link", name="Audit number 123: tumour?").get_attribute("href") == "./run-123/report.html"
    for dead in ("#controls", "#status", "#comparison", "#runs button", "#runs input"):
        assert page.locator(dead).count() == 0 or not page.locator(dead).first.is_visible()
    assert "need JavaScript" in page.locator("noscript").inner_text()
    context.close()


def test_the_policy_of_the_page_refuses_another_script(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    text = pages["few"].read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</main>", "<script>window.executed = 1</script></main>"), "utf-8")
    with visit(browser, tmp_path / "page.html") as seen:
        assert not executed(seen.page)
        assert re.search("Content Security Policy", "; ".join(seen.trouble))


def test_on_paper(browser: Any, pages: dict[str, Path]) -> None:
    with visit(browser, pages["few"], width=PAPER, scheme="dark") as seen:
        pick(seen, 8, 9)
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not seen.page.locator("#controls").is_visible()
        assert seen.page.locator("#comparison").is_visible()
        assert seen.overflow() == []
        assert seen.page.pdf(format="A4").startswith(b"%PDF")
