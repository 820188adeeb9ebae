"""A model card for a Hugging Face repository, written from audits: what they do not know is "not declared"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causalfm.auditing.about import (
    UNKNOWN,
    confidence_of,
    encoder_of,
    fingerprint_of,
    is_deployment,
    source_of,
    title_of,
)
from causalfm.auditing.card_metadata import front_matter
from causalfm.auditing.comparison import Comparison
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import beside_chance, clean, listing, number
from causalfm.auditing.suppression import published
from causalfm.auditing.templating import environment, tidied
from causalfm.errors import DataError


def model_card(*results: Audit | Comparison, name: str = "", encoder: str = "") -> str:
    """Render the ``README.md`` of a model repository from one audit, several, or a comparison.

    Parameters
    ----------
    results
        Audits of embeddings or deployments of one model, and comparisons in which it took part.
    name
        Name of the model, for instance ``"owner/model"``; default: the encoder that the data name.
    encoder
        Which encoder of a comparison the card is about; default: ``name``.

    Returns
    -------
    str
        YAML front matter (tags and ``model-index``; the licence is left to the owner of the model) and the sections of
        the hub's template. Names from the data are escaped for both.

    Raises
    ------
    DataError
        No result, or a comparison without that encoder.

    References
    ----------
    Mitchell et al., Model cards for model reporting, FAT* 2019. U.S. Food and Drug Administration, Artificial
    intelligence-enabled device software functions, draft guidance of 7 January 2025, appendix E.
    """
    audits = [published(result) for result in results if isinstance(result, Audit)]
    compared = [(result, _encoder(result, encoder or name)) for result in results if isinstance(result, Comparison)]
    if not results or len(audits) + len(compared) < len(results):
        raise DataError("a model card is made from audits and comparisons: give at least one, and nothing else.")
    encoders = dict.fromkeys([encoder_of(a.data) for a in audits] + [chosen for _, chosen in compared])
    known = [text for text in encoders if text != UNKNOWN]
    title = clean(name) or (known[0] if len(known) == 1 else "model without a declared name")
    text = (
        environment(markdown=True)
        .get_template("model_card.md.j2")
        .render(
            front=_ours(front_matter(title, audits, compared)),
            title=title,
            encoders=known,
            audits=[_described(i, audit) for i, audit in enumerate(audits, 1)],
            boards=[(comparison, encoder, list(_places(comparison, encoder))) for comparison, encoder in compared],
            several=len(results) > 1,
            number=number,
        )
    )
    return tidied(text)


def _encoder(comparison: Comparison, wanted: str) -> str:
    if wanted in comparison.encoders:
        return wanted
    known = listing(comparison.encoders)
    raise DataError(f"the comparison has no encoder {wanted!r}: name the one that the card is about, of {known}.")


def _described(position: int, audit: Audit) -> dict[str, Any]:
    """Collect what the template says of one audit."""
    data, purpose = audit.data, {key: clean(value) for key, value in audit.purpose.items()}
    deployed = is_deployment(audit)
    return {
        "heading": f"Audit {position}",
        "audit": audit,
        "asked": title_of(audit),
        "purpose": purpose,
        "level": confidence_of(audit.policy),
        "failed": [f for f in audit.findings if f.monitored and f.verdict == "fail"],
        "open": [f for f in audit.findings if f.verdict == "cannot tell"],
        "deployed": deployed,
        "facts": _facts(data, deployed),
        "levels": {name: _levels(table) for name, table in audit.tables.items()},
        "classes": _classes(audit),
        "tables": list(_tables(audit.findings)),
        "dimensions": data.get("dimensions"),
        "model": clean(data.get("model", "")) or UNKNOWN,
        "declared_by": clean(audit.graph.declared_by) or UNKNOWN,
    }


def _facts(data: Mapping[str, Any], deployed: bool) -> dict[str, Any]:
    """Describe the evaluation data: counts, units, where from, what was missing, and the fingerprint."""
    unit, part = data.get("unit", "unit"), " of the reference" * deployed
    facts: dict[str, Any] = {
        "Source": source_of(data),
        f"Rows{part}": data.get("rows"),
        f"Independent units{part} ({unit})": data.get("units"),
    }
    if deployed:
        facts["Rows of the deployment"] = data.get("deployment_rows")
        facts[f"Independent units of the deployment ({unit})"] = data.get("deployment_units")
        facts["Rows of the deployment with a label"] = data.get("deployment_rows_labelled")
        facts["Fingerprint of the reference"] = data.get("reference_fingerprint")
    missing = data.get("info_missing", data.get("reference_info_missing"))
    facts["Missing values"] = missing or "none treated"
    return {**facts, "Fingerprint": fingerprint_of(data)}


def _levels(table: Mapping[str, Any]) -> str:
    return listing(table.get("levels", ())) or UNKNOWN


def _classes(audit: Audit) -> str:
    tables = [table for table in audit.tables.values() if len(table.get("biology", ()))]
    return listing(tables[0]["biology"]) if tables else UNKNOWN


def _tables(findings: Sequence[Finding]) -> Any:
    """Yield the accuracy by site, class and subgroup where an audit has it."""
    for finding in findings:
        if finding.question != "performance":
            continue
        for key, rows in finding.details.items():
            if key.startswith("by ") and isinstance(rows, (list, tuple)) and rows:
                yield key, rows


def _places(comparison: Comparison, encoder: str) -> Any:
    """Yield measure, number, chance and open ranks of one encoder on every board."""
    for board in comparison.boards:
        score = board.scores[encoder]
        place = next((standing for standing in board.standings if standing.encoder == encoder), None)
        ranks = "not ranked" if place is None else f"{place.rank_low} to {place.rank_high} of {len(board.standings)}"
        yield board, _ours(beside_chance(score)), number(score.chance), ranks


def _ours(text: str) -> Any:
    """Mark a text of ours (digits and brackets, or YAML) as one that needs no escaping."""
    from markupsafe import Markup

    return Markup(text)
