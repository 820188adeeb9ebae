"""Small cells: what is hidden, and that nobody can compute it from what is shown."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from report_samples import one_finding, sample_audit
from scipy.linalg import null_space
from scipy.optimize import linprog

from causalfm.auditing.findings import Audit
from causalfm.auditing.hidden_cells import TableCells, protect
from causalfm.auditing.report import render_html, render_json, render_markdown
from causalfm.auditing.suppression import suppress
from causalfm.graph import CausalGraph

BELOW = 5


def table(cells: np.ndarray, **more: object) -> dict:
    return {
        "biology": [f"class {i}" for i in range(cells.shape[0])],
        "levels": [f"site {i}" for i in range(cells.shape[1])],
        "groups": cells.tolist(),
        "rows": (2 * cells).tolist(),
        "cramers_v": 0.3,
        "effective_units": 10.0,
        **more,
    }


def audit_of(*tables: np.ndarray, nested: bool = False, below: int = BELOW) -> Audit:
    """An audit of factors ``f0``, ``f1``, ... with the totals of every class and level in its data."""
    factors = [f"f{i}" for i in range(len(tables))]
    totals = {f"f{i}": levels_of(cells.sum(axis=0), "site") for i, cells in enumerate(tables)}
    totals["tumour"] = levels_of(tables[0].sum(axis=1), "class")
    overlap = dataclasses.replace(
        one_finding(details={"nested_in": "f0", "left_out": []}), question="overlap", factor="f1", unit="patient"
    )
    n = int(tables[0].sum())
    return sample_audit(
        findings=(overlap,) if nested else (),
        tables=dict(zip(factors, map(table, tables), strict=True)),
        graph=CausalGraph.standard(biology="tumour", technical=factors, group="patient"),
        data={"units": n, "rows": 2 * n, "group_counts": totals},
        policy={"suppress_below": below},
    )


def levels_of(counts: np.ndarray, name: str) -> list[dict]:
    return [{"level": f"{name} {i}", "units": int(k), "rows": 2 * int(k)} for i, k in enumerate(counts)]


def attack(audit: Audit, inner_of: np.ndarray | None = None) -> list[tuple]:
    """Solve for everything hidden, by every equation that an attacker can write; return what comes out exactly.

    The equations: cells of a level add up to its total, cells of a class to the class's, totals to the number of units.
    With ``inner_of``, levels of ``f1`` are sums of levels of ``f0``, and the attacker knows which.
    """
    body = json.loads(render_json(audit))
    unknown: dict[tuple, int] = {}
    equations: list[dict[int, float]] = []

    def put(equation: dict[int, float], key: tuple, value: object, sign: float) -> None:
        if isinstance(value, str):
            place = unknown.setdefault(key, len(unknown))
            equation[place] = equation.get(place, 0.0) + sign

    totals = {name: {row["level"]: row["units"] for row in rows} for name, rows in body["data"]["group_counts"].items()}
    for name, found in body["tables"].items():
        for s, level in enumerate(found["levels"]):
            equation: dict[int, float] = {}
            for b in range(len(found["biology"])):
                put(equation, (name, b, s), found["groups"][b][s], 1.0)
            put(equation, (name, "level", s), totals[name][level], -1.0)
            equations.append(equation)
        for b, level in enumerate(found["biology"]):
            equation = {}
            for s in range(len(found["levels"])):
                put(equation, (name, b, s), found["groups"][b][s], 1.0)
            put(equation, ("class", b), totals["tumour"][level], -1.0)
            equations.append(equation)
        equation = {}
        for s, level in enumerate(found["levels"]):
            put(equation, (name, "level", s), totals[name][level], 1.0)
        equations.append(equation)
    equation = {}
    for b, units in enumerate(totals["tumour"].values()):
        put(equation, ("class", b), units, 1.0)
    equations.append(equation)
    if inner_of is not None:
        outer, inner = body["tables"]["f0"], body["tables"]["f1"]
        for t in range(len(inner["levels"])):
            parts = np.flatnonzero(inner_of == t)
            for b in range(len(inner["biology"])):
                equation = {}
                put(equation, ("f1", b, t), inner["groups"][b][t], -1.0)
                for s in parts.tolist():
                    put(equation, ("f0", b, s), outer["groups"][b][s], 1.0)
                equations.append(equation)
            equation = {}
            put(equation, ("f1", "level", t), totals["f1"][inner["levels"][t]], -1.0)
            for s in parts.tolist():
                put(equation, ("f0", "level", s), totals["f0"][outer["levels"][s]], 1.0)
            equations.append(equation)
    if not unknown:
        return []
    A = np.zeros((len(equations), len(unknown)))
    for i, equation in enumerate(equations):
        for j, sign in equation.items():
            A[i, j] = sign
    free = null_space(A)  # what hidden counts may do together without changing anything that is shown
    return [key for key, moves in zip(unknown, free, strict=True) if np.allclose(moves, 0.0, atol=1e-9)]


def random_cells(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.poisson(rng.choice([1.0, 4.0, 9.0, 30.0], size=shape)) * (rng.random(shape) < 0.8)


@pytest.mark.parametrize("seed", range(12))
def test_linear_algebra_gives_no_hidden_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(int(rng.integers(1, 6)), int(rng.integers(1, 7)))]
    first = random_cells(rng, shapes[0])
    second = np.stack([np.bincount(rng.integers(0, 3, k), minlength=3) for k in first.sum(axis=1)])  # same classes
    audit = audit_of(first, second)
    shown = json.loads(render_json(audit))["tables"]
    for cells, found in zip((first, second), shown.values(), strict=True):
        for value, mark in zip(cells.ravel(), itertools.chain(*found["groups"]), strict=True):
            assert mark == "<5" if 0 < value < BELOW else mark in (value, "hidden")
    if first.sum() >= BELOW:
        assert attack(audit) == []


@pytest.mark.parametrize("seed", range(8))
def test_nor_through_a_factor_that_is_nested_in_another(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    outer = random_cells(rng, (3, 6))
    inner_of = np.array([0, 0, 1, 1, 2, 2])
    inner = np.stack([outer[:, inner_of == t].sum(axis=1) for t in range(3)], axis=1)
    told = attack(audit_of(outer, inner, nested=True), inner_of)
    # sums of cells of f0 that are shown are no secret, even where f1 hides the whole class; small ones are
    assert {key[0] for key in told} <= {"f1"}
    values = [inner[:, key[2]].sum() if key[1] == "level" else inner[key[1], key[2]] for key in told]
    assert all(value == 0 or value >= BELOW for value in values)


def test_the_attack_finds_what_a_single_hidden_cell_gives_away() -> None:
    """The attack itself can fail: hiding the small cells alone tells every one of them."""
    audit = audit_of(np.array([[3, 20], [30, 40]]))
    naive = dataclasses.replace(
        audit, tables={"f0": table(np.array([[3, 20], [30, 40]])) | {"groups": [["<5", 20], [30, 40]]}},
        policy={}, data=audit.data | {"suppression": {}},
    )  # fmt: skip
    assert attack(naive) == [("f0", 0, 0)]


@pytest.mark.parametrize("seed", range(25))
def test_every_small_cell_has_two_possible_values(seed: int) -> None:
    """Beyond linear algebra: with all marks understood, integers, and totals, no small cell has one value only."""
    rng = np.random.default_rng(seed)
    cells = random_cells(rng, (int(rng.integers(2, 6)), int(rng.integers(2, 6))))
    found = TableCells.of(cells, cells.sum(axis=1), cells.sum(axis=0), int(cells.sum()), BELOW)
    protect(found)
    places = [tuple(place) for place in np.argwhere(found.hidden).tolist()]
    last = (cells.shape[0], cells.shape[1])
    sums, known = [], []  # cells of a line less its total make 0; what is shown stands on the other side
    for axis in (0, 1):
        for line in range(last[axis] + 1):
            of_line = [place for place in np.ndindex(found.counts.shape) if place[axis] == line]
            sign = {place: -1.0 if place[1 - axis] == last[1 - axis] else 1.0 for place in of_line}
            sums.append([sign.get(place, 0.0) for place in places])
            known.append(-sum(s * found.counts[place] for place, s in sign.items() if not found.hidden[place]))
    ranges = [
        (1, BELOW - 1) if found.small[place] else (0 if found.counts[place] == 0 else BELOW, None) for place in places
    ]
    for i, place in enumerate(places):
        if found.small[place]:  # such sums are totally unimodular: the ends of the range are whole numbers
            ends = [
                linprog(sign * np.eye(len(places))[i], A_eq=sums, b_eq=known, bounds=ranges).x[i] for sign in (1, -1)
            ]
            assert ends[1] - ends[0] > 0.99


def test_as_few_as_needed_are_hidden() -> None:
    cells = np.array([[3, 50, 9], [60, 70, 80], [7, 90, 6]])
    found = TableCells.of(cells, cells.sum(axis=1), cells.sum(axis=0), int(cells.sum()), BELOW)
    protect(found)  # the cheapest circle through the 3 takes the 9, the 7 and the 6
    assert sorted(cells[found.hidden[:-1, :-1]].tolist()) == [3, 6, 7, 9]


def test_zero_hides_nothing() -> None:
    audit = audit_of(np.array([[3, 20], [30, 40]]), below=0)
    assert suppress(audit, 0) is audit
    assert json.loads(render_json(audit))["tables"]["f0"]["groups"] == [[3, 20], [30, 40]]


def test_suppressing_twice_is_suppressing_once() -> None:
    once = suppress(audit_of(np.array([[3, 20], [30, 40]])), BELOW)
    assert suppress(once, BELOW) is once
    assert once.data["suppression"]["small counts"] == 1
    assert once.data["suppression"]["hidden with them"] == 3


LEAKY = {
    "by site": [
        {"site": "site A", "accuracy": 0.5123, "low": 0.4123, "high": 0.6123, "patients": 3},
        {"site": "site B", "accuracy": 0.7123, "low": 0.6523, "high": 0.8123, "patients": 88},
    ],
    "recall": {"site C": 0.9123, "site B": 0.8877},
    "left_out": [{"left out": "site A, class 1: 2 patients"}],
    "tested_groups": 97,
    "given": ["tumour"],
    "k": 3,
}
COUNTS = {"site": [{"level": f"site {name}", "units": n, "rows": n} for name, n in zip("ABC", (3, 93, 4), strict=True)]}


def leaky_audit() -> Audit:
    finding = dataclasses.replace(
        one_finding(details=LEAKY),
        question="performance",
        sentence="Worst is site A: 51% [41%, 61%] of 3 patients. Among 98 patients it is 71%.",
        n=100, n_groups=98, unit="patient",
    )  # fmt: skip
    tables = {
        "site": {"biology": ["a"], "levels": ["site A", "site B", "site C"], "groups": [[3, 93, 4]], "unit": "patient"}
    }
    return sample_audit(
        findings=(finding,), tables=tables, advice=(), headline="site A is worst, with 3 patients.",
        data={"units": 100, "rows": 100, "group_counts": COUNTS,
              "info_missing": [{"policy": "drop", "counts": {"age": 2}}]},
        policy={"suppress_below": BELOW},
    )  # fmt: skip


@pytest.mark.parametrize("render", [render_html, render_markdown, render_json])
def test_what_rests_on_few_units_is_hidden_everywhere(render) -> None:
    text = re.sub(r"<svg.*?</svg>", "", render(leaky_audit()), flags=re.S)  # coordinates are no counts
    for number in ("0.5123", "0.512", "0.41", "0.61", "51%", "0.912", "3 patients", "2 patients", "98", "97"):
        assert not re.search(rf"(?<![\w.#-]){re.escape(number)}(?![\w%])", text), number
    for kept in ("0.71", "0.65", "100"):
        assert kept in text
    shown = text.replace("&lt;", "<")
    assert "<5" in shown
    assert "fewer than 5 patients" in shown
    assert "suppress_below: 5" in shown


def test_a_finding_on_few_units_keeps_its_verdict_alone() -> None:
    finding = dataclasses.replace(one_finding(0.3777, 0.2777, 0.4777), n=9, n_groups=4, sentence="0.3777 of 4 patients")
    found = suppress(dataclasses.replace(leaky_audit(), findings=(finding,)), BELOW)
    assert found.verdict == "fail"
    for text in (render_html(found), render_markdown(found), render_json(found)):
        assert "0.37" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
        assert "it rests on fewer than 5 patients" in text


def test_the_units_behind_a_finding_do_not_tell_who_was_left_out() -> None:
    """All of 100 less a cell of 2 is 98: the difference is rounded up to a multiple of five."""
    row = suppress(leaky_audit(), BELOW).rows()[0]
    assert (row["n"], row["n_groups"]) == (100, 95)
    assert leaky_audit().rows()[0]["n_groups"] == 95  # a frame leaves the audit, too
    assert leaky_audit().to_dict()["findings"][0]["n_groups"] == 95


@pytest.mark.parametrize(
    "units",
    [(1, 1, 98), (4, 4, 92), (1, 5, 94), (1, 1, 5, 93), (4,), (2, 3)],
    ids=lambda units: "+".join(map(str, units)),
)
def test_every_small_level_of_a_list_has_two_possible_values(units: tuple[int, ...]) -> None:
    """Covariates stand in no cross table; the total and what the marks mean are known."""
    rows = [{"level": f"sex {i}", "units": n, "rows": 2 * n} for i, n in enumerate(units)]
    audit = audit_of(np.array([[50, 50], [50, 50]]))
    audit = dataclasses.replace(audit, data=audit.data | {"group_counts": audit.data["group_counts"] | {"sex": rows}})
    shown = [row["units"] for row in suppress(audit, BELOW).data["group_counts"]["sex"]]
    missing = sum(units) - sum(n for n in shown if isinstance(n, int))
    ranges = [
        range(1, BELOW) if mark == "<5" else range(0 if n == 0 else BELOW, 200)
        for mark, n in zip(shown, units, strict=True)
        if isinstance(mark, str)
    ]
    assert all(mark == "<5" for mark, n in zip(shown, units, strict=True) if 0 < n < BELOW)
    if len(units) == 1 or sum(units) < 2 * BELOW:
        return  # the total itself tells it: no list can hide that
    for i, values in enumerate(ranges):
        others = [r for j, r in enumerate(ranges) if j != i]
        low, high = sum(r[0] for r in others), sum(r[-1] for r in others)
        assert sum(low <= missing - value <= high for value in values) > 1


def test_a_name_with_a_full_stop_keeps_its_numbers_hidden() -> None:
    """St. Anna ends no sentence; a level called "a" does not take every word with an a along."""
    rows = [{"level": name, "units": n, "rows": n} for name, n in (("St. Anna", 3), ("a", 2), ("c", 95))]
    sentence = "Worst is St. Anna: 51% [41%, 61%]. In c it is 71%, a mean of many. At a it is 0.33."
    audit = dataclasses.replace(
        leaky_audit(), findings=(dataclasses.replace(leaky_audit().findings[0], sentence=sentence),), tables={},
        data={"units": 100, "rows": 100, "group_counts": {"site": rows}},
    )  # fmt: skip
    found = suppress(audit, BELOW).findings[0].sentence
    assert "51%" not in found
    assert "0.33" not in found
    audit = suppress(dataclasses.replace(audit, headline="Margins of 0.5 are exceeded at c."), BELOW)
    assert audit.headline == "Margins of 0.5 are exceeded at c."


def test_recalls_that_rest_on_a_small_cell_are_hidden() -> None:
    """A level of 40 patients, of whom 2 have the class: its accuracy stays, the recalls go."""
    row = {"site": "site B", "patients": 40, "accuracy": 0.8123, "recall of yes": 0.5077, "recall of no": 0.8277}
    finding = one_finding(details={"by site": [row | {"patients of the rarest class": 2}]})
    audit = dataclasses.replace(leaky_audit(), findings=(dataclasses.replace(finding, question="performance"),))
    body = json.loads(render_json(audit))["findings"][0]["details"]["by site"][0]
    assert body["accuracy"] == 0.8123
    assert body["recall of yes"] is body["recall of no"] is None
    assert body["patients of the rarest class"] == "<5"


def test_what_follows_from_the_counts_alone_is_hidden_with_them() -> None:
    """The best guess of the class from the site alone is a sum of cells over a total: it would tell a hidden one."""
    finding = dataclasses.replace(
        one_finding(details={"probes": [{"probe": "knn", "case mix alone": 0.7822, "balanced accuracy": 0.81}]}),
        sentence="In b fewer than 10 patients in all (3). A probe names it with 81%; site alone would give 78.2%. "
        "Weighting leaves 57 of 143 patients' worth.",
    )
    audit = dataclasses.replace(audit_of(np.array([[3, 20], [50, 70]])), findings=(finding,))
    text = render_json(audit)
    assert "0.7822" not in text
    assert "78.2" not in text
    assert "57 of 143" not in text
    assert "81%" in text
    assert "(3)" not in text
    assert "0.7822" in render_json(dataclasses.replace(audit, policy={}))


def test_a_finding_about_one_small_level_shows_no_number() -> None:
    found = dataclasses.replace(one_finding(0.3777, 0.2777, 0.4777), question="decisions", n=100, n_groups=100,
                                target="new patients at site A, set to site B")  # fmt: skip
    worst = dataclasses.replace(found, question="performance", target="", details={"worst level": "site A"})
    text = render_json(dataclasses.replace(leaky_audit(), findings=(found, worst)))
    assert "0.37" not in text
    other = dataclasses.replace(found, target="new patients at site B, set to site A")
    assert "0.3777" in render_json(dataclasses.replace(leaky_audit(), findings=(other,)))


def test_the_terminal_hides_what_the_report_hides(capsys, tmp_path) -> None:
    """Logs of a continuous integration are read by more people than a report."""
    from causalfm.command_output import summary

    summary(leaky_audit(), tmp_path / "report.html")
    out = capsys.readouterr().out
    assert "51%" not in out
    assert "3 patients" not in out
    assert "fewer than 5 patients" in out


def test_what_overlap_says_of_cells_tells_no_count() -> None:
    """Counts in brackets behind a stratum are those of the cross table: they must not be there in full."""
    from causalfm.auditing.policy import load_policy
    from causalfm.auditing.questions import overlap_finding
    from causalfm.cohort import Cohort

    counts = {("a", "x"): 40, ("a", "y"): 30, ("b", "x"): 30, ("b", "y"): 17, ("c", "x"): 20, ("c", "y"): 2}
    counts |= {("a", "z"): 11, ("b", "z"): 1}
    rows = [(s, y) for (s, y), n in counts.items() for _ in range(n)]
    obs = {"site": [s for s, _ in rows], "tumour": [y for _, y in rows], "patient": [f"p{i}" for i in range(len(rows))]}
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    cohort = Cohort(np.random.default_rng(0).normal(size=(len(rows), 2)), pd.DataFrame(obs), {})
    finding = overlap_finding(cohort, graph, ("site",), load_policy())
    assert "tumour=y (2)" in finding.sentence
    assert "b 1 patients" in finding.sentence
    table = {"biology": ["x", "y", "z"], "levels": ["a", "b", "c"], "unit": "patient",
             "groups": [[40, 30, 20], [30, 17, 2], [11, 1, 0]]}  # fmt: skip
    levels = {"site": [81, 48, 22], "tumour": [90, 49, 12]}
    data = {name: [{"level": level, "units": n, "rows": n} for level, n in zip(table["levels" if name == "site" else
            "biology"], of, strict=True)] for name, of in levels.items()}  # fmt: skip
    known = {"units": 151, "rows": 151, "group_counts": data}
    audit = sample_audit(findings=(finding,), tables={"site": table}, graph=graph, data=known, policy={}, advice=())
    found = suppress(audit, BELOW).findings[0]
    text = f"{found.sentence} {found.details}"
    assert "fewer than fewer" not in text
    assert not re.search(r"\b(1|2|3|11|17|20)( patients|\))", text), text


def test_the_other_class_does_not_tell_the_small_one() -> None:
    """Of 40 patients 92.5% are of one class: three are of the other. Half the sum of two recalls tells the second."""
    shares = (("site A", 0.075), ("b", 0.925))
    classes = [{"class": name, "measured": share, "measured low": 0.71} for name, share in shares]
    recalls = [
        {"of": "recall of b", "value": 0.79, "patients": 37},
        {"of": "recall of a", "value": 0.88, "patients": 3},
    ]
    accuracies = [{"of": "deployment", "value": 0.81}, {"of": "balanced, deployment", "value": 0.8433}]
    finding = one_finding(details={"classes": classes, "recall by class": recalls, "accuracies": accuracies})
    text = render_json(dataclasses.replace(leaky_audit(), findings=(finding,)))
    for number in ("0.925", "0.075", "0.88", "0.8433"):
        assert number not in text
    assert "0.81" in text
