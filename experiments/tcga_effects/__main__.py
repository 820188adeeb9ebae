"""Write the page and its figure: ``python -m experiments.tcga_effects DATA --out docs``."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.encoder_comparison import SUBSETS
from experiments.tcga_effects.page import page
from experiments.tcga_effects.picture import draw
from experiments.tcga_effects.study import examine


def main(arguments: list[str] | None = None) -> None:
    """Run all sets."""
    parser = argparse.ArgumentParser(description="What hospital and cancer type cause in TCGA embeddings.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("tcga-effects"))
    options = parser.parse_args(arguments)
    cases = [examine(options.data, name) for name in SUBSETS]
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    (options.out / "tcga_effects.md").write_text(page(cases), encoding="utf-8")
    draw(cases, options.out / "images" / "tcga_effects.png")


if __name__ == "__main__":
    main()
