"""
Clusters: the patient is the unit, not the tile
===============================================

Tiles of one patient resemble each other. A test that takes them for independent finds differences between hospitals
where there are none, because no two hospitals have the same patients.
"""

import matplotlib.pyplot as plt
import numpy as np

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm

# %%
# Forty cohorts in which **no hospital has any effect**: 40 patients, 8 tiles each. The same test is asked twice,
# once with patients and once with tiles as the unit.
graph = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
by_tile = cfm.CausalGraph.standard(biology="tumour", technical="site", group="tile")
p_values = {"patients": [], "tiles": []}
for seed in range(40):
    cohort, _ = linear_scm(n_groups=40, rows_per_group=8, n_sites=2, d=8, site_effect=0.0, random_state=seed)
    tiles = cohort.replace(obs=cohort.obs.assign(tile=[f"t{i}" for i in range(len(cohort))]))
    for unit, declared in (("patients", graph), ("tiles", by_tile)):
        test = cfm.invariance_test(tiles, declared, of="site", n_permutations=199, random_state=seed)
        p_values[unit].append(test.p_value)

# %%
# A valid test gives p-values that are spread evenly: the dashed line.
_, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for unit, marker in (("patients", "o"), ("tiles", "x")):
    axes.plot(np.sort(p_values[unit]), np.linspace(0, 1, 40), marker, label=f"{unit} as units")
axes.plot([0, 1], [0, 1], "--", color="grey")
axes.set(xlabel="p-value", ylabel="share of cohorts with a smaller one")
axes.legend()
plt.show()

# %%
for unit, found in p_values.items():
    print(f"{unit} as units: {np.mean(np.array(found) <= 0.05):.0%} of true nulls rejected at 5 %")
