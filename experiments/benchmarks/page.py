"""``docs/benchmarks.md`` from the records: every number on it is one of ``docs/benchmarks.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from causalfm.auditing.report import write_text
from experiments.benchmarks.book import FAMILIES, entries, entries_of
from experiments.benchmarks.claim import LEAST_SECONDS, MOST_TIMES_LIMIT, Claim, Growth
from experiments.benchmarks.growth import NAMES
from experiments.benchmarks.judging import short, shortfalls, unexplained
from experiments.benchmarks.records import DONE

HOW = """\
Each line is measured in a process of its own. Ours, the peer and the limit run in turn in it, on the same data and
with the same number of threads, so that a busy machine slows all of them; loading and compiling are not counted.
Seconds are medians over the rounds, ratios are medians of the ratios within rounds, quartiles stand in brackets. MiB:
what a call of ours, then of the peer, held at most beside the data (mapped files aside). The *limit* is the least work
that the task cannot do without, done with the same library of matrix products and nothing else. The peer's answer is
compared with ours in the same run; a claim whose answers are further apart than its tolerance fails. What is slower
than its peer, or above {most:g} times its limit, is explained below the table.
"""
NO_EXPLANATION = "**Not explained.**"
PATHS = re.compile(r"(/[\w.+-]+){2,}/?")  # of this machine: none of the reader's business


def write_page(facts: dict[str, Any], docs: Path) -> None:
    """Write ``benchmarks.json`` and ``benchmarks.md`` to a folder."""
    write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", docs / "benchmarks.json")
    write_text(page(facts), docs / "benchmarks.md")


def page(facts: dict[str, Any]) -> str:
    """Render the page.

    Parameters
    ----------
    facts
        ``about`` the machine, and ``records``.
    """
    found = {record["name"]: record for record in facts["records"]}
    lines = ["# How long things take", "", *_about(facts["about"], list(found.values()))]
    lines += ["## How to read it", "", *HOW.format(most=MOST_TIMES_LIMIT).splitlines(), ""]
    for title, parts in FAMILIES.items():
        claims = [entry for part in parts for entry in entries_of(part) if isinstance(entry, Claim)]
        lines += [f"## {title}", "", *_claims(claims, found), ""]
    lines += ["## Growth", "", *_growths(found), ""]
    missing = [entry.name for entry in entries() if entry.name not in found]
    if missing:
        lines += ["## Not measured in this run", "", ", ".join(f"`{name}`" for name in missing) + ".", ""]
    return "\n".join(lines).rstrip() + "\n"


def _about(about: dict[str, Any], records: list[dict[str, Any]]) -> list[str]:
    """Say where, when and with what."""
    dates = sorted({record["date"] for record in records})
    loads = [record["load"] for record in records]
    versions = [f"{name} {number}" for name, number in about["versions"].items() if number]
    peers = [f"{name} {number or '(not installed)'}" for name, number in about["peers"].items()]
    rates = [record for record in records if "rate" in record]
    words = {entry.name: entry.what for entry in entries()}
    return [
        "Written by `python -m experiments.benchmarks` (`make benchmark`); do not edit. One claim alone: "
        "`python -m experiments.benchmarks --only NAME`.",
        "",
        "| | |",
        "|---|---|",
        f"| machine | {about['processor']} ({about['architecture']}), {about['cores']} cores |",
        f"| memory | {about['memory_gib']:g} GiB |",
        f"| threads | {about['threads']} of every library where a line says nothing else |",
        f"| system | {about['system']}, Python {about['python']} |",
        f"| versions | {', '.join(versions)} |",
        f"| peers | {', '.join(peers)} |",
        f"| date | {' to '.join(dict.fromkeys([dates[0], dates[-1]]))} |",
        f"| load when a line was done | {min(loads)} to {max(loads)} |",
        *(f"| {words[record['name']]} | {_quartiles(record['rate'])} {record['unit']} |" for record in rates),
        "",
    ]


def _claims(claims: list[Claim], found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table of claims, and what is to be said of them."""
    lines = [
        "| claim | size | ours, s | peer, s | limit, s | peer / ours | ours / limit | the same, processor time | MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for claim in claims:
        record = found.get(claim.name)
        if record is None:
            continue
        if record["status"] == DONE:
            lines.append(_row(claim, record))
        notes += _notes(claim, record)
    return [*lines, "", *notes]


def _row(claim: Claim, record: dict[str, Any]) -> str:
    peer, ratio, mib = "", "", f"{record['ours']['mib']:,}"
    if "peer" in record:
        peer = f"{claim.peer}: {_seconds(record['peer']['wall'])}"
        ratio = _quartiles(record["peer_over_ours"]["wall"])
        mib += f", {record['peer']['mib']:,}"
    over = record["over_limit"]
    cells = [f"`{claim.name}`: {claim.what}", _sizes(record["sizes"]), _seconds(record["ours"]["wall"]), peer]
    cells += [_seconds(record["limit"]["wall"]), ratio, _quartiles(over["wall"]), _quartiles(over["processor"]), mib]
    return "| " + " | ".join(cells) + " |"


def _notes(claim: Claim, record: dict[str, Any]) -> list[str]:
    """Say what the limit is, how near the answers are, and why a claim falls short."""
    if record["status"] != DONE:
        return [f"- `{claim.name}` {record['status']}: {PATHS.sub('...', str(record.get('reason', '')))}."]
    said = [f"Limit: {claim.limit}."]
    said.append(f"No peer: {claim.no_peer}." if claim.no_peer else
                f"Answers: {claim.differs} {record['apart']:.1g} (allowed: {claim.tolerance:g}).")  # fmt: skip
    if missed := shortfalls(claim, record):
        said.append(f"{_sentence(', '.join(missed))} {NO_EXPLANATION if unexplained(claim, record) else claim.why}")
    return [f"- `{claim.name}`. " + " ".join(said)]


def _growths(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of exponents."""
    lines = [
        "The exponent is the slope of the logarithm of the median time on the logarithm of the size, by least squares, "
        "with its standard error. Patients grow with the rows. Sizes are chosen so that the smallest takes "
        f"{LEAST_SECONDS:g} s or more; where it took less (*), fixed costs make the exponent too small.",
        "",
        "| task | grows | sizes | fixed | seconds, first and last | exponent | of processor time | wanted | most MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for entry in entries():
        record = found.get(entry.name)
        if not isinstance(entry, Growth) or record is None:
            continue
        if record["status"] == DONE:
            lines.append(_growth(entry, record))
        if missed := shortfalls(entry, record):
            reason = NO_EXPLANATION if unexplained(entry, record) else entry.why
            user = f" Exponent of user time: {record['exponent_user']:.2f}." if "exponent_user" in record else ""
            notes.append(f"- `{entry.name}`. {_sentence(PATHS.sub('...', ', '.join(missed)))}{user} {reason}")
    return [*lines, "", *notes]


def _growth(entry: Growth, record: dict[str, Any]) -> str:
    sizes = ", ".join(f"{value:,}" for value in record["values"])
    ends = f"{_number(record['wall'][0][1])}{'*' if short(record) else ''}, {_number(record['wall'][-1][1])}"
    wanted = "" if entry.wanted is None else f"{entry.wanted[0]:g} to {entry.wanted[1]:g}"
    cells = [f"`{entry.name}`: {entry.what}", NAMES[entry.along], sizes, _sizes(record["sizes"]), ends]
    cells += [f"{record['exponent']:.2f} ± {record['error']:.2f}", f"{record['exponent_processor']:.2f}", wanted]
    return "| " + " | ".join([*cells, f"{max(record['mib']):,}"]) + " |"


def _sizes(sizes: dict[str, Any]) -> str:
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in sizes.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)


def _sentence(words: str) -> str:
    return f"**{words[0].upper()}{words[1:]}.**"


def _seconds(values: list[float]) -> str:
    low, middle, high = (_number(value) for value in values)
    return f"{middle} ({low} to {high})"


def _quartiles(values: list[float]) -> str:
    low, middle, high = (_number(value) for value in values)
    return f"**{middle}** ({low} to {high})"


def _number(value: float) -> str:
    """Write a number with three digits that count, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"
