"""What an audit says: findings, each with its verdict, number, interval, chance, margin, unit and target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from causalfm.graph import CausalGraph
from causalfm.results import EXIT_CODES, Estimate, Result, Verdict, worst

SCHEMA_VERSION = "1.3"


@dataclass(frozen=True)
class Finding(Result):
    """One answer of the audit.

    Attributes
    ----------
    question
        Key of the question: ``"overlap"``, ``"invariance"``, ``"effect"``, ``"neighbourhood"``, ``"readout"``,
        ``"biology"`` or, if the table contradicts the declared graph, ``"graph"``.
    title
        The question in words, for instance ``"Do neighbours share the biology or the site?"``.
    factor
        Technical factor the question is about (several joined with `` + ``); the biology column for ``"biology"``,
        ``"declared graph"`` for ``"graph"``.
    verdict, sentence
        The answer, and the answer in words.
    value, low, high
        The number and its 95 % interval; ``nan`` where there is none.
    chance, margin
        What the design gives by chance; the policy's margin. ``nan`` where void.
    quantity
        What ``value`` measures, for instance ``"robustness index, 2 x 2 reference"``.
    n, n_groups, unit
        Rows and independent units behind it, and what the unit is.
    target
        Population or strata the number holds for.
    advice
        What to do next.
    details
        Tables and settings behind the number (for instance ``per_level`` rows, dropped cells, p-value).
    """

    question: str
    title: str
    factor: str
    verdict: Verdict
    sentence: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    chance: float = float("nan")
    margin: float = float("nan")
    quantity: str = ""
    n: int = 0
    n_groups: int = 0
    unit: str = ""
    target: str = ""
    advice: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def monitored(self) -> bool:
        """Whether the policy lets this finding decide: False for technical factors that it does not name."""
        return self.details.get("monitored") is not False

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this finding, without ``details``."""
        return [{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "details"}]


def numbers_of(estimate: Estimate) -> dict[str, Any]:
    """Return value and interval of an estimate under the names that a finding gives them."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


@dataclass(frozen=True)
class Advice(Result):
    """What to do about one technical factor that failed.

    Attributes
    ----------
    factor
        The factor.
    recommended
        Corrector that is shown to help, with its settings; None if none is.
    sentence
        The answer in words, with its interval.
    command
        Shell command that fits the recommended corrector; empty without one.
    tried
        One entry without correction and one per corrector: ``corrector``, and under ``new_levels``, ``new_units`` and
        ``readout`` the ``value`` (accuracy for the biology at levels left out and for units left out, and for the
        factor), its ``change`` against no correction and the joint 95 % interval ``low``, ``high`` of the change;
        ``note`` says what is missing.
    board
        Settings of the scoreboard, processor seconds, and all of its scores.
    """

    factor: str
    recommended: str | None
    sentence: str
    command: str = ""
    tried: tuple[Mapping[str, Any], ...] = ()
    board: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per corrector tried."""
        return [{"factor": self.factor, **row} for row in self.tried]


@dataclass(frozen=True)
class Audit(Result):
    """The outcome of :func:`causalfm.audit`.

    Attributes
    ----------
    findings
        All answers, in the order of the report.
    headline
        The result in one or two sentences.
    tables
        Cross tables biology x factor, in groups and in rows: ``{factor: {"biology": [...], "levels": [...],
        "groups": [[...]], "rows": [[...]], "cramers_v": float, ...}}``.
    graph
        The declared graph.
    policy
        Margins and thresholds used, with the policy's name and hash.
    data
        Rows, dimensions, independent units, fingerprint, provenance, missing values treated.
    assumptions
        Sentences that every number of the report leans on.
    provenance
        Versions, seed, time stamp, duration, per-step timings.
    advice
        What to do about each technical factor that failed: :class:`causalfm.auditing.Advice`.
    title
        The question of the whole audit.
    purpose
        What the embeddings are meant for: ``intended_use``, ``declared_by``, ``declared_on``, as the policy says; empty
        where nobody declared it.
    earlier
        Earlier audits of the same data that the report's folder knows, the latest last, with what their policy said
        otherwise.
    """

    findings: tuple[Finding, ...]
    headline: str
    tables: Mapping[str, Any]
    graph: CausalGraph
    policy: Mapping[str, Any]
    data: Mapping[str, Any]
    assumptions: tuple[str, ...]
    provenance: Mapping[str, Any]
    advice: tuple[Advice, ...] = ()
    title: str = ""
    purpose: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Overall verdict of what the policy monitors: fail > cannot tell > pass."""
        return worst([f.verdict for f in self.findings if f.monitored])

    @property
    def exit_code(self) -> int:
        """Exit code of the command line: 0 pass, 1 fail, 3 cannot tell."""
        return EXIT_CODES[self.verdict]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per finding, small cells hidden as the policy asks."""
        from causalfm.auditing.suppression import published

        return [row for finding in published(self).findings for row in finding.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole audit as JSON-ready data, with its schema version, small cells hidden as the policy asks."""
        from causalfm.auditing.suppression import published

        body = super(Audit, published(self)).to_dict()
        body["graph"] = self.graph.to_dict()
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict, "exit_code": self.exit_code, **body}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Audit:
        """Build the audit that :meth:`to_dict` wrote, of this or an older schema version.

        Raises
        ------
        DataError
            As for :func:`causalfm.auditing.load_audit`.
        """
        from causalfm.auditing.loading import audit_of

        return audit_of(body)

    def to_html(self, path: str | Path | None = None) -> str:
        """Render one self-contained HTML page; write it atomically if ``path`` is given.

        Parameters
        ----------
        path
            Target file.

        Returns
        -------
        str
            The page.
        """
        from causalfm.auditing.report import render_html, write_text

        return write_text(render_html(self), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Render Markdown; write it atomically if ``path`` is given."""
        from causalfm.auditing.report import render_markdown, write_text

        return write_text(render_markdown(self), path)

    def to_model_card(self, path: str | Path | None = None, *, name: str = "") -> str:
        """Render a model card for a Hugging Face repository; write it atomically if ``path`` is given.

        Parameters
        ----------
        path
            Target file, ``README.md`` in a repository.
        name
            Name of the model; default: the encoder that the data name. For several audits see
            :func:`causalfm.auditing.model_card`.

        Returns
        -------
        str
            YAML front matter and Markdown.
        """
        from causalfm.auditing.model_cards import model_card
        from causalfm.auditing.report import write_text

        return write_text(model_card(self, name=name), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Render JSON (strict: no NaN); write it atomically if ``path`` is given."""
        from causalfm.auditing.report import render_json, write_text

        return write_text(render_json(self), path)

    def _repr_html_(self) -> str:
        from causalfm.auditing.report import render_summary

        return render_summary(self)
