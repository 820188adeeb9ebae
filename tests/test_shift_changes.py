"""What changed at a new hospital: drift, columns, support and case mix against planted truths and other software."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.shift import as_domains, case_mix, column_shifts, drift, support
from causalfm.shift.changes.case_mix_shares import Scored, class_shares
from causalfm.shift.changes.case_mix_usual import usual_shares
from causalfm.shift.changes.drift_distances import one_more_square, site_distances
from causalfm.shift.changes.drift_patients import patient_table, patients_drawn
from causalfm.shift.changes.support_density import spread_rows
from causalfm.shift.changes.support_shares import one_more_share, share_estimate
from causalfm.units import patient_units

DESIGN = {"n_sites": 8, "n_groups": 240, "new_groups": 80, "rows_per_group": 2}


def domains_of(kind: str, size: float = 1.0, *, labels: bool = True, seed: int = 5, **settings):
    reference, deployment, graph, truth = planted_shift(
        kind, size, effect_seed=seed, random_state=seed, **{**DESIGN, **settings}
    )
    if not labels:
        deployment = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    return as_domains(reference, deployment, graph), truth


@pytest.fixture(scope="module")
def worlds():
    kinds = ("nothing", "case_mix", "scanner", "fading", "covariate", "scanner_mix", "new_support")
    return {kind: domains_of(kind, 2.0 if kind in ("scanner", "fading") else 1.0) for kind in kinds}


@pytest.fixture(scope="module")
def unlabelled():
    return {kind: domains_of(kind, labels=False) for kind in ("nothing", "case_mix", "scanner")}


def both(reference: Cohort, deployment: Cohort) -> Cohort:
    obs = pd.concat([reference.obs.assign(cohort="reference"), deployment.obs.assign(cohort="deployment")])
    return Cohort(np.concatenate([reference.X, deployment.X]), obs, {})


# --- drift


def test_drift_is_the_invariance_test_of_the_column_that_tells_the_cohorts_apart(worlds):
    domains, _ = worlds["nothing"]
    graph = CausalGraph.standard(
        biology="tumour", technical="cohort", covariates="age", group="patient", kinds={"age": "continuous"}
    )
    cohort = both(domains.reference.cohort, domains.deployment.cohort)
    tested = invariance_test(cohort, graph, of="cohort", n_permutations=99)
    part = drift(domains, n_permutations=99).parts[1]
    assert part.given == ("tumour", "age")
    assert part.statistic == pytest.approx(tested.statistic, rel=1e-6)
    assert part.p_value == pytest.approx(tested.p_value, abs=0.12)  # other permutations: the units are in another order
    ratio = tested.details["ratio_to_biology"]  # its strata weigh by patients, ours by what the contrast can bear
    assert part.distance.value == pytest.approx(ratio[0], rel=0.35, abs=0.1)


def test_a_squared_distance_is_that_of_means_less_its_noise():
    rng = np.random.default_rng(0)
    Z, site = rng.standard_normal((60, 3)), np.repeat(np.arange(6), 10)
    Z[site == 5] += 1.0
    obs = pd.DataFrame({"patient": np.arange(60), "site": site.astype(str), "tumour": np.tile(["a", "b"], 30)})
    graph = CausalGraph.standard(biology="tumour", technical="site", group="patient")
    found = site_distances(patient_units(Cohort(Z, obs, {}), graph, ("site",), ()), site == 5)
    gap = Z[site == 5].mean(axis=0) - Z[site != 5].mean(axis=0)
    trace = [Z[site == s].var(axis=0, ddof=1).sum() / 10 for s in range(6)]
    noise = trace[5] + np.mean(trace[:5]) / 5
    assert found.new.value == pytest.approx(gap @ gap - noise)
    first = Z[site == 0].mean(axis=0) - Z[(site > 0) & (site < 5)].mean(axis=0)
    assert found.reference[0] == pytest.approx(first @ first - trace[0] - np.mean(trace[1:5]) / 4)
    assert len(found.reference) == 5
    assert found.p_value < 0.05


@pytest.mark.parametrize(("sites", "decay"), [(6, 0.0), (6, 1.0), (12, 1.0), (12, 2.0)])
def test_one_more_hospital_alike_is_seldom_further_away(sites, decay):
    """Pure displacements: at most 8 % are called further, whatever directions they take (statistics: 3 to 7 %)."""
    rng = np.random.default_rng(1)
    scale = (np.arange(16) + 1.0) ** (-decay / 2)
    means = rng.standard_normal((1500, sites + 1, 16)) * scale
    p = []
    for m in means:
        known = m[:sites]
        rest = (known.sum(axis=0) - known) / (sites - 1)
        T = np.append(((known - rest) ** 2).sum(axis=1), ((m[sites] - known.mean(axis=0)) ** 2).sum())
        f = np.append(np.full(sites, 1 + 1 / (sites - 1)), 1 + 1 / sites)
        p.append(one_more_square(T, np.zeros(sites + 1), f)[1])
    share = np.mean(np.array(p) <= 0.05)
    assert stats.binom.ppf(0.0005, 1500, 0.03) / 1500 <= share <= stats.binom.ppf(0.9995, 1500, 0.075) / 1500


def test_a_difference_of_a_number_is_an_exact_f():
    rng = np.random.default_rng(2)
    p = []
    for m in rng.standard_normal((3000, 7)):
        known = m[:6]
        away = np.append(known - (known.sum() - known) / 5, m[6] - known.mean())
        p.append(one_more_square(away**2, np.zeros(7), np.append(np.full(6, 1.2), 7 / 6), one_number=True)[1])
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_no_alarm_on_nothing_and_alarm_on_a_scanner():
    """Whole draws: hospitals, patients, rows; the share of alarms on nothing is within a 99.9 % band of 5 to 8 %."""
    alarms = {"nothing": [], "scanner": []}
    for kind, n in (("nothing", 80), ("scanner", 12)):
        for seed in range(n):
            reference, deployment, graph, _ = planted_shift(
                kind, 2.0, effect_seed=seed, random_state=seed, rows_per_group=1, n_groups=180
            )
            cohort = both(reference, deployment)
            units = patient_units(cohort, graph, ("site",), ("tumour", "age"))
            new = np.array([level == "new" for level in units.level.levels])[units.level.codes]
            alarms[kind].append(site_distances(units, new).p_value <= 0.05)
    assert sum(alarms["nothing"]) <= stats.binom.ppf(0.999, 80, 0.08)
    assert np.mean(alarms["scanner"]) > 0.7


def test_each_real_hospital_is_seldom_further_than_the_others(data_dir):
    """TCGA slides: every hospital in turn is the new one, so that 5 % of them should be beyond their limit."""
    from causalfm.datasets import tcga_hipt

    p = []
    for cancers in (["LUAD", "LUSC"], ["KIRC", "KIRP"]):
        cohort = tcga_hipt.load(data_dir, cancers=cancers)
        cohort = cohort[cohort.obs["center"].notna().to_numpy()]
        patients = cohort.obs.groupby("case")["center"].nunique()
        cohort = cohort[cohort.obs["case"].map(patients).eq(1).to_numpy()]
        count = cohort.obs.groupby("center")["case"].nunique()
        cohort = cohort[(cohort.obs["center"].map(count) >= 15).to_numpy()]
        graph = CausalGraph.standard(biology="project_id", technical="center", group="case")
        units = patient_units(cohort, graph, ("center",), ("project_id",))
        p += [site_distances(units, units.level.codes == s).p_value for s in range(units.level.n_levels)]
    assert len(p) >= 30
    assert not np.isnan(p).any()
    assert np.sum(np.array(p) <= 0.05) <= stats.binom.ppf(0.999, len(p), 0.05)
    assert np.median(p) > 0.25  # nor are all of them odd


def test_which_drift_shows_which_shift(worlds):
    found = {kind: {part.name: part for part in drift(worlds[kind][0], n_permutations=99).parts} for kind in worlds}
    given = {kind: parts["given tumour, age"] for kind, parts in found.items()}
    assert given["scanner"].verdict == "fail"
    assert given["new_support"].verdict == "fail"
    for kind in ("nothing", "case_mix", "covariate", "fading"):
        assert given[kind].verdict != "fail", kind
    assert found["case_mix"]["joint"].distance.value > found["nothing"]["joint"].distance.value + 0.1
    assert given["case_mix"].distance.value < given["nothing"].distance.value + 0.2
    whole = drift(worlds["fading"][0], n_permutations=99)
    assert whole.verdict == "fail"  # the classes change places: within classes only
    assert "tumour=class" in whole.sentence
    large = [worlds["scanner"][1].draw(side, 20_000, 1, 0) for side in ("reference", "deployment")]
    means = [[c.X[(c.obs["tumour"] == f"class{k}").to_numpy()].mean(axis=0) for k in range(2)] for c in large]
    away = np.linalg.norm(np.mean(means[1], axis=0) - np.mean(means[0], axis=0))
    distance = given["scanner"].distance
    assert distance.low < away / np.linalg.norm(means[0][1] - means[0][0]) < distance.high


def test_distances_do_not_depend_on_units_or_order(worlds):
    domains, _ = worlds["scanner"]
    before = drift(domains, n_permutations=19).parts[1]
    order = np.random.default_rng(0).permutation(len(domains.deployment))
    again = as_domains(
        domains.reference.cohort.replace(X=domains.reference.cohort.X * 7.0),
        domains.deployment.cohort.replace(X=domains.deployment.cohort.X * 7.0)[order],
        domains.graph,
    )
    after = drift(again, n_permutations=19).parts[1]
    for name in ("value", "low", "high"):
        assert getattr(after.distance, name) == pytest.approx(getattr(before.distance, name), rel=1e-6)
    assert after.limit == pytest.approx(before.limit, rel=1e-6)
    assert after.among == pytest.approx(before.among, rel=1e-5, abs=1e-6)


def test_without_labels_nothing_is_taken_apart(unlabelled):
    found = drift(unlabelled["scanner"][0], n_permutations=99)
    assert [part.name for part in found.parts] == ["joint"]
    assert "not separable" in found.sentence


def test_few_hospitals_cannot_tell():
    domains, _ = domains_of("nothing", n_sites=4, n_groups=80)
    part = drift(domains, n_permutations=19).parts[1]
    assert (part.verdict, part.limit) == ("cannot tell", pytest.approx(np.nan, nan_ok=True))
    assert "fewer than the 5" in part.sentence
    assert part.distance.high > part.distance.low >= 0.0
    assert len(part.among) == 4
    with pytest.raises(DataError, match="method"):
        drift(domains, method="ks")


def test_a_covariate_that_varies_within_patients_is_left_out():
    domains, _ = domains_of("nothing")
    stain = np.where(np.arange(len(domains.reference)) % 2, "x", "y")
    graph = CausalGraph.standard(
        biology="tumour", technical="site", covariates=["age", "stain"], group="patient", kinds={"age": "continuous"}
    )
    cohorts = [side.cohort.replace(obs=side.cohort.obs.assign(stain=stain[: len(side)])) for side in
               (domains.reference, domains.deployment)]  # fmt: skip
    found = drift(as_domains(*cohorts, graph), n_permutations=19)
    assert found.parts[1].given == ("tumour", "age")
    assert "several values" in found.details["covariates_left_out"]["stain"]


def test_patients_are_drawn_evenly_over_hospitals(worlds):
    side = worlds["nothing"][0].reference
    keep = patients_drawn(side, 40, 0)
    site = np.zeros(len(keep), dtype=int)
    site[side.units] = side.sites
    assert np.bincount(site[keep]).tolist() == [5] * 8
    rows = spread_rows(side.units, keep, 60, 0)
    assert np.bincount(side.units[rows], minlength=len(keep))[keep].tolist().count(1) == 20
    assert set(np.unique(side.units[rows])) == set(np.flatnonzero(keep))
    table = patient_table(worlds["nothing"][0], most=40)
    assert table.left_out == {"reference": 200, "deployment": 40}
    assert len(table.cohort) == 80


# --- columns


def test_sizes_of_columns_are_the_textbook_ones():
    """One row per patient, cohorts of one size: the standardised difference, and Cramer's V less its noise."""
    domains, _ = domains_of("scanner_mix", 0.6, n_groups=160, new_groups=160, rows_per_group=1)
    age, scanner = column_shifts(domains, n_permutations=99).columns
    values = [side.cohort.numeric("age") for side in (domains.reference, domains.deployment)]
    difference = (values[1].mean() - values[0].mean()) / values[0].std(ddof=1)
    welch = stats.ttest_ind(values[1], values[0], equal_var=False).confidence_interval()
    assert age.size.value == pytest.approx(difference)
    assert [age.size.low, age.size.high] == pytest.approx([e / values[0].std(ddof=1) for e in welch])
    counts = [
        [(side.cohort.obs["scanner"] == s).sum() for s in "AB"] for side in (domains.reference, domains.deployment)
    ]
    raw = stats.contingency.association(np.array(counts), method="cramer")
    shares = np.array(counts)[:, 1] / 160
    noise = (shares * (1 - shares) / 159).sum() / (4 * shares.mean() * (1 - shares.mean()))
    assert scanner.size.value == pytest.approx(np.sqrt(raw**2 - noise), rel=0.02)  # the reference's noise is by site
    assert scanner.size.low < raw < scanner.size.high


def test_shares_that_agree_exactly_have_an_interval():
    """Three levels, each with a third of every hospital's patients: the root finder of the norms had no start."""
    n = 36
    obs = pd.DataFrame(
        {
            "patient": [f"a{i}" for i in range(6 * n)],
            "site": np.repeat([f"s{i}" for i in range(6)], n),
            "tumour": np.tile(["x", "y"], 3 * n),
            "stain": np.tile(["i", "i", "j", "j", "k", "k"], n),
        }
    )
    X = np.random.default_rng(0).standard_normal((6 * n, 3))
    graph = CausalGraph.standard(biology="tumour", technical=["site", "stain"], group="patient")
    last = (obs["site"] == "s5").to_numpy()
    cohort = Cohort(X, obs, {})
    (stain,) = column_shifts(as_domains(cohort[~last], cohort[last], graph), n_permutations=19).columns
    assert (stain.size.value, stain.size.low) == (0.0, 0.0)
    assert 0.05 < stain.size.high < 0.4
    assert stain.verdict != "fail"


def test_columns_show_covariates_and_scanners(worlds):
    verdicts = {kind: [c.verdict for c in column_shifts(worlds[kind][0], n_permutations=99).columns] for kind in worlds}
    assert verdicts["covariate"][0] == "fail"
    assert verdicts["scanner_mix"][1] == "fail"
    for kind in ("nothing", "case_mix", "scanner", "fading"):
        assert "fail" not in verdicts[kind]
    column = column_shifts(worlds["new_support"][0], n_permutations=99).columns[1]
    rows = (worlds["new_support"][0].deployment.cohort.obs["scanner"] == "unseen").sum()
    assert column.unseen == {"unseen": {"rows": rows, "patients": rows // 2}}
    assert f"unseen: {rows} rows" in column.sentence


# --- support


def test_korn_and_graubard_with_a_row_per_patient_is_clopper_and_pearson():
    shares = np.repeat([1.0, 0.0], [5, 45])
    found = share_estimate(shares, "share", "patient", 50)
    exact = stats.binomtest(5, 50).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.004)
    none = share_estimate(np.zeros(20), "share", "patient", 20)
    assert (none.value, none.low) == (0.0, 0.0)
    assert 0.1 < none.high < 0.2  # 1 - .025^(1/20) = .168
    few = share_estimate(np.array([1.0, 0.0, 0.0]), "share", "patient", 6)
    assert few.high - few.low > 0.8  # three patients say little, however many rows they bring


def test_share_outside_is_alpha_without_a_shift_and_the_planted_share_with_one(worlds):
    found = {kind: support(worlds[kind][0]) for kind in ("nothing", "case_mix", "new_support")}
    for kind in ("nothing", "case_mix"):
        assert found[kind].verdict == "pass", kind
        assert found[kind].outside.value < 0.1
    assert found["nothing"].expected_patients == pytest.approx(0.05, abs=0.02)
    assert found["nothing"].expected_sites == pytest.approx(0.05, abs=0.02)
    new = found["new_support"]
    assert new.verdict == "fail"
    unseen = (worlds["new_support"][0].deployment.cohort.obs["scanner"] == "unseen").to_numpy()
    assert new.outside_rows[unseen].all()  # six class distances away
    assert new.outside_rows[~unseen].mean() < 0.12
    assert list(new.unseen["scanner"]) == ["unseen"]
    assert new.to_dict()["outside_rows"] == np.flatnonzero(new.outside_rows).tolist()
    assert new.outside.low < unseen.mean() < new.outside.high


def test_shares_of_one_more_hospital_are_predicted():
    rng = np.random.default_rng(3)
    told = []
    for _ in range(1500):
        shares = rng.beta(4, 60, size=9)
        seen = rng.binomial(40, shares) / 40
        new = share_estimate(np.repeat([1.0, 0.0], [k := round(seen[8] * 40), 40 - k]), "s", "patient", 40)
        told.append(one_more_share(seen[:8], float((seen * (1 - seen)).mean()), np.full(8, 40.0), new)[1] <= 0.05)
    assert stats.binom.ppf(0.0005, 1500, 0.02) <= sum(told) <= stats.binom.ppf(0.9995, 1500, 0.08)


def test_levels_and_cells_without_reference_are_counted():
    domains, _ = domains_of("nothing")
    obs = domains.reference.cohort.obs
    only = domains.reference.cohort[~((obs["tumour"] == "class1") & (obs["scanner"] == "B")).to_numpy()]
    found = support(as_domains(only, domains.deployment.cohort, domains.graph))
    cells = {cell["cell"]: cell for cell in found.empty_cells}
    there = domains.deployment.cohort.obs.query("tumour == 'class1' and scanner == 'B'")
    assert cells["tumour=class1, scanner=B"]["rows"] == len(there)
    assert cells["tumour=class1, scanner=B"]["patients"] == there["patient"].nunique()
    for bad, message in (
        ({"alpha": 1.5}, "alpha=1.5 is no share"),
        ({"tolerated": -0.1}, "tolerated=-0.1: choose a finite number above 0"),
    ):
        with pytest.raises(DataError, match=message):
            support(domains, **bad)


# --- case mix


def gaussian_scores(rng, share: np.ndarray, n: int, temperature: float = 2.0) -> Scored:
    """Three classes with known densities; probabilities that are too sure by ``temperature``, and biased."""
    labels = rng.choice(3, size=n, p=share)
    x = rng.standard_normal((n, 2)) + 1.6 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    densities = -0.5 * ((x[:, None] - 1.6 * np.array([[0, 0], [1, 0], [0, 1]])) ** 2).sum(axis=2)
    z = temperature * densities + [0.0, 0.7, -0.4]
    return Scored(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), labels, np.arange(n))


def test_both_estimators_find_the_shares_of_miscalibrated_scores():
    rng = np.random.default_rng(4)
    target = np.array([0.2, 0.7, 0.1])
    old, new = gaussian_scores(rng, np.array([0.5, 0.2, 0.3]), 6000), gaussian_scores(rng, target, 6000)
    found = class_shares(old, dataclasses.replace(new, labels=np.full(6000, -1)), 40, 0)
    truth = np.bincount(new.labels) / 6000
    for name in ("bbse", "em"):
        assert getattr(found, name) == pytest.approx(truth, abs=0.03)
        assert getattr(found, name).sum() == pytest.approx(1.0)
        assert (getattr(found, f"{name}_draws").std(axis=0) < 0.02).all()
    # the confusion matrix solved directly: inside the simplex it is the same
    hard = [np.eye(3)[side.logits.argmax(axis=1)] for side in (old, new)]
    C = np.stack([hard[0][old.labels == c].mean(axis=0) for c in range(3)], axis=1)
    assert found.bbse == pytest.approx(np.linalg.solve(C, hard[1].mean(axis=0)), abs=1e-4)


def test_a_scanner_moves_black_box_shares_and_the_fit_shows_it(unlabelled):
    found = {kind: case_mix(domains) for kind, (domains, _) in unlabelled.items()}
    truth = {kind: truth.prevalence[1, 1] for kind, (_, truth) in unlabelled.items()}
    scanner = found["scanner"]
    assert truth["scanner"] == pytest.approx(0.5)
    assert scanner.bbse[1].value < 0.3  # statistics.md: .50 to .30 under a pure scanner shift
    assert scanner.fit.verdict == "fail"
    assert (scanner.readable, scanner.verdict) == (False, "cannot tell")
    assert "not separable" in scanner.sentence
    mix = found["case_mix"]
    assert mix.bbse[1].low < truth["case_mix"] < mix.bbse[1].high
    assert mix.em[1].low < truth["case_mix"] < mix.em[1].high
    assert mix.measured is None
    assert found["nothing"].em[1].low < 0.5 < found["nothing"].em[1].high


def test_intervals_of_case_mix_hold_the_truth_and_the_fit_keeps_its_size():
    """Case mix under label shift: hospitals alike, so that nothing but the shares moves."""
    covered, rejected, n = [], 0, 40
    for seed in range(n):
        domains, truth = domains_of(
            "case_mix", labels=False, seed=100 + seed, site_spread=0.0, n_sites=6, n_groups=120, new_groups=50, d=8
        )
        found = case_mix(domains, n_boot=60)
        p = truth.prevalence[1, 1]
        covered.append([one[1].low <= p <= one[1].high for one in (found.bbse, found.em)])
        rejected += found.fit.verdict == "fail"
    assert (np.sum(covered, axis=0) >= stats.binom.ppf(0.001, n, 0.93)).all()
    assert rejected <= stats.binom.ppf(0.999, n, 0.10)  # beyond chance, or beyond one more hospital: 5 % each


def test_usual_shares_leave_the_patients_out():
    """Hospitals with the same population shares: one more has them too, and its patients scatter around them."""
    domains, _ = domains_of("nothing", n_sites=12, n_groups=600)
    of_site, of_patients = usual_shares(domains)
    assert of_site[1][0] < 0.5 < of_site[1][1]
    assert of_site[1][1] - of_site[1][0] < 0.15  # 50 patients each scatter by .14 alone
    assert of_patients[1][1] - of_patients[1][0] > 1.3 * (of_site[1][1] - of_site[1][0])
    spread, _ = domains_of("nothing", n_sites=12, n_groups=600, case_mix_spread=0.8)
    wide = usual_shares(spread)[0][1]
    assert wide[1] - wide[0] > 0.5


def test_with_labels_case_mix_is_measured(worlds):
    domains, truth = worlds["case_mix"]
    found = case_mix(domains)
    shares = domains.deployment.cohort.obs.groupby("patient")["tumour"].first().value_counts(normalize=True)
    assert found.measured[1].value == pytest.approx(shares["class1"])
    assert found.measured[1].low < truth.prevalence[1, 1] < found.measured[1].high
    assert found.verdict == "fail"  # 80 % where hospitals have 50 %
    assert "measured" in found.sentence
    assert case_mix(worlds["nothing"][0]).verdict != "fail"
    frame = found.to_frame()
    assert set(frame["method"]) == {"measured", "bbse", "em"}


def test_nothing_names_a_patient(worlds):
    domains, _ = worlds["new_support"]
    for run in (drift, column_shifts, support, case_mix):
        result = run(domains)
        text = str(result.to_dict()) + result._repr_html_() + result.to_frame().to_string()
        assert not any(name in text for name in ("'p1'", "new1'", "p17", "new17"))
