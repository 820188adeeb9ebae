"""Counterfactual embeddings against the same rendered tissue under another hospital, stain or scanner.

``python -m experiments.counterfactual_fidelity [--tissues 500] [--seed 0] [--fast] [--out FOLDER] [--page FILE]``

Tissue of four hospitals that see different shares of two growth patterns is rendered, also under every other hospital,
stain and scanner, and encoded with EfficientNet-Lite0. Models are fitted on what training patients looked like where
they were seen; patients and tissue of the test are others. Views are kept in the folder: a run that was cut goes on.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets import histology
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM, fidelity, mean_shift
from causalfm.scm.counterpart_scores import share_within
from causalfm.scm.counterparts import counterparts_of
from experiments.counterfactual_limits import limits
from experiments.counterfactual_rivals import combat, combat_missing, one_tissue_each, paired_ridge
from experiments.counterfactual_views import CAUSES, Views, encoded_views

ROLES = {"biology": "tumour", "technical": ["site", "scanner", "stain"], "group": "patient", "specimen": "tissue"}
GRAPH = CausalGraph(histology.GRAPH, **ROLES)
MECHANISMS = ("additive", "location-scale", "optimal-transport", "interaction", "random-effects")
N_PAIRS = 20
FOLDS = 3  # of the likelihood with patients left out


@dataclass(frozen=True)
class Question:
    """What is set, and whether the model is told which scanner and stain the tissue then met."""

    name: str
    factor: str
    levels: tuple[str, ...]
    told: bool = False


QUESTIONS = (
    Question("hospital, its scanner and stain known", "site", tuple(histology.SITES), told=True),
    Question("hospital, scanner and stain follow", "site", tuple(histology.SITES)),
    Question("stain", "stain", tuple(histology.STAINS)),
    Question("scanner", "scanner", ("Argus 2", "Meridian")),
)


def held_out(obs: pd.DataFrame) -> np.ndarray:
    """Patients of the test: two of every five of each hospital; the table takes hospitals in turn."""
    return np.asarray(obs["patient"].str[1:].astype(int) // len(histology.SITES) % 5 < 2)


def stacked(parts: list[Cohort], levels: tuple[str, ...]) -> Cohort:
    """Put the rows of several interventions under each other."""
    obs = pd.concat(
        [part.obs.set_axis(part.obs.index + "@" + level) for part, level in zip(parts, levels, strict=True)]
    )
    return Cohort(np.concatenate([part.X for part in parts]), obs)


def truth_of(question: Question, views: Views, seen: Cohort) -> Cohort:
    """Look up the same tissue under each level."""
    worlds = [histology.intervene(seen.obs, **{question.factor: level}) for level in question.levels]
    return stacked([views.under(world) for world in worlds], question.levels)


def predict(scm: EmbeddingSCM, question: Question, seen: Cohort, truth: Cohort) -> tuple[Cohort, np.ndarray | None]:
    """Counterfactual rows under each level, and whether each row's true dimensions lie within its intervals."""
    n, parts, inside = len(seen), [], []
    with_intervals = scm.mechanism != "optimal-transport"
    for i, level in enumerate(question.levels):
        X, obs = np.array(seen.X), truth.obs.iloc[i * n : (i + 1) * n].set_axis(seen.obs.index)
        share, here = np.ones(n), truth.X[i * n : (i + 1) * n]
        groups = [np.arange(n)]
        if question.told:
            groups = list(obs.assign(at=np.arange(n)).groupby(["scanner", "stain"])["at"].apply(np.array))
        for at in groups:
            do = {question.factor: level}
            if question.told:
                do |= {name: obs.iloc[at[0]][name] for name in ("scanner", "stain")}
            if with_intervals:
                moved, errors = scm.counterfactual(seen[at], do, return_uncertainty=True)
                low, high = errors.interval()
                share[at] = ((low <= here[at]) & (here[at] <= high)).mean(axis=1)
            else:
                moved = scm.counterfactual(seen[at], do)
            X[at] = moved.X
            if not question.told:
                obs = moved.obs
        parts.append(Cohort(X, obs))
        inside.append(share)
    return stacked(parts, question.levels), np.concatenate(inside) if with_intervals else None


def from_pairs(
    question: Question, views: Views, training: Cohort, seen: Cohort, truth: Cohort, penalty: float | None = None
) -> Cohort:
    """Regress on the true pairs of all training tissue given, for each level as seen and each target."""
    n, X = len(seen), np.array(truth.X)
    known = {level: histology.intervene(training.obs, **{question.factor: level}) for level in question.levels}
    for i, level in enumerate(question.levels):
        after, rows = views.under(known[level]), truth.obs.iloc[i * n : (i + 1) * n]
        X[i * n : (i + 1) * n] = seen.X
        for own in question.levels:
            at = np.flatnonzero(seen.obs[question.factor] == own)
            if own == level or not len(at):
                continue
            before = views.under(known[own])
            context = None
            if question.told:
                context = _chain(before.obs, after.obs), _chain(seen.obs.iloc[at], rows.iloc[at])
            patient = before.obs["patient"].to_numpy()
            X[i * n + at] = paired_ridge(before.X, after.X, patient, seen.X[at], context, penalty)
    return Cohort(X, truth.obs)


def _chain(before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    """Indicate scanner and stain before and after; the stain after follows from the stain before."""
    columns = [before["stain"] == level for level in histology.STAINS]
    columns += [part["scanner"] == "Meridian" for part in (before, after)]
    return np.column_stack([np.ones(len(before)), *columns]).astype(np.float64)


def rivals(question: Question, views: Views, training: Cohort, seen: Cohort, truth: Cohort) -> dict[str, Cohort]:
    """Predictions without a causal model, and with pairs."""
    found = {}
    for name, adjusted in (("mean shift", False), ("adjusted mean shift", True)):
        move = {"factor": question.factor, "adjusted": adjusted}
        parts = [mean_shift(seen, training, GRAPH, level=level, **move) for level in question.levels]
        found[name] = stacked(parts, question.levels)
    if not combat_missing():
        options = {"factor": question.factor, "biology": GRAPH.biology}
        X = [combat(seen, training, level=level, **options) for level in question.levels]
        found["ComBat"] = Cohort(np.concatenate(X), truth.obs)
    few = training[one_tissue_each(training.obs, N_PAIRS, [question.factor, "tumour"])]
    found[f"ridge on {N_PAIRS} pairs"] = from_pairs(question, views, few, seen, truth)
    found["mean change of all pairs"] = from_pairs(question, views, training, seen, truth, np.inf)
    found["ridge on all pairs"] = from_pairs(question, views, training, seen, truth)
    return found


def left_out_likelihood(training: Cohort, mechanism: str) -> float:
    """Mean log density of training rows under models that did not see their patients, nats."""
    codes = training.factor("patient", private=True).codes
    fold = np.random.default_rng(0).permutation(codes.max() + 1)[codes] % FOLDS
    total = 0.0
    for f in range(FOLDS):
        scm = EmbeddingSCM(GRAPH, mechanism, assume="additive").fit(training[fold != f])
        total += float(scm.log_likelihood(training[fold == f]).sum())
    return total / len(training)


def answer(question: Question, views: Views, models: dict[str, EmbeddingSCM], training: Cohort, seen: Cohort) -> Any:
    """Score all methods on one question; rows of a table."""
    truth = truth_of(question, views, seen)
    source = stacked([seen] * len(question.levels), question.levels)
    predicted, covered = {}, {}
    for name, scm in models.items():
        predicted[name], covered[name] = predict(scm, question, seen, truth)
    if "pairs" in inspect.signature(EmbeddingSCM.fit).parameters:
        few = training[one_tissue_each(training.obs, N_PAIRS, [question.factor, "tumour"])]
        worlds = stacked([few, truth_of(question, views, few)], ("seen", "set"))
        again = worlds.obs.duplicated(["tissue", *CAUSES]).to_numpy()
        name = f"random-effects and {N_PAIRS} pairs"
        scm = EmbeddingSCM(GRAPH, "random-effects", assume="additive").fit(training, pairs=worlds[~again])
        predicted[name], covered[name] = predict(scm, question, seen, truth)
    predicted |= rivals(question, views, training, seen, truth)
    result = fidelity(predicted, truth, GRAPH, source=source, factor=question.factor)
    rows = result.rows()
    for name in result.methods:
        for other in ("adjusted mean shift", "additive"):
            if name != other:
                pair = result.difference(name, other).rows()[0]
                rows.append({"factor": question.factor, "method": name, "target": "all", "biology": "all", **pair})
                rows[-1]["name"] += f" from {other}"
    aligned = counterparts_of(predicted, truth, source, GRAPH, question.factor)
    for name, share in covered.items():
        if share is not None:
            estimate = share_within(share, aligned, aligned.moved, 0.95).rows()[0]
            rows.append({"factor": question.factor, "method": name, "target": "all", "biology": "all", **estimate})
    return [{"question": question.name, **row} for row in rows]


def study(
    tissues: int,
    folder: Path,
    *,
    random_state: int = 0,
    size: int = 224,
    encode: Callable[[np.ndarray], np.ndarray] | None = None,
    asked: tuple[Question, ...] = QUESTIONS,
    with_limits: bool = True,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Render, encode, fit, score.

    Parameters
    ----------
    tissues
        Tissues, two of each patient.
    folder
        Keeps encoded views and results.
    random_state, size, encode
        Of the cohort and the renderer; images to embeddings, EfficientNet-Lite0 unless given.
    asked
        Questions.
    with_limits
        Whether to show where rows fail; small cohorts do not determine it.

    Returns
    -------
    table, facts
        One row per estimate, and what else the page says.
    """
    obs = histology.cohort_table(tissues // 2, 2, 0.6, random_state)
    obs["tissue"] = obs.index
    kept, factors = folder / f"views-{tissues}-{size}-{random_state}", {q.factor for q in asked}
    factors |= {"stain", "scanner"} if with_limits else set()
    views = encoded_views(obs, kept, random_state=random_state, size=size, encode=encode, factors=factors)
    test = held_out(obs)
    training, seen = views.seen[~test], views.seen[test]
    models = {name: EmbeddingSCM(GRAPH, name, assume="additive").fit(training) for name in MECHANISMS}
    likelihood = {name: left_out_likelihood(training, name) for name in MECHANISMS}
    rows = []
    for question in asked:
        rows += answer(question, views, models, training, seen)
        print(f"scored: {question.name}")
    if with_limits:
        rows += limits(views, training, seen, GRAPH)
    facts = {
        "seed": random_state,
        "tissues": len(obs),
        "training": [len(training), int(training.obs["patient"].nunique())],
        "test": [len(seen), int(seen.obs["patient"].nunique())],
        "views": len(views.embeddings),
        "dimensions": views.seen.d,
        "likelihood": likelihood,
        "chosen": max(likelihood, key=lambda name: likelihood[name]),
        "combat_missing": combat_missing(),
        "pairs": N_PAIRS,
    }
    return pd.DataFrame(rows), facts


def main(arguments: list[str] | None = None) -> None:
    """Run the study, print it, write table and page."""
    from experiments.counterfactual_page import summary, write_page

    parser = argparse.ArgumentParser(description="Fidelity of counterfactual embeddings on rendered tissue.")
    parser.add_argument("--tissues", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of patients, tissue and noise")
    parser.add_argument("--fast", action="store_true", help="120 tissues of 64 px, no network")
    parser.add_argument("--out", type=Path, default=Path("counterfactual-fidelity"))
    parser.add_argument("--page", type=Path, help="write the results page and its figure here, as in docs/")
    o = parser.parse_args(arguments)
    o.out.mkdir(parents=True, exist_ok=True)
    quick = {"size": 64, "encode": block_means} if o.fast else {}
    table, facts = study(120 if o.fast else o.tissues, o.out, random_state=o.seed, **quick)
    table.to_csv(o.out / "fidelity.csv", index=False)
    (o.out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(summary(table, facts))
    if o.page:
        write_page(table, facts, o.page)


def block_means(images: np.ndarray) -> np.ndarray:
    """Mean and spread of colours in 4 x 4 blocks: an encoder without a network, for quick runs."""
    n, size = images.shape[:2]
    blocks = images.reshape(n, 4, size // 4, 4, size // 4, 3).astype(np.float32) / 255.0
    parts = [blocks.mean(axis=(2, 4)), blocks.std(axis=(2, 4))]
    return np.concatenate([part.reshape(n, -1) for part in parts], axis=1)


if __name__ == "__main__":
    main()
