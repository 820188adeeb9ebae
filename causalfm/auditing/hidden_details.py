"""Small counts, and what rests on them, inside the findings: free-form details and sentences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from causalfm.auditing.findings import Advice, Finding

COUNTED = ("unit", "units", "group", "groups", "row", "rows", "patient", "patients")  # words of keys that count
NAN = float("nan")


@dataclasses.dataclass
class Marks:
    """What must not be seen, and what is written in its place.

    Attributes
    ----------
    below, unit
        The threshold; the name of the independent unit.
    levels
        Names of levels and classes of fewer units.
    totals
        Units and rows in all, of the cohort or of reference and deployment: they are shown.
    hidden
        How many values were hidden so far.
    """

    below: int
    unit: str
    levels: frozenset[str]
    totals: tuple[int, ...]
    hidden: int = 0

    @property
    def words(self) -> str:
        """Name what is not shown."""
        return f"fewer than {self.below} {self.unit}s"

    def sentence(self, small: int, others: int) -> str:
        """Say how many counts are hidden and why."""
        return (
            f"Counts of {self.words} are not shown, as the policy asks (suppress_below: {self.below}): {small} small "
            f"counts read <{self.below}, and {others} more read 'hidden' because a small one could be computed from "
            f"them. Estimates that rest on {self.words} are left out; units behind a finding that speaks for a part "
            f"of the table are rounded."
        )

    def small(self, value: Any) -> bool:
        """Tell whether a value is a small count."""
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value < self.below

    def counts(self, key: str) -> bool:
        """Tell whether a key is that of a count of units or rows."""
        words = re.split(r"[\s_]+", key.lower())
        own = {self.unit.lower(), f"{self.unit.lower()}s"}
        return bool(own.union(COUNTED) & set(words)) or key.lower() in own | {"n", "n_rows"}

    def text(self, text: str) -> str:
        """Replace small counts in a sentence, and clauses that give numbers of a small level."""
        units = rf"(?:{re.escape(self.unit)}s?|units?|rows?|patients?|slides?|tiles?)"

        def count(found: re.Match[str]) -> str:
            number = int(found[1].replace(",", ""))
            if number in (0, *self.totals):
                return found[0]
            self.hidden += 1
            few = number < self.below
            return f"fewer than {self.below}{found[2]}" if few else f"about {self.rounded(number):,}{found[2]}"

        text = re.sub(rf"(?<![\d.,])(\d[\d,]*)( {units}\b)", count, text)
        if not any(level in text for level in self.levels):
            return text
        clauses = re.split(r"((?<=[.;!?])\s+)", text)  # a colon may stand between the name and its number
        for i, clause in enumerate(clauses):
            bare = clause
            for level in sorted(self.levels, key=len, reverse=True):
                bare = bare.replace(level, "")
            if bare != clause and re.search(r"\d", bare.replace(self.words, "")):
                clauses[i] = f"(not shown: {self.words})"
                self.hidden += 1
        return "".join(clauses)

    def rounded(self, count: int) -> int:
        """Round what is missing from a total up to a multiple: how many were left out is not told."""
        total = min((total for total in self.totals if total >= count), default=count)
        return max(self.below, total - self.below * -(-(total - count) // self.below)) if count else 0

    def value(self, value: Any, key: str = "") -> Any:
        """Hide in anything: mappings, lists, sentences, counts."""
        if isinstance(value, Mapping):
            return self._record(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item, key) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if hasattr(value, "tolist"):  # NumPy's numbers
            return self.value(value.tolist(), key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0 and self.counts(key):
            if value in self.totals:
                return value
            self.hidden += 1
            return f"<{self.below}" if value < self.below else f"{self.below}+"
        return value

    def _record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Hide a record that rests on few units or names a small level: its numbers go, its words stay."""
        few = any(self.counts(str(key)) and self.small(value) for key, value in record.items())
        named = any(isinstance(value, str) and value in self.levels for value in record.values())
        out: dict[str, Any] = {}
        for name, value in record.items():
            key = str(name)
            lost = (few or named or key in self.levels) and _numeric(value) and not self.counts(key)
            self.hidden += lost
            out[key] = NAN if lost else self.value(value, key)
        return out


def hide_in_finding(finding: Finding, marks: Marks) -> Finding:
    """Hide in a finding; one that rests on few units as a whole keeps its verdict and no number."""
    texts: dict[str, Any] = {
        name: marks.text(getattr(finding, name)) for name in ("title", "sentence", "target", "advice")
    }
    details = marks.value(finding.details)
    if marks.small(finding.n_groups):
        nothing: dict[str, Any] = dict.fromkeys(("value", "low", "high", "chance"), NAN)
        return dataclasses.replace(
            finding, **texts | {"sentence": f"Not shown: it rests on {marks.words}."}, **nothing, n=0, n_groups=0,
            details={"hidden": marks.words},
        )  # fmt: skip
    counts: dict[str, Any] = {name: marks.rounded(getattr(finding, name)) for name in ("n", "n_groups")}
    share: dict[str, Any] = {}
    if finding.question == "overlap" and finding.n_groups and finding.value == finding.value:
        share = {"value": finding.value * counts["n_groups"] / finding.n_groups}
    return dataclasses.replace(finding, **texts, **counts, **share, details=details)


def hide_in_advice(advice: Advice, marks: Marks) -> Advice:
    """Hide in what was tried: scores of levels left out may rest on few units."""
    tried = tuple(marks.value(row) for row in advice.tried)
    return dataclasses.replace(
        advice, sentence=marks.text(advice.sentence), tried=tried, board=marks.value(advice.board)
    )


def hide_in_missing(value: Any, marks: Marks) -> Any:
    """Hide small numbers of missing values: they are rows."""
    if isinstance(value, Mapping):
        return {key: hide_in_missing(item, marks) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_in_missing(item, marks) for item in value]
    return f"<{marks.below}" if marks.small(value) else value


def _numeric(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_numeric(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
