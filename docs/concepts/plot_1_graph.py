"""
The causal graph: declared once, asked many times
=================================================

A table cannot say whether a hospital differs because of its scanner or because of its patients. You can. The graph
says what acts on what; every test, effect and correction reads from it what to hold constant.
"""

import matplotlib.pyplot as plt

import causalfm as cfm
from causalfm.plot import plot_graph

# %%
# ``->`` is a cause, ``<->`` an unmeasured common cause, ``Z`` the embedding; all other names are columns of your
# table. Which patients a hospital sees (``site <-> {tumour, age}``) is association: the hospital did not make the
# tumour.
graph = cfm.CausalGraph(
    "age -> tumour; site <-> {tumour, age}; site -> {scanner, stain}; {tumour, age, site, scanner, stain} -> Z",
    biology="tumour",
    technical=["site", "scanner", "stain"],
    group="patient",
)
plot_graph(graph, plt.figure(figsize=(7, 3.6)).add_subplot())
plt.show()

# %%
# What is held constant follows from the graph, by d-separation. For all that a hospital does, its own scanners are
# part of the answer:
print(graph.invariance("site").sentence)

# %%
# For what it does *beside* scanner and stain, they are held constant too; and for a scanner, the hospital it stands
# in:
print(graph.invariance("site", effect="direct").sentence)
print(graph.invariance("scanner").sentence)

# %%
# A question that no column can answer is refused, with the reason. Here site and embedding share an unmeasured
# cause:
try:
    cfm.CausalGraph("site <-> Z; {site, tumour} -> Z", biology="tumour", technical="site", group="patient").invariance(
        "site"
    )
except cfm.CausalFMError as refused:
    print(refused)
