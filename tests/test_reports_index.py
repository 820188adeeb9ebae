"""The index of audits: what it finds, what it cannot read, where rules changed, and what a name must not do."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from command_line import typed
from index_samples import hostile, hostile_run, numbered_audit, rewritten, written
from report_samples import HOSTILE, sample_audit

from causalfm.auditing import index_reports
from causalfm.auditing.formatting import clean, interval
from causalfm.auditing.index_records import Run, run_of
from causalfm.auditing.policy_table import direction
from causalfm.auditing.reports_index import Index, changed_rules, larger_is_looser, render_index
from causalfm.errors import DataError


class Page(HTMLParser):
    """Tags with attributes, and the text of every element by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.inside = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside in ("script", "style") else self.said).append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reports")
    return written(root, {f"2026/run {i}": numbered_audit(i) for i in range(12)})


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    index_reports(folder)
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def embedded(page: Page) -> dict[str, Any]:
    return json.loads(next(text for text in page.scripts if text.startswith('{"runs"')))


def policy_of(page: Page) -> str:
    return next(str(attrs["content"]) for tag, attrs in page.tags if attrs.get("http-equiv"))


def test_every_report_is_a_row_that_links_to_its_page(folder: Path, page: Page) -> None:
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and "report.html" in str(attrs["href"])]
    assert set(links) == {f"./2026/run%20{i}/report.html" for i in range(12)}
    for i in range(12):
        audit = numbered_audit(i)
        for text in (audit.title, audit.headline, audit.data["info_encoder"], audit.data["info_source"]):
            assert text in page.words()
    assert page.words().count("FAIL") >= 4
    assert "12 audits" in page.words()


def test_the_page_is_complete_in_itself_and_its_policy_admits_one_script(page: Page) -> None:
    style, data, script = page.scripts
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    ]
    policy = policy_of(page)
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src {hashes[0]};" in policy
    assert f"script-src {hashes[1]};" in policy
    assert "unsafe" not in policy
    assert not [attrs for _, attrs in page.tags if set(attrs) & {"src", "srcset", "style", "onclick", "onload"}]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|https?:", script)
    assert not set("<>&") & set(data)


def test_what_the_script_reads_is_what_the_reports_say(page: Page) -> None:
    body = embedded(page)
    texts = body["texts"]
    by_title = {texts[run["title"]]: run for run in body["runs"]}
    for i in range(12):
        audit = numbered_audit(i)
        run = by_title[audit.title]
        assert texts[run["verdict"]] == audit.verdict
        assert [texts[answer[5]] for answer in run["answers"]] == [interval(f) for f in audit.findings]
        assert [answer[9] for answer in run["answers"]] == [
            None if f.margin != f.margin else f.margin for f in audit.findings
        ]
        policy = {key: value for key, _, value in body["policies"][run["policy"]]}
        assert policy["effect_ratio"] == audit.policy["effect_ratio"]
    assert body["looser"] == larger_is_looser()


def test_the_page_can_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    index_reports(folder, tmp_path / "pages" / "all.html")
    found = Page((tmp_path / "pages" / "all.html").read_text(encoding="utf-8"))
    links = [str(attrs["href"]) for tag, attrs in found.tags if tag == "a" and "report.html" in str(attrs["href"])]
    there = [(tmp_path / "pages" / link.replace("%20", " ")).resolve() for link in links]
    assert len(set(there)) == 12
    assert all(path.is_file() for path in there)


def test_the_same_folder_gives_the_same_page(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.html", tmp_path / "2.html"
    index_reports(folder, first)
    index_reports(folder, second)
    assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    written(tmp_path, {"fine": numbered_audit(0)})
    for name, text in {
        "cut": '{"schema',
        "newer": '{"schema_version": "9.0"}',
        "other": "[]",
        "bytes": "\udcff",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "folder" / "report.json").mkdir(parents=True)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "report.json").symlink_to(tmp_path / "nowhere")
    written(tmp_path, {"edited": numbered_audit(0)})
    rewritten(tmp_path / "edited" / "report.json", verdict="pass")
    index = index_reports(tmp_path)
    assert len(index.runs) == 1
    reasons = {one.path.split("/")[0]: one.reason for one in index.broken}
    words = {"cut": "no JSON", "newer": "newer", "other": "no JSON object", "bytes": "UTF-8", "folder": "is a folder"}
    for name, word in (words | {"edited": "edited"}).items():
        assert word in reasons[name], name
    assert set(reasons) == {*words, "edited", "dangling"}
    shown = Page((tmp_path / "index.html").read_text(encoding="utf-8")).words()
    assert "Not readable: 7" in shown
    assert all(clean(reason) in shown for reason in reasons.values())
    assert str(tmp_path) not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_folder_that_may_not_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"fine": numbered_audit(0)})
    walk = os.walk

    def refusing(top: Path, onerror: Any) -> Any:  # a superuser may read every folder: the refusal is played
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "shut")))
        yield from walk(top)

    monkeypatch.setattr(os, "walk", refusing)
    index = index_reports(tmp_path)
    assert [(one.path, one.reason) for one in index.broken] == [("shut", "Permission denied")]


def test_old_schemas_and_links_to_folders(tmp_path: Path) -> None:
    published = sorted((Path(__file__).parent / "published" / "reports").glob("*.json"))
    assert published
    for path in published:
        (tmp_path / path.stem).mkdir()
        (tmp_path / path.stem / "report.json").write_bytes(path.read_bytes())
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    index = index_reports(tmp_path)
    known = [path for path in published if "comparison" not in path.stem]
    assert len(index.runs) == len(known)
    assert all("comparison" in one.reason for one in index.broken)
    assert "no page beside the JSON" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_no_folder_and_no_report_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'nowhere'"):
        index_reports(tmp_path / "nowhere")
    with pytest.raises(DataError, match="causalfm audit --out"):
        index_reports(tmp_path)


def run(path: str, made: str, data: str = "aa", graph: Any = None, **policy: Any) -> Run:
    body = {"data": {"fingerprint": data, "info_source": "archive"}, "provenance": {"created": made}}
    parts: dict[str, Any] = body | {"policy": {"name": "p", "sha256": "00", "effect_ratio": 0.5} | policy}
    audit = sample_audit(**parts) if graph is None else sample_audit(graph=graph, **parts)
    return run_of(audit, Path(path) / "report.json", Path())


def test_a_policy_that_changed_on_the_same_data_is_shown(tmp_path: Path) -> None:
    first = run("a", "2026-01-01")
    same = run("b", "2026-01-02", name="renamed", sha256="11")  # a comment or a name: no margin
    looser = run("c", "2026-01-03", effect_ratio=0.8)
    elsewhere = run("d", "2026-01-04", data="bb", effect_ratio=0.9)
    unknown = [run(name, "2026-01-05", data="", effect_ratio=0.1 * i) for i, name in enumerate("ef", 1)]
    (change,) = changed_rules([looser, elsewhere, same, first, *unknown])
    assert change["runs"] == 3
    (step,) = change["steps"]
    assert (step["run"], step["before"]) == (looser, same)
    assert step["changed"] == [{"key": "effect_ratio", "before": 0.5, "after": 0.8, "direction": "looser"}]
    text = Page(render_index(Index((looser, same, first), (), (change,)))).words()
    assert "effect ratio was 0.5 and became 0.8 (looser)" in text
    assert text.count("Changed on the same data") == 1


def test_another_graph_on_the_same_data_is_shown() -> None:
    from causalfm.graph import CausalGraph

    other = CausalGraph.standard(biology="tumour", technical=["scanner"], covariates=["age"], group="patient")
    (change,) = changed_rules([run("a", "2026-01-01"), run("b", "2026-01-02", graph=other)])
    assert change["steps"][0]["graph"]
    assert change["steps"][0]["changed"] == []


def test_the_page_and_the_policy_agree_on_what_is_looser() -> None:
    signs = larger_is_looser()
    assert (signs["effect_ratio"], signs["neighbourhood_minimum"]) == (1, -1)
    for key, sign in signs.items():
        assert direction(key, 0.2, 0.3) == ("looser" if sign > 0 else "stricter")


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    index = index_reports(hostile(tmp_path))
    assert len(index.runs) == len(HOSTILE)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    found, plain = Page(text), Page(render_index(Index((run_of(hostile_run("word"), Path("a"), Path()),), (), ())))
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in plain.tags}
    assert [tag for tag, _ in found.tags].count("script") == 2
    shown = found.words()
    for name in HOSTILE:
        assert clean(name) in shown
    assert clean(HOSTILE[1]) in embedded(found)["texts"]
    addresses = {str(attrs["href"]) for tag, attrs in found.tags if tag == "a"}
    assert all(address.startswith(("./run-", "#")) for address in addresses)


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b#c?d%20e", "<b>&quot;", "{{ 7*7 }}", "ä\n\u202ename"])
def test_hostile_folders_are_links_to_themselves(tmp_path: Path, name: str) -> None:
    from urllib.parse import unquote

    written(tmp_path, {name: numbered_audit(0)})
    index_reports(tmp_path)
    found = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    (link,) = [str(attrs["href"]) for tag, attrs in found.tags if tag == "a" and "report.html" in str(attrs["href"])]
    assert link.startswith("./")
    assert (tmp_path / unquote(link)).is_file()


def test_hundreds_of_audits_stay_small() -> None:
    """Long reports: 40 findings each, as with six factors, no two numbers alike; the page stays under 5 MiB."""
    one = run_of(numbered_audit(0), Path("a/report.json"), Path())
    runs = []
    for i in range(500):
        answers = [
            dataclasses.replace(a, factor=f"factor {j}", number=f"{i / 977:.4f} [{j / 7:.4f}, {k / 3:.4f}]")
            for j in range(4)
            for k, a in enumerate(one.answers)
        ]
        about = {"path": f"{i:03d}/report.json", "data": f"{i:064x}", "headline": f"{one.headline} {i}", "seed": str(i)}
        runs.append(dataclasses.replace(one, **about, answers=tuple(answers)))
    assert len(runs[0].answers) == 40
    assert len(render_index(Index(tuple(runs), (), ())).encode()) < 5 * 2**20


def test_the_command_writes_the_page_and_says_what_it_could_not_read(tmp_path, monkeypatch, capsys) -> None:
    written(tmp_path, {"a": numbered_audit(0), "b": numbered_audit(1)})
    assert typed(monkeypatch, "reports", tmp_path) == 0
    assert "2 audits. Index:" in capsys.readouterr().out
    (tmp_path / "b" / "report.json").write_text("{")
    assert typed(monkeypatch, "reports", tmp_path, "--out", tmp_path / "all.html") == 2
    caught = capsys.readouterr()
    assert "1 audits" not in caught.err
    assert "not readable: b/report.json: 'report.json' is no JSON" in caught.err
    assert "1 of 2 reports could not be read" in caught.err
    assert (tmp_path / "all.html").is_file()
    assert typed(monkeypatch, "reports", tmp_path / "nowhere") == 2


def test_the_command_writes_a_card_and_keeps_what_is_there(tmp_path, monkeypatch, capsys) -> None:
    written(tmp_path, {"a": numbered_audit(0), "b": numbered_audit(5)})
    files = [tmp_path / name / "report.json" for name in "ab"]
    out = tmp_path / "README.md"
    assert typed(monkeypatch, "card", *files, "--out", out, "--name", "owner/model") == 0
    assert "# Model card: owner/model" in out.read_text(encoding="utf-8")
    out.write_text("by hand")
    assert typed(monkeypatch, "card", *files, "--out", out) == 2
    assert "--replace" in capsys.readouterr().err
    assert out.read_text() == "by hand"
    assert typed(monkeypatch, "card", files[0], "--out", out, "--replace") == 0
    assert out.read_text(encoding="utf-8") == numbered_audit(0).to_model_card()


def test_a_graph_with_other_columns_is_another_rule_on_the_same_embeddings():
    """The fingerprint of the data holds the graph's columns: a covariate that was dropped must not hide the change."""
    from dataclasses import replace

    from report_samples import sample_audit

    from causalfm.auditing.index_records import run_of

    runs = []
    for day, whole in ((1, "f0"), (2, "f1")):
        found = sample_audit(data={"rows": 9, "fingerprint": whole, "fingerprint_of_embeddings": "e0"})
        runs.append(replace(run_of(found, Path("report.json"), Path()), made=f"2026-05-0{day}", graph=f"g{day}"))
    (changed,) = changed_rules(runs)
    assert [step["graph"] for step in changed["steps"]] == [True]
