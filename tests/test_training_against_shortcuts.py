"""What penalties do to a head in training: the loop is DomainBed's, and each removes what its principle can see."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from causalfm.training import RobustHead
from experiments.penalties.designs import test_set as drawn_test_set
from experiments.penalties.designs import training_set

ALL = 10**6


def fitted(rows, penalty, strength=1.0, **settings):
    head = RobustHead(penalty, strength=strength, **{"steps": 100, "rate": 0.05, "batch": ALL} | settings)
    return head.fit(rows.X, rows.y, env=rows.site)


def gains(design, penalty, new):
    """Over no penalty, in accuracy at new hospitals or, without the association, at those trained on; four cohorts."""
    found = []
    for number in range(4):
        rows, test = training_set(design, number, 300), drawn_test_set(design, number, 400)
        at = (test.site >= 3) == new
        plain, own = (fitted(rows, p, 1000.0).score(test.X[at], test.y[at]) for p in ("erm", penalty))
        found.append(own - plain)
    return np.array(found)


def test_the_loop_is_domainbeds():
    """Its code for VREx: risks by environment, weight 1 before the anneal, Adam anew, mean risk plus penalty."""
    rows, strength, steps = training_set("marker", 0, 200), 50.0, 80
    head = fitted(rows, "vrex", strength, steps=steps, decay=0.0)
    z = (rows.X - rows.X.mean(0)) / rows.X.std(0)
    parts = [(torch.tensor(z[rows.site == e]).float(), torch.tensor(rows.y[rows.site == e])) for e in range(3)]
    layer = torch.nn.Linear(17, 2)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    for step in range(steps):
        if step in (0, steps // 4):
            optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
        losses = torch.stack([cross_entropy(layer(x), y) for x, y in parts])
        weight = strength if step >= steps // 4 else 1.0
        loss = losses.mean() + weight * ((losses - losses.mean()) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    theirs = layer.weight.detach().numpy().ravel()
    ours = head.state_["weight"].ravel()
    assert np.linalg.norm(ours - theirs) < 0.01 * np.linalg.norm(theirs)


@pytest.mark.parametrize("penalty", ["vrex", "fishr"])
def test_risks_see_a_marker_that_is_not_everywhere_as_good(penalty):
    found = gains("marker", penalty, new=True)
    assert found.mean() > 0.005


def test_risks_do_not_see_a_hospital():
    """What a hospital says of the class is true there, with and without a penalty on risks: they are level anyway."""
    assert gains("shortcut", "vrex", new=False).mean() < 0.01


def test_irm_brings_slopes_to_0_in_small_cohorts():
    """On the same rows at every step the unbiased square fell below 0 by slopes that differ: their mean square rose."""

    def square(head, rows):
        logits = torch.tensor(head.logits(rows.X))
        slope = (logits.softmax(1) * logits).sum(1) - logits[torch.arange(len(logits)), torch.tensor(rows.y)]
        return np.mean([float(slope[rows.site == e].mean()) ** 2 for e in range(3)])

    found = {1.0: [], 30.0: []}
    for number in range(3):
        rows = training_set("marker", number, 60)
        for strength, values in found.items():
            values.append(square(fitted(rows, "irm", strength), rows))
    assert np.mean(found[30.0]) < 0.5 * np.mean(found[1.0])  # 0.0005 and 0.003; on the same rows it was 0.013


@pytest.mark.parametrize("penalty", ["irm", "vrex", "fishr", "iga", "conditional_mmd", "group_dro", "eqrm", "rdm"])
def test_a_class_or_site_may_be_nearly_absent(penalty):
    rows = training_set("shortcut", 0, 30)
    kept = rows[~((rows.site == 0) & (rows.y == 1)) & ~((rows.site == 2) & (np.arange(len(rows.y)) > 10))]
    assert 0 < (kept.site == 2).sum() < 5
    head = fitted(kept, penalty, 1.0, steps=12, batch=16)
    assert np.isfinite(head.predict_proba(rows.X)).all()
