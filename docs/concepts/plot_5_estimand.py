"""
The estimand: which difference is meant
=======================================

"Hospitals differ" has two meanings. Patients of one hospital are other patients (case mix), and the same patient
would look otherwise there (technique). Only the second is a fault of the embedding, and only an adjusted number
answers for it.
"""

import matplotlib.pyplot as plt
import numpy as np

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance

# %%
# Two hospitals, a true technical distance that stays the same, and a case mix that grows apart: at 0 both see the
# same classes, at .8 nearly each has a class of its own. *As found* is the squared distance between the means of
# all patients; *standardised* is that within classes, averaged over them.
graph = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
confounding = np.linspace(0, 0.8, 5)
found, raw, truth = [], [], []
for share in confounding:
    cohort, true = linear_scm(
        n_groups=200, n_sites=2, d=16, site_effect=1.0, biology_effect=2.0, confounding=share, random_state=3
    )
    found.append(cfm.effect(cohort, graph, treatment="site").to_frame().iloc[0])
    means = cohort.aggregate("patient")
    site = means.obs["site"].to_numpy()
    raw.append(mean_square_distance(np.stack([means.X[site == s].mean(axis=0) for s in np.unique(site)])))
    truth.append(mean_square_distance(true.site_total()))

# %%
_, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.plot(confounding, raw, "x-", color="C1", label="as found")
low, value, high = (np.array([row[name] for row in found]) for name in ("low", "value", "high"))
axes.errorbar(
    confounding, value, [value - low, high - value], fmt="o", color="C0", capsize=3, label="standardised, 95 %"
)
axes.plot(confounding, truth, "--", color="grey", label="truth")
axes.set(xlabel="confounding of hospital and class", ylabel="squared distance between hospitals", ylim=(0, None))
axes.legend()
plt.show()

# %%
# In words, with whom it holds for:
answer = cfm.effect(cohort, graph, treatment="site")
print(answer.overlap.sentence)
ratio = answer.ratio
print(f"distance between hospitals / between classes: {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]")
