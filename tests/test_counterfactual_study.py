"""The fidelity study on small tiles without a network: it runs, goes on where it stopped, and prints what it found."""

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.datasets.histology import cohort_table
from causalfm.errors import DataError
from causalfm.scm import mean_shift
from experiments import counterfactual_page as page
from experiments.counterfactual_fidelity import GRAPH, QUESTIONS, block_means, study
from experiments.counterfactual_rivals import one_tissue_each, paired_ridge
from experiments.counterfactual_views import encoded_views


def refuse(images):
    raise AssertionError(f"{len(images)} images were encoded again")


def test_the_study_runs_goes_on_and_prints_its_numbers(tmp_path):
    table, facts = study(96, tmp_path, size=64, encode=block_means, asked=QUESTIONS[2:3], with_limits=False)
    obs = cohort_table(48, 2, 0.6, 0)
    kept = {"random_state": 0, "size": 64, "factors": ["stain"]}
    again = encoded_views(obs, tmp_path / "views-96-64-0", **kept, encode=refuse)
    assert len(again.embeddings) == facts["views"]
    errors = page.overall(table, "stain", "relative_error")["value"]
    assert errors["do nothing"] == 1.0
    assert errors["ridge on all pairs"] < errors["additive"] < 1.0
    assert errors["mean change of all pairs"] < errors["additive"]  # it knows the means
    assert facts["training"] == [48, 24] == facts["test"]
    assert facts["chosen"] in errors.index
    page.write_page(table, facts, tmp_path / "found.md")
    text = (tmp_path / "found.md").read_text("utf-8")
    assert page.interval(page.overall(table, "stain", "relative_error").loc["additive"]) in text
    assert "{" not in text
    assert (tmp_path / "images" / "found.png").stat().st_size > 1_000


def test_ridge_on_pairs_finds_a_linear_change_and_a_context():
    rng = np.random.default_rng(0)
    before, rows = rng.standard_normal((200, 5)), rng.standard_normal((40, 5))
    D, new = (np.column_stack([np.ones(n), np.arange(n) % 2]) for n in (200, 40))
    change, jump = rng.standard_normal((5, 5)), 3.0 * np.array([[1.0], [2.0]]) @ np.ones((1, 5))
    after = before + before @ change + D @ jump
    moved = paired_ridge(before, after, np.arange(200), rows, (D, new))
    wanted = rows + rows @ change + new @ jump
    assert ((moved - wanted) ** 2).sum() < 0.02 * ((rows - wanted) ** 2).sum()
    only_means = paired_ridge(before, after, np.arange(200), rows, penalty=np.inf)
    np.testing.assert_allclose(only_means - rows, np.tile((after - before).mean(axis=0), (40, 1)))


def test_few_tissues_come_from_as_many_patients():
    obs = cohort_table(40, 2, 0.6, 0)
    chosen = obs.iloc[one_tissue_each(obs, 8, ["site", "tumour"])]
    assert chosen["patient"].nunique() == 8
    assert len(chosen.groupby(["site", "tumour"])) == 8


def shifted(n_patients=12, d=3):
    """Class and site add up; most solid tumours are at site 1."""
    rng = np.random.default_rng(0)
    tumour, site = np.arange(n_patients) % 2, np.array([0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1][:n_patients])
    row = np.repeat(np.arange(n_patients), 1 + np.arange(n_patients) % 3)
    Z = (10.0 * tumour + 1.0 * site)[row][:, None] + np.zeros(d)
    obs = pd.DataFrame({"patient": row, "site": site[row], "tumour": tumour[row]}).astype(str)
    obs = obs.assign(tissue=obs.index.astype(str), scanner="A", stain="B", age=rng.normal(60, 1, len(row)))
    return Cohort(Z, obs)


def test_mean_shift_with_and_without_the_case_mix():
    cohort = shifted()
    moved = mean_shift(cohort, cohort, GRAPH, factor="site", level="1", adjusted=True)
    at = (cohort.obs["site"] == "0").to_numpy()
    np.testing.assert_allclose(moved.X[at], cohort.X[at] + 1.0, atol=1e-9)
    np.testing.assert_allclose(moved.X[~at], cohort.X[~at], atol=1e-9)
    assert set(moved.obs["site"]) == {"1"}
    plain = mean_shift(cohort, cohort, GRAPH, factor="site", level="1", adjusted=False)
    # five of six patients at site 1 are of class 1 and one of six at site 0: 10 (5/6 - 1/6) + 1
    np.testing.assert_allclose(plain.X[at], cohort.X[at] + 10.0 * 4 / 6 + 1.0, atol=1e-9)


@pytest.mark.parametrize("kind", [int, bool])
def test_mean_shift_takes_levels_that_are_no_text(kind):
    cohort = shifted()
    own = cohort.replace(obs=cohort.obs.assign(site=cohort.obs["site"].astype(int).astype(kind)))
    wanted = mean_shift(cohort, cohort, GRAPH, factor="site", level="1", adjusted=True)
    moved = mean_shift(own, own, GRAPH, factor="site", level=kind(1), adjusted=True)
    np.testing.assert_array_equal(moved.X, wanted.X)
    assert moved.obs["site"].dtype == own.obs["site"].dtype
    assert (moved.obs["site"] == kind(1)).all()


def test_mean_shift_refuses_levels_and_classes_that_do_not_meet():
    cohort = shifted()
    with pytest.raises(DataError, match=r"'site': '7'.*never saw this level.*0, 1"):
        mean_shift(cohort, cohort, GRAPH, factor="site", level="7", adjusted=True)
    apart = cohort[(cohort.obs["site"] == cohort.obs["tumour"]).to_numpy()]
    with pytest.raises(DataError, match="site=1 shares no tumour with 0"):
        mean_shift(apart, apart, GRAPH, factor="site", level="1", adjusted=True)
    mean_shift(apart, apart, GRAPH, factor="site", level="1", adjusted=False)
    units = {name: "of 2: " + apart.obs[name] for name in ("patient", "tissue")}
    third = apart.obs.assign(site="2", tumour="2", **units)
    three = Cohort(np.concatenate([apart.X, apart.X]), pd.concat([apart.obs, third], ignore_index=True))
    with pytest.raises(DataError, match="site=1 shares no tumour with 2"):
        mean_shift(three[len(apart) :], three, GRAPH, factor="site", level="1", adjusted=True)
