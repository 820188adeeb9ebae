"""Small counts, and what rests on them, inside the findings: free-form details and sentences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from causalfm.auditing.findings import Advice, Finding

COUNTED = ("unit", "units", "group", "groups", "row", "rows", "patient", "patients")  # words of keys that count
RECALL = "recall of "  # columns of a table of levels, with the class behind it
RAREST = "s of the rarest class"  # with the unit before it: a recall of the level may rest on so few
OF_COUNTS = (
    "case mix alone",
)  # numbers that follow from a cross table alone: shown in full, they would tell its cells
NAMED = "\N{FULL BLOCK}"  # stands for each character of a name while sentences are taken apart
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
    crossed
        Whether cells of a cross table are hidden: then nothing is shown that follows from the counts alone.
    hidden
        How many values were hidden so far.
    """

    below: int
    unit: str
    levels: frozenset[str]
    totals: tuple[int, ...]
    crossed: bool = False
    hidden: int = 0

    @property
    def words(self) -> str:
        """Name what is not shown."""
        return f"fewer than {self.below} {self.unit}s"

    def sentence(self, small: int, others: int) -> str:
        """Say how many counts are hidden and why."""
        return (
            f"Counts of {self.words} are not shown, as the policy asks (suppress_below: {self.below}). Counts that "
            f"read <{self.below}: {small}; that read 'hidden', as a small one could be computed from them: {others}. "
            f"Estimates that rest on {self.words} are left out; units behind a finding that speaks for a part of the "
            "table are rounded."
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
            number = int(found[2].replace(",", ""))
            if number in (0, *self.totals):
                return found[0]
            if found[1]:  # a threshold, not a count: which cells are under it is seen, how far is not
                return f"{found[1]}{max(number, self.below):,}{found[3]}"
            self.hidden += 1
            if number < self.below:
                return f"fewer than {self.below}{found[3]}"
            # a part: of its size a range would tell the small one that it hides together with
            part = 2 * number < max(self.totals, default=0)
            return f"{self.below} or more{found[3]}" if part else f"about {self.rounded(number):,}{found[3]}"

        text = re.sub(rf"(?<![\d.,])(fewer than )?(\d[\d,]*)((?: of [\d,]+)? {units}\b)", count, text)
        text = re.sub(r"()(?<=\()(\d[\d,]*)(\))", count, text)  # a count alone in brackets, its unit named before
        if self.crossed:
            text, found = re.subn(r"(?<= alone would give )\d[\d.]*%", "what is not shown", text)
            self.hidden += found
        if not self.levels:
            return text
        names = "|".join(map(re.escape, sorted(self.levels, key=len, reverse=True)))
        named = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
        masked = named.sub(lambda found: NAMED * len(found[0]), text)  # a name may hold full stops and digits itself
        out, start = [], 0
        ends = [found.span() for found in re.finditer(r"(?<=[.;!?])\s+", masked)]  # a colon may precede the number
        for end, following in [*ends, (len(text), len(text))]:
            clause = masked[start:end]
            gone = NAMED in clause and re.search(r"\d", clause.replace(self.words, "")) is not None
            self.hidden += gone
            out += [f"(not shown: {self.words})" if gone else text[start:end], text[end:following]]
            start = following
        return "".join(out)

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
        """Hide a record that rests on few units or names a small level: its numbers go, its words stay.

        Where a level has few units of one class only, the recalls go: of all classes, as their mean is shown.
        """
        rare = f"{self.unit}{RAREST}"
        few = any(self.counts(str(key)) and self.small(value) for key, value in record.items() if key != rare)
        part = self.small(record.get(rare))
        named = any(isinstance(value, str) and value in self.levels for value in record.values())
        out: dict[str, Any] = {}
        for name, value in record.items():
            key = str(name)
            without = few or named or key in self.levels or (part and key.startswith(RECALL))
            without |= self.crossed and key in OF_COUNTS
            lost = without and _numeric(value) and not self.counts(key)
            self.hidden += lost
            out[key] = NAN if lost else self.value(value, key)
        return out


def hide_in_finding(finding: Finding, marks: Marks) -> Finding:
    """Hide in a finding; one that rests on few units as a whole keeps its verdict and no number."""
    texts: dict[str, Any] = {
        name: marks.text(getattr(finding, name)) for name in ("title", "sentence", "target", "advice")
    }
    details = marks.value(_without_complements(finding, marks))
    if marks.small(finding.n_groups) or _about_few(finding, marks):
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


def _without_complements(finding: Finding, marks: Marks) -> Mapping[str, Any]:
    """Take out what would give a small class away by subtraction: shares of the other classes, means of all recalls."""
    details = dict(finding.details)
    if any(str(row.get("class")) in marks.levels for row in details.get("classes", ()) if isinstance(row, Mapping)):
        details["classes"] = [
            {key: NAN if key.startswith("measured") else value for key, value in row.items()}
            for row in details["classes"]
        ]
    recalls = [row for row in details.get("recall by class", ()) if isinstance(row, Mapping)]
    if any(marks.counts(str(key)) and marks.small(value) for row in recalls for key, value in row.items()):
        details["accuracies"] = [
            {key: NAN if "balanced" in str(row.get("of")) and _numeric(value) else value for key, value in row.items()}
            for row in details.get("accuracies", ())
        ]
    return details


def _about_few(finding: Finding, marks: Marks) -> bool:
    """Tell whether the number of a finding is that of one small level: the worst one, or the one that is moved."""
    if finding.question == "decisions":
        where = re.split(r", set to ", finding.target)[0]
        return any(where.endswith(f" at {level}") for level in marks.levels)
    return finding.question == "performance" and str(finding.details.get("worst level", "")) in marks.levels


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
