"""The map of an effect over cells: oracle numbers, what cannot be told, error rates, shrinkage, figures."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.estimators import effect, effect_map
from causalfm.estimators.maps.cell_effects import cell_effect, stack
from causalfm.estimators.maps.shrinkage import shrink
from causalfm.graph import CausalGraph
from experiments.effect_map_errors import BY, GRAPH, scanned


def by_hand(cohort: Cohort, rows: np.ndarray, *, paired: bool) -> tuple[float, int]:
    """Squared difference of the means of patients, less its noise, and the number of patients."""
    part = cohort.obs[rows]
    frame = pd.DataFrame(cohort.X[rows]).assign(patient=part["patient"].to_numpy(), s=part["scanner"].to_numpy())
    means = frame.groupby(["s", "patient"]).mean()
    one, two = (means.loc[name].to_numpy() for name in ("scanner0", "scanner1"))
    if paired:
        gap = one - two
        return (gap.mean(axis=0) ** 2).sum() - gap.var(axis=0, ddof=1).sum() / len(gap), len(gap)
    noise = sum(part.var(axis=0, ddof=1).sum() / len(part) for part in (one, two))
    return ((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum() - noise, len(one) + len(two)


def test_a_cell_is_the_effect_in_its_rows() -> None:
    cohort, _ = scanned()
    found = effect_map(cohort, GRAPH, treatment="scanner", by=BY)
    assert len(found.rows()) == 6
    for row in found.rows():
        rows = ((cohort.obs["tumour"] == row["tumour"]) & (cohort.obs["site"] == row["site"])).to_numpy()
        assert (row["value"], row["n_groups"]) == pytest.approx(by_hand(cohort, rows, paired=False))
        assert row["low"] <= row["value"] <= row["high"]
    assert found.details["given"] == ["tumour", "site"]


def test_a_paired_cell_is_the_effect_in_its_rows() -> None:
    cohort, _ = scanned(n=60, paired=True)
    found = effect_map(cohort, GRAPH, treatment="scanner", by="tumour")
    assert found.details["paired"]
    for row in found.rows():
        rows = (cohort.obs["tumour"] == row["tumour"]).to_numpy()
        assert (row["value"], row["n_groups"]) == pytest.approx(by_hand(cohort, rows, paired=True))
    assert np.isnan(found.between)  # two cells cannot tell how far cells differ
    assert [row["shrunk"] for row in found.rows()] == [row["value"] for row in found.rows()]


def test_the_cell_that_is_hit_is_found() -> None:
    cohort, _ = scanned(n=150, hit=1.5, n_sites=2)
    found = effect_map(cohort, GRAPH, treatment="scanner", by=BY)
    frame = found.to_frame().set_index(["tumour", "site"])
    assert frame.loc["class1", "differs"].all()
    assert (frame.loc["class1", "distance"].min() > frame.loc["class0", "distance"].max()).all()
    assert "Different from the mean of the other cells: tumour=class" in found.sentence
    assert found.between > 0


def test_what_cannot_be_told_is_named() -> None:
    cohort, _ = scanned()
    small = (cohort.obs["tumour"] == "class0") & (cohort.obs["site"] == "site1") & (cohort.obs["scanner"] == "scanner1")
    cohort = cohort[(~small).to_numpy()]
    found = effect_map(cohort, GRAPH, treatment="scanner", by=BY)
    (row,) = [row for row in found.rows() if not row["told"]]
    assert (row["tumour"], row["site"], row["differs"]) == ("class0", "site1", None)
    assert "scanner1 0; not 3 at every compared level" in row["reason"]
    assert "told in 5 of 6 cells" in found.sentence
    nested, _ = scanned(scanner_nested=True)
    nothing = effect_map(nested, GRAPH, treatment="scanner", by=BY)
    assert nothing.sentence.startswith("Cannot tell")
    assert not nothing.to_frame()["told"].any()


def test_levels_that_are_not_compared_are_named_and_reasons_stay_short() -> None:
    cohort, _ = scanned()
    obs = cohort.obs
    small = (obs["tumour"] == "class0") & (obs["site"] == "site1") & (obs["scanner"] == "scanner1")
    cohort = cohort[(~small).to_numpy()]
    scanner = cohort.obs["scanner"].to_numpy(dtype=object).copy()
    for i, patient in enumerate(cohort.obs["patient"].unique()[:12]):  # one patient on each of a dozen scanners
        scanner[(cohort.obs["patient"] == patient).to_numpy()] = f"rare{i:02}"
    rare = Cohort(cohort.X, cohort.obs.assign(scanner=scanner))
    found = effect_map(rare, GRAPH, treatment="scanner", by=BY)
    assert found.levels == ("scanner0", "scanner1")
    assert "It is that between scanner0, scanner1; left out, for too few in these cells: rare00" in found.sentence
    assert "rare07 and 4 others." in found.sentence
    (short,) = [row["reason"] for row in found.rows() if not row["told"]]
    assert "rare" not in short
    assert "scanner1 0; not 3" in short


def test_levels_that_never_meet_where_they_are_compared_are_said_to() -> None:
    """Enough patients at both scanners of a class, each scanner at sites of its own."""
    nested, _ = scanned(scanner_nested=True)
    found = effect_map(nested, GRAPH, treatment="scanner", by="tumour")
    assert {row["reason"] for row in found.rows()} == {"the compared levels do not all meet within site"}
    assert found.sentence.startswith("Cannot tell: no cell of tumour holds enough comparable units")


def test_a_level_with_many_patients_and_none_beside_them_does_not_cost_the_others() -> None:
    """Half of the patients are on a third scanner, at sites of its own: raw counts would choose it with the others."""
    cohort, _ = scanned(n=144, n_sites=6)
    scanner = cohort.obs["scanner"].where(~cohort.obs["site"].isin(["site3", "site4", "site5"]), "scanner9")
    alone = Cohort(cohort.X, cohort.obs.assign(scanner=scanner))
    counts = alone.obs.drop_duplicates("patient").groupby(["tumour", "scanner"]).size().unstack()
    assert (counts["scanner9"] > counts[["scanner0", "scanner1"]].max(axis=1)).all()
    found = effect_map(alone, GRAPH, treatment="scanner", by="tumour")
    assert found.levels == ("scanner0", "scanner1")
    assert [row["told"] for row in found.rows()] == [True, True]
    shared = alone[alone.obs["scanner"].ne("scanner9").to_numpy()]
    same = effect_map(shared, GRAPH, treatment="scanner", by="tumour")
    assert [row["value"] for row in found.rows()] == [row["value"] for row in same.rows()]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"by": ()}, DataError, "name columns other than the factor"),
        ({"by": "scanner"}, DataError, "name columns other than the factor"),
        ({"by": "patient"}, DataError, "name columns other than the factor"),
        ({"treatment": "site", "by": "scanner"}, GraphError, "no effects of it|no conditioning set"),
        ({"by": "tumour", "minimum": 1}, DataError, "minimum=1"),
    ],
)
def test_arguments(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        effect_map(scanned()[0], GRAPH, **{"treatment": "scanner", **arguments})


def test_copies_of_the_rows_of_a_patient_change_nothing() -> None:
    cohort, _ = scanned()
    again = np.concatenate([np.arange(len(cohort)), np.tile(np.flatnonzero(cohort.obs["patient"] == "p3"), 3)])
    copied = Cohort(cohort.X[again], cohort.obs.iloc[again].reset_index(drop=True))
    one, two = (effect_map(c, GRAPH, treatment="scanner", by=BY).to_frame() for c in (cohort, copied))
    pd.testing.assert_frame_equal(one, two)


def test_bundles_leave_the_numbers_about_where_they_are() -> None:
    cohort, _ = scanned(n=900)
    cells = []
    for label in ("class0", "class1"):
        rows = np.flatnonzero(cohort.obs["tumour"] == label)
        cells.append(cell_effect(cohort, rows, GRAPH, ("scanner",), ("site",), paired=False))
    weights = np.array([1.0, -1.0])
    whole, bundled = (stack(cells, most=most).norm(weights) for most in (10_000, 100))
    assert bundled.value == pytest.approx(whole.value, abs=0.3 * np.sqrt(whole.variance))
    assert bundled.p_value() == pytest.approx(whole.p_value(), abs=0.2)
    assert len(stack(cells, most=100).codes) < 300


def test_patients_of_several_cells_are_one_unit() -> None:
    """The same patient in both cells: their difference loses what the cells share."""
    cohort, _ = scanned(n=80, paired=True, rows_per_group=4, n_sites=2)
    half = np.where(np.arange(len(cohort)) % 4 < 2, "left", "right")
    obs = cohort.obs.assign(side=half)
    shared = np.random.default_rng(0).standard_normal((80, 6))[pd.factorize(obs["patient"])[0]]
    X = cohort.X + 2.0 * shared * (obs["scanner"] == "scanner1").to_numpy()[:, None]
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["side"], group="patient")
    found = effect_map(Cohort(X, obs), graph, treatment="scanner", by="side")
    assert found.to_frame()["told"].all()
    cells = [
        cell_effect(Cohort(X, obs), np.flatnonzero(half == side), graph, ("scanner",), ("site", "tumour"), paired=True)
        for side in ("left", "right")
    ]
    apart = stack(cells).norm(np.array([1.0, -1.0]))
    assert len(stack(cells).codes) == 80
    assert apart.noise < 0.5 * sum(cell.norm().noise for cell in cells)


# --- error rates ------------------------------------------------------------------------------------------------------


WITHIN = {"n": 40, "n_sites": 2, "biology_within_group": True, "rows_per_group": 6}  # patients with rows in two cells


@pytest.mark.parametrize("settings", [{}, {"variance_by_site": 2.0}, {"n": 60, "paired": True}, WITHIN])
def test_no_cell_differs_where_all_are_alike(settings) -> None:
    """At most 5 % of homogeneous cohorts name a cell; shrinkage lowers the squared error."""
    draws, named, raw, shrunk = 30, 0, 0.0, 0.0
    for seed in range(draws):
        cohort, size = scanned(seed, **settings)
        frame = effect_map(cohort, GRAPH, treatment="scanner", by=BY).to_frame()
        frame = frame[frame["told"]]
        named += bool(frame["differs"].any())
        raw += float(((frame["value"] - size) ** 2).mean())
        shrunk += float(((frame["shrunk"] - size) ** 2).mean())
    assert named <= stats.binom.ppf(0.999, draws, 0.05)
    assert shrunk < (0.8 if settings is WITHIN else 0.6) * raw  # four cells shrink by a third at most, six by 0.6


def test_shrinkage_keeps_what_differs() -> None:
    """Cells of different truth: no larger error than without, and intervals that hold on average."""
    rng, raw, after, held = np.random.default_rng(0), 0.0, 0.0, []
    for _ in range(60):
        truth = rng.gamma(2.0, 1.0, 12)
        norms = [one_norm(rng, theta) for theta in truth]
        found = shrink(norms)
        raw += sum((norm.value - theta) ** 2 for norm, theta in zip(norms, truth, strict=True))
        after += ((found.values - truth) ** 2).sum()
        held.append((found.lows <= truth) & (truth <= found.highs))
    assert after < raw
    assert np.mean(held) >= 0.93


def one_norm(rng, theta: float, d: int = 8, n: int = 30):
    from causalfm.covariances import cell_covariances
    from causalfm.norms import squared_norm

    Z = rng.standard_normal((n, d)) + np.sqrt(theta / d)
    codes = np.zeros(n, dtype=int)
    return squared_norm(Z, np.full((1, n), 1 / n), cell_covariances(Z - Z.mean(axis=0), codes, 1))


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figure_of_a_map() -> None:
    cohort, _ = scanned(n=150, hit=1.5, n_sites=2)
    gone = (cohort.obs["tumour"] == "class0") & (cohort.obs["site"] == "site1")
    found = effect_map(cohort[(~gone).to_numpy()], GRAPH, treatment="scanner", by=BY)
    ax = cfm.plot_effects(found)
    hatched = [p for p in ax.patches if p.get_hatch()]
    assert len(ax.patches) == 4
    assert len(hatched) == 1
    framed = [p for p in ax.patches if p.get_linewidth() == 1.6]
    assert len(framed) == found.to_frame()["differs"].eq(True).sum()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["class0", "class1"]
    texts = [t.get_text() for t in ax.texts]
    assert f"{found.rows()[0]['distance']:.3g}" in texts


def test_figure_of_an_effect() -> None:
    cohort, _ = scanned(n=150)
    found = effect(cohort, GRAPH, treatment="site", confirm=False)
    ax = cfm.plot_effects(found)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["site1", "site2", "all pairs of levels", "classes of tumour"]
    points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in ("o", "D")]
    assert points[:2] == [row["distance"] for row in found.rows()]
    scored = Cohort(cohort.X, cohort.obs.assign(score=cohort.X[:, 0]))
    ax = cfm.plot_effects(effect(scored, GRAPH, treatment="site", outcome="score", confirm=False))
    assert ax.get_xlabel() == "difference in score from site=site0"
    with pytest.raises(DataError, match="must be an Effect or an EffectMap"):
        cfm.plot_effects(pd.DataFrame())
    nested, _ = scanned(scanner_nested=True)
    with pytest.raises(DataError, match="nothing to draw"):
        cfm.plot_effects(effect(nested, GRAPH, treatment="scanner", confirm=False))
