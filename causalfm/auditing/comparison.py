"""What a comparison of encoders says: scores with intervals, paired contrasts, and the ranks they leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from causalfm.graph import CausalGraph
from causalfm.results import Estimate, Result

if TYPE_CHECKING:
    import pandas as pd

    from causalfm.embedding_map import EmbeddingMap

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class Contrast(Result):
    """The difference between two encoders on the same patients.

    Attributes
    ----------
    a, b
        The encoders.
    difference, low, high
        ``a`` less ``b`` with its 95 % interval; ``nan`` where there is none.
    joint_low, joint_high
        The interval that holds together with those of all pairs of this measure and factor, with 95 %.
    p_value
        Of no difference, adjusted for all pairs.
    df
        Degrees of freedom.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    joint_low: float
    joint_high: float
    p_value: float
    df: float

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this contrast."""
        return [dataclasses.asdict(self)]

    @property
    def told_apart(self) -> bool:
        """Whether the joint interval leaves 0 out."""
        return self.joint_low > 0 or self.joint_high < 0


@dataclass(frozen=True)
class Standing(Result):
    """The ranks that the data leave open for one encoder; rank 1 is the best.

    Attributes
    ----------
    encoder
        Its name.
    rank_low, rank_high
        Ranks left open by the joint intervals: together for all encoders with 95 %.
    shares
        Share of draws of new patients in which it holds rank 1, 2, ...
    """

    encoder: str
    rank_low: int
    rank_high: int
    shares: tuple[float, ...]

    @property
    def may_be_best(self) -> bool:
        """Whether no other encoder is shown to be better."""
        return self.rank_low == 1

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this encoder."""
        shares = {f"share of rank {rank}": share for rank, share in enumerate(self.shares, 1)}
        return [{"encoder": self.encoder, "rank_low": self.rank_low, "rank_high": self.rank_high, **shares}]


@dataclass(frozen=True)
class Board(Result):
    """One measure of all encoders, for one factor.

    Attributes
    ----------
    metric, title
        Key of the measure, and the measure in words.
    factor
        Technical factor that it is about, or the biology.
    better
        Which values are good.
    scores
        Estimate of each encoder, in the order given.
    contrasts, standings
        All pairs; ranks of all encoders. Empty where there are none: ``reason``.
    reason
        Why there are no contrasts.
    details
        The common ``k``, the k that each encoder would choose, curves over k.
    """

    metric: str
    title: str
    factor: str
    better: Literal["higher", "lower"]
    scores: Mapping[str, Estimate]
    contrasts: tuple[Contrast, ...] = ()
    standings: tuple[Standing, ...] = ()
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per encoder."""
        about = {"metric": self.metric, "factor": self.factor, "better": self.better}
        places = {standing.encoder: standing for standing in self.standings}
        out = []
        for encoder, estimate in self.scores.items():
            place = places.get(encoder)
            ranks = {"rank_low": place.rank_low, "rank_high": place.rank_high} if place else {}
            best = {"share_of_rank_1": place.shares[0], "may_be_best": place.may_be_best} if place else {}
            out.append(about | {"encoder": encoder} | estimate.rows()[0] | ranks | best)
        return out

    def leaders(self) -> list[str]:
        """Return the encoders that no other is shown to be better than, best value first."""
        sign = 1 if self.better == "lower" else -1
        best = [standing.encoder for standing in self.standings if standing.may_be_best]
        return sorted(best, key=lambda name: sign * self.scores[name].value)


@dataclass(frozen=True)
class Comparison(Result):
    """The outcome of :func:`causalfm.compare`.

    Attributes
    ----------
    encoders
        Names, in the order given.
    boards
        One per measure and factor.
    headline, concluded, open
        Sentences: who is shown to be the best; what every board shows; what no number here shows.
    graph
        The declared graph.
    data
        Rows and independent units; dimensions, provenance and fingerprint of every encoder.
    maps
        One map per encoder for the page. Not exported: they hold a point for single rows.
    provenance
        Versions, seed, time stamp, duration.
    """

    encoders: tuple[str, ...]
    boards: tuple[Board, ...]
    headline: tuple[str, ...]
    concluded: tuple[str, ...]
    open: tuple[str, ...]
    graph: CausalGraph
    data: Mapping[str, Any]
    provenance: Mapping[str, Any]
    maps: Mapping[str, EmbeddingMap] = field(default_factory=dict, repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per measure, factor and encoder."""
        return [row for board in self.boards for row in board.rows()]

    def contrasts(self) -> pd.DataFrame:
        """Return one row per measure, factor and pair of encoders."""
        import pandas as pd

        about = [({"metric": board.metric, "factor": board.factor}, board) for board in self.boards]
        return pd.DataFrame([key | contrast.rows()[0] for key, board in about for contrast in board.contrasts])

    def board(self, metric: str, factor: str | None = None) -> Board:
        """Return the board of a measure, and of a factor where there are several.

        Raises
        ------
        KeyError
            There is no such board.
        """
        for board in self.boards:
            if board.metric == metric and factor in (None, board.factor):
                return board
        raise KeyError(f"no board {metric!r} of {factor!r}: there are {[(b.metric, b.factor) for b in self.boards]}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the maps as JSON-ready data, with its schema version."""
        body = dataclasses.replace(self, maps={})
        out = {key: value for key, value in Result.to_dict(body).items() if key != "maps"}
        return {"schema_version": SCHEMA_VERSION, **out, "graph": self.graph.to_dict()}

    def to_html(self, path: str | Path | None = None) -> str:
        """Render one self-contained HTML page; write it atomically if ``path`` is given."""
        from causalfm.auditing.comparison_report import render_html
        from causalfm.auditing.report import write_text

        return write_text(render_html(self), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Render Markdown; write it atomically if ``path`` is given."""
        from causalfm.auditing.comparison_report import render_markdown
        from causalfm.auditing.report import write_text

        return write_text(render_markdown(self), path)

    def to_model_card(self, encoder: str, path: str | Path | None = None) -> str:
        """Render the model card of one encoder among the others; write it atomically if ``path`` is given."""
        from causalfm.auditing.model_cards import model_card
        from causalfm.auditing.report import write_text

        return write_text(model_card(self, name=encoder), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Render JSON (strict: no NaN); write it atomically if ``path`` is given."""
        from causalfm.auditing.report import render_json, write_text

        return write_text(render_json(self), path)
