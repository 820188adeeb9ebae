"""The estimators of effects on one cohort: intervals of a scalar contrast, of the norm and of the share of variance."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, mean_square_distance
from causalfm.estimators.influence.aipw import aipw
from causalfm.estimators.influence.comparison_groups import Compared, compared_groups
from causalfm.estimators.influence.crossfitting import N_FOLDS, deal_folds
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.influence.partially_linear import partially_linear
from causalfm.estimators.influence.standardising import ridge, saturated
from causalfm.estimators.variance_shares import joint_norm, share_interval, spread_norm, total_variance
from causalfm.graph import CausalGraph
from causalfm.positivity import MIN_GROUPS, complete_table
from causalfm.standardisation import contrast_levels
from causalfm.units import Units, patient_units

PLAIN = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
AGED = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")

WHAT = ("scalar", "norm", "share")

Values = dict[str, Any]


def effect_estimates(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Intervals of every estimator: the first dimension between the last and the first site, the norm, the share."""
    units, compared = laid_out(cohort, design)
    sites = truth.site_total()[[int(level.removeprefix("site")) for level in compared.levels]]
    shares = compared.shares
    caused = float(shares @ ((sites - shares @ sites) ** 2).sum(axis=1))
    truths = ((sites[-1] - sites[0])[0], mean_square_distance(sites), caused / expected_variance(cohort, truth, design))
    total = total_variance(compared.Z, compared.bundle, compared.n_bundles)
    out: Values = {}
    found = influences(units, compared, seed)
    for name, influence in found.items():
        table = influence.contrast(np.eye(len(sites))[[-1]] - np.eye(len(sites))[[0]])
        low, high = table.interval()
        joint, spread = joint_norm(influence), spread_norm(influence, shares)
        rows = (
            (table.estimate[0, 0], low[0, 0], high[0, 0]),
            (joint.value, *joint.interval()),
            share_interval(spread, total),
        )
        for what, row, true in zip(WHAT, rows, truths, strict=True):
            out[f"{what}, {name}"] = _row(*row, true)
    if "AIPW" not in found:
        out |= {f"{what}, AIPW": _row(*(float("nan"),) * 3, true) for what, true in zip(WHAT, truths, strict=True)}
    return out


def laid_out(cohort: Cohort, design: dict[str, Any]) -> tuple[Units, Compared]:
    """Return the patients and those compared, given the columns that the design has."""
    given = ["tumour", "age"] if "age_effect" in design else ["tumour"]
    units = patient_units(cohort, AGED if "age_effect" in design else PLAIN, ["site"], given)
    kept = complete_table(units.counts())
    assert kept is not None
    return units, compared_groups(units, kept)


def influences(units: Units, compared: Compared, seed: int) -> dict[str, GroupInfluence]:
    """Run every estimator; AIPW is left out where its weights leave too few effective groups."""
    fold = deal_folds(compared.level, compared.stratum, N_FOLDS, seed)
    found = {
        "standardisation": saturated(compared, contrast_levels(units, "tumour").design),
        "ridge": ridge(compared),
        "partially linear": partially_linear(compared, fold, Nuisances())[0],
    }
    weighted, details = aipw(compared, fold, Nuisances())
    if min(details["effective_groups"].values()) >= MIN_GROUPS:  # else effect() gives no numbers
        found["AIPW"] = weighted
    return found


def econml_intervals(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Interval of EconML's LinearDML for the first dimension: rows with ``groups=``, and patients' means."""
    units, compared = laid_out(cohort, design)
    true = float(truth.site_total()[-1, 0] - truth.site_total()[0, 0])
    rows = np.isin(units.groups.codes, compared.groups)
    at = np.searchsorted(compared.groups, units.groups.codes[rows])
    out = {
        "scalar, EconML on rows, groups given": (cohort.X[rows, 0], at),
        "scalar, EconML on patients": (compared.Z[:, 0], np.arange(len(compared))),
    }
    return {name: _row(*_linear_dml(Y, compared, at), true) for name, (Y, at) in out.items()}


def _linear_dml(Y: np.ndarray, compared: Compared, at: np.ndarray) -> tuple[float, float, float]:
    from sklearn.linear_model import LogisticRegression, Ridge

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from econml.dml import LinearDML

        models: dict[str, Any] = {"model_y": Ridge(), "model_t": LogisticRegression(max_iter=2000)}
        model = LinearDML(**models, discrete_treatment=True, cv=N_FOLDS, random_state=0)
        model.fit(Y, compared.level[at], X=None, W=compared.W[at], groups=at)
        last = len(compared.levels) - 1
        found = model.effect_inference(T0=0, T1=last)
        low, high = found.conf_int()
        return float(np.ravel(found.point_estimate)[0]), float(np.ravel(low)[0]), float(np.ravel(high)[0])


def expected_variance(cohort: Cohort, truth: LinearTruth, design: dict[str, Any]) -> float:
    """Return the expected variance between patients' means at this design of sites and classes."""
    patients = cohort.obs.groupby("patient", sort=False).agg(
        site=("site", "first"), tumour=("tumour", "first"), rows=("site", "size")
    )
    site = patients["site"].str.removeprefix("site").astype(int).to_numpy()
    means = truth.site_total()[site] + truth.biology[patients["tumour"].str.removeprefix("class").astype(int)]
    between = float(((means - means.mean(axis=0)) ** 2).sum()) / (len(means) - 1)
    rank = site / (len(truth.site) - 1)
    own = (design.get("group_effect", 1.0) * (1.0 + design.get("variance_by_site", 0.0) * rank)) ** 2
    ages = design.get("age_effect", 0.0) ** 2
    return between + float((own + design.get("noise", 1.0) ** 2 / patients["rows"]).mean()) + ages


def _row(value: float, low: float, high: float, truth: float) -> list[float]:
    return [float(value), float(low), float(high), float(truth)]
