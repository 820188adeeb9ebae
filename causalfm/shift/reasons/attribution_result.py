"""What the attribution found: shares of the drop, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from causalfm.results import Result, Verdict

NEW_SUPPORT = "new support"
EMBEDDING_ROLE = "embedding"


@dataclass(frozen=True)
class Share:
    """What one mechanism adds to the drop.

    Attributes
    ----------
    mechanism
        The mechanism as a formula, for instance ``"P(tumour | age)"``.
    role
        ``"covariates"``, ``"biology"``, a technical factor, ``"embedding"`` or ``"new support"``.
    nodes
        Nodes that it makes; of new support those with unseen levels.
    value, low, high
        Share of the drop in accuracy and its 95 % interval; positive where performance is lost. ``nan`` where it cannot
        be told.
    low_of_all, high_of_all
        Interval that holds for all shares together (Bonferroni): what a name rests on.
    effective
        Effective number of units that carry the reweighting by this mechanism; all units where there is none.
    verdict
        Against the margin.
    sentence
        In words; with the reason where it cannot be told.
    """

    mechanism: str
    role: str
    nodes: tuple[str, ...]
    value: float
    low: float
    high: float
    low_of_all: float
    high_of_all: float
    effective: float
    verdict: Verdict
    sentence: str

    @property
    def told(self) -> bool:
        """Whether there is a number."""
        return self.value == self.value


@dataclass(frozen=True)
class Attribution(Result):
    """The drop in accuracy from reference to deployment, shared among the mechanisms of the graph.

    Attributes
    ----------
    drop, low, high
        Accuracy in the reference less that in the deployment, with its 95 % interval.
    accuracy
        In reference and deployment, patients weighing the same.
    shares
        One per mechanism. Those that are told add up to the drop.
    named
        Mechanisms whose interval for all shares together lies above 0, the largest first.
    orders
        ``"all"``: Shapley values; ``"causal"``: what each adds if causes change first, in the order of the rows.
    verdict
        The worst of the shares that are told: what a mechanism without overlap does is in the share of the embedding.
    sentence
        In words.
    n, n_groups, unit
        Labelled rows, independent units of both domains, and what they are.
    details
        ``"target"``, settings, what was left out and why, effective sizes, ``"second_opinion"`` of DoWhy.
    """

    drop: float
    low: float
    high: float
    accuracy: tuple[float, float]
    shares: tuple[Share, ...]
    named: tuple[str, ...]
    orders: str
    verdict: Verdict
    sentence: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per share, and the total."""
        names = ("mechanism", "role", "value", "low", "high", "effective", "verdict", "sentence")
        rows = [{name: getattr(share, name) for name in names} for share in self.shares]
        total = (
            "all",
            "total",
            self.drop,
            self.low,
            self.high,
            float(self.n_groups),
            self.verdict,
            self.sentence,
        )
        return [*rows, dict(zip(names, total, strict=True))]


def number(value: float) -> str:
    """Write a share with two or, where small, three digits after the point."""
    digits = 3 if abs(value) < 0.0095 else 2
    text = f"{value:.{digits}f}"
    return text if float(text) else "0"


def interval(value: float, low: float, high: float) -> str:
    """Write a value with its interval."""
    return f"{number(value)} [{number(low)}, {number(high)}]"


def drop_words(value: float, low: float, high: float) -> str:
    """Begin a sentence that lists the parts of a drop."""
    if value < 0.0:
        return f"Accuracy rises by {interval(-value, -high, -low)}; of this change, counted as loss"
    return f"Of the drop in accuracy of {interval(value, low, high)}"


def share_words(role: str, nodes: Sequence[str], given: Sequence[str]) -> str:
    """Say what a mechanism is, to follow "comes with".

    Parameters
    ----------
    role, nodes
        As of a :class:`Share`.
    given
        What it is given.
    """
    names, after = ", ".join(nodes), f" given {', '.join(given)}" if given else ""
    if role == EMBEDDING_ROLE:
        return f"how embeddings look{after}"
    if role == NEW_SUPPORT:
        return f"levels of {names} that the reference does not have"
    words = {"covariates": f"other patients ({names}{after})", "biology": f"another case mix ({names}{after})"}
    return words.get(role, f"another mix of {names}{after}")


def attribution_sentence(drop: tuple[float, float, float], shares: Sequence[Share], named: Sequence[str]) -> str:
    """Put the attribution into words, the shares that stand out first.

    Parameters
    ----------
    drop
        Value and interval.
    shares, named
        As of the result.
    """
    told = sorted((s for s in shares if s.told), key=lambda s: (s.mechanism not in named, -abs(s.value)))
    head = drop_words(*drop)
    parts = [f"{interval(s.value, s.low, s.high)} comes with {s.sentence}" for s in told]
    silent = [s.sentence for s in shares if not s.told]
    body = f"{head}: " + "; ".join(parts) + "."
    if not named:
        body += " No mechanism stands out from chance."
    return " ".join([body, *silent])
