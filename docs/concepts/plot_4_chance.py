"""
Chance: what noise gives on your design
=======================================

A robustness index of .14 is bad and .9 is good? Not before you know what an embedding *without any information*
gives on the same table of patients. That depends on how many there are in each cell.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import causalfm as cfm

# %%
# Pure noise for an embedding, in three designs: patients per class (rows) and hospital (columns).
designs = {
    "2 classes x 2 hospitals, even": np.full((2, 2), 15),
    "2 classes x 2 hospitals, one class rare": np.array([[27, 27], [3, 3]]),
    "2 classes x 6 hospitals": np.full((2, 6), 5),
}
graph = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")
rows = []
for name, counts in designs.items():
    cells = [(c, s) for c, row in enumerate(counts) for s, n in enumerate(row) for _ in range(n)]
    table = {
        "patient": [f"p{i}" for i in range(len(cells)) for _ in range(4)],
        "tumour": [f"class{c}" for c, _ in cells for _ in range(4)],
        "site": [f"site{s}" for _, s in cells for _ in range(4)],
    }
    noise = np.random.default_rng(0).standard_normal((4 * len(cells), 16))
    rows.append((name, cfm.metrics.robustness_index(cfm.Cohort(noise, pd.DataFrame(table)), graph, k=11)))

# %%
# The index as published (filled) moves with the design although nothing is there; its chance value (bar) moves with
# it. The *reference version* (hollow), the mean over balanced 2 x 2 tables, has a chance near 1/2 wherever it
# exists, so that designs can be compared.
_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for place, (_, found) in enumerate(rows):
    standard = found.details["standardised"]
    axes.plot([found.chance] * 2, [place - 0.25, place + 0.25], color="grey")
    for shift, one, face in ((-0.08, found, "C0"), (0.08, standard, "white")):
        axes.plot([one.low, one.high], [place + shift] * 2, color="C0")
        axes.plot(one.value, place + shift, "o", color="C0", markerfacecolor=face)
axes.set_yticks(range(len(rows)), [name for name, _ in rows])
axes.set(xlim=(0, 1), xlabel="robustness index of noise, 95 % intervals over patients")
plt.show()

# %%
for name, found in rows:
    standard = found.details["standardised"]
    print(f"{name}: index {found.value:.2f}, chance {found.chance:.2f}")
    print(f"    reference version {standard.value:.2f}, chance {standard.chance:.2f}")
