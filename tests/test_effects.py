import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError
from causalfm.estimators import effect, robustness_value
from causalfm.estimators.effects import largest_pair
from causalfm.estimators.outcomes import read_outcome
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def site_effect(cohort: Cohort, graph: CausalGraph = GRAPH, **settings):
    return effect(cohort, graph, treatment=settings.pop("treatment", "site"), confirm=False, **settings)


def scm(**settings) -> Cohort:
    defaults = {"n_groups": 80, "d": 8, "n_sites": 4, "site_effect": 1.0, "biology_effect": 2.0, "confounding": 0.3}
    return linear_scm(**{**defaults, **settings})[0]


def scalar_cohort(seed: int = 0, site: float = 1.5) -> Cohort:
    rng = np.random.default_rng(seed)
    s, b = np.repeat([0, 0, 1, 1], [9, 14, 12, 7]), np.repeat([0, 1, 0, 1], [9, 14, 12, 7])
    Z = (rng.standard_normal(42) * np.where(s, 1.5, 1.0) + site * s + 4.0 * b)[:, None]
    return Cohort(
        Z, pd.DataFrame({"tumour": b.astype(str), "site": s.astype(str), "patient": np.arange(42).astype(str)})
    )


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", [0.0, 1.5, 5.0])
def test_one_dimension_is_the_scalar_formula(site: float) -> None:
    cohort = scalar_cohort(site=site)
    s, b, z = cohort.obs["site"] == "1", cohort.obs["tumour"] == "1", cohort.X[:, 0]
    distance, parts, dfs = 0.0, [], []
    for stratum in (b, ~b):
        share = stratum.mean()
        for level, sign in ((s, 1.0), (~s, -1.0)):
            cell = z[(stratum & level).to_numpy()]
            distance += sign * share * cell.mean()
            parts.append(share**2 * cell.var(ddof=1) / len(cell))
            dfs.append(len(cell) - 1)
    variance = sum(parts)
    df = variance**2 / sum(v**2 / f for v, f in zip(parts, dfs, strict=True))

    def excess(theta: float, p: float) -> float:
        ends = (np.array([-1, 1]) * abs(distance) - np.sqrt(theta)) / np.sqrt(variance)
        return float(np.diff(stats.t.cdf(ends, df))[0]) - p

    found = site_effect(cohort)
    assert found.joint.value == pytest.approx(distance**2 - variance)
    ends = [optimize.brentq(excess, 0.0, 1e3, args=(p,)) if excess(0.0, p) > 0 else 0.0 for p in (0.975, 0.025)]
    assert (found.joint.low, found.joint.high) == pytest.approx(ends, rel=1e-6, abs=1e-9)
    (row,) = found.rows()
    assert (row["value"], row["low"], row["high"]) == pytest.approx((found.joint.value, *ends), rel=1e-6, abs=1e-9)


def test_distances_are_signed_roots() -> None:
    null = site_effect(scm(site_effect=0.0, random_state=2))
    big = site_effect(scm())
    rows = [*null.rows(), *big.rows()]
    assert any(row["value"] < 0 for row in rows)  # negative estimates are reported, not clipped
    for row in rows:
        assert np.sign(row["distance"]) == np.sign(row["value"])
        assert row["distance"] ** 2 == pytest.approx(abs(row["value"]))
        assert (row["distance_low"] ** 2, row["distance_high"] ** 2) == pytest.approx((row["low"], row["high"]))
        assert 0.0 <= row["low"] <= row["high"]
    assert big.ratio.low < big.ratio.value < big.ratio.high
    assert big.ratio.value == pytest.approx(np.sqrt(big.joint.value / big.biology.value))
    assert 0.25 < big.ratio.value < 1.0  # truth: one half


def test_interval_covers_the_truth() -> None:
    hits = 0
    for seed in range(40):
        found = site_effect(scm(n_groups=60, random_state=seed))
        hits += found.joint.low <= 1.0 <= found.joint.high
    assert hits >= 33  # 38 expected; P(X < 33) = .003 at 95 %


# --- frame, reference, errors ---------------------------------------------------------------------------------------


def test_frame() -> None:
    found = site_effect(scm())
    frame = found.to_frame()
    columns = "level reference outcome value low high distance distance_low distance_high n_groups unit"
    assert list(frame.columns) == columns.split()
    assert frame["level"].tolist() == ["site1", "site2", "site3"]
    assert set(frame["reference"]) == {"site0"}
    assert set(frame["unit"]) == {"patient"}
    assert (frame["n_groups"] == 40).all()
    assert (found.joint.n_groups, found.joint.unit) == (80, "patient")
    assert "_source" not in found.to_dict()
    assert "site1" in found._repr_html_()


def test_reference_swaps_the_roles() -> None:
    cohort = scm()
    first, third = site_effect(cohort), site_effect(cohort, reference="site2")
    assert third.to_frame()["level"].tolist() == ["site0", "site1", "site3"]
    assert third.rows()[0]["value"] == first.rows()[1]["value"]
    assert third.joint == first.joint
    with pytest.raises(
        DataError, match="reference='site9' is not a compared level of site: site0, site1, site2, site3"
    ):
        site_effect(cohort, reference="site9")


def test_unknown_outcome_and_estimator() -> None:
    with pytest.raises(DataError, match=r"outcome='agee' is not available.*Did you mean 'age'"):
        site_effect(scm(), outcome="agee")
    with pytest.raises(DataError, match="estimator='ipw' is not available"):
        site_effect(scm(), estimator="ipw")


def test_group_varying_factor_is_refused() -> None:
    cohort = scm(n_scanners=2)
    obs = cohort.obs.copy()
    obs.loc[0, "scanner"] = "scanner1"
    with pytest.raises(DataError, match="'scanner' takes several values within 1 of 80 patients"):
        site_effect(Cohort(cohort.X, obs), SCANNED, treatment="scanner")


def test_dowhy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = effect(scm(n_groups=40), GRAPH, treatment="site")
    assert found.details["dowhy_confirms"] is True
    assert found.details["given"] == ["tumour"]
    assert "dowhy_confirms" not in site_effect(scm(n_groups=40)).details
    monkeypatch.setattr(CausalGraph, "confirm", lambda *_: False)
    with pytest.raises(GraphError, match="DoWhy does not confirm"):
        effect(scm(n_groups=40), GRAPH, treatment="site")


# --- abstentions ----------------------------------------------------------------------------------------------------


def test_nothing_to_compare_gives_no_numbers() -> None:
    cohort = scm(n_scanners=2, scanner_nested=True)
    found = site_effect(cohort, SCANNED, treatment="scanner")
    assert not found.overlap.comparable
    assert found.rows() == []
    assert np.isnan([found.joint.value, found.ratio.value]).all()
    assert (found.biology, found.joint.n_groups) == (None, 0)
    assert "scanner cannot be told from site" in found.details["reason"]
    for question in (found.sensitivity, lambda: largest_pair(found)):
        with pytest.raises(DataError, match="there is no effect to examine"):
            question()
    joint = site_effect(cohort, SCANNED, treatment=["site", "scanner"])
    assert joint.joint.value > 0
    assert joint.to_frame()["reference"].unique().tolist() == ["site0 + scanner0"]


def test_selection_that_cannot_be_recovered_from() -> None:
    graph = CausalGraph(
        "site <-> tumour; {site, tumour} -> Z; tumour -> S; Z <-> S",
        biology="tumour", technical="site", group="patient", selected="S",
    )  # fmt: skip
    found = site_effect(scm(), graph)
    assert np.isnan(found.joint.value)
    assert "selection biases the effect" in found.details["reason"]


def test_levels_left_out_are_not_counted() -> None:
    cohort = scm()
    lonely = ((cohort.obs["site"] != "site3") | (cohort.obs["tumour"] == "class1")).to_numpy()
    found = site_effect(cohort[lonely])
    kept = cohort[lonely].obs.query("site != 'site3'")["patient"].nunique()
    assert found.overlap.verdict == "cannot tell"
    assert found.overlap.levels == ("site0", "site1", "site2")
    assert found.joint.n_groups == kept
    assert "site3" not in found.to_frame()["level"].tolist()


def test_ratio_without_biology_is_no_number() -> None:
    found = site_effect(scm(biology_effect=0.0))
    assert found.biology.low == 0.0
    assert np.isnan([found.ratio.value, found.ratio.low, found.ratio.high]).all()
    assert found.joint.low > 0


# --- sensitivity ----------------------------------------------------------------------------------------------------


def test_robustness_value_of_the_darfur_example() -> None:
    assert robustness_value(4.184**2 / 783) == pytest.approx(0.139, abs=5e-4)  # Cinelli and Hazlett, table 1
    assert robustness_value(-1.0) == robustness_value(0.0) == 0.0
    assert robustness_value(1e9) == pytest.approx(1.0, abs=1e-6)
    f2 = 0.37  # the definition: R2 with R2 * R2 / (1 - R2) = f2
    r2 = robustness_value(f2)
    assert r2**2 / (1 - r2) == pytest.approx(f2)


def test_sensitivity_of_a_scalar_effect() -> None:
    cohort = scalar_cohort(site=2.0)
    found = site_effect(cohort)
    s, b, z = (cohort.obs["site"] == "1").to_numpy(), (cohort.obs["tumour"] == "1").to_numpy(), cohort.X[:, 0]
    within = sum(((z[(s == i) & (b == j)] - z[(s == i) & (b == j)].mean()) ** 2).sum() for i in (0, 1) for j in (0, 1))
    cells = [(np.mean(b == j), np.sum((b == j) & (s == i))) for i in (0, 1) for j in (0, 1)]
    square = sum(share**2 / count for share, count in cells)  # of the contrast's weights
    f2 = found.joint.value / (42 * square * within / 38)
    told = found.sensitivity()
    assert told.pair == ("0", "1")
    assert told.robustness_value == pytest.approx(robustness_value(f2))
    assert 0 < told.robustness_value_low < told.robustness_value < 1
    assert told.like_declared > 0
    assert f"{told.robustness_value:.0%} of both the assignment to 0 or 1" in told.sentence
    assert told.to_frame().shape == (1, 8)


def test_sensitivity_picks_the_largest_pair() -> None:
    found = site_effect(scm())
    a, b, distance = largest_pair(found)
    assert found.sensitivity().pair == (a, b)
    distances = [row["distance"] for ref in found.overlap.levels for row in site_effect(scm(), reference=ref).rows()]
    assert distance == pytest.approx(max(distances))
    assert np.isfinite(found.sensitivity().like_declared)
    weaker = site_effect(scm(site_effect=0.5)).sensitivity()
    assert weaker.robustness_value < found.sensitivity().robustness_value
    assert (
        site_effect(scm(site_effect=0.0, biology_effect=0.0, group_effect=3.0)).sensitivity().robustness_value_low
        == 0.0
    )


def test_a_table_that_a_model_returns_is_read_by_the_names_of_its_classes():
    cohort, _ = linear_scm(n_groups=40, random_state=0)
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")

    def turned(X):
        p = 1.0 / (1.0 + np.exp(-X[:, 0]))
        return pd.DataFrame({"class1": p, "class0": 1.0 - p})

    rows = read_outcome(cohort, graph, lambda X: turned(X)[["class0", "class1"]].to_numpy(), "correctness").cohort.X
    np.testing.assert_array_equal(read_outcome(cohort, graph, turned, "correctness").cohort.X, rows)
    assert read_outcome(cohort, graph, turned).names == ("class1", "class0")
    with pytest.raises(DataError, match="lacks the classes class0, class1"):
        read_outcome(cohort, graph, lambda X: turned(X).set_axis(["no", "yes"], axis=1), "loss")
