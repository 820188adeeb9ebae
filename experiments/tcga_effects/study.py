"""The estimates: three sets of hospitals and cancer types, two estimators, with and without age and sex."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import causalfm as cfm
from causalfm.datasets import tcga_hipt
from causalfm.estimators import Refutation, Sensitivity
from experiments.encoder_comparison import SUBSETS

FACTS = ("age", "is_female")
STAGE = "stage"
N_DRAWS = 400


@dataclass(frozen=True)
class Variant:
    """One estimate of one set: what was adjusted for, and how."""

    name: str
    effect: cfm.Effect


@dataclass(frozen=True)
class Case:
    """All about one set of hospitals and cancer types."""

    name: str
    variants: tuple[Variant, ...]
    sensitivity: Sensitivity
    refutation: Refutation
    controls: tuple[tuple[Refutation, int], ...]
    lost: tuple[tuple[str, int], ...]

    @property
    def main(self) -> cfm.Effect:
        """The estimate by standardisation over the cancer types."""
        return self.variants[0].effect


def graph(covariates: tuple[str, ...] = ()) -> cfm.CausalGraph:
    """Declare hospital and cancer type as causes of the embedding; which patients a hospital sees is association."""
    kinds = {"age": "continuous"} if "age" in covariates else {}
    return cfm.CausalGraph.standard(
        biology="project_id", technical="center", group="case", covariates=covariates, kinds=kinds
    )


def with_stage(cohort: cfm.Cohort) -> cfm.Cohort:
    """Read the tumour stage as I to IV, missing where it is not reported."""
    stage = cohort.obs["tumor_stage"].astype("string").str.extract(r"(?i)stage (iv|i{1,3})(?![iv])", expand=False)
    return cohort.replace(obs=cohort.obs.assign(**{STAGE: stage.str.upper().astype(object)}))


def load_set(folder: Path, name: str) -> cfm.Cohort:
    """Read the slides of one set."""
    cancers, hospitals = SUBSETS[name]
    return with_stage(tcga_hipt.load(folder, cancers=cancers, hospitals=hospitals))


def main_effect(cohort: cfm.Cohort) -> cfm.Effect:
    """Estimate the effect of the hospital by standardisation over the cancer types."""
    return cfm.effect(cohort, graph(), treatment="center")


def examine(folder: Path, name: str, *, random_state: int = 0) -> Case:
    """Estimate, probe and try to overturn the effect of the hospital in one set."""
    cohort = load_set(folder, name)
    ask = {"treatment": "center"}
    main = main_effect(cohort)
    variants = [Variant("standardised", main), Variant("AIPW", cfm.effect(cohort, graph(), estimator="aipw", **ask))]
    controls, lost = [], []
    if cohort.obs[list(FACTS)].notna().all(axis=1).mean() > 0.9:
        complete = cohort.handle_missing(FACTS, how="drop")
        lost.append(("age and sex", len(cohort) - len(complete)))
        known = cfm.effect(complete, graph(), **ask)
        controls.append((known.refute(refuters=(), outcomes=FACTS), known.joint.n_groups))
        variants.append(Variant("standardised, age and sex too", cfm.effect(complete, graph(FACTS), **ask)))
    staged = cohort.handle_missing([STAGE], how="drop")
    known = cfm.effect(staged, graph(), **ask)
    controls.append((known.refute(refuters=(), outcomes=STAGE), known.joint.n_groups))
    adjusted = cfm.effect(staged, graph((STAGE,)), **ask)
    if adjusted.overlap.levels == main.overlap.levels:  # else it is about other hospitals
        variants.append(Variant("standardised, stage too", adjusted))
        lost.append((STAGE, len(cohort) - len(staged)))
    refutation = main.refute(n_draws=N_DRAWS, random_state=random_state)
    return Case(name, tuple(variants), main.sensitivity(), refutation, tuple(controls), tuple(lost))


def shares(cases: list[Case]) -> pd.DataFrame:
    """One row per set, variant and factor: the share of variance caused, with its interval."""
    rows = []
    for case in cases:
        for variant in case.variants:
            e = variant.effect
            for factor, found in (("hospital", e.share), ("cancer type", e.biology_share), ("ratio", e.variance_ratio)):
                if found is None:
                    continue
                rows.append(
                    {
                        "set": case.name,
                        "variant": variant.name,
                        "of": factor,
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "patients": found.n_groups,
                    }
                )
    return pd.DataFrame(rows)
