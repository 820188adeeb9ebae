"""The numbers of the README and of ``docs/scm.md`` on public embeddings, into ``docs/readme_numbers.json``.

``python -m experiments.readme_numbers DATA``: four cancers at four hospitals of TCGA (``datasets/tcga_hipt.md``).
``tests/test_docs_numbers.py`` holds the pages against the file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import causalfm as cfm
from causalfm.auditing.report import write_text
from causalfm.datasets import tcga_hipt
from causalfm.results import Estimate

OUT = Path(__file__).parents[1] / "docs" / "readme_numbers.json"
CANCERS = ["BRCA", "COAD", "LUAD", "STAD"]
HOSPITALS = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
TARGET = "Indivumed"
K = 11  # of croma's and PathoROB's grid; the published oracle of this cohort is at it


def plain(estimate: Estimate) -> dict[str, float]:
    """Return value, interval and chance of an estimate, to four digits."""
    return {name: round(float(getattr(estimate, name)), 4) for name in ("value", "low", "high", "chance")}


def four_by_four(data: Path) -> tuple[cfm.Cohort, cfm.CausalGraph]:
    """Load the cohort, and declare its graph."""
    graph = cfm.CausalGraph.standard(biology="project_id", technical="center", group="case")
    return tcga_hipt.load(data, cancers=CANCERS, hospitals=HOSPITALS), graph


def measure(data: Path) -> dict[str, Any]:
    """Measure everything."""
    cohort, graph = four_by_four(data)
    found = cfm.effect(cohort, graph, treatment="center")
    index = cfm.metrics.robustness_index(cohort, graph, k=K)
    moved = cfm.EmbeddingSCM(graph, "additive").fit(cohort).counterfactual(cohort, do={"center": TARGET})
    after = cohort.replace(X=moved.X)  # the same rows under the hospital they came from
    probes = {
        f"{of}, {when}": plain(cfm.metrics.readout(rows, graph, of=of))
        for of in ("center", "project_id")
        for when, rows in (("as found", cohort), (f"do(center={TARGET})", after))
    }
    return {
        "cohort": {"slides": len(cohort), "patients": cohort.factor("case").n_levels},
        "distance between hospitals / between cancers": plain(found.ratio) | {"patients": found.ratio.n_groups},
        "robustness index": plain(index) | {"k": K},
        "robustness index, balanced 2 x 2 tables": plain(index.details["standardised"]),
        "probe, balanced accuracy": probes,
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the TCGA files")
    write_text(json.dumps(measure(parser.parse_args().data), indent=1) + "\n", OUT)


if __name__ == "__main__":
    main()
