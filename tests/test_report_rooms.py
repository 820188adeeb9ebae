"""The rooms of the report: their order, the same numbers everywhere, hostile text in every field, many hospitals."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from html import unescape
from math import isfinite
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from report_samples import HOSTILE, large_audit, one_finding, sample_audit
from test_report import Page

import causalfm as cfm
from causalfm.auditing.estimands import estimand
from causalfm.auditing.findings import Advice, Audit, Finding
from causalfm.auditing.formatting import clean, interval, number, requirement
from causalfm.auditing.policy import load_policy
from causalfm.auditing.report import render_html, render_json, render_markdown
from causalfm.auditing.rooms import ROOMS, distances, first_sentence, with_intervals, worst_first
from causalfm.auditing.templating import MOST_REASONS
from causalfm.datasets.linear_scm import linear_scm
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.graph import CausalGraph

SENTINEL = "SENTINEL"
DEPLOYED = {"deployment_rows": 40, "deployment_units": 20, "model": "a head"}


@pytest.fixture(scope="module")
def shift() -> Audit:
    """A real audit of a deployment, with ids that must not show."""
    size = {"n_groups": 80, "new_groups": 30, "rows_per_group": 2, "d": 6, "n_sites": 8}
    reference, deployment, graph, _ = planted_shift("scanner", 2.5, random_state=1, **size)
    reference, deployment = (
        cohort.replace(obs=cohort.obs.assign(patient=[f"{SENTINEL}-{v}" for v in cohort.obs["patient"]]))
        for cohort in (reference, deployment)
    )
    policy = dataclasses.replace(load_policy(), subgroups=("age",), permutations=99)
    return cfm.audit(reference, graph, deployment=deployment, policy=policy)


# --- order ----------------------------------------------------------------------------------------------------------


def rooms_of_page(audit: Audit) -> list[str]:
    return [unescape(text) for text in re.findall(r'<h2 id="[^"]*" tabindex="-1">([^<]*)</h2>', render_html(audit))]


def rooms_of_markdown(audit: Audit) -> list[str]:
    return re.findall(r"^## (.*)$", render_markdown(audit), re.M)


@pytest.mark.parametrize("data", [{}, DEPLOYED])
def test_the_same_rooms_in_the_same_order_everywhere(data: dict[str, Any]) -> None:
    audit = sample_audit(data=data)
    assert rooms_of_page(audit) == rooms_of_markdown(audit) == list(ROOMS.values())
    page = render_html(audit)
    menu = page.split("<nav")[1].split("</nav>")[0]
    assert re.findall(r'href="#([^"]*)"', menu) == list(ROOMS)


def test_a_real_deployment_has_the_rooms_too(shift: Audit) -> None:
    assert rooms_of_page(shift) == rooms_of_markdown(shift) == list(ROOMS.values())
    words = Page(render_html(shift)).words()
    assert "causalfm audit of a deployment" in words
    assert "Deployment: tumour" in words  # its own counts
    assert "Reference: site" in words


def test_every_finding_has_one_card_in_one_room(shift: Audit) -> None:
    for audit in (sample_audit(), shift):
        page = render_html(audit)
        for i in range(1, len(audit.findings) + 1):
            assert page.count(f'id="finding-{i}"') == 1


def test_the_header_says_what_kind_of_audit_it_is() -> None:
    for data, kind in (({}, "a cohort of embeddings"), (DEPLOYED, "a deployment")):
        assert f"audit of {kind}" in render_html(sample_audit(data=data))
        assert f"causalfm audit of {kind}" in render_markdown(sample_audit(data=data))


def test_what_is_not_declared_is_seen() -> None:
    for text in (render_html(sample_audit()), render_markdown(sample_audit()).replace("\\", "")):
        assert "Not declared. Say what the embeddings are for in the policy: intended_use." in text
        assert "Nobody is named. Say who declared the graph" in text
    purpose = {"intended_use": "Search for similar slides.", "declared_by": "A. Name", "declared_on": "2026-01-02"}
    for text in (render_html(sample_audit(purpose=purpose)), render_markdown(sample_audit(purpose=purpose))):
        assert "Not declared" not in text
        assert "Search for similar slides." in text
        assert "A. Name, 2026-01-02" in text


def test_the_graph_is_read_out() -> None:
    words = Page(render_html(sample_audit())).words()
    assert "age causes tumour and Z (the embedding)." in words
    assert "site and tumour share causes that were not measured" in words


def test_a_policy_that_changed_stands_under_the_verdict() -> None:
    change = {"key": "effect_ratio", "before": 0.25, "after": 0.5, "direction": "looser"}
    earlier = ({"created": "2026-01-01T00:00:00+00:00", "policy_name": "first", "policy_sha256": "ab" * 32,
                "verdict": "fail", "changed": [change], "seed": 0, "line": 1},)  # fmt: skip
    page = render_html(sample_audit(earlier=earlier))
    hero = page.split('<section class="hero')[1].split("</section>")[0]
    for text in (hero, render_markdown(sample_audit(earlier=earlier)).split("## ")[0].replace("\\", "")):
        assert "effect_ratio" in text
        assert "0.25" in text


@pytest.mark.parametrize(("alpha", "level"), [(0.05, "95%"), (0.01, "99%"), (0.1, "90%")])
def test_the_level_of_the_intervals_is_that_of_the_policy(alpha: float, level: str) -> None:
    audit = sample_audit(policy={"alpha": alpha}, assumptions=())
    for text in (render_html(audit), render_markdown(audit), audit._repr_html_()):
        assert f"{level} interval" in text
        if alpha != 0.05:
            assert "95%" not in text.replace("95% of", "")


def test_findings_that_are_not_monitored_are_no_reason() -> None:
    failing = dataclasses.replace(one_finding(details={"monitored": False}), title="Not asked of us?")
    audit = sample_audit(findings=(one_finding(), failing))
    page = render_html(audit)
    assert "Not asked of us?" not in page.split('<section class="hero')[1].split("</section>")[0]
    assert page.count("not monitored by the policy") == 2  # in the table and at its card
    assert "(not monitored)" in render_markdown(audit)


def test_the_first_screen_is_short() -> None:
    findings = tuple(dataclasses.replace(one_finding(), title=f"Question {i}?", sentence=f"S{i} is so. More of it.")
                     for i in range(12))  # fmt: skip
    hero = Page(render_html(sample_audit(findings=findings)).split("<nav")[0] + "</main></body></html>").words()
    assert hero.count(" is so.") == MOST_REASONS
    assert "More of it." not in hero
    assert all(f"Question {i}?" in hero for i in range(12))


# --- the same numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["sample", "shift"])
def test_the_numbers_of_the_findings_are_the_same_in_all_three(which: str, shift: Audit) -> None:
    audit = shift if which == "shift" else sample_audit()
    body = json.loads(render_json(audit))
    page = render_html(audit)
    part = render_markdown(audit).split(f"## {ROOMS['findings']}")[1].split("\n#")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    table = page.split('aria-label="Table of the findings"')[1].split("</table>")[0]
    rows = [re.findall(r'<td role="cell" class="n" [^>]*>([^<]*)</td>', row) for row in table.split("<tr")[2:]]
    assert len(body["findings"]) == len(lines) == len(rows)
    for found, line, row in zip(body["findings"], lines, rows, strict=True):
        numbers = {
            key: float("nan") if found[key] is None else found[key]
            for key in ("value", "low", "high", "chance", "margin")
        }
        again = Finding("q", "t", "f", "pass", "s", details=found["details"], **numbers)
        expected = [interval(again), number(again.chance), requirement(again)]
        assert [unescape(cell) for cell in row] == expected
        cells = re.split(r"(?<!\\)\|", line)
        assert [cell.strip().replace("\\", "") for cell in cells[4:7]] == expected
    assert any(isfinite(f.value) for f in audit.findings)


# --- hostile --------------------------------------------------------------------------------------------------------


def hostile(kind: Any, name: str, text: str) -> Any:
    """A hostile value for a field, by its declared type: a new field of text is covered without a change here."""
    if kind is str or (kind == str | None):
        return text
    if "Mapping" in str(kind) and "tuple" in str(kind):
        return ({text: text, "table": [{text: text}]},)
    if "Mapping" in str(kind):
        return {text: text, "nested": {text: [text, {text: 1.5}]}}
    if kind == tuple[str, ...]:
        return (text,)
    raise AssertionError(f"field {name}: say what a hostile {kind} is")


def made_hostile(cls: Any, text: str, **given: Any) -> Any:
    hints = get_type_hints(cls)
    numbers = {"value", "low", "high", "chance", "margin", "n", "n_groups", "verdict"}
    fields = [f.name for f in dataclasses.fields(cls) if f.name not in numbers | set(given)]
    return cls(**{name: hostile(hints[name], name, text) for name in fields}, **given)


def hostile_everywhere(text: str) -> tuple[Audit, set[str]]:
    details = {text: text, "given": [text], "per_level": [{"level": text, "reference": text, "distance": 1.0}],
               "sensitivity": {"sentence": text, "robustness_value": 0.4, text: text}, "worst": text,
               "by site": [{"site": text, "accuracy": 0.5, "low": 0.4, "high": 0.6}],
               "left_out": [{text: text}]}  # fmt: skip
    questions = ("effect", "overlap", "performance", "decisions", text)
    numbers = {"verdict": "cannot tell", "value": 0.3, "low": 0.2, "high": 0.4}
    findings = tuple(made_hostile(Finding, text, question=q, details=details, **numbers) for q in questions)
    score = {"value": 0.5, "change": float("nan"), "low": float("nan"), "high": float("nan")}
    tried = {"corrector": text, "note": text, "new_levels": score, "new_units": score, "readout": score}
    earlier = {"created": text, "policy_name": text, "policy_sha256": text, "verdict": text, "seed": 0, "line": 1,
               "changed": [{"key": text, "before": text, "after": text, "direction": text}]}  # fmt: skip
    lists = {text: [{"level": text, "units": 3, "rows": 4}]}
    audit = made_hostile(
        Audit,
        text,
        findings=findings,
        advice=(made_hostile(Advice, text, tried=(tried,), recommended=text),),
        graph=CausalGraph.standard(biology="tumour", technical=["site"], group="patient", declared_by=text),
        tables={text: {"biology": [text], "levels": [text], "groups": [[2]], "rows": [[3]], text: text}},
        data={text: text, "group_counts": lists, "info_missing": [{"policy": "drop", "counts": {text: 3}}]},
        purpose={"intended_use": text, "declared_by": text, "declared_on": text},
        earlier=(earlier,),
    )
    return audit, {f.name for f in dataclasses.fields(Audit)}


@pytest.mark.parametrize("text", HOSTILE[:8], ids=range(8))
def test_hostile_text_stays_text_in_every_field(text: str) -> None:
    audit, _ = hostile_everywhere(text)
    page = Page(render_html(audit))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "a:b"})
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert all(str(v).startswith("#") for _, attrs in page.tags for k, v in attrs.items() if k in ("href", "src"))
    assert page.words().count(" ".join(clean(text).split())) > 40  # it is shown, and in every room
    words = render_markdown(audit)
    assert not re.search(r"<[a-z!/]", words)
    assert all(c.isprintable() or c in "\n\u200d" for c in words)
    assert json.loads(render_json(audit))["purpose"]["intended_use"] == text


# --- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [0, 5])
def test_no_id_of_a_patient_or_row_leaves(below: int, shift: Audit) -> None:
    small = dataclasses.replace(shift, policy={**shift.policy, "suppress_below": below})
    for text in (render_html(small), render_markdown(small), render_json(small), small._repr_html_()):
        assert SENTINEL not in text


# --- 200 hospitals x 30 classes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Audit:
    return large_audit()


def test_many_hospitals_stay_readable(large: Audit) -> None:
    page, markdown = render_html(large), render_markdown(large)
    assert len(page.encode()) < 2 * 2**20  # a report may have 5 MiB
    assert len(markdown) < 60_000
    assert page.count('class="screen"') > 100  # background is not printed by the kilometre
    seen = Page(page)
    assert not any("Cells of tumour" in text for text in seen.text)  # no drawing of 6,000 cells
    first = page.split("levels with the fewest comparable cells first")[1].split("</tr>")[1]
    fewest = min(large.tables["site"]["levels"], key=lambda level: comparable(large, level))
    assert comparable(large, re.search(r"Hospital \d+[a-z ]*name", first)[0]) == comparable(large, fewest)
    for text in (page, markdown, render_json(large)):
        assert SENTINEL not in text


def comparable(audit: Audit, level: str) -> int:
    table = audit.tables["site"]
    return sum(row[table["levels"].index(level)] >= 3 for row in table["groups"])


def test_the_worst_hospital_comes_first(large: Audit) -> None:
    rows = large.findings[2].details["by site"]
    worst = min(rows, key=lambda row: row["accuracy"])["site"]
    table = render_html(large).split("<h4>By site</h4>")[1].split("</table>")[0]
    assert worst in table.split("<tbody>")[1].split("</tr>")[0]


def test_hiding_small_cells_of_many_hospitals() -> None:
    audit = large_audit(suppress_below=5)
    text = render_json(audit)
    shown = json.loads(text)["tables"]["site"]["groups"]
    values = [value for row in shown for value in row]
    assert not any(isinstance(value, int) and 0 < value < 5 for value in values)
    assert json.loads(text)["data"]["suppression"]["small counts"] > 1000
    assert "&lt;5" in render_html(audit)


# --- same seed, same bytes --------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import causalfm as cfm
from causalfm.auditing.policy import load_policy
from causalfm.datasets.linear_scm import linear_scm
import dataclasses, json
cohort, _ = linear_scm(n_groups=30, n_sites=3, n_scanners=2, site_effect=1.0, d=4, rows_per_group=2)
graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")
audit = cfm.audit(cohort, graph, policy=dataclasses.replace(load_policy(), permutations=99), random_state=7)
told = {key: audit.provenance[key] for key in ("seed", "versions")}
audit = dataclasses.replace(audit, provenance=told)
sys.stdout.buffer.write("\\0".join([audit.to_html(), audit.to_markdown(), audit.to_json()]).encode())
sys.stdout.flush()
"""


def test_the_same_seed_gives_the_same_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """But for the time stamp, and how long it took: here, and where sets and dictionaries hash otherwise."""
    other = {**os.environ, "PYTHONHASHSEED": "2", "PYTHONPATH": str(Path(cfm.__file__).parents[1])}
    first = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, env=other, timeout=300, check=True
    ).stdout
    exec(SCRIPT, {})
    second = capfdbinary.readouterr().out
    assert first.count(b"\0") == 2
    assert first.count(b"<svg") >= 3
    assert first == second


# --- parts ----------------------------------------------------------------------------------------------------------


def test_numbers_stand_with_their_intervals() -> None:
    rows = [{"of": "a", "value": 0.5, "low": 0.4, "high": None, "patients": 7}, {"of": "b", "note": "too few"}]
    assert with_intervals(rows) == [
        {"level": "a", "value [interval]": "0.50 [0.40, –]", "patients": 7},
        {"of": "b", "note": "too few"},
    ]
    assert with_intervals("text") == "text"


def test_distances_are_told_in_distances_between_classes() -> None:
    found = one_finding(details={"squared distances": [{"distance": 9.0}, {"distance": 2.0}]})
    rows = [
        {"level": "b", "reference": "a", "distance": d, "distance_low": 1.0, "distance_high": None} for d in (3.0, 4.0)
    ]
    shown = distances(found, rows)
    assert [row["in distances between classes"] for row in shown] == [2.0, 1.5]  # the furthest first
    assert shown[0]["compared with"] == "a"


def test_worst_first_puts_the_unknown_last() -> None:
    rows = [{"accuracy": 0.9}, {"accuracy": None}, {"accuracy": 0.2}]
    assert [row["accuracy"] for row in worst_first(rows)] == [0.2, 0.9, None]


def test_first_sentence_keeps_decimals_and_abbreviations() -> None:
    assert first_sentence("It is 1.96 [1.8, 2.1] e.g. here. More.") == "It is 1.96 [1.8, 2.1] e.g. here."
    assert first_sentence("One") == "One"


def test_group_counts_name_what_is_not_known_and_no_extreme() -> None:
    from causalfm.auditing.group_counts import group_counts

    cohort, _ = linear_scm(n_groups=12, n_sites=3, d=4, rows_per_group=2)
    obs = cohort.obs.copy()
    first = obs["patient"] == obs["patient"].iloc[0]
    obs["tumour"] = obs["tumour"].astype(object).mask(first)
    graph = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
    found = group_counts(cfm.Cohort(cohort.X, obs, {}), graph)
    assert {"level": "not known", "units": 1, "rows": 2} in found["tumour"]
    assert sum(row["units"] for row in found["site"]) == 12
    assert [row["units"] for row in found["age"]] == [12]
    assert str(obs["age"].max())[:5] not in found["age"][0]["level"]


def test_the_estimand_names_the_levels_that_are_compared() -> None:
    """A hospital without overlap is in the tables of the audit and in none of its contrasts."""
    tables = {"site": {"biology": ["a"], "levels": ["s0", "s1", "s2"], "groups": [[5, 5, 0]]}}
    effect = one_finding(details={"per_level": [{"reference": "s0", "level": "s1"}]})
    audit = dataclasses.replace(sample_audit(), tables=tables, findings=(effect,))
    said = dict(estimand(audit))["What is compared"]
    assert "(s0 and s1)" in said
