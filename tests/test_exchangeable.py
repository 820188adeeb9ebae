"""Hospitals as units: a scanner that each hospital has one of, compared between hospitals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.exchangeable_means import exchangeable_units
from causalfm.invariance.exchangeable_units import _lay_out

GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
AGED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates="age", group="patient")


def cohort_of(seed: int, **settings) -> Cohort:
    """Sites that differ, each with one of two scanners; the sites' effects are drawn anew for every seed."""
    usual = {"n_groups": 96, "n_sites": 12, "n_scanners": 2, "d": 6, "rows_per_group": 2, "site_effect": 1.0}
    return linear_scm(scanner_nested=True, effect_seed=seed, random_state=seed, **(usual | settings))[0]


def ask(cohort: Cohort, graph: CausalGraph = GRAPH, **settings):
    return invariance_test(cohort, graph, **{"of": "scanner", "exchangeable": "site", "n_permutations": 99, **settings})


def test_patients_cannot_tell_and_hospitals_can() -> None:
    cohort = cohort_of(0, scanner_effect=3.0)
    by_patients = invariance_test(cohort, GRAPH, of="scanner", n_permutations=99)
    assert by_patients.verdict == "cannot tell"
    assert np.isnan(by_patients.p_value)
    found = ask(cohort)
    assert (found.unit, found.n_groups, found.p_value, found.verdict) == ("site", 12, 0.01, "fail")
    assert "99 permutations of sites" in found.sentence
    assumed = "what else a site does to the embedding is exchangeable between levels of scanner"
    assert found.details["assumption"] == assumed
    assert {row["level"]: row["sites"] for row in found.details["per_level"]} == {"scanner0": 6, "scanner1": 6}


def test_effect_is_the_distance_of_scanner_means_over_sites() -> None:
    """Without conditioning columns to take off: means of patients, then of sites, then their debiased distance."""
    cohort = cohort_of(1, biology_effect=0.0, rows_per_group=(1, 4))
    arrows = "site -> scanner; {site, scanner} -> Z; tumour"
    graph = CausalGraph(arrows, biology="tumour", technical=["site", "scanner"], group="patient")
    found = ask(cohort, graph)
    assert found.given == ()
    patients = pd.DataFrame(cohort.X).groupby(cohort.obs["patient"].to_numpy()).mean()
    site = cohort.obs.groupby("patient")["site"].first().loc[patients.index].to_numpy()
    sites = patients.groupby(site).mean()
    scanner = cohort.obs.groupby("site")["scanner"].first().loc[sites.index].to_numpy()
    a, b = (sites[scanner == name].to_numpy() for name in ("scanner0", "scanner1"))
    wanted = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() - sum(m.var(axis=0, ddof=1).sum() / len(m) for m in (a, b))
    assert found.effect.value == pytest.approx(wanted)


@pytest.mark.parametrize("given", ["biology", "biology and age"])
def test_size_with_hospitals_as_units(given: str) -> None:
    """Sites differ and scanners do not. With patients as units this null was rejected in 53 to 97 %."""
    draws, p_values = 60, []
    aged = {"age_effect": 1.0, "age_by_site": 1.0} if "age" in given else {}
    for seed in range(8_500_000, 8_500_000 + draws):
        cohort = cohort_of(seed, confounding=0.3, **aged)
        p_values.append(ask(cohort, AGED if aged else GRAPH, random_state=seed).p_value)
    rejected = np.sum(np.array(p_values) <= 0.05)
    assert stats.binom.ppf(0.0005, draws, 0.05) <= rejected <= stats.binom.isf(0.0005, draws, 0.05)


def test_row_order_and_names_do_not_matter() -> None:
    cohort = cohort_of(2, scanner_effect=1.0)
    plain = ask(cohort)
    shuffled = cohort[np.random.default_rng(0).permutation(len(cohort))]
    names = cohort.obs["scanner"].map({"scanner0": "z", "scanner1": "a"})
    renamed = cohort.replace(obs=cohort.obs.assign(scanner=names))
    for other in (shuffled, renamed):
        found = ask(other)
        assert (found.statistic, found.p_value) == (pytest.approx(plain.statistic), plain.p_value)
        assert found.effect.value == pytest.approx(plain.effect.value)


def test_too_few_hospitals() -> None:
    found = ask(cohort_of(3, n_sites=6, n_groups=48))
    assert found.verdict == "cannot tell"
    assert "6 levels of site can be compared, fewer than 8" in found.sentence


def test_biology_that_hospitals_do_not_share_cannot_be_taken_off() -> None:
    cohort = cohort_of(4)
    own = cohort.obs["site"].isin([f"site{i}" for i in range(0, 12, 3)])
    found = ask(cohort.replace(obs=cohort.obs.assign(tumour=np.where(own, "x", "y"))))
    assert found.given == ("tumour",)  # constant within every site: sites are compared with sites of the same class
    apart = np.where(cohort.obs["site"].isin(["site10", "site11"]), "z", cohort.obs["tumour"])
    found = ask(cohort.replace(obs=cohort.obs.assign(tumour=apart)))
    assert found.verdict == "cannot tell"
    assert "Too little of tumour is seen within single levels of site to tell them apart." in found.sentence


def test_what_is_taken_off_must_be_known_well_enough() -> None:
    """Five patients a site, whose mix goes along with the scanner: the null was rejected in 10 % of 300 cohorts."""
    few = ask(cohort_of(8_700_000, confounding=0.6, n_groups=60))
    assert few.verdict == "cannot tell"
    assert few.details["shared_error"] > 0.1
    assert "The effect of tumour, which is taken off, is known too badly" in few.sentence
    assert "More patients per site are needed" in few.sentence
    many = ask(cohort_of(8_700_000, confounding=0.6, n_groups=480))
    assert many.details["shared_error"] < 0.1
    assert not np.isnan(many.p_value)


def test_shared_error_is_that_of_simulated_patients() -> None:
    """New noise of patients on the same design: variance between scanners that goes with the error of the slope."""
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    cohort = cohort_of(7, confounding=0.5, rows_per_group=1, d=300, decay=0.0)
    layout = _lay_out(cohort, graph, ("scanner",), ("tumour",), "site")
    tumour, site = cohort.factor("tumour").codes.astype(float), cohort.factor("site").codes
    S, level = 12, layout.level.codes
    inside = tumour - (np.bincount(site, tumour) / np.bincount(site))[site]
    share, rng = np.bincount(site, tumour) / np.bincount(site), np.random.default_rng(0)
    units, shared = exchangeable_units(cohort, graph, layout)
    slopes = inside @ rng.standard_normal((len(site), 4000)) / (inside @ inside)  # of noise with variance 1
    gap = share[level == 1].mean() - share[level == 0].mean()
    carried = (gap * slopes).var() * S / 4  # sum of squares between two levels of six sites each
    within = np.concatenate([units.Z[level == s] - units.Z[level == s].mean(axis=0) for s in (0, 1)])
    residuals = cohort.X - np.stack([np.bincount(site, x) / np.bincount(site) for x in cohort.X.T], axis=1)[site]
    residuals -= inside[:, None] * (inside @ residuals / (inside @ inside))
    noise = (residuals**2).sum() / (len(site) - S - 1)
    assert shared == pytest.approx(carried * noise / ((within**2).sum() / (S - 2)), rel=0.08)


def test_bad_questions() -> None:
    cohort = cohort_of(5)
    with pytest.raises(DataError, match="answered by method='mean'"):
        ask(cohort, method="mmd")
    with pytest.raises(GraphError, match="is no technical factor beside"):
        ask(cohort, exchangeable="tumour")
    with pytest.raises(GraphError, match="is no technical factor beside"):
        ask(cohort, of="site")
    crossed = linear_scm(n_sites=12, n_groups=96, n_scanners=2, random_state=0)[0]
    with pytest.raises(DataError, match=r"takes several values in \d+ of 12 levels of 'site'.*Leave exchangeable"):
        ask(crossed)
