"""Correctors on hospitals of TCGA that they have not seen: LUAD and LUSC of five hospitals, HIPT embeddings.

``CAUSALFM_DATA=folder python -m experiments.corrector_scoreboard OUT [--halvings 10]`` writes ``scoreboard.csv`` and
``scoreboard.svg``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import causalfm as cfm
from causalfm import estimators
from causalfm.datasets import tcga_hipt
from causalfm.drawing import to_svg

GRAPH = cfm.CausalGraph.standard(biology="project_id", technical=["center"], group="case")
HOSPITALS = (
    "International Genomics Consortium",
    "Asterand",
    "Johns Hopkins",
    "Christiana Healthcare",
    "Roswell Park",
)


def correctors() -> dict[str, Any]:
    """Return what is compared: one of each kind, with both policies for new sites."""
    return {
        "MeanAligner, adapt": estimators.MeanAligner(unseen="adapt"),
        "ComBat, adapt": estimators.ComBat(unseen="adapt"),
        "ComBat, shrink": estimators.ComBat(unseen="shrink"),
        "TransportAligner, adapt": estimators.TransportAligner(unseen="adapt"),
        "LinearEraser": estimators.LinearEraser(),
        "NullspaceProjector": estimators.NullspaceProjector(),
        "NuisanceSubspace": estimators.NuisanceSubspace(),
    }


def main() -> None:
    """Score, print the sentence, write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--halvings", type=int, default=10)
    arguments = parser.parse_args()
    cohort = tcga_hipt.load(os.environ["CAUSALFM_DATA"], cancers=["LUAD", "LUSC"], hospitals=HOSPITALS)
    board = estimators.scoreboard(
        cohort,
        GRAPH,
        correctors(),
        halvings=arguments.halvings,
        leak=True,
        progress=lambda what, done, steps: print(f"{done}/{steps} {what}", file=sys.stderr, flush=True),
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    board.to_frame().to_csv(arguments.out / "scoreboard.csv", index=False)
    svg = to_svg(cfm.plot_scoreboard(board), label="Correctors on hospitals they have not seen")
    (arguments.out / "scoreboard.svg").write_text(svg, encoding="utf-8")
    print(board.sentence)


if __name__ == "__main__":
    main()
