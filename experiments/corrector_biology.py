"""What correctors leave of the site, and of biology, where sites see different patients: ``docs/correctors.csv``.

Maps that are affine at each level move the true means of the simulator to what new patients have on average: no test
rows, no error of theirs. Of the one that is not affine the change of new rows is averaged.
``python -m experiments.corrector_biology``
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, linear_scm
from causalfm.errors import DataError
from causalfm.estimators import (
    CausalComBat,
    ComBat,
    GradientReversalAdapter,
    LinearEraser,
    MeanAligner,
    NuisanceSubspace,
    NullspaceProjector,
    SCMCorrector,
    TransportAligner,
)
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group="patient")
CONFOUNDING = (0.0, 0.3, 0.6, 0.9)
COHORTS = 40
MEASURES = ("site_left", "biology_within_sites", "biology_over_sites", "interval_holds_truth")
SETTINGS = {"n_groups": 160, "rows_per_group": 5, "d": 32, "n_sites": 4, "site_effect": 1.0, "variance_by_site": 0.3}
METHODS: dict[str, tuple[Callable[[], Any], bool]] = {
    "none": (lambda: None, False),
    "MeanAligner": (lambda: MeanAligner(), True),
    "MeanAligner, no biology given": (lambda: MeanAligner(), False),
    "MeanAligner, empirical Bayes": (lambda: MeanAligner(shrinkage="empirical-bayes"), True),
    "ComBat": (lambda: ComBat(), True),
    "ComBat, no biology given": (lambda: ComBat(), False),
    "ComBat, CovBat": (lambda: ComBat(covbat=0.95), True),
    "CausalComBat": (lambda: CausalComBat(on_violation="trim"), True),
    "CausalComBat, matched": (lambda: CausalComBat(estimator="matched", on_violation="trim"), True),
    "CausalComBat, AIPW": (lambda: CausalComBat(estimator="aipw", on_violation="trim"), True),
    "TransportAligner": (lambda: TransportAligner(), True),
    "TransportAligner, CORAL": (lambda: TransportAligner(map="coral"), True),
    "LinearEraser, oracle": (lambda: LinearEraser(form="oracle"), True),
    "LinearEraser, quadratic": (lambda: LinearEraser(form="quadratic"), True),
    "SCMCorrector": (lambda: SCMCorrector(GRAPH, assume="additive"), True),
    "NuisanceSubspace": (lambda: NuisanceSubspace(), True),
    "NuisanceSubspace, no biology given": (lambda: NuisanceSubspace(), False),
    "LinearEraser": (lambda: LinearEraser(), True),
    "LinearEraser, no biology given": (lambda: LinearEraser(), False),
    "NullspaceProjector": (lambda: NullspaceProjector(), True),
    "NullspaceProjector, no biology given": (lambda: NullspaceProjector(), False),
    "GradientReversalAdapter": (lambda: GradientReversalAdapter(strength=1.0), True),
    "GradientReversalAdapter, no biology given": (lambda: GradientReversalAdapter(strength=1.0), False),
    "GradientReversalAdapter, MLP": (lambda: GradientReversalAdapter(form="mlp", strength=1.0), True),
}
FEWER = {
    name: 6 for name in METHODS if name.startswith("GradientReversalAdapter")
}  # cohorts: seconds each, although the strength is not chosen


def left(corrector: Any, truth: LinearTruth, mix: np.ndarray, new: Cohort) -> tuple[float, float, float]:
    """Share of the site's squared effect; of the biology effect along itself, within sites and over all of them.

    ``mix (sites, classes)``: shares of each class's patients over sites. Where it differs between classes, the second
    also holds what is left of the site; without any correction it is what a read-out over all rows would see. Sites
    that the fit left out are left out here.
    """
    sites = np.arange(len(truth.site)) if corrector is None else _sites(corrector)
    site, classes = truth.site[sites], len(truth.biology)
    means = (site[:, None] + truth.biology[None]).reshape(len(sites) * classes, -1)
    factor = np.repeat([f"site{s}" for s in sites], classes)
    if getattr(corrector, "form", "") == "mlp":  # not affine: what it does to new rows, on average
        change = _moved(corrector, new.X, new.obs["site"]) - new.X
        levels = zip(factor, np.tile([f"class{b}" for b in range(classes)], len(sites)), strict=True)
        moved = means + np.stack([change[_at(new.obs, *cell)].mean(axis=0) for cell in levels])
    else:
        moved = _moved(corrector, means, factor)
    moved = moved.reshape(len(sites), classes, -1)
    between = ((moved - moved.mean(axis=0)) ** 2).sum() / classes
    before = ((site - site.mean(axis=0)) ** 2).sum()
    effect, real = (moved[:, 1] - moved[:, 0]).mean(axis=0), truth.biology[1] - truth.biology[0]
    pooled = np.einsum("sc,scd->cd", mix[sites] / mix[sites].sum(axis=0), moved)
    size = float(real @ real)
    return float(between / before), float(effect @ real) / size, float((pooled[1] - pooled[0]) @ real) / size


def covered(corrector: Any, new: Cohort, truth: LinearTruth) -> float:
    """Whether the interval of the biology effect along itself, over corrected new patients, holds the truth.

    Class means of patients, unlike variances; what the fit of the corrector adds to the error is left out, as it is by
    whoever analyses corrected rows.
    """
    if corrector is not None:
        new = new[new.obs["site"].isin([f"site{s}" for s in _sites(corrector)]).to_numpy()]
    real = truth.biology[1] - truth.biology[0]
    moved = _moved(corrector, new.X, new.obs["site"])
    scores = (pd.Series(moved @ real / (real @ real))).groupby(new.obs["patient"].to_numpy()).mean()
    classes = new.obs.groupby("patient")["tumour"].first().loc[scores.index]
    one, zero = (scores[classes == c] for c in ("class1", "class0"))
    half = 1.96 * np.sqrt(one.var() / len(one) + zero.var() / len(zero))
    return float(abs(one.mean() - zero.mean() - 1.0) <= half)


def measured(method: str, confounding: float, seed: int) -> tuple[float, float, float, float] | None:
    """One corrector on one cohort, effects drawn anew; None where it refuses."""
    make, given = METHODS[method]
    cohort, truth = linear_scm(**SETTINGS, confounding=confounding, effect_seed=seed, random_state=seed)
    new, _ = linear_scm(**SETTINGS, confounding=confounding, effect_seed=seed, random_state=seed + 1000)
    more = {"biology": cohort.obs["tumour"], "covariates": cohort.obs[["age"]]} if given else {}
    mix = cohort.obs.groupby(["site", "tumour"]).size().unstack(fill_value=0).to_numpy(dtype=np.float64)
    fitted = make()
    if fitted is not None:
        try:
            fitted.fit(cohort.X, cohort.obs["site"], groups=cohort.obs["patient"], **more)
        except DataError:
            return None
    return *left(fitted, truth, mix, new), covered(fitted, new, truth)


def _moved(corrector: Any, X: np.ndarray, factor: Any) -> np.ndarray:
    if corrector is None:
        return X
    return np.asarray(corrector.transform(X, **({"factor": factor} if needs_factor(corrector) else {})))


def _sites(corrector: Any) -> np.ndarray:
    """Sites of the fit."""
    if isinstance(corrector, SCMCorrector):
        return np.arange(SETTINGS["n_sites"])
    return np.sort([int(level.removeprefix("site")) for level in corrector.levels_])


def _at(obs: pd.DataFrame, site: str, tumour: str) -> np.ndarray:
    return ((obs["site"] == site) & (obs["tumour"] == tumour)).to_numpy()


def new_site_left(make: Callable[[], Any], patients: int, seed: int, *, one_class: bool = False) -> float:
    """Share of the squared effect of a ninth site that is left in its rows, after a fit on eight sites."""
    settings = {**SETTINGS, "n_groups": 270, "n_sites": 9, "variance_by_site": 0.0}
    cohort, truth = linear_scm(**settings, confounding=0.3, effect_seed=seed, random_state=seed)
    obs, seen = cohort.obs, (cohort.obs["site"] != "site8").to_numpy()
    fitted = make().fit(cohort.X[seen], obs["site"][seen], biology=obs["tumour"][seen], groups=obs["patient"][seen])
    met = obs[~seen].drop_duplicates("patient")
    each = {"class0": patients} if one_class else {"class0": patients // 2, "class1": patients - patients // 2}
    names = [name for value, n in each.items() for name in met["patient"][met["tumour"] == value].head(n)]
    part = obs["patient"].isin(names).to_numpy()
    moved = (fitted.transform(cohort.X[part], factor=obs["site"][part]) - cohort.X[part]).mean(axis=0)
    effect = truth.site[8] - truth.site[:8].mean(axis=0)
    return float(((effect + moved) ** 2).sum() / (effect**2).sum())


def rows(cohorts: int = COHORTS) -> list[dict[str, Any]]:
    """One row per method and confounding: means and standard errors over cohorts; ``cohorts``: where it was fitted."""
    out = []
    for method in METHODS:
        n = min(cohorts, FEWER.get(method, cohorts))
        for confounding in CONFOUNDING:
            found = [measured(method, confounding, seed) for seed in range(n)]
            values = np.array([f for f in found if f is not None])
            row: dict[str, Any] = {"method": method, "confounding": confounding}
            for name, column in zip(MEASURES, values.T, strict=True):
                row[name] = round(float(column.mean()), 3)
                row[f"{name}_se"] = round(float(column.std(ddof=1) / np.sqrt(len(values))), 3)
            out.append({**row, "cohorts": len(values), "refused": n - len(values)})
    return out


def needs_factor(corrector: Any) -> bool:
    """Whether new rows are moved by their level, which must then be passed."""
    return hasattr(corrector, "unseen") and getattr(corrector, "form", "") != "leace"


def write_rows(table: list[dict[str, Any]], path: Path) -> None:
    """Write rows of the same names as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def main() -> None:
    """Write the table."""
    table = rows()
    path = Path(__file__).parents[1] / "docs" / "correctors.csv"
    write_rows(table, path)


if __name__ == "__main__":
    main()
