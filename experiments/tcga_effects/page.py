"""The page: numbers of one run in tables, and how to read them."""

from __future__ import annotations

from causalfm.results import Estimate
from experiments.tcga_effects.study import N_DRAWS, Case

HEAD = """# How much of a pathology encoder's embedding does the hospital cause?

Written by `python -m experiments.tcga_effects DATA --out docs`; every number below is of that run. DATA holds the
TCGA slides as HIPT embeddings (`datasets/tcga_hipt.md`): 192 numbers per slide, real patients, real hospitals. Only
sums over many patients are shown.

**The question.** Had the same patients' slides come from another hospital, how much would their embeddings differ?
And had the patients another cancer type? The declared graph is `{graph}`:
which cancers a hospital sends is association and is adjusted for. What remains between hospitals within a cancer type
is called the hospital's effect. It is made of fixation, staining and scanning, **or of biology that is not declared**
(grade, purity, composition, the patients a hospital attracts). No statistic on these data can tell the two apart.

![Shares caused, and attempts to overturn them](images/tcga_effects.png)

## What was estimated
Share of the variance between patients' embeddings that the hospital and the cancer type cause, if both come as often as
they do here; shares need not add up to 1. Patients are the units (several slides of one are averaged); intervals are
for these hospitals and new patients.

"""
CONTROLS = """## Facts that a hospital cannot change
Age, sex and stage in place of the embedding: root mean square differences between hospitals within cancer types, in
standard deviations. Up to 0.25 passes, above it fails; an interval across 0.25 cannot tell.

"""
READING = """## How to read it
- **The hospital moves these embeddings more than the cancer type does**, in all three sets: {hospital} of the variance
  between patients against {biology}. Another estimator, and adjusting for age and sex or for stage too (on the patients
  with known ones, in the strata that all hospitals fill), change the hospital's share by at most {moved:.1f} points.
  Stage is adjusted for only where all hospitals of the set remain.
- **A small share can still be read out.** The share counts all 192 dimensions alike; a classifier needs one direction.
- **{passed} of {attempts} attempts passed.** They say that the estimator finds nothing where nothing is, and that the
  estimate does not hang on a few patients. They cannot see an undeclared cause that differs between hospitals: all of
  them would pass if half of the effect were biology.
- **The facts that a hospital cannot change can see such a cause**, as far as they show it.
  {controls} With a few hundred patients a quarter of a standard deviation
  is hardly told from nothing, so that undecided is the usual answer. The clearest is
  {largest}.
- **Robustness is stated for the two hospitals furthest apart.** {benchmark}
- **HIPT was pretrained on these slides**, and several of the hospitals are tissue banks that collect from others: read
  hospital as the route a slide took. The numbers speak for this encoder on TCGA, not for pathology encoders.
"""


def page(cases: list[Case]) -> str:
    """Return the page as Markdown."""
    head = HEAD.format(graph=cases[0].main._call["graph"])
    parts = (_shares, _left_out, _robustness, _refutations, _controls, _reading)
    return head + "\n".join(part(cases) for part in parts)


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _span(e: Estimate | None, scale: float = 1.0) -> str:
    assert e is not None
    return f"{e.value * scale:.1f} ({e.low * scale:.1f} to {e.high * scale:.1f})"


def _shares(cases: list[Case]) -> str:
    rows: list[tuple[object, ...]] = []
    for case in cases:
        for variant in case.variants:
            e = variant.effect
            shares = (_span(e.share, 100), _span(e.biology_share, 100), _span(e.variance_ratio))
            rows.append((case.name, e.joint.n_groups, variant.name, *shares))
    head = ("set", "patients", "estimator", "hospital, %", "cancer type, %", "hospital : cancer type")
    return _table(head, rows)


def _left_out(cases: list[Case]) -> str:
    lines = []
    for case in cases:
        found = case.main.overlap
        out = f" Left out: {'; '.join(found.left_out)}." if found.left_out else ""
        lines.append(f"- **{case.name}**: {', '.join(found.levels)}.{out}\n")
        for (fact, slides), variant in zip(case.lost, case.variants[2:], strict=True):
            out = "; ".join(reason.split(":")[0] for reason in variant.effect.overlap.left_out)
            out = f" and, for too few patients at a hospital, {out}" if out else ""
            lines.append(f"  With {fact}: without {slides} slides that lack them{out}.\n")
    return "".join(lines)


def _robustness(cases: list[Case]) -> str:
    lines = [f"- **{case.name}**: {case.sensitivity.sentence}\n" for case in cases]
    return "## What would overturn it\n" + "".join(lines)


def _refutations(cases: list[Case]) -> str:
    rows: list[tuple[object, ...]] = []
    for case in cases:
        for row in case.refutation.attempts:
            rate = row.details.get("rejected")
            found = "" if rate is None else f"{rate} of {row.details['draws']}"
            ends = f"{row.low:.1f} to {row.high:.1f}"
            rows.append((case.name, row.name, f"{row.before:.1f}", f"{row.after:.1f}", ends, found, row.verdict))
    head = ("set", "attempt", "estimate", "became", "95 % of the draws", "effects found", "verdict")
    words = "Distances between hospitals (root mean square over pairs), in units of the embedding.\n\n"
    return f"## Attempts to overturn it ({N_DRAWS} draws each)\n{words}{_table(head, rows)}"


def _controls(cases: list[Case]) -> str:
    rows = []
    for case, patients, row in _facts(cases):
        span = f"{max(row.after, 0.0):.2f} ({row.low:.2f} to {row.high:.2f})"
        rows.append((case.name, _fact(row.name), patients, span, row.verdict))
    return CONTROLS + _table(("set", "fact", "patients", "difference", "verdict"), rows)


def _facts(cases):  # type: ignore[no-untyped-def]
    return [(case, patients, row) for case in cases for told, patients in case.controls for row in told.attempts]


def _fact(name: str) -> str:
    column = name.split(": ")[1]
    return {"is_female": "sex"}.get(column, column)


def _reading(cases: list[Case]) -> str:
    def reach(name: str) -> str:
        values = [100 * getattr(case.main, name).value for case in cases]
        return f"{min(values):.0f} to {max(values):.0f} %"

    shares = [(v.effect.share, c.main.share) for c in cases for v in c.variants]
    attempts = [row for case in cases for row in case.refutation.attempts]
    facts = _facts(cases)
    counts = {v: sum(row.verdict == v for *_, row in facts) for v in ("pass", "fail", "cannot tell")}
    case, _, row = max(facts, key=lambda fact: fact[2].low)
    seen = "it is told from zero" if row.low > 0 else "it may be nothing"
    enough = ", ".join(case.name for case in cases if case.sensitivity.like_declared >= 1.0)
    benchmark = "A hidden cause as strong as the cancer type\n  would not be enough to explain it in any set."
    if enough:
        benchmark = (
            f"A hidden cause as strong as the cancer type\n  would be enough in the set {enough}, where cancers and "
            "hospitals go together\n  closely; in the others it would not."
        )
    return READING.format(
        hospital=reach("share"),
        biology=reach("biology_share"),
        moved=100 * max(abs(a.value - b.value) for a, b in shares if a is not None and b is not None),
        passed=sum(row.verdict == "pass" for row in attempts),
        attempts=len(attempts),
        controls=f"Of {len(facts)}, {counts['fail']} fail, {counts['pass']} pass, {counts['cannot tell']} cannot tell.",
        largest=f"{_fact(row.name)} in the set {case.name}: {seen} ({row.after:.2f}, from {row.low:.2f})",
        benchmark=benchmark,
    )
