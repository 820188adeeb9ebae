"""Audits for the tests of the report: what a real one could say, and one with a hostile name in every place."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from causalfm.auditing.findings import Advice, Audit, Finding
from causalfm.auditing.policy import load_policy
from causalfm.auditing.questions import overlap_finding
from causalfm.auditing.running import data_of
from causalfm.cohort import Cohort
from causalfm.crosstabs import cross_table
from causalfm.graph import CausalGraph

SITES = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
CLASSES = ["BRCA", "COAD", "LUAD", "STAD"]


# fmt: off
NAN = float("nan")
PER_LEVEL = [
    {"level": "Christiana Healthcare", "reference": "Asterand", "squared_norm": 0.51234, "low": 0.41, "high": 0.6661},
    {"level": "Indivumed", "reference": "Asterand", "squared_norm": 0.2231, "low": 0.1785, "high": 0.29},
]
ROWS: list[dict[str, Any]] = [
    {"question": "overlap", "title": "Can {site} and tumour be told apart in this cohort?", "factor": "{site}",
     "verdict": "pass", "sentence": "Every tumour type was seen in at least three hospitals; one of 16 cells is empty.",
     "numbers": (0.21, NAN, NAN, 0.0, 0.5), "want": "below", "quantity": "Cramér's V, bias-corrected",
     "details": {"smallest_cell": 4, "effective_sample_size": 612.34567}},
    {"question": "invariance", "title": "Does the embedding depend on {site} among equal patients?", "factor": "{site}",
     "verdict": "fail", "sentence": "Patients of equal tumour and age differ in their embeddings (p = 0.001).",
     "numbers": (0.41, 0.36, 0.47, 0.0, 0.1), "want": "below", "quantity": "share of variance",
     "advice": "Do not pool hospitals without a correction; see the effect below for its size.",
     "details": {"p_value": 0.001, "permutations": 999, "given": ("tumour", "age"), "strata_left_out": [],
                 "valid_alternatives": [["tumour"], ["tumour", "age"]]}},
    {"question": "effect", "title": "How large is the effect of {site}, beside that of tumour?", "factor": "{site}",
     "verdict": "fail", "sentence": "Another hospital moves the embedding 1.31 times as far as another tumour does.",
     "numbers": (1.31, 1.12, 1.58, NAN, 0.25), "want": "below", "quantity": "effect / biology effect",
     "advice": "Correct the embedding or restrict its use to the hospitals seen.", "details": {"per_level": PER_LEVEL}},
    {"question": "neighbourhood", "title": "Do neighbours share the tumour or the {site}?", "factor": "{site}",
     "verdict": "fail", "sentence": "Neighbours come from the same {site} more often than from the same tumour.",
     "numbers": (0.142, 0.101, 0.192, 0.489, 0.5), "want": "above", "quantity": "robustness index, 2 x 2 reference",
     "advice": "Do not use nearest-neighbour search or clustering across hospitals.",
     "details": {"k": 11, "curve": [{"k": 11, "value": 0.14186}, {"k": 21, "value": 0.13792}]}},
    {"question": "readout", "title": "Can {site} be read from the embedding?", "factor": "{site}", "verdict": "fail",
     "sentence": "A linear probe names the {site} of an unseen patient in 98 % of cases; chance is 25 %.",
     "numbers": (0.981, 0.969, 0.99, 0.25, 0.4), "want": "below", "quantity": "balanced accuracy, logistic"},
    {"question": "overlap", "title": "Can scanner and {site} be told apart?", "factor": "scanner",
     "verdict": "cannot tell", "sentence": "Each hospital used one scanner: its effect is not separable.",
     "advice": "Re-scan some slides on a second scanner, or ask the joint question."},
    {"question": "effect", "title": "How large is the effect of scanner, beside that of tumour?", "factor": "scanner",
     "verdict": "cannot tell", "sentence": "The interval reaches from well below the margin to well above it.",
     "numbers": (0.22, 0.05, 0.41, NAN, 0.25), "want": "below", "quantity": "effect / biology effect",
     "advice": "About 90 more patients with both scanners would decide."},
    {"question": "neighbourhood", "title": "Do neighbours share the tumour or the scanner?", "factor": "scanner",
     "verdict": "pass", "sentence": "Neighbours agree in the tumour far more often than in the scanner.",
     "numbers": (0.83, 0.79, 0.87, 0.5, 0.5), "want": "above", "quantity": "robustness index, 2 x 2 reference"},
    {"question": "readout", "title": "Can scanner be read from the embedding?", "factor": "scanner", "verdict": "pass",
     "sentence": "The scanner is read hardly better than by chance.",
     "numbers": (0.52, 0.48, 0.56, 0.5, 0.6), "want": "below", "quantity": "balanced accuracy, logistic"},
    {"question": "biology", "title": "Does the embedding carry tumour?", "factor": "tumour", "verdict": "pass",
     "sentence": "The tumour type of an unseen patient is read in 90 % of cases; chance is 25 %.",
     "numbers": (0.9, 0.88, 0.93, 0.25, 0.5), "want": "above", "quantity": "balanced accuracy, logistic"},
]
TABLES = {
    "site": {"biology": CLASSES, "levels": SITES, "cramers_v": 0.2134,
             "groups": np.array([[120, 0, 61, 44], [9, 70, 35, 81], [33, 41, 60, 50], [22, 61, 4, 80]]),
             "rows": np.array([[122, 0, 61, 46], [9, 71, 37, 83], [33, 41, 60, 52], [22, 61, 4, 83]])},
    "scanner": {"biology": CLASSES, "levels": ["AT2", "S360"], "cramers_v": 0.05, "nested_in": None,
                "groups": [[100, 125], [90, 105], [94, 90], [87, 80]],
                "rows": [[100, 127], [90, 110], [94, 92], [87, 85]]},
}
RECORD = {
    "policy": {"name": "default", "hash": "9f2c1a77", "margins": {"robustness_index": 0.5, "effect_ratio": 0.25}},
    "data": {"rows": 785, "dimensions": 192, "groups": 771, "fingerprint": "sha256:51ab0c42",
             "missing": {"scanner": {"how": "level", "rows": 12}}, "info": {"source": ["hipt.npz"], "encoder": "HIPT"}},
    "provenance": {"versions": {"causalfm": "0.1.0", "numpy": "2.2.1"}, "seed": 0, "time": "2026-01-02T03:04:05Z",
                   "timings": [{"step": "positivity", "seconds": 0.31}, {"step": "neighbours", "seconds": 22.123}]},
}
# fmt: on


def sample_advice(name: str = "site", **changes: Any) -> Advice:
    """Three rows: without correction, a corrector that helps, one that refuses."""
    empty = {"value": NAN, "change": NAN, "low": NAN, "high": NAN}
    tried = (
        {"corrector": "no correction", "new_levels": {**empty, "value": 0.6064}, "new_units": {**empty, "value": 0.89},
         "readout": {**empty, "value": 0.98}, "note": ""},
        {"corrector": "MeanAligner (unseen=adapt)",
         "new_levels": {"value": 0.6977, "change": 0.0913, "low": 0.0428, "high": 0.1397},
         "new_units": {"value": 0.8995, "change": 0.0076, "low": -0.0138, "high": 0.029},
         "readout": {"value": 0.551, "change": -0.4308, "low": -0.6145, "high": -0.2471}, "note": ""},
        {"corrector": name, "new_levels": empty, "new_units": empty, "readout": empty, "note": f"refused: {name}"},
    )  # fmt: skip
    parts: dict[str, Any] = {
        "factor": name,
        "recommended": "MeanAligner (unseen=adapt)",
        "sentence": f"MeanAligner helps: accuracy at levels of {name} left out rises by 0.091.",
        "command": f"causalfm correct REFERENCE --corrector MeanAligner --factor {name}",
        "tried": tried,
        "board": {"halvings": 5, "scores": [{"corrector": name, "value": 0.5}]},
    }
    return Advice(**(parts | changes))


def sample_findings(site: str = "site") -> tuple[Finding, ...]:
    """What an audit of four cancers in four hospitals could say."""
    findings = []
    for row in ROWS:
        row = {k: v.replace("{site}", site) if isinstance(v, str) else v for k, v in row.items()}
        numbers = dict(zip(("value", "low", "high", "chance", "margin"), row.pop("numbers", ()), strict=False))
        details = {**row.pop("details", {}), "want": row.pop("want", "")}
        shared = {"n": 785, "n_groups": 771, "unit": "patient", "target": "4 hospitals x 4 classes, 15 of 16 cells"}
        findings.append(Finding(**row, **numbers, **shared, details=details))
    return tuple(findings)


def sample_audit(**changes: Any) -> Audit:
    parts: dict[str, Any] = {
        "findings": sample_findings(),
        "headline": "The embedding carries the hospital more strongly than the tumour: site dominates.",
        "tables": TABLES,
        "graph": CausalGraph.standard(
            biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient"
        ),
        "assumptions": ("The declared graph is right: an arrow that is not drawn is absent.",),
        "advice": (sample_advice(),),
        **RECORD,
    }
    return Audit(**(parts | changes))


HOSTILE = [
    "<script>window.executed = 1</script>",
    '"><img src=https://evil.example/x onerror="window.executed = 1">',
    "</style><style>body { display: none }</style></title></svg>",
    "javascript:window.executed=1",
    "a|b\r\nc | d",
    "--> ]]> $x^{$ &amp; {{ 7*7 }} {% raw %}",
    "![x](https://evil.example/x) `code` [a](b)",
    "\u202eright\x00to\x1bleft\u2028",
    "مستشفى السلام",
    "北京协和医院",
    "👩\u200d🔬 ward 🏥",
    "N" * 300,
    "a name of three hundred characters, " * 9,
]


def one_finding(value: float = 0.3, low: float = 0.2, high: float = 0.4, **more: Any) -> Finding:
    return Finding("effect", "How large?", "site", "fail", "Large.", value, low, high, **more)


def hostile_audit() -> Audit:
    """Every hostile name in every place that the data can reach."""
    findings = []
    for name in HOSTILE:
        details = {"per_level": [{name: name, "value": float("inf")}], name: [name, name]}
        texts = dict.fromkeys(("title", "factor", "sentence", "quantity", "target", "advice", "unit"), name)
        findings.append(dataclasses.replace(one_finding(), **texts, details=details))
    cells = np.eye(len(HOSTILE), dtype=int)
    levels = {"biology": HOSTILE[::-1], "levels": HOSTILE, "groups": cells, "rows": cells}
    return sample_audit(
        findings=tuple(findings),
        headline=" / ".join(HOSTILE),
        tables={HOSTILE[0]: levels},
        policy={name: {name: name} for name in HOSTILE},
        data={"info": {name: name for name in HOSTILE}},
        assumptions=tuple(HOSTILE),
        advice=tuple(sample_advice(name) for name in HOSTILE),
    )


def large_cohort(sites: int = 200, classes: int = 30, mean: float = 2.0) -> tuple[Cohort, CausalGraph]:
    """Many hospitals with few patients of each of many classes, a third of the cells empty; ids that must not show."""
    rng = np.random.default_rng(0)
    cells = (rng.poisson(mean, (sites, classes)) * (rng.random((sites, classes)) < 0.7)).ravel()
    site = np.repeat(np.repeat(np.arange(sites), classes), cells)
    tumour = np.repeat(np.tile(np.arange(classes), sites), cells)
    X = rng.normal(size=(len(site), 4)) + rng.normal(size=(sites, 4))[site] + rng.normal(size=(classes, 4))[tumour]
    obs = pd.DataFrame(
        {
            "site": [f"Hospital {i:03d} of the university of a long name" for i in site],
            "tumour": [f"class {i:02d}" for i in tumour],
            "patient": [f"SENTINEL-{i}" for i in range(len(site))],
        },
        index=[f"SENTINEL-ROW-{i}" for i in range(len(site))],
    )
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    return Cohort(X.astype(np.float32), obs, {}), graph


def large_audit(sites: int = 200, classes: int = 30, suppress_below: int = 0) -> Audit:
    """What 200 hospitals x 30 classes give: counts and overlap by the audit's own code, the rest in its shape."""
    cohort, graph = large_cohort(sites, classes)
    policy = load_policy()
    names = cohort.factor("site").levels
    rng = np.random.default_rng(1)

    def rows(**columns: Any) -> list[dict[str, Any]]:
        made = {name: make(len(names)) for name, make in columns.items()}
        return [
            {"site": level, "reference": names[0], **{k: float(v[i]) for k, v in made.items()}, "patients": 3}
            for i, level in enumerate(names)
        ]

    effects = rows(distance=rng.random, distance_low=rng.random, distance_high=rng.random)
    effects = [{"level": row.pop("site"), **row} for row in effects]
    performance = rows(accuracy=rng.random, low=rng.random, high=rng.random)
    tables = [{"classes": ["a", "b"], "levels": [str(i), "d"], "value": float(i)} for i in range(5000)]
    shared: dict[str, Any] = {"n": len(cohort), "n_groups": len(cohort), "unit": "patient", "target": "these hospitals"}
    findings = (
        overlap_finding(cohort, graph, ["site"], policy),
        dataclasses.replace(one_finding(details={"tables": tables}), question="neighbourhood", **shared),
        dataclasses.replace(one_finding(details={"by site": performance}), question="performance", **shared),
        dataclasses.replace(one_finding(details={"per_level": effects}), **shared),
    )
    return sample_audit(
        findings=findings,
        tables={"site": cross_table(cohort, graph, "site")},
        graph=graph,
        data=data_of(cohort, graph),
        policy=policy.to_dict() | {"suppress_below": suppress_below},
        advice=(),
    )
