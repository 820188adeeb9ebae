"""What a refuter returns, and the rules by which it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scipy import stats

from causalfm.results import Result, Verdict, worst

NOMINAL = 0.05  # level of the tests whose rejections are counted
TOLERATED = 0.07  # true size up to which an error rate of 5 % counts as kept
MARGIN = 0.25  # of a standard deviation, or of the factor's own distance: what may be left of a negative control
KEPT = 0.8  # of the independent units of each cell: what a subset of the data keeps
MIDDLE = (0.025, 0.975)  # of the draws: what low and high enclose
FEW, MOST = 0.05, 0.5  # share of the draws that leave the estimate's own interval: up to it a pass, above it a failure


@dataclass(frozen=True)
class RefutationRow:
    """One attempt to overturn an estimate.

    Attributes
    ----------
    name, done
        The attempt, and what was done to the data.
    before, after
        The estimate, and what it became; distances unless ``done`` says otherwise. The sign is that of the debiased
        square.
    low, high
        Range of ``after``: 95 % of the draws, or its interval.
    verdict, sentence
        The outcome, and the outcome in words.
    """

    name: str
    done: str
    before: float
    after: float
    low: float
    high: float
    verdict: Verdict
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refutation(Result):
    """All attempts to overturn one estimate.

    Attributes
    ----------
    treatment, outcome, estimator
        The estimate.
    attempts
        One row each.
    verdict
        ``"fail"`` if any failed; ``"pass"`` if all passed.
    sentence
        In words.
    """

    treatment: str
    outcome: str
    estimator: str
    attempts: tuple[RefutationRow, ...]
    verdict: Verdict
    sentence: str

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per attempt."""
        names = ("name", "done", "before", "after", "low", "high", "verdict", "sentence")
        return [{name: getattr(row, name) for name in names} for row in self.attempts]


def collect(treatment: str, outcome: str, estimator: str, attempts: list[RefutationRow]) -> Refutation:
    """Put attempts together and say what they amount to."""
    verdict = worst([row.verdict for row in attempts])
    by = {v: [row.name for row in attempts if row.verdict == v] for v in ("fail", "cannot tell", "pass")}
    words = [f"Passed: {', '.join(by['pass']) or 'none'}."]
    if by["fail"]:
        words.insert(0, f"The effect of {treatment} does not stand up to: {', '.join(by['fail'])}.")
    if by["cannot tell"]:
        words.append(f"Undecided: {', '.join(by['cannot tell'])}.")
    words.append("Passing does not exclude an undeclared cause: see .sensitivity().")
    return Refutation(treatment, outcome, estimator, tuple(attempts), verdict, " ".join(words))


def rate_verdict(rejected: int, draws: int) -> Verdict:
    """Fail if more draws were rejected than an error rate of 7 % allows in 999 of 1,000 cases; fewer is no fault."""
    return "pass" if rejected <= stats.binom.ppf(0.999, draws, TOLERATED) else "fail"


def rate_words(rejected: int, draws: int) -> str:
    """``"7 of 200 (4 %, nominal 5 %)"``."""
    return f"{rejected} of {draws} ({rejected / draws:.0%}, nominal {NOMINAL:.0%})"


def stability_verdict(outside: float) -> Verdict:
    """Judge the share of draws that leave the estimate's own interval, though nothing that matters was changed."""
    return "pass" if outside <= FEW else "fail" if outside > MOST else "cannot tell"
