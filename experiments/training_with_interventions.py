"""What each ingredient of docs/train_with_interventions.py adds, over seeds; writes the table of its page.

``python -m experiments.training_with_interventions [--seeds 5] [--state DIR] [--page PAGE]``

A seed is new patients for training and judging, new order of batches, new head. Judged on the same tissue truly
rendered in both stains: accuracy at a hospital whose habit is ``agree`` is the mix of both. Cells are kept in
``--state``, and a run that was cut goes on. About 5 minutes of processor time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from causalfm.augment import HEDJitter, InterventionalAugment, StainLibrary
from causalfm.datasets import histology
from causalfm.training import RobustnessMonitor

DOCS = Path(__file__).parents[1] / "docs"
MARKS = ("<!-- table: written by experiments.training_with_interventions -->", "<!-- end of table -->")
CODE = ("<!-- script -->", "<!-- end of script -->")
AGREE = 0.95  # at the hospital of training; the opposite hospital 0.05, a balanced one 0.5
ARMS = {  # what makes batches, strength of the penalty
    "as it comes": ("none", 0.0),
    "StainSwap": ("swap", 0.0),
    "StainSwap and conditional MMD": ("swap", 1.0),
    "conditional MMD": ("none", 1.0),
    "HED jitter": ("jitter", 0.0),
    "truly stained both ways": ("truth", 0.0),
}
PAIRS = (
    ("StainSwap", "as it comes"),
    ("StainSwap and conditional MMD", "as it comes"),
    ("conditional MMD", "as it comes"),
    ("HED jitter", "as it comes"),
    ("StainSwap and conditional MMD", "StainSwap"),
    ("StainSwap", "HED jitter"),
    ("truly stained both ways", "StainSwap"),
)
MEASURES = ("shortcut hospital", "opposite hospital", "balanced", "flips", "robustness index")


class Jittered:
    """Batches as they come, their colours jittered in stain space: what is done without a causal graph."""

    def __init__(self, augment: InterventionalAugment, seed: int) -> None:
        self.augment, self.jitter = augment.eval(), HEDJitter(0.2, random_state=seed)

    def collate(self) -> Any:
        """Return the ``collate_fn``."""
        plain = self.augment.collate()

        def jittered(samples: Any) -> Any:
            batch = plain(samples)
            return {**batch, "image": self.jitter(batch["image"])[0]}

        return jittered


def load_script() -> ModuleType:
    """Import the script of the page."""
    spec = importlib.util.spec_from_file_location("train_with_interventions", DOCS / "train_with_interventions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Seed:
    """Tissue of one seed: for training, for the monitor, and for judging in both stains."""

    def __init__(self, script: ModuleType, seed: int, patients: int) -> None:
        self.script, self.seed, s = script, seed, 3 * seed
        self.obs, self.held = script.hospital(patients, AGREE, s), script.hospital(24, 0.5, s + 1)
        self.test = script.hospital(32, AGREE, s + 2)
        self.images, self.seen = script.tiles(self.obs, s), script.tiles(self.held, s + 1)
        self.judged = both_stains(script, self.test, s + 2)

    def twice(self) -> tuple[torch.Tensor, pd.DataFrame]:
        """Training tissue in both stains: the interventions that nobody has to guess."""
        both = [histology.intervene(self.obs, stain=name) for name in ("HE-1", "HE-3")]
        return torch.cat([self.script.tiles(obs, 3 * self.seed) for obs in both]), pd.concat(both)

    def run(self, arm: str, epochs: int) -> dict[str, float]:
        """Train one arm and judge it."""
        how, strength = ARMS[arm]
        library = StainLibrary.fit(self.images, self.obs["stain"].tolist())
        augment = InterventionalAugment(self.script.GRAPH, {"stain": library}, self.obs, random_state=self.seed)
        augment.train(how == "swap")
        columns = (np.unique(self.held[c], return_inverse=True)[1] for c in ("tumour", "stain", "patient"))
        monitor = RobustnessMonitor(*columns)
        images, obs = (self.images, self.obs) if how != "truth" else self.twice()
        made = Jittered(augment, self.seed) if how == "jitter" else augment
        steps = epochs if how != "truth" else max(epochs // 2, 1)  # as many steps
        model = self.script.train(
            images, obs, made, monitor, self.seen, strength=strength, epochs=steps, seed=self.seed
        )
        return judge(self._calls(model), self.test, self.judged) | {
            "robustness index": monitor.history[-1].robustness_index
        }

    def _calls(self, model: torch.nn.Module) -> Callable[[torch.Tensor], np.ndarray]:
        def calls(images: torch.Tensor) -> np.ndarray:
            with torch.no_grad():
                return (model(self.script.scaled(images)).argmax(1) == 1).numpy()

        return calls


def both_stains(script: ModuleType, obs: pd.DataFrame, seed: int) -> dict[str, torch.Tensor]:
    """Render the same tissue in either stain."""
    return {name: script.tiles(histology.intervene(obs, stain=name), seed) for name in ("HE-1", "HE-3")}


def judge(
    calls: Callable[[torch.Tensor], np.ndarray], obs: pd.DataFrame, images: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Judge what calls tissue solid: accuracy at the three hospitals, share called otherwise in the other stain."""
    solid = {stain: calls(x) for stain, x in images.items()}
    truth = (obs["tumour"] == "solid").to_numpy()
    agreeing = np.where(truth, solid["HE-3"], solid["HE-1"]) == truth
    opposite = np.where(truth, solid["HE-1"], solid["HE-3"]) == truth
    a, o = float(agreeing.mean()), float(opposite.mean())
    mixed = [q * a + (1 - q) * o for q in (AGREE, 1 - AGREE, 0.5)]
    return dict(zip(MEASURES, [*mixed, float((solid["HE-1"] != solid["HE-3"]).mean())], strict=False))


def measure(seeds: int, arms: list[str], state: Path, patients: int, epochs: int, *, first: int = 0) -> pd.DataFrame:
    """Return one row per seed (from ``first`` on) and arm, from files where they were measured before."""
    script, rows = load_script(), []
    state.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + seeds):
        tissue = None
        for arm in arms:
            file = state / f"{patients}-{epochs}-{seed}-{arm.replace(' ', '-')}.json"
            if not file.is_file():
                tissue = tissue or Seed(script, seed, patients)
                file.write_text(json.dumps(tissue.run(arm, epochs)))
                print(seed, arm, file.read_text(), flush=True)
            rows.append({"seed": seed, "arm": arm, **json.loads(file.read_text())})
    return pd.DataFrame(rows)


def t_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean and the ends of its 95 % t interval over seeds."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def interval(values: np.ndarray) -> str:
    """Return mean and 95 % t interval over seeds, in points."""
    mean, low, high = (100 * end for end in t_interval(values))
    return f"{mean:.0f} ({low:.0f} to {high:.0f})"


def tables(found: pd.DataFrame) -> str:
    """Return the two tables of the page."""
    wide = {m: found.pivot(index="seed", columns="arm", values=m) for m in MEASURES}
    lines = ["| training | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    arms = [arm for arm in ARMS if arm in wide[MEASURES[0]]]
    lines += [f"| {arm} | " + " | ".join(interval(wide[m][arm].to_numpy()) for m in MEASURES) + " |" for arm in arms]
    lines += ["", "Paired over seeds, in points:", ""]
    lines += ["| difference | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for a, b in (pair for pair in PAIRS if set(pair) <= set(arms)):
        cells = [interval((wide[m][a] - wide[m][b]).to_numpy()) for m in MEASURES]
        lines.append(f"| {a} - {b} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fill(page: str, marks: tuple[str, str], text: str) -> str:
    """Replace what stands between two marks."""
    before, rest = page.split(marks[0])
    return f"{before}{marks[0]}\n\n{text}\n\n{marks[1]}{rest.split(marks[1])[1]}"


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the csv and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--state", type=Path, default=Path(".training_with_interventions"))
    parser.add_argument("--page", type=Path, default=DOCS / "train_with_interventions.md")
    options = parser.parse_args(arguments)
    found = measure(options.seeds, options.arms, options.state, options.patients, options.epochs)
    found.round(4).to_csv(options.page.with_suffix(".csv"), index=False)
    page = fill(options.page.read_text("utf-8"), MARKS, tables(found.round(4)))
    script = (DOCS / "train_with_interventions.py").read_text("utf-8")
    options.page.write_text(fill(page, CODE, f"```python\n{script}```"), "utf-8")


if __name__ == "__main__":
    main()
