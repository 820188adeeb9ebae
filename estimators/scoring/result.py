"""Result of a scoreboard: every corrector's numbers, their changes against no correction, and whether one helps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from causalfm.results import Result

NONE = "no correction"
HELPS, KEEPS = "biology_new_site", "biology"  # what a recommendation rests on


@dataclass(frozen=True)
class Score(Result):
    """One measure of one corrector.

    Attributes
    ----------
    corrector, name
        ``"no correction"`` or the corrector's name; the measure.
    value, low, high, chance
        Value with its 95 % interval, and what nothing would score (``nan`` where the notion is void).
    better
        ``"lower"`` or ``"higher"``.
    change, change_low, change_high
        Value less that without correction on the same patients, with its 95 % interval.
    joint_low, joint_high
        Interval of the change for all correctors together (Bonferroni).
    leak
        The value with the corrector fitted on all rows; ``nan`` unless asked for.
    reason
        Why there is no value, or no interval.
    """

    corrector: str
    name: str
    value: float
    low: float
    high: float
    chance: float
    better: str
    change: float
    change_low: float
    change_high: float
    joint_low: float
    joint_high: float
    leak: float
    reason: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this score."""
        return [dict(self.__dict__)]


@dataclass(frozen=True)
class Scoreboard(Result):
    """Correctors side by side.

    Attributes
    ----------
    scores
        One per corrector and measure; those without correction first.
    recommended
        Name of the corrector that is shown to help, or None.
    sentence
        The recommendation in words.
    n, n_groups, unit
        Rows, independent units, and what the unit is.
    details
        Settings, cells that were judged, what stands behind the intervals.
    """

    scores: tuple[Score, ...]
    recommended: str | None
    sentence: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per corrector and measure."""
        return [row for score in self.scores for row in score.rows()]

    def score(self, corrector: str, name: str) -> Score:
        """Return one score; KeyError if there is none of that name."""
        for score in self.scores:
            if (score.corrector, score.name) == (corrector, name):
                return score
        raise KeyError(f"no score {name!r} of {corrector!r}")


def recommend(scores: tuple[Score, ...], margin: float) -> tuple[str | None, str]:
    """Name the corrector with the surest gain at unseen sites among those that keep biology, if there is one.

    Parameters
    ----------
    scores
        All scores.
    margin
        Accuracy for unseen patients that a corrector may lose.

    Returns
    -------
    name : str or None
        Of the corrector.
    sentence : str
        In words.
    """
    gains = {s.corrector: s for s in scores if s.name == HELPS and s.corrector != NONE}
    kept = {s.corrector: s for s in scores if s.name == KEEPS and s.corrector != NONE}
    told = {name: s for name, s in gains.items() if math.isfinite(s.joint_low)}
    if not told:
        reasons = sorted({s.reason for s in gains.values() if s.reason})
        why = reasons[0] if reasons else "no corrector has an interval at unseen sites"
        return None, f"cannot tell whether a corrector helps: {why}"
    rises = {name: s for name, s in told.items() if s.joint_low > 0.0}
    # what was read worse than by guessing may rise to guessing, which is no help
    helps = {name: s for name, s in rises.items() if not s.low <= s.chance}
    safe = {name: s for name, s in helps.items() if name in kept and kept[name].joint_low > -margin}
    if safe:
        best = max(safe.values(), key=lambda s: s.joint_low)
        return best.corrector, (
            f"{best.corrector} helps: accuracy at unseen sites rises by {best.change:.3f} (joint interval "
            f"{best.joint_low:.3f} to {best.joint_high:.3f}), and accuracy for unseen patients of known sites falls by "
            f"less than {margin:g}."
        )
    if helps:
        unknown = sorted(name for name in helps if name not in kept or not math.isfinite(kept[name].joint_low))
        if unknown == sorted(helps):
            return None, (
                f"cannot tell whether a corrector helps: {', '.join(unknown)} gain(s) accuracy at unseen sites, but "
                "what it costs for unseen patients of known sites has no interval."
            )
        return None, (
            f"no corrector is recommended: {', '.join(sorted(helps))} gain(s) accuracy at unseen sites, but may lose "
            f"{margin:g} or more for unseen patients of known sites."
        )
    if rises:
        best = max(rises.values(), key=lambda s: s.joint_low)
        return None, (
            f"no corrector is recommended: with {best.corrector} accuracy at unseen sites rises by {best.change:.3f}, "
            f"to {best.value:.3f} (interval {best.low:.3f} to {best.high:.3f}), which is not told from guessing "
            f"({best.chance:.3f})."
        )
    best = max(told.values(), key=lambda s: s.change)
    bounds = f"joint interval {best.joint_low:.3f} to {best.joint_high:.3f}"
    if best.joint_high < 0.0:
        return None, (
            f"no corrector helps here: each lowers accuracy at unseen sites; the least loss is {-best.change:.3f} "
            f"({best.corrector}; {bounds} of the change)."
        )
    name = "gain" if best.change >= 0.0 else "change"
    if any(s.change > best.change for s in gains.values()):
        name += " with an interval"
    return None, (
        f"no corrector helps here: the largest {name} at unseen sites is {best.change:.3f} ({best.corrector}), and its "
        f"{bounds} does not exclude 0."
    )


def confirm(
    name: str, sentence: str, scores: tuple[Score, ...], second: tuple[Score, ...], margin: float
) -> tuple[str | None, str, dict[str, float]]:
    """Ask a second probe about the corrector that the first one recommends.

    A condition more: recommendations become rarer, and wrong ones too.

    Parameters
    ----------
    name, sentence
        From :func:`recommend`.
    scores, second
        Of the first probe, and of the second for this corrector alone.
    margin
        Accuracy for unseen patients that the corrector may lose.

    Returns
    -------
    name : str or None
        None where the second probe does not show the same.
    sentence : str
        In words.
    details : dict
        Numbers of the second probe.
    """
    first = {(s.corrector, s.name): s for s in scores}
    found = {(s.corrector, s.name): s for s in second}
    gain, kept, base = found[name, HELPS], found[name, KEEPS], found[NONE, HELPS]
    numbers = {
        f"{s.name}_{key}": getattr(s, key) for s in (gain, kept) for key in ("change", "change_low", "change_high")
    }
    numbers["biology_new_site_without"] = base.value
    said = f"{gain.change:.3f} (interval {gain.change_low:.3f} to {gain.change_high:.3f})"
    guesses = gain.low <= gain.chance
    if gain.change_low > 0.0 and kept.change_low > -margin and not guesses:
        return name, f"{sentence} Logistic regression says the same: {said} at unseen sites.", numbers
    why = f"the change at unseen sites is {said}"
    if gain.change_low > 0.0 and guesses:
        why = f"{gain.value:.3f} is not told from guessing ({gain.chance:.3f}) at unseen sites"
    elif gain.change_low > 0.0:
        why = f"unseen patients of known sites may lose {margin:g} or more (change from {kept.change_low:.3f})"
    was, without = first[name, HELPS].change, first[NONE, HELPS].value
    told = (
        f"{name} gains {was:.3f} at unseen sites by a linear discriminant, which reads {without:.3f} without correction"
    )
    second_said = f"by logistic regression, which reads {base.value:.3f} without, {why}"
    return None, f"no corrector is recommended: {told}; {second_said}.", numbers
