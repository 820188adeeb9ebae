"""Which mechanism: chosen by patients left out, and what each finds where classes lie within patients."""

import numpy as np
import pandas as pd
import pytest
from scm_samples import AGED, SITE, aged, stretched
from test_scm_mechanisms import crossed, error, turned

from causalfm.cohort import Cohort
from causalfm.scm import EmbeddingSCM


@pytest.mark.parametrize(
    ("draw", "best"),
    [
        (lambda: aged()[0], {"additive"}),
        (lambda: stretched()[0], {"location-scale", "optimal-transport"}),  # in six dimensions as good
        (
            lambda: turned(900, np.linalg.qr(np.random.default_rng(5).standard_normal((6, 6)))[0])[0],
            {"optimal-transport"},
        ),
        (lambda: crossed(0, 0.8)[0], {"interaction"}),
    ],
)
def test_the_likelihood_of_patients_left_out_chooses_the_mechanism(draw, best):
    cohort = draw()
    graph = AGED if "age" in cohort.obs else SITE
    fold = np.random.default_rng(0).permutation(cohort.factor("patient").n_levels)[cohort.factor("patient").codes] % 4
    score = {
        name: np.mean(
            [
                EmbeddingSCM(graph, name).fit(cohort[fold != f]).log_likelihood(cohort[fold == f]).mean()
                for f in range(4)
            ]
        )
        for name in ("additive", "location-scale", "optimal-transport", "interaction")
    }
    assert max(score, key=score.get) in best


def test_interactions_of_classes_within_patients_are_compared_within_them():
    """The spread of patients does not hide what every patient shows: the cell means are the oracle."""
    found, additive, oracle = [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        row = np.repeat(np.arange(60), 4)
        site, tumour = row % 3, np.arange(240) % 2
        main, both = rng.standard_normal((3, 6)), 0.2 * rng.standard_normal((3, 2, 6))
        Z = main[site] + both[site, tumour] + rng.standard_normal((60, 6))[row] + 0.5 * rng.standard_normal((240, 6))
        obs = pd.DataFrame({"patient": row.astype(str), "site": [f"s{s}" for s in site]})
        cohort = Cohort(Z, obs.assign(tumour=[f"t{t}" for t in tumour]))
        wanted = Z + main[0] - main[site] + both[0, tumour] - both[site, tumour]
        found.append(error("interaction", cohort, wanted))
        additive.append(error("additive", cohort, wanted))
        means = np.array([[Z[(site == s) & (tumour == t)].mean(axis=0) for t in (0, 1)] for s in range(3)])
        moved = Z + means[0, tumour] - means[site, tumour]
        oracle.append(np.linalg.norm(moved - wanted) / np.linalg.norm(Z - wanted))
    assert np.mean(found) < 1.05 * np.mean(oracle)
    assert np.mean(oracle) < 0.95 * np.mean(additive), "there is an interaction to find"
