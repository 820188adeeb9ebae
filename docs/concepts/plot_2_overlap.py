"""
Overlap: what was never seen side by side cannot be compared
============================================================

Two hospitals can be compared on a class of tumour only if both have patients with it. Otherwise hospital and class
are one and the same column, and no statistic tells them apart.
"""

import matplotlib.pyplot as plt
import numpy as np

import causalfm as cfm
from causalfm.crosstabs import cross_table
from causalfm.datasets.linear_scm import linear_scm
from causalfm.plot import plot_overlap

# %%
# Sixty patients at three hospitals. The last hospital sends one class only:
cohort, _ = linear_scm(n_groups=60, n_sites=3, n_biology=3, site_effect=1.0, random_state=1)
keep = (cohort.obs["site"] != "site2") | (cohort.obs["tumour"] == "class0")
cohort = cohort[np.flatnonzero(keep)]
graph = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
axes = plt.figure(figsize=(4, 2.4), layout="constrained").add_subplot()
plot_overlap(cross_table(cohort, graph, "site"), axes, factor="site", unit="patients")
plt.show()

# %%
# A picture of counts of patients, not of tiles: a thousand tiles of one patient are one patient. What can be
# compared is compared; what is left out is named, in every result:
found = cfm.effect(cohort, graph, treatment="site")
print(found.overlap.sentence)

# %%
# Where nothing is left, the answer is "cannot tell", and not a number:
site, tumour = cohort.obs["site"], cohort.obs["tumour"]
apart = cohort[np.flatnonzero((site == "site2") | ((site == "site0") & (tumour == "class1")))]
print(cfm.invariance_test(apart, graph, of="site", margin=0.5).sentence)
