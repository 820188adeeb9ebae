"""Front matter of a model card: what the Hugging Face hub reads of an audit, as YAML that every parser reads alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from causalfm.auditing.about import fingerprint_of, is_deployment, source_of
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import beside_chance, clean, interval

if TYPE_CHECKING:
    from causalfm.auditing.comparison import Comparison

TAGS = ("causalfm", "robustness", "audit")
# library_name is the library that loads the model: that is not causalfm.
LEFT_OUT = "# license, library_name and pipeline_tag are facts of the model that an audit does not know: add them here."
EMBEDDING, MODEL = "image-feature-extraction", "image-classification"  # tasks of the hub
ABOUT_MODEL = frozenset(
    {"cost", "expected cost", "subgroups", "performance", "why", "split", "reversal"}
    | {"shortcut", "predictions", "decisions"}
)
FINGERPRINT_SHOWN = 16


class Text(str):
    """A text from the data: written between double quotes, or one parser reads ``1e5`` as a number and another not."""


def front_matter(name: str, audits: Iterable[Audit], comparisons: Iterable[tuple[Comparison, str]] = ()) -> str:
    """Return the YAML between the two lines of dashes.

    Parameters
    ----------
    name
        Name of the model.
    audits
        What was audited; each gives one result for the embeddings and one for a model on them, where it was asked.
    comparisons
        Comparisons, each with the encoder that the card is about.

    Returns
    -------
    str
        Without the dashes. A finding without a number is in the body of the card only; the overall verdict of every
        audit is the first metric, so that what failed or could not be told is not left out.
    """
    results = [result for audit in audits for result in _results(audit)]
    results += [_standing(comparison, encoder) for comparison, encoder in comparisons]
    body = {"tags": [Text(tag) for tag in TAGS], "model-index": [{"name": Text(name), "results": results}]}
    return f"{LEFT_OUT}\n{_yaml(body)}".rstrip("\n")


def _results(audit: Audit) -> list[dict[str, Any]]:
    by_task: dict[str, list[Finding]] = {EMBEDDING: []}
    for finding in audit.findings:
        by_task.setdefault(MODEL if finding.question in ABOUT_MODEL else EMBEDDING, []).append(finding)
    place = "deployment, beside a reference from " if is_deployment(audit) else ""
    dataset = _dataset(f"{place}{source_of(audit.data)}", fingerprint_of(audit.data))
    verdict = {"type": Text("causalfm-verdict"), "name": Text("verdict of the audit"), "value": Text(audit.verdict)}
    return [
        {
            "task": {"type": Text(task)},
            "dataset": dataset,
            "metrics": [verdict] * (task == EMBEDDING) + [_metric(f) for f in found if math.isfinite(f.value)],
        }
        for task, found in by_task.items()
        if task == EMBEDDING or any(math.isfinite(f.value) for f in found)
    ]


def _dataset(name: str, fingerprint: str) -> dict[str, Any]:
    """Name the data without naming a data set of the hub that they are not: the fingerprint tells data apart."""
    kind = f"fingerprint-{fingerprint.removeprefix('sha256:')[:FINGERPRINT_SHOWN]}".replace(" ", "-")
    return {"name": Text(name), "type": Text(kind), "revision": Text(fingerprint)}


def _metric(finding: Finding) -> dict[str, Any]:
    """Write a number with its interval, which the hub shows; the parts stand beside it, for machines."""
    details = finding.details
    parts: dict[str, Any] = {key: getattr(finding, key) for key in ("value", "low", "high", "chance", "margin")}
    parts = {key: float(value) for key, value in parts.items() if math.isfinite(value)}
    parts |= {"passes": Text(details["want"])} if details.get("want") and "margin" in parts else {}
    parts |= {"verdict": Text(finding.verdict), "n_groups": int(finding.n_groups), "unit": Text(clean(finding.unit))}
    return {
        "type": Text(f"causalfm-{_slug(finding.question)}"),
        "name": Text(clean(f"{finding.quantity or finding.question} ({finding.factor})")),
        "value": Text(interval(finding)),
        "args": parts,
    }


def _standing(comparison: Comparison, encoder: str) -> dict[str, Any]:
    about = comparison.data["encoders"][encoder] if encoder in comparison.data.get("encoders", {}) else {}
    metrics = []
    for board in comparison.boards:
        score = board.scores[encoder]
        if math.isfinite(score.value):
            value = Text(beside_chance(score))
            name = Text(clean(f"{board.title} ({board.factor}), {board.better} is better"))
            metrics.append({"type": Text(f"causalfm-{_slug(board.metric)}"), "name": name, "value": value})
    dataset = _dataset(source_of({**comparison.data, **about}), fingerprint_of(about))
    return {"task": {"type": Text(EMBEDDING)}, "dataset": dataset, "metrics": metrics}


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text).split()).lower()


def _yaml(body: dict[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # the same data set twice: written twice, not as an anchor
            return True

    def quoted(dumper: yaml.SafeDumper, text: Text) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')

    Dumper.add_representer(Text, quoted)
    return yaml.dump(body, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
