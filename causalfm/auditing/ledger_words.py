"""What a report says about the audits that were run before it on the same data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from causalfm.auditing.findings import Audit
from causalfm.auditing.policy_problems import keys
from causalfm.auditing.policy_table import change_words

SHOWN = 5  # policies that are told one by one
ARROWS = 200  # characters of a graph


def sentences(audit: Audit) -> list[str]:
    """Say in plain sentences what was run before on the same embeddings, and whether policy or graph changed since.

    Parameters
    ----------
    audit
        As :func:`causalfm.auditing.ledger.record` returned it.

    Returns
    -------
    list of str
        Empty for the first audit of its data in a folder whose ledger is whole.
    """
    out = [str(entry["broken"]) for entry in audit.earlier if "broken" in entry]
    runs = [entry for entry in audit.earlier if "broken" not in entry]
    if runs:
        out += [_before(runs), *_policies(runs), *_seeds(runs, audit.provenance.get("seed"))]
    return [*out, *_declared(audit, runs)]


def _before(runs: list[Mapping[str, Any]]) -> str:
    days = list(dict.fromkeys(_day(run) for run in runs))
    when = f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
    times = "once" if len(runs) == 1 else f"{len(runs)} times"
    words = f"These data were audited {times} before with reports in this folder, {when}"
    return f"{words}." if any(run["changed"] for run in runs) else f"{words}, with the same policy and graph."


def _policies(runs: list[Mapping[str, Any]]) -> list[str]:
    """Tell each policy or graph that was another one, and what that makes of the margins."""
    told: dict[str, str] = {}
    for run in runs:
        if run["changed"]:
            words = "; ".join(change_words(_short(change)) for change in run["changed"])
            told.setdefault(words, f"On {_day(run)} it was run with another declaration: {words}.")
    out = list(told.values())[:SHOWN]
    if len(told) > SHOWN:
        out.append(f"And with {len(told) - SHOWN} more.")
    for what, decides in (("margins", _margin), ("graph", _graph)):
        if any(decides(run) for run in runs):
            first = "were those of the first audit" if what == "margins" else "was that of the first audit"
            since = "were set" if what == "margins" else "was declared"
            out.append(
                f"The {what} of this report {since} after results had been seen."
                if decides(runs[0])
                else f"The {what} of this report {first}; others were tried in between."
            )
    return out


def _margin(run: Mapping[str, Any]) -> bool:
    return any("stricter" in keys().get(change["key"], {}) for change in run["changed"])


def _graph(run: Mapping[str, Any]) -> bool:
    return any(change["key"] == "graph" for change in run["changed"])


def _seeds(runs: list[Mapping[str, Any]], now: Any) -> list[str]:
    seeds = list(dict.fromkeys(str(seed) for seed in (*(run.get("seed") for run in runs), now)))
    if len(seeds) < 2:
        return []
    listed = f"{', '.join(seeds[:-1])} and {seeds[-1]}" if len(seeds) <= 2 * SHOWN else f"{len(seeds)} different ones"
    return [f"Seeds were {listed}: a result that was chosen among seeds is too good."]


def _declared(audit: Audit, runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Compare the day on which the policy says that it was declared with the first run; a day of grace for clocks."""
    declared = _date(audit.purpose.get("declared_on", ""))
    first = min((d for d in (_date(_day(run)) for run in (*runs, audit.provenance)) if d), default=None)
    if declared is None or first is None or declared <= first + timedelta(days=1):
        return []
    return [
        f"The policy says that it was declared on {declared}; these data were first audited on {first}, before that."
    ]


def _day(run: Mapping[str, Any]) -> str:
    return str(run.get("created", ""))[:10] or "an unknown day"


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _short(change: Mapping[str, Any]) -> dict[str, Any]:
    ends = {name: change[name] for name in ("before", "after")}
    cut = {k: f"{v[:ARROWS]}..." if isinstance(v, str) and len(v) > ARROWS else v for k, v in ends.items()}
    return {**change, **cut}
