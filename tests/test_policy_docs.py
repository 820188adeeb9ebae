"""The page on policies: its tables are those of the program, its numbers those of the records."""

import csv
from pathlib import Path

import pytest

from causalfm.auditing.policy import default_values
from experiments import policy_levels

DOCS = Path(__file__).parents[1] / "docs"


def between(name: str) -> list[str]:
    page = (DOCS / "policy.md").read_text()
    return page.split(f"<!-- {name}: start -->\n")[1].split(f"<!-- {name}: end -->")[0].splitlines()


def test_the_table_of_keys_is_that_of_the_schema():
    assert between("policy keys") == policy_levels.key_table()
    page = (DOCS / "policy.md").read_text()
    for key, value in default_values().items():
        if key not in ("version", "name", "intended_use", "declared_by", "declared_on"):
            assert f"**{key}" in page or f"**{key}," in page or f", {key} " in page, key
        if isinstance(value, float) and value:
            assert f"{value:g}" in page


def test_the_intervals_cover_what_is_promised():
    with (DOCS / "policy_levels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["number"], float(row["alpha"])) for row in rows} == {
        (name, alpha) for name in policy_levels.NAMES for alpha in policy_levels.ALPHAS
    }
    shown = " ".join(between("policy levels"))
    for row in rows:
        covered, promised, error = (float(row[key]) for key in ("covered", "promised", "error"))
        assert covered > promised - 3.3 * error, row  # 99.9 %, one-sided; too wide is told in the page, not refused
        assert f"{100 * covered:.1f}%" in shown
        assert int(row["cohorts"]) >= 300


def test_one_cohort_is_measured_as_the_records_say(tmp_path):
    found = policy_levels.measure(policy_levels.FIRST_SEED)
    for name, at in found.items():
        values = [value for value, _, _ in at]
        assert values == [values[0]] * len(values), name
        widths = [high - low for _, low, high in at]
        assert widths == sorted(widths), name
        assert widths[0] < widths[-1], name
    path = tmp_path / "records.jsonl"
    path.write_text('{"seed": 1}\n{"seed"')
    assert policy_levels.read(path) == {1: {}}


def test_coverage_is_counted_by_hand():
    def record(low, high):
        return {name: [[0.5, low, high]] * len(policy_levels.ALPHAS) for name in policy_levels.NAMES}

    rows = policy_levels.rows_of({1: record(0.4, 0.6), 2: record(0.55, 0.6), 3: record(float("nan"), 0.6)})
    index = [row for row in rows if row["number"] == "robustness index"]
    assert [row["covered"] for row in index] == [0.5] * len(index)
    assert {row["answered"] for row in index} == {2}
    assert index[0]["mean width"] == pytest.approx(0.125)
