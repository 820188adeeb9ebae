"""Patients numbered from 1 at every hospital are no patients seen again."""

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.errors import DataError

GRAPH = cfm.CausalGraph.standard(biology="dx", technical="hospital", group="subject")
N, HOSPITALS = 50, 3


def numbered(change=lambda dx: dx) -> cfm.Cohort:
    """Subjects 0 to 49 at each hospital, two rows each, the class drawn anew for every one of them."""
    rng = np.random.default_rng(0)
    dx = change(rng.integers(0, 2, (HOSPITALS, N)))
    hospital, subject = np.divmod(np.arange(HOSPITALS * N).repeat(2), N)
    obs = pd.DataFrame({"dx": np.array(["benign", "tumour"])[dx[hospital, subject]], "hospital": hospital})
    return cfm.Cohort(rng.normal(size=(len(obs), 4)), obs.assign(subject=subject))


def the_same(dx: np.ndarray) -> np.ndarray:
    return np.tile(dx[0], (HOSPITALS, 1))


def test_ids_that_start_again_are_refused_with_a_way_out_that_works() -> None:
    cohort = numbered()
    with pytest.raises(DataError, match=r"of 50 levels of 'subject'.*another 'dx' there.*Make ids unique") as caught:
        GRAPH.check(cohort)
    apart = cohort.obs.groupby("subject")["dx"].nunique().gt(1).sum()  # one class at each hospital
    assert 30 < apart < 45
    assert str(caught.value).startswith(f"{apart} of 50")
    obs = cohort.obs.copy()
    obs["subject"] = obs["hospital"].astype(str) + "-" + obs["subject"].astype(str)
    GRAPH.check(cohort.replace(obs=obs))


def test_subjects_that_were_seen_again_pass() -> None:
    GRAPH.check(numbered(the_same))


def test_subjects_of_both_classes_that_were_seen_again_pass() -> None:
    cohort = numbered(the_same)
    GRAPH.check(cohort.replace(obs=cohort.obs.assign(dx=np.tile(["benign", "tumour"], len(cohort) // 2))))


@pytest.mark.parametrize(("wrong", "refused"), [(5, False), (6, True)])
def test_a_few_wrong_labels_pass(wrong: int, refused: bool) -> None:
    def few(dx: np.ndarray) -> np.ndarray:
        out = the_same(dx)
        out[1, :wrong] = 1 - out[1, :wrong]
        return out

    if refused:
        with pytest.raises(DataError, match="6 of 50 levels"):
            GRAPH.check(numbered(few))
    else:
        GRAPH.check(numbered(few))


def test_tissue_that_is_declared_is_believed() -> None:
    cohort = numbered()
    tissue = cfm.CausalGraph.standard(biology="dx", technical="hospital", group="subject", specimen="block")
    block = cohort.obs["subject"].astype(str) + cohort.obs["dx"]
    tissue.check(cohort.replace(obs=cohort.obs.assign(block=block)))
