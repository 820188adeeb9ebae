"""Curved effects of age at sites of other ages, and readers that an adversary was not: ``docs/corrector_limits.csv``.

``python -m experiments.corrector_limits``
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.datasets.linear_scm import linear_scm
from causalfm.estimators import CausalComBat, ComBat, GradientReversalAdapter, LinearEraser
from experiments.corrector_biology import write_rows

AGES: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "overlap in part": lambda rng, site: np.where(
        site == 0, rng.uniform(20, 72.5, len(site)), rng.uniform(37.5, 90, len(site))
    ),
    "shifted": lambda rng, site: rng.normal(50.0 + 15.0 * site, 10.0),
}
CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "threshold": lambda age: np.tanh((age - 55.0) / 5.0),
    "hump": lambda age: 2.0 * np.exp(-(((age - 70.0) / 8.0) ** 2)),
    "line": lambda age: (age - 55.0) / 15.0,
}
BY_AGE: dict[str, Callable[[], Any]] = {
    "ComBat": ComBat,
    "CausalComBat": lambda: CausalComBat(on_violation="trim"),
    "CausalComBat, matched": lambda: CausalComBat(estimator="matched", on_violation="trim"),
    "CausalComBat, AIPW": lambda: CausalComBat(estimator="aipw", on_violation="trim"),
}
READ: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "LinearEraser": LinearEraser,
    "GradientReversalAdapter": GradientReversalAdapter,
    "GradientReversalAdapter, MLP": lambda: GradientReversalAdapter(form="mlp"),
}
AGE_COHORTS, READ_COHORTS = 12, 6


def by_age(seed: int, ages: str, curve: str, n: int = 400, d: int = 8) -> tuple[np.ndarray, pd.DataFrame, Any, Any]:
    """Two sites whose patients differ in age; age acts along one direction, the site along another.

    Returns
    -------
    tuple
        Rows, table, the site's true effect, the direction of age.
    """
    rng = np.random.default_rng(seed)
    site = np.arange(n) % 2
    age, tumour = AGES[ages](rng, site), rng.integers(2, size=n)
    along = np.random.default_rng(99).normal(size=(3, d))
    X = 0.5 * rng.normal(size=(n, d)) + np.outer(CURVES[curve](age), along[0]) + np.outer(tumour, along[1])
    X += 0.5 * np.outer(site - 0.5, along[2])
    obs = pd.DataFrame({"site": np.where(site, "b", "a"), "tumour": tumour.astype(str), "age": age})
    return X, obs, 0.5 * along[2], along[0]


def age_error(corrector: Any, seed: int, ages: str, curve: str, n: int = 400) -> tuple[float, float]:
    """Share of age's direction in the estimated difference between sites; squared error over the true square."""
    X, obs, truth, age = by_age(seed, ages, curve, n)
    corrector.fit(X, obs["site"], biology=obs["tumour"], covariates=obs[["age"]])
    wrong = corrector.solution_["shift"][1] - corrector.solution_["shift"][0] - truth
    return float(wrong @ age / (age @ age)), float((wrong @ wrong) / (truth @ truth))


def reading(make: Callable[[], Any], seed: int, variance_by_site: float) -> tuple[float, float, float]:
    """Share of rows of unseen patients whose site is read by a line and by a forest, and whose class by a line."""
    cohort, _ = linear_scm(
        n_groups=240, rows_per_group=4, n_sites=3, site_effect=1.0, d=32, confounding=0.3, random_state=seed,
        variance_by_site=variance_by_site,
    )  # fmt: skip
    obs, X = cohort.obs, cohort.X
    train = obs["patient"].str[1:].astype(int).to_numpy() // 3 % 2 == 0
    if (corrector := make()) is not None:
        more = {"biology": obs["tumour"][train], "groups": obs["patient"][train]}
        X = corrector.fit(X[train], obs["site"][train], **more).transform(X)
    line, forest = _line(), RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    found = [(line, "site"), (forest, "site"), (line, "tumour")]
    scores = [model.fit(X[train], obs[y][train]).score(X[~train], obs[y][~train]) for model, y in found]
    return scores[0], scores[1], scores[2]


def _line() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def rows() -> list[dict[str, Any]]:
    """One row per corrector and setting: means and standard errors over cohorts."""
    out = []
    for ages in AGES:
        for curve in CURVES:
            for name, make in BY_AGE.items():
                found = [age_error(make(), seed, ages, curve) for seed in range(AGE_COHORTS)]
                out += _summary(name, f"{ages}, {curve}", found, ("age taken for site", "squared error"))
    for variance, what in ((0.0, "sites shift"), (0.8, "sites shift and stretch")):
        for name, make in READ.items():
            found = [reading(make, seed, variance) for seed in range(READ_COHORTS)]
            out += _summary(name, what, found, ("site, line", "site, forest", "biology, line"))
    return out


def _summary(name: str, setting: str, found: list[Any], measures: tuple[str, ...]) -> list[dict[str, Any]]:
    values = np.array(found)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return [
        {
            "method": name,
            "setting": setting,
            "measure": m,
            "mean": round(a, 3),
            "se": round(e, 3),
            "cohorts": len(values),
        }
        for m, a, e in zip(measures, mean.tolist(), error.tolist(), strict=True)
    ]


def page_table(table: list[dict[str, Any]]) -> str:
    """Return the table of the page: one block per set of measures, a line per setting and corrector."""
    lines: list[str] = []
    head: tuple[str, ...] = ()
    for setting, method in dict.fromkeys((row["setting"], row["method"]) for row in table):
        found = [row for row in table if (row["setting"], row["method"]) == (setting, method)]
        if (measures := tuple(row["measure"] for row in found)) != head:
            head = measures
            lines += ["", f"| setting | corrector | {' | '.join(head)} |", "|" + "---|" * (2 + len(head))]
        cells = " | ".join(f"{float(row['mean']):.2f} ({float(row['se']):.2f})" for row in found)
        lines.append(f"| {setting} | {method} | {cells} |")
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    """Write the table, and that of the page."""
    table = rows()
    docs = Path(__file__).parents[1] / "docs"
    page, path = docs / "correctors.md", docs / "corrector_limits.csv"
    before, rest = page.read_text(encoding="utf-8").split("<!-- limits -->\n")
    after = rest.split("<!-- /limits -->")[1]
    text = f"{before}<!-- limits -->\n{page_table(table)}<!-- /limits -->{after}"
    page.write_text(text, encoding="utf-8")
    write_rows(table, path)


if __name__ == "__main__":
    main()
