"""Mappings of evidence to frameworks: the slot that is filled, and what is refused with a reason."""

import re
from pathlib import Path

import pytest
from evidence_samples import REPORTS

from causalfm.auditing import collect_evidence
from causalfm.auditing.evidence_map import DEFAULT, load_evidence_map
from causalfm.errors import DataError


def mapping(folder: Path, change) -> Path:
    path = folder / "map.yaml"
    text = change(DEFAULT.read_text(encoding="utf-8"))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_the_owner_of_the_checklist_can_fill_the_slot(tmp_path):
    def fill(text):
        text = replaced(text, "    items: []", "    items:\n      - {id: causal, title: Causal reasoning is shown}")
        return replaced(text, "maps_to: [future-ai/robustness-1]", "maps_to: [real-fm/causal]")

    found = collect_evidence(REPORTS[:1], mapping=mapping(tmp_path, fill))
    (row,) = [row for row in found.coverage() if row["framework"] == "real-fm"]
    assert (row["item"], row["status"], row["not asked"]) == ("causal", "not asked", 1)
    assert found.mapping.sha256 != load_evidence_map().sha256


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("    items: []", "    items: []\n    level: 3", "frameworks[0].level"),
        ("    items: []", "    items:\n      - {id: a, title: b, Score: 2}", "frameworks[0].items[0].Score"),
        ("    items: []", "    items:\n      - {id: a, title: 'Level 4: validated'}", "'Level 4'"),
        ("    items: []", "    items:\n      - {id: a, title: Robust, maturity_level: x}", "maturity_level"),
        ("name: causalfm default mapping", "name: REAL-FM technical readiness score", "name:"),
        ("version: 1", "version: 1\nrating: high", "rating"),
        ('reason: "Whether a', 'reason: "A high level of REAL-FM. Whether a', "lines[23].reason"),
    ],
)
def test_a_mapping_that_would_rate_is_refused(tmp_path, old, new, where):
    path = mapping(tmp_path, lambda text: replaced(text, old, new))
    with pytest.raises(DataError) as caught:
        load_evidence_map(path)
    assert where in str(caught.value)
    assert "no score of REAL-FM" in str(caught.value)


BAD_MAPS = {
    "empty": (lambda t: "", "is empty"),
    "a comment": (lambda t: "# nothing\n", "must be an object"),
    "a list": (lambda t: "- 1\n", "must be an object"),
    "no YAML": (lambda t: t + "\n  bad: [", "line", "not valid YAML"),
    "a tab": (lambda t: t + "\n\tx: 1", "not valid YAML"),
    "not UTF-8": (lambda t: t.encode() + b"# \xe9", "not UTF-8"),
    "a control character": (lambda t: t + "# \x07", "not valid YAML"),
    "an alias": (lambda t: "a: &x [1]\nb: *x\n", "line 2, column 4", "alias"),
    "a key twice": (lambda t: t + "\nname: other\n", "the key 'name' is there twice"),
    "code": (lambda t: "a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
    "another version": (lambda t: replaced(t, "version: 1", "version: 2"), "version must be 1"),
    "an unknown key": (lambda t: t + "\nline: []\n", "unknown key 'line'", "'lines'"),
    "a missing key": (lambda t: replaced(t, "name: causalfm default mapping", ""), "lacks 'name'"),
    "an aspect that is none": (
        lambda t: replaced(t, "aspect: causal reasoning", "aspect: causality"),
        "lines[0].aspect must be",
        '"causal reasoning" or',
    ),
    "no reason": (lambda t: re.sub(r'reason: "The declared[^"]*"', 'reason: "so"', t), "lines[0].reason", "minLength"),
    "an unknown question": (
        lambda t: replaced(t, "question: overlap", "question: overlaps"),
        "lines[1].question",
        "no report answers 'overlaps'",
        "Did you mean 'overlap'?",
    ),
    "a question left out": (
        lambda t: re.sub(r"  - question: drift\n(.*\n){3}", "", t),
        "no line for 'drift'",
        "maps_to: []",
    ),
    "a question twice": (
        lambda t: replaced(t, "question: overlap", "question: graph"),
        "question 'graph' is there twice",
    ),
    "an item that no framework has": (
        lambda t: replaced(t, "maps_to: [future-ai/robustness-1]", "maps_to: [future-ai/robustness-4]"),
        "lines[0].maps_to",
        "'future-ai/robustness-4'",
        "Did you mean 'future-ai/robustness-",
    ),
    "an item twice": (lambda t: replaced(t, "id: robustness-2", "id: robustness-1"), "robustness-1' is there twice"),
    "a framework twice": (lambda t: replaced(t, "id: fda-2025", "id: future-ai"), "'future-ai' is there twice"),
    "a bad id": (lambda t: replaced(t, "id: fda-2025", "id: FDA 2025"), "frameworks[2].id breaks the rule pattern"),
    "deep": (lambda t: "a: " + "[" * 3000 + "]" * 3000, "nested too deep"),
    "large": (lambda t: "#" * (2**20 + 1), "more than 1 MiB"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_wrong_mappings_name_key_and_way_out(case, tmp_path):
    change, *words = BAD_MAPS[case]
    with pytest.raises(DataError) as caught:
        load_evidence_map(mapping(tmp_path, change))
    message = str(caught.value)
    assert "'map.yaml'" in message
    assert [word for word in words if word not in message] == [], message


def test_mappings_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"is a folder"):
        load_evidence_map(tmp_path)
    with pytest.raises(DataError, match=r"gone.yaml"):
        load_evidence_map(tmp_path / "gone.yaml")
